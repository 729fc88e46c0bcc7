"""Which images belong together: groups of unlabelled images, folds, and routes that can be used."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Literal

    from .._utils.typing import ArrayLike, NDArray, RandomState


_logger = logging.getLogger(__name__)

#: The route of an image of no known product; no category may have this name.
UNKNOWN = "unknown"


# Below this silhouette, clusters of images are no products but variation of one.
MIN_SILHOUETTE = 0.5
_MAX_ROUTES = 32


def assign_folds(
    groups: NDArray[np.int64], routes: NDArray[np.int64], n_folds: int, rng: np.random.RandomState
) -> NDArray[np.int64]:
    """Assign images to folds at random, groups together and every route spread over all."""
    folds = np.empty(len(groups), dtype=np.int64)
    for route in np.unique(routes):
        mine = routes == route
        distinct, codes = np.unique(groups[mine], return_inverse=True)
        folds[mine] = rng.permutation(np.arange(len(distinct)) % n_folds)[codes]
    return folds


def choose_routes(
    pooled: NDArray[np.floating],
    n_routes: int | Literal["auto"] = "auto",
    *,
    random_state: RandomState = 0,
) -> NDArray[np.int64]:
    """Group images by k-means on their pooled patches.

    Parameters
    ----------
    pooled : ndarray of shape (n_images, n_features)
        See `pool_patches`.
    n_routes : int or "auto", default="auto"
        "auto" takes the number of groups, from 2 to 32, with the largest mean
        silhouette, among those whose groups all have at least 4 images. If that silhouette is
        below 0.5, there is one group: the images vary, but they are of one kind.
    random_state : int, RandomState instance or None, default=0
        Of k-means.

    Returns
    -------
    routes : ndarray of shape (n_images,), int64
        Group of each image, numbered in the order in which groups first appear.

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
        if n_routes > len(pooled):
            raise ValueError(f"n_routes={n_routes} is more than the {len(pooled)} images.")
        labels = cluster(n_routes)
    else:
        labels, best = np.zeros(len(pooled), dtype=np.int64), MIN_SILHOUETTE
        for k in range(2, min(_MAX_ROUTES, len(pooled) // 4) + 1):
            candidate = cluster(k)
            if np.bincount(candidate, minlength=k).min() < 4:
                continue
            quality = silhouette_score(pooled, candidate)
            if quality > best:
                labels, best = candidate, quality
    _, first, codes = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[codes].astype(np.int64)


def check_routes(
    routes: NDArray[np.int64],
    route_names: tuple[str, ...],
    groups: NDArray[np.int64],
    named: ArrayLike | None = None,
) -> None:
    """Raise ValueError if a route cannot be used.

    `routes` and `groups` are of the good images; of the categories `named` of all images, none may
    be without a good one.
    """
    named = {str(name) for name in ([] if named is None else named)}
    missing = sorted(named - set(route_names))
    if missing:
        raise ValueError(f"No good image is left in {', '.join(map(repr, missing))}: add some.")
    way_out = "fit without categories (categories=None)" if named else "set a smaller n_routes"
    for route, name in enumerate(route_names):
        if name.strip() in ("", UNKNOWN):
            raise ValueError(
                f"A category cannot be called {name!r}: images of no known product get the route "
                f"{UNKNOWN!r}, and a name cannot be empty."
            )
        sizes = np.unique(groups[routes == route], return_counts=True)[1]
        n_groups = len(sizes)
        if n_groups < 2:
            raise ValueError(
                f"Route {name!r} has {sizes.sum()} good training image(s) in "
                f"{n_groups} group(s); at least two are needed, to score one by the other. Add "
                f"images, leave it out, or {way_out}."
            )
        if sizes.sum() - sizes.max() < 2:
            _logger.warning(
                "Route %r has %d images in %d groups: one image tells nothing of how far another "
                "may be, so that no image is unknown to it. Add images",
                *(name, sizes.sum(), n_groups),
            )
