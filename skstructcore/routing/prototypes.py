"""To which route is an image sent? Mean patches, prototypes and routing distances.

A route has a handful of prototypes of length one. An image is compared with the prototypes of every
route, patch by patch, and is sent to the one whose prototypes are nearest on the whole. Whether it
is of that route at all, `skstructcore.routing.profile` tells.
"""

from __future__ import annotations

import functools
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .._utils.rows import counted_rows, iter_batches
from .._utils.validation import check_number
from ..neighbors.coreset import greedy_k_center

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from .._utils.rows import LazyRows
    from .._utils.typing import ArrayLike, NDArray, RandomState

_N_PROTOTYPES = 16  # of a route
_N_COMPARED = 64  # patches of an image that are compared with prototypes
# Below this silhouette, clusters of images are no products but variation of one.
_MIN_SILHOUETTE, _MAX_ROUTES = 0.5, 32
_MAX_ROWS = 8192  # more patches do not change the prototypes visibly


def normalize_rows(rows: ArrayLike) -> NDArray[np.float32]:
    """Scale the last axis to length one; zero vectors stay zero."""
    rows = np.asarray(rows, dtype=np.float32)
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


def pool_patches(values: LazyRows | NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean of the L2-normalised patches of each image; ignored patches do not count.

    Features ``(n_images, h, w, d)``, lazy or not, become ``(n_images, d)``, float64.
    """
    # Each image is pooled alone, so that its mean does not depend on the others, to the last bit.
    pooled = []
    for batch in iter_batches(values):
        for image in batch:
            rows = normalize_rows(counted_rows(image)[0])
            if len(rows) == 0:
                raise ValueError("Every patch of an image is ignored: nothing is left to judge.")
            pooled.append(rows.mean(axis=0, dtype=np.float64))
    return np.stack(pooled)


def choose_routes(
    pooled: NDArray[np.floating],
    n_routes: int | Literal["auto"] = "auto",
    *,
    random_state: RandomState = 0,
) -> NDArray[np.int64]:
    """Cluster images by k-means on their pooled patches ``(n_images, d)``, see `pool_patches`.

    "auto" takes the number of clusters, from 2 to 32, with the largest mean silhouette, among
    those whose clusters all have at least 4 images. If that silhouette is below 0.5, there is
    one. Returns the cluster of each image, numbered in the order in which they first appear.

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

    if n_routes != "auto":
        check_number(n_routes, "n_routes", 1, closed="left", kind=Integral)
        if n_routes > len(pooled):
            raise ValueError(f"n_routes={n_routes} is more than the {len(pooled)} images.")
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


@functools.cache
def compared_patches(n_patches: int) -> NDArray[np.int64]:
    """The patches of an image that are compared with prototypes, by position; drawn once."""
    return np.sort(np.random.RandomState(0).permutation(n_patches)[:_N_COMPARED])


def select_prototypes(
    rows: NDArray[np.floating], n_prototypes: int = _N_PROTOTYPES, n_iter: int = 20
) -> NDArray[np.float32]:
    """Choose prototypes: k-center on the directions of patches, then spherical k-means.

    Greedy k-center alone picks the oddest patches of a route; from there k-means moves to where the
    patches are, in at most `n_iter` rounds. Of more than 8192 patches ``(n, d)`` a fixed random
    sample is used. Prototypes are L2-normalised; there are no more than patches.
    """
    if len(rows) > _MAX_ROWS:
        rows = rows[np.sort(np.random.default_rng(0).choice(len(rows), _MAX_ROWS, replace=False))]
    directions = normalize_rows(rows)
    picks, _ = greedy_k_center(directions, min(n_prototypes, len(directions)))
    prototypes, nearest = directions[picks], None
    for _ in range(n_iter):
        before, nearest = nearest, (directions @ prototypes.T).argmax(axis=1)
        if before is not None and np.array_equal(nearest, before):
            break
        one_hot = nearest[:, np.newaxis] == np.arange(len(prototypes))
        sums = one_hot.T.astype(np.float32) @ directions
        empty = np.linalg.norm(sums, axis=1, keepdims=True) == 0
        prototypes = np.where(empty, prototypes, normalize_rows(sums))
    return prototypes


def routing_distances(
    patches: ArrayLike, prototypes: Sequence[NDArray[np.float32]]
) -> NDArray[np.float64]:
    """Distance of images to the prototypes of every route, ``(n_images, n_routes)``, float64.

    The mean Huber loss with delta = 1 of the distances of patches ``(n_images, n_patches, d)`` to
    their nearest prototypes. Prototypes are L2-normalised, patches need not be.
    """
    directions = normalize_rows(patches)
    n_images, n_patches, _ = directions.shape
    columns = directions.transpose(0, 2, 1)
    cosines = np.empty((len(prototypes), n_images, n_patches), dtype=np.float32)
    # Each route and image has a product of its own: one of all could sum in another order.
    for route, entries in enumerate(prototypes):
        np.max(np.matmul(entries, columns), axis=1, out=cosines[route])
    nearest = np.sqrt(np.maximum(2 - 2 * cosines.astype(np.float64), 0)).reshape(-1, n_patches)
    huber = np.where(nearest <= 1, nearest**2 / 2, nearest - 0.5).mean(axis=1)
    return huber.reshape(len(prototypes), n_images).T
