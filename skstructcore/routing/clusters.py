"""Routes for images without labels: clusters of images that look alike as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from typing import Literal

    from .._utils.typing import NDArray, RandomState

# Below this silhouette, clusters of images are no products but variation of one.
_MIN_SILHOUETTE = 0.5
_MAX_ROUTES = 32


def choose_routes(
    pooled: NDArray[np.floating],
    n_routes: int | Literal["auto"] = "auto",
    *,
    random_state: RandomState = 0,
) -> NDArray[np.int64]:
    """Cluster images by k-means on their pooled patches ``(n_images, d)``, see `pool_patches`.

    "auto" takes the number of clusters, from 2 to 32, with the largest mean silhouette, among
    those whose clusters all have at least 4 images. If that silhouette is below 0.5, there is
    one: the images vary, but they are of one product. Returns the cluster of each image, numbered
    in the order in which they first appear.

    Examples
    --------
    >>> pooled = np.repeat([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]], 5, axis=0)
    >>> pooled += np.random.default_rng(0).normal(size=(15, 2))
    >>> choose_routes(pooled)
    array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2])
    """
    from sklearn.cluster import KMeans  # which a process that only scores need not wait for
    from sklearn.metrics import silhouette_score

    def cluster(k):
        return KMeans(k, n_init=4, random_state=random_state).fit_predict(pooled)

    if n_routes != "auto" and n_routes > len(pooled):
        raise ValueError(f"n_routes={n_routes} is more than the {len(pooled)} images.")
    if n_routes != "auto":
        return pd.factorize(cluster(n_routes))[0]
    labels, best = np.zeros(len(pooled), dtype=np.int64), _MIN_SILHOUETTE
    for k in range(2, min(_MAX_ROUTES, len(pooled) // 4) + 1):
        candidate = cluster(k)
        if np.bincount(candidate, minlength=k).min() < 4:
            continue
        quality = silhouette_score(pooled, candidate)
        if quality > best:
            labels, best = candidate, quality
    return pd.factorize(labels)[0]
