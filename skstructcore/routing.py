"""Routes: which one an image is sent to, and whether it is too far from it.

A route has a handful of prototypes of length one. An image is compared with the prototypes of every
route, patch by patch, and is sent to the one whose prototypes are nearest on average. This cannot
recognise an unknown product: its patches often look like *some* of a known one. The mean of an
image's patches can (Mahalanobis distance). ``docs/routing.md`` has the measurements.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from ._utils.rows import LazyRows, check_counted, counted_rows, iter_placed
from ._utils.typing import ArrayLike, NDArray, RandomState
from ._utils.validation import check_number
from .neighbors.coreset import greedy_k_center

#: The route of an image of no known product; no category may have this name.
UNKNOWN = "unknown"

_N_PROTOTYPES = 16  # of a route
_N_COMPARED = 64  # patches of an image that are compared with prototypes
# Below this silhouette, clusters of images are no products but variation of one.
_MIN_SILHOUETTE, _MAX_ROUTES = 0.5, 32
_N_FOLDS = 10  # of distances held out
_MAX_ROWS = 8192  # more patches do not change the prototypes visibly


def normalize_rows(rows: ArrayLike) -> NDArray[np.float32]:
    """Scale the last axis to length one; zero vectors stay zero."""
    rows = np.asarray(rows, dtype=np.float32)
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


def pool_patches(
    values: LazyRows | NDArray[np.floating], places: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Mean of the L2-normalised patches of each image that count: ``(n_images, d)``, float64."""
    places, pooled = np.arange(len(values)) if places is None else places, []
    # Each image is pooled alone, so that its mean does not depend on the others, to the last bit.
    for rows, batch in iter_placed(values):
        check_counted(np.isnan(batch[..., 0]), places[rows])
        for image in batch:
            directions = normalize_rows(counted_rows(image)[0])
            pooled.append(directions.mean(axis=0, dtype=np.float64))
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
    """
    from sklearn.cluster import KMeans  # which a process that only scores need not wait for
    from sklearn.metrics import silhouette_score

    def cluster(k):
        return KMeans(k, n_init=4, random_state=random_state).fit_predict(pooled)

    if n_routes != "auto":
        check_number(n_routes, "n_routes", 1, closed="left", type=Integral)
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


@dataclass(frozen=True, eq=False)
class RouteProfile:
    """What tells the images of one route from others.

    The Ledoit-Wolf covariance of their pooled patches has a variance ``v_i + floor`` along each of
    some axes and `floor` along all other directions. So the squared Mahalanobis distance of x is
    ``(|x|^2 - sum shares_i (axis_i x)^2) / floor`` with ``shares_i = v_i / (v_i + floor)``.
    """

    prototypes: NDArray[np.float32] | None  # (n_prototypes, n_features); None: not learned
    centre: NDArray[np.float64]  # (n_features,), mean of the pooled patches
    axes: NDArray[np.float64]  # (rank, n_features)
    shares: NDArray[np.float64]  # (rank,)
    floor: float

    def distance(self, pooled: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mahalanobis distance of pooled images, (n, n_features) -> (n,)."""
        # Each image is taken alone: a matrix product of more rows may sum in another order.
        distances = np.empty(len(pooled))
        for image, row in enumerate(pooled - self.centre):
            along = self.axes @ row
            distances[image] = max(row @ row - self.shares @ along**2, 0.0) / self.floor
        return np.sqrt(distances)


def fit_profile(
    pooled: NDArray[np.floating], rows: NDArray[np.floating] | None = None
) -> RouteProfile:
    """Learn the profile of a route from the means of its images, and prototypes from patches.

    Without patches ``(n, d)`` there are no prototypes. The rank is at most the number of images.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    prototypes = None if rows is None else select_prototypes(rows)
    centre = pooled.mean(axis=0)
    shrinkage = ledoit_wolf_shrinkage(pooled) if len(pooled) > 1 else 1.0
    _, singular, axes = np.linalg.svd(pooled - centre, full_matrices=False)
    variances = (1 - shrinkage) * singular**2 / len(pooled)
    floor = shrinkage * float(np.sum(singular**2)) / len(pooled) / pooled.shape[1]
    # It is 0 for identical images, and for two (no shrinkage): others are as far as numbers allow.
    floor = max(floor, np.finfo(np.float64).tiny ** 0.25)
    return RouteProfile(prototypes, centre, axes, variances / (variances + floor), floor)


def held_out_distances(
    pooled: NDArray[np.floating], groups: ArrayLike, routes: ArrayLike, left_out: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Distance of each training image to its route, without its own group.

    Each of at most eleven fits for a route goes without some of the groups, and without the images
    that are `left_out` by `contamination`. ValueError if a route has fewer than two groups.
    """
    distances = np.empty(len(pooled))
    for route in np.unique(routes):
        mine = np.flatnonzero(routes == route)
        kept = mine[~left_out[mine]]
        names = np.unique(groups[kept])
        if len(names) < 2:
            raise ValueError(
                f"Of route {route!s} there are {len(kept)} training image(s) in one group; two "
                "groups of each route are needed at least, to tell how far one is from the others."
            )
        # Groups are taken in a fixed random order, so that a fold is no stretch of a series.
        order = np.random.default_rng(0).permutation(len(names))
        fold_of = dict(zip(names, order % _N_FOLDS, strict=True))
        folds = np.array([fold_of.get(group, _N_FOLDS) for group in groups[mine]])
        for fold in np.unique(folds):
            out, others = mine[folds == fold], mine[(folds != fold) & ~left_out[mine]]
            distances[out] = fit_profile(pooled[others]).distance(pooled[out])
    return distances


@dataclass(frozen=True, eq=False)
class DistanceTail:
    """How far images of one route are from it, as a log-normal with estimated parameters."""

    location: float  # mean of the log distances, held out
    scale: float  # their standard deviation
    n: int  # independent images (groups) that both were estimated from

    @property
    def predictive_scale(self) -> float:
        """Of the next log distance: as location is an estimate, it is a little wider."""
        return self.scale * np.sqrt(1 + 1 / self.n)

    def z(self, distances: NDArray[np.floating]) -> NDArray[np.float64]:
        """Standardised log distances, with the uncertainty of location and scale."""
        logs = np.log(np.maximum(distances, np.finfo(np.float64).tiny))
        return (logs - self.location) / self.predictive_scale

    def p_values(self, distances: NDArray[np.floating]) -> NDArray[np.float64]:
        """Share of new images of the route that are at least as far: Student's t."""
        return student_t.sf(self.z(distances), self.n - 1)

    def critical_distance(self, level: float) -> float:
        """Distance that a share `level` of new images exceeds."""
        return float(np.exp(self.location + self.critical_z(level) * self.predictive_scale))

    def critical_z(self, level: float) -> float:
        """Standardised distance that a share `level` of new images exceeds."""
        return float(student_t.isf(level, self.n - 1))


def fit_tail(distances: NDArray[np.floating], groups: ArrayLike | None = None) -> DistanceTail:
    """Learn how far images of a route may be from it, by held-out distances of good images.

    Each group has weight one, shared by its images: mean and deviation are those of an image of a
    new group, however unequal the groups are.
    """
    logs = np.log(np.maximum(distances, np.finfo(np.float64).tiny))
    if groups is None:
        groups = np.arange(len(logs))
    _, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    n = max(len(sizes), 2)  # one group has no spread: its tail is the widest, nobody is unknown
    weights = 1 / sizes[codes] / len(sizes)
    location = float(weights @ logs)
    variance = float(weights @ (logs - location) ** 2) * n / (n - 1)
    # Where all are equally far, one percent more is already unusual.
    return DistanceTail(location, max(float(np.sqrt(variance)), 0.01), n)
