"""Which product does an image show? Prototypes and routing distances.

The routing bank of a product is a handful of prototypes of length one. An image is compared with
the prototypes of every product, patch by patch, and goes to the product whose prototypes are
nearest on the whole. Whether it shows that product at all is another question, see
`skstructcore.route_profile`. ``docs/routing.md`` has the measurements.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from .coreset import greedy_k_center

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from ._typing import Aggregate, ArrayLike, NDArray, RandomState
    from .containers import MemoryBank
    from .features._lazy import LazyFeatures
    from .neighbors import NeighborIndex

__all__ = [
    "AGGREGATES",
    "UNKNOWN",
    "assign_folds",
    "check_routes",
    "choose_routes",
    "n_routes_searched",
    "pool_patches",
    "query_together",
    "routing_distances",
    "select_prototypes",
]

#: The route of an image of no known product; no category may have this name.
UNKNOWN = "unknown"

# More patches than these do not change the prototypes visibly.
_MAX_ROWS = 8192
# Below this silhouette, groups of images are no products but variation of one.
MIN_SILHOUETTE = 0.5


def normalize_rows(rows: ArrayLike) -> NDArray[np.float32]:
    """Scale the last axis to length one; zero vectors stay zero.

    Examples
    --------
    >>> import numpy as np
    >>> normalize_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32)
    """
    rows = np.asarray(rows, dtype=np.float32)
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


def pool_patches(values: LazyFeatures | NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean of the L2-normalised patches of each image.

    Parameters
    ----------
    values : array-like of shape (n_images, h, w, n_features), or LazyFeatures

    Returns
    -------
    pooled : ndarray of shape (n_images, n_features), float64
    """
    # Image by image, so that what one gets does not depend on the others, to the last bit.
    batches = values.iter_batches() if hasattr(values, "iter_batches") else [values]
    pooled = [
        normalize_rows(image).reshape(-1, image.shape[-1]).mean(axis=0, dtype=np.float64)
        for batch in batches
        for image in batch
    ]
    return np.stack(pooled)


def select_prototypes(
    rows: NDArray[np.floating], n_prototypes: int, n_iter: int = 20
) -> NDArray[np.float32]:
    """Choose prototypes: k-center on the directions of patches, then spherical k-means.

    Greedy k-center alone picks the oddest patches of a product, which say little about the rest;
    from there k-means moves to where the patches are.

    Parameters
    ----------
    rows : array-like of shape (n, n_features)
        Patches of one product, not normalised. Of more than 8192 a fixed random sample is used.
    n_prototypes : int
        How many to choose; as many as there are rows if these are fewer.
    n_iter : int, default=20
        Rounds of k-means at most; 0 leaves the k-center picks as they are.

    Returns
    -------
    prototypes : ndarray of shape (min(n_prototypes, n), n_features), float32
        L2-normalised.

    Examples
    --------
    >>> import numpy as np
    >>> select_prototypes(np.array([[2.0, 0.0], [9.0, 0.0], [0.0, 5.0]]), 2)
    array([[1., 0.],
           [0., 1.]], dtype=float32)
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


def _huber(distances):
    """Mean Huber loss with delta = 1: squares of near patches, far ones count linearly."""
    return np.where(distances <= 1, distances**2 / 2, distances - 0.5).mean(axis=1)


def _mean(distances):
    """Mean distance."""
    return distances.mean(axis=1)


def _trimmed_mean(distances):
    """Mean over the nearest three quarters of the patches: a defect has no say."""
    keep = max(1, round(0.75 * distances.shape[1]))
    return np.partition(distances, keep - 1, axis=1)[:, :keep].mean(axis=1)


#: Name -> function of distances (n_images, n_patches) that returns (n_images,).
AGGREGATES = {"huber": _huber, "mean": _mean, "trimmed-mean": _trimmed_mean}


def routing_distances(
    patches: ArrayLike, prototypes: Sequence[NDArray[np.float32]], aggregate: Aggregate = "huber"
) -> NDArray[np.float64]:
    """Distance of images to the prototypes of every route.

    Parameters
    ----------
    patches : array-like of shape (n_images, n_patches, n_features)
        Not normalised.
    prototypes : sequence of ndarray of shape (n_prototypes, n_features), float32
        L2-normalised prototypes of each route.
    aggregate : {"huber", "mean", "trimmed-mean"}, default="huber"
        What makes one number of the nearest-prototype distances of an image's patches, each
        from 0 to 2; see `AGGREGATES`.

    Returns
    -------
    distances : ndarray of shape (n_images, n_routes), float64

    Examples
    --------
    >>> right, up = np.array([[1, 0]], np.float32), np.array([[0, 1]], np.float32)
    >>> routing_distances([[[9.0, 0.0], [9.0, 0.0]]], [right, up], aggregate="mean").round(3)
    array([[0.   , 1.414]])
    """
    directions = normalize_rows(patches)
    n_images, n_patches, _ = directions.shape
    columns = directions.transpose(0, 2, 1)
    cosines = np.empty((len(prototypes), n_images, n_patches), dtype=np.float32)
    # Route by route and image by image: what an image gets for one route must not depend on the
    # others, to the last bit, and one product of all would be free to sum otherwise. Products of
    # this size are also too small to be worth threads, which wait for each other.
    for route, entries in enumerate(prototypes):
        np.max(np.matmul(entries, columns), axis=1, out=cosines[route])
    nearest = np.sqrt(np.maximum(2 - 2 * cosines.astype(np.float64), 0))
    found = AGGREGATES[aggregate](nearest.reshape(-1, n_patches))
    return found.reshape(len(prototypes), n_images).T


def n_routes_searched(routing: str | None, bank: MemoryBank) -> int:
    """Return how many routes of a bank are searched for an image; 0: the bank as a whole.

    Parameters
    ----------
    routing : None, "auto", "top1", "top2", ...
        See `RoutedKNNScorer`.
    bank : MemoryBank
    """
    if routing is None or (routing == "auto" and bank.profiles is None):
        return 0
    top = re.fullmatch(r"top([1-9]\d*)", "top1" if routing == "auto" else routing)
    if top is None:
        raise ValueError(f"routing must be None, 'auto', 'top1', 'top2', ..., got {routing!r}.")
    if bank.profiles is None:
        raise ValueError(
            f"routing={routing!r} needs a bank with routes: pass bank__categories= to the "
            "pipeline's fit (categories= to CoresetBank), or set n_routes of CoresetBank."
        )
    return min(int(top[1]), len(bank.route_names))


def assign_folds(
    groups: NDArray[np.int64], routes: NDArray[np.int64], n_folds: int, rng: np.random.RandomState
) -> NDArray[np.int64]:
    """Assign images to folds at random, groups together and every route spread over all.

    Parameters
    ----------
    groups, routes : ndarray of shape (n_images,)
    n_folds : int
    rng : RandomState

    Returns
    -------
    folds : ndarray of shape (n_images,), int64
    """
    folds = np.empty(len(groups), dtype=np.int64)
    for route in np.unique(routes):
        mine = routes == route
        distinct, codes = np.unique(groups[mine], return_inverse=True)
        folds[mine] = rng.permutation(np.arange(len(distinct)) % n_folds)[codes]
    return folds


def query_together(
    indexes: Sequence[NeighborIndex],
    rows: NDArray[np.floating],
    n_neighbors: int,
    *,
    exclude: ArrayLike | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Nearest entries in the banks of several routes.

    Parameters
    ----------
    indexes : sequence of NeighborIndex
        The banks; entries are numbered as if they stood one after the other.
    rows : ndarray of shape (q, n_features)
    n_neighbors : int
        May be more than there are entries.
    exclude : ndarray of shape (q,), default=None
        Group of each row, whose entries are left out.

    Returns
    -------
    squared : ndarray of shape (q, n_neighbors), float32
        Squared distances, ascending; ``inf`` where there is no entry.
    neighbors : ndarray of shape (q, n_neighbors), int64
        -1 where there is no entry.
    """
    squared = np.full((len(rows), len(indexes), n_neighbors), np.inf, dtype=np.float32)
    neighbors = np.full(squared.shape, -1, dtype=np.int64)
    offset = 0
    for place, index in enumerate(indexes):
        n_found = min(n_neighbors, len(index.bank))
        found = index.query(rows, n_found, exclude=exclude)
        squared[:, place, :n_found] = found[0]
        neighbors[:, place, :n_found] = np.where(found[1] < 0, -1, found[1] + offset)
        offset += len(index.bank)
    squared, neighbors = squared.reshape(len(rows), -1), neighbors.reshape(len(rows), -1)
    if len(indexes) > 1:
        order = np.argsort(squared, axis=1, kind="stable")[:, :n_neighbors]
        squared = np.take_along_axis(squared, order, axis=1)
        neighbors = np.take_along_axis(neighbors, order, axis=1)
    return squared, neighbors


def choose_routes(
    pooled: NDArray[np.floating],
    n_routes: int | Literal["auto"] = "auto",
    *,
    max_routes: int = 32,
    random_state: RandomState = 0,
) -> NDArray[np.int64]:
    """Group images by k-means on their pooled patches.

    Parameters
    ----------
    pooled : ndarray of shape (n_images, n_features)
        See `pool_patches`.
    n_routes : int or "auto", default="auto"
        "auto" takes the number of groups, from 2 to `max_routes`, with the largest mean
        silhouette, among those whose groups all have at least 4 images. If that silhouette is
        below 0.5, there is one group: the images vary, but they are of one kind.
    max_routes : int, default=32
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

    def cluster(k):
        return KMeans(k, n_init=4, random_state=random_state).fit_predict(pooled)

    if n_routes != "auto":
        if n_routes > len(pooled):
            raise ValueError(f"n_routes={n_routes} is more than the {len(pooled)} images.")
        labels = cluster(n_routes)
    else:
        labels, best = np.zeros(len(pooled), dtype=np.int64), MIN_SILHOUETTE
        for k in range(2, min(max_routes, len(pooled) // 4) + 1):
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

    Parameters
    ----------
    routes, groups : ndarray of shape (n_images,), int64
        Of the good images.
    route_names : tuple of str
    named : array-like of category names or None
        Of all images: none may be without a good image.
    """
    missing = sorted({str(name) for name in ([] if named is None else named)} - set(route_names))
    if missing:
        raise ValueError(f"No good image is left in {', '.join(map(repr, missing))}: add some.")
    for route, name in enumerate(route_names):
        if name.strip() in ("", UNKNOWN):
            raise ValueError(
                f"A category cannot be called {name!r}: images of no known product get the route "
                f"{UNKNOWN!r}, and a name cannot be empty."
            )
        n_groups = len(np.unique(groups[routes == route]))
        if n_groups < 2:
            raise ValueError(
                f"Route {name!r} has {int((routes == route).sum())} good training image(s) in "
                f"{n_groups} group(s); at least two are needed, to score one by the other. Add "
                "images or leave it out."
            )
