"""What the images of a route look like as a whole, and which are too far from it.

Distances of patches do not tell an unknown product apart: its patches often look like *some* of a
known one. The mean of an image's patches does (Mahalanobis distance). ``docs/routing.md`` has the
measurements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import t as student_t

from .prototypes import select_prototypes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_N_FOLDS = 10


@dataclass(frozen=True, eq=False)
class RouteProfile:
    """What tells the images of one route from others.

    The Ledoit-Wolf covariance of their pooled patches has a variance ``v_i + floor`` along each of
    some axes and `floor` along all other directions. So the squared Mahalanobis distance of x is
    ``(|x|^2 - sum shares_i (axis_i x)^2) / floor`` with ``shares_i = v_i / (v_i + floor)``.
    """

    prototypes: NDArray[np.float32]  # (n_prototypes, n_features), see `select_prototypes`
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


def fit_profile(rows: NDArray[np.floating], pooled: NDArray[np.floating]) -> RouteProfile:
    """Learn the profile of a route from patches ``(n, d)`` and the means of its images."""
    return _fit_gaussian(pooled, select_prototypes(rows))


def _fit_gaussian(pooled, prototypes=None):
    """Ledoit-Wolf covariance as axes and a floor: the rank is below the number of images."""
    from sklearn.covariance import ledoit_wolf_shrinkage

    centre = pooled.mean(axis=0)
    shrinkage = ledoit_wolf_shrinkage(pooled) if len(pooled) > 1 else 1.0
    _, singular, axes = np.linalg.svd(pooled - centre, full_matrices=False)
    variances = (1 - shrinkage) * singular**2 / len(pooled)
    floor = shrinkage * float(np.sum(singular**2)) / len(pooled) / pooled.shape[1]
    # Where all images are identical, any other image is as far as numbers allow.
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
            distances[out] = _fit_gaussian(pooled[others]).distance(pooled[out])
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
    n = max(len(sizes), 2)
    weights = 1 / sizes[codes] / len(sizes)
    location = float(weights @ logs)
    variance = float(weights @ (logs - location) ** 2) * n / (n - 1)
    # Where all are equally far, one percent more is already unusual.
    return DistanceTail(location, max(float(np.sqrt(variance)), 0.01), n)
