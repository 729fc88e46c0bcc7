"""Calibration of each route by itself, on a scale that all routes share.

Anomaly scores of different products differ in location and spread. Each route has its own
statistics, weight and threshold, and its scores are standardised so that 0 is the mean of its
held-out good training images and 1 is its threshold. An image that is too far from its route is
of no known product; its score is then at least the ratio of its standardised routing distance to
the largest that is still known, which is above 1.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..routing.grouping import UNKNOWN
from ..routing.profile import DistanceTail, fit_tail
from .calibration import ScoreCalibration, fit_calibration, location_and_scale

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from ..containers import AnomalyMaps


@dataclass(frozen=True, eq=False)
class RouteCalibration:
    """What good images of one route look like.

    Attributes
    ----------
    calibration : ScoreCalibration
        Of its own training images, or of those of all routes.
    tail : DistanceTail
        How far they are from the route.
    phi_location, phi_scale : ndarray of shape (3,)
        Mean and standard deviation of the paper's descriptors, which are shown only.
    is_pooled : bool
        Whether the route had too few images for a calibration of its own.
    """

    calibration: ScoreCalibration
    tail: DistanceTail
    phi_location: NDArray[np.float64]
    phi_scale: NDArray[np.float64]
    is_pooled: bool = False

    def standardise(self, scores: NDArray[np.floating]) -> NDArray[np.floating]:
        """Scale anomaly scores: 0 is the mean of good training images, 1 the threshold."""
        location = float(self.calibration.scores.mean())
        span = self.calibration.threshold - location
        return (scores - location) / (span if span > 0 else 1.0)


def fit_routes(
    base: NDArray[np.floating],
    phi: NDArray[np.floating],
    paper_phi: NDArray[np.floating],
    maps: AnomalyMaps,
    pooled: ScoreCalibration,
    min_images: int,
    **options: Any,
) -> dict[str, RouteCalibration]:
    """Calibrate every route.

    Parameters
    ----------
    base : ndarray of shape (n,)
    phi : ndarray of shape (n, p)
        Base scores and descriptors of the training images.
    paper_phi : ndarray of shape (n, 3)
        The descriptors of the paper.
    maps : AnomalyMaps
        Their maps, with `route` and held-out `route_distance`.
    pooled : ScoreCalibration
        Of all training images, for routes with fewer than `min_images` images (groups).
    min_images : int
    **options
        For `fit_calibration`.

    Returns
    -------
    routes : dict of str to RouteCalibration

    Warns
    -----
    UserWarning
        Once for all routes that fall back, and once for all that cannot promise the
        false-alarm rate.
    """
    routes = {}
    for name in np.unique(maps.route):
        mine = maps.route == name
        groups = None if maps.groups is None else maps.groups[mine]
        tail = fit_tail(maps.route_distance[mine], groups)
        shown = location_and_scale(paper_phi[mine])
        n_independent = int(mine.sum()) if groups is None else len(np.unique(groups))
        if n_independent < min_images:
            routes[str(name)] = RouteCalibration(pooled, tail, *shown, is_pooled=True)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # told once for all routes, below
            calibration = fit_calibration(base[mine], phi[mine], groups, **options)
        routes[str(name)] = RouteCalibration(calibration, tail, *shown)
    few = [name for name, route in routes.items() if route.is_pooled]
    if few:
        warnings.warn(
            f"Fewer than {min_images} independent training images of {', '.join(few)}: their "
            "images are judged by the statistics of all routes together. Add images.",
            UserWarning,
            stacklevel=3,
        )
    _warn_of_levels(routes, options["quantile"])
    return routes


def _warn_of_levels(routes, quantile):
    levels = {name: r.calibration.level for name, r in routes.items() if not r.is_pooled}
    short = {name: p for name, p in levels.items() if p is not None and p > 1 - quantile + 1e-12}
    if short:
        worst = max(short, key=short.get)
        warnings.warn(
            f"quantile={quantile:g} asks for a false-alarm rate of {1 - quantile:.2%}, for which "
            f"{len(short)} of {len(routes)} routes have too few training images; the best promise "
            f"is {short[worst]:.1%} for {worst!r}. Their thresholds are their largest training "
            "scores. Add images, or ask for less.",
            UserWarning,
            stacklevel=4,
        )


def judge_routed(
    routes: dict[str, RouteCalibration],
    base: NDArray[np.floating],
    phi: NDArray[np.floating],
    maps: AnomalyMaps,
    unknown_level: float,
) -> dict[str, NDArray[Any]]:
    """Judge images, each by its own route.

    Parameters
    ----------
    routes : dict of str to RouteCalibration
    base, phi, maps : see `fit_routes`
    unknown_level : float
        Images of known products that may be called unknown, as a share.

    Returns
    -------
    judged : dict of str to ndarray, each with one row an image
        "score" (standardised), "d_struct", "z" (of the base score and the descriptors),
        "p_value", "base_threshold", "route" ("unknown" or a name), "nearest_route" and
        "route_p_value".
    """
    n_images = len(base)
    judged = {
        name: np.empty(n_images)
        for name in ("score", "d_struct", "p_value", "base_threshold", "route_p_value")
    }
    judged["z"] = np.empty((n_images, 1 + phi.shape[1]))
    for name in np.unique(maps.route):
        if name not in routes:
            raise ValueError(
                f"The maps have the route {str(name)!r}, for which nothing was learned: known are "
                f"{', '.join(routes)}. Score images with the pipeline that was fitted."
            )
        mine, route = maps.route == name, routes[name]
        part = judge(route.calibration, base[mine], phi[mine])
        tail, distances = route.tail, maps.route_distance[mine]
        p_values = tail.p_values(distances)
        beyond = tail.z(distances) / tail.critical_z(unknown_level)
        scores = route.standardise(part["score"])
        part["score"] = np.where(p_values < unknown_level, np.maximum(scores, beyond), scores)
        for key, values in part.items():
            judged[key][mine] = values
        judged["route_p_value"][mine] = p_values
    is_known = judged["route_p_value"] >= unknown_level
    judged["route"] = np.where(is_known, maps.route, UNKNOWN).astype(object)
    judged["nearest_route"] = maps.route.astype(object)
    return judged


def judge(
    calibration: ScoreCalibration, base: NDArray[np.floating], phi: NDArray[np.floating]
) -> dict[str, NDArray[Any]]:
    """Judge images by one calibration; see `judge_routed` for what is returned."""
    score, d_struct, z = calibration.score(base, phi)
    base_z = (base - calibration.base_location) / calibration.base_scale
    return {
        "score": score,
        "d_struct": d_struct,
        "z": np.column_stack([base_z, z]),
        "p_value": calibration.p_values(score),
        "base_threshold": np.full(len(base), calibration.base_threshold),
    }
