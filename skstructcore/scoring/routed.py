"""Calibration of each route by itself, on a scale that all routes share.

Anomaly scores of different products differ in location and spread. Each route has its own
statistics, weight and threshold, and its scores are standardised so that 0 is the median of its
held-out good training images and 1 is its threshold. An image that is too far from its route is
of no known product; its score is then at least the ratio of its standardised routing distance to
the largest that is still known, which is above 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..routing.grouping import UNKNOWN
from ..routing.profile import DistanceTail, fit_tail
from .calibration import ScoreCalibration, explain_shortage, fit_calibration

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from ..containers import AnomalyMaps
    from .evidence import Evidence, TrainingEvidence


#: A route with fewer independent images is judged by the statistics of all routes together.
MIN_GROUPS = 8

#: With fewer independent images than these, next to nothing is far enough away to be unknown.
MIN_GROUPS_FOR_UNKNOWN = 5

_ABOVE = float(np.nextafter(1.0, 2.0))  # the lowest scaled score that is rejected


@dataclass(frozen=True, eq=False)
class RouteCalibration:
    """What good images of one route look like.

    Attributes
    ----------
    calibration : ScoreCalibration
        Of its own training images, or of those of all routes.
    tail : DistanceTail
        How far they are from the route.
    is_pooled : bool
        Whether the route had too few images for a calibration of its own.
    """

    calibration: ScoreCalibration
    tail: DistanceTail
    is_pooled: bool = False

    @property
    def score_span(self) -> float:
        """What one unit of a scaled score is."""
        decision = self.calibration.decision
        span = decision.threshold - float(np.median(decision.scores))
        return span if span > 0 else float(decision.scores.std()) or 1.0

    def scale_scores(self, scores: NDArray[np.floating]) -> NDArray[np.floating]:
        """Scale anomaly scores: 1 is the threshold, 0 the median of good training images.

        Where the threshold is not above the median, one unit is a standard deviation.
        """
        decision = self.calibration.decision
        scaled = 1 + (scores - decision.threshold) / self.score_span
        # Rounding must not carry a score over the threshold.
        return np.where(
            decision.rejects(scores), np.maximum(scaled, _ABOVE), np.minimum(scaled, 1.0)
        )


def calibrate(
    training: TrainingEvidence, **options: Any
) -> tuple[ScoreCalibration, dict[str, RouteCalibration] | None, list[str]]:
    """Calibrate all images together and, where they have routes, each route.

    Parameters
    ----------
    training : TrainingEvidence
    **options
        For `fit_calibration`.

    Returns
    -------
    calibration : ScoreCalibration
    routes : dict of str to RouteCalibration, or None
    messages : list of str
        What too few images cost; empty if all is well.
    """
    calibration = fit_calibration(training.evidence, training.groups, **options)
    if training.route is None:
        shortage = explain_shortage(calibration.decision)
        return calibration, None, [] if shortage is None else [shortage]
    routes = fit_routes(training.evidence, training, calibration, **options)
    return calibration, routes, explain_routes(routes)


def fit_routes(
    evidence: Evidence,
    maps: AnomalyMaps | TrainingEvidence,
    pooled: ScoreCalibration,
    **options: Any,
) -> dict[str, RouteCalibration]:
    """Calibrate every route.

    Parameters
    ----------
    evidence : Evidence
        Of the training images.
    maps : AnomalyMaps or TrainingEvidence
        Their maps, with `groups`, `route` and held-out `route_distance`.
    pooled : ScoreCalibration
        Of all training images, for routes with fewer than `MIN_GROUPS` images (groups).
    **options
        For `fit_calibration`.

    Returns
    -------
    routes : dict of str to RouteCalibration
    """
    routes = {}
    for name in np.unique(maps.route):
        mine = maps.route == name
        groups = None if maps.groups is None else maps.groups[mine]
        tail = fit_tail(maps.route_distance[mine], groups)
        if tail.n < MIN_GROUPS:
            routes[str(name)] = RouteCalibration(pooled, tail, is_pooled=True)
        else:
            calibration = fit_calibration(evidence.of(mine), groups, **options)
            routes[str(name)] = RouteCalibration(calibration, tail)
    return routes


def explain_routes(routes: dict[str, RouteCalibration]) -> list[str]:
    """Say what too few images cost: of the promised level, and of what is told apart.

    Parameters
    ----------
    routes : dict of str to RouteCalibration

    Returns
    -------
    messages : list of str
        Empty if all is well.
    """
    messages = []
    calibrations = {name: r.calibration for name, r in routes.items() if not r.is_pooled}
    short = {name: explain_shortage(c.decision) for name, c in calibrations.items()}
    short = {name: text for name, text in short.items() if text is not None}
    if short:
        worst = max(short, key=lambda name: calibrations[name].decision.rate)
        messages.append(
            f"{len(short)} of {len(routes)} routes have too few training images, {worst!r} the "
            f"fewest: {short[worst]}"
        )
    few = [name for name, route in routes.items() if route.is_pooled]
    if few:
        messages.append(
            f"Fewer than {MIN_GROUPS} independent training images of {', '.join(few)}: their "
            "images are judged by the statistics of all routes together. Add images."
        )
    thin = [name for name, route in routes.items() if route.tail.n < MIN_GROUPS_FOR_UNKNOWN]
    if thin:
        messages.append(
            f"Fewer than {MIN_GROUPS_FOR_UNKNOWN} independent training images of "
            f"{', '.join(thin)}: hardly any image is far enough from them to be called unknown."
        )
    return messages


def judge_routed(
    routes: dict[str, RouteCalibration],
    evidence: Evidence,
    maps: AnomalyMaps,
    unknown_level: float,
) -> dict[str, NDArray[Any]]:
    """Judge images, each by its own route.

    Parameters
    ----------
    routes : dict of str to RouteCalibration
    evidence, maps : see `fit_routes`
    unknown_level : float
        Images of known products that may be called unknown, as a share.

    Returns
    -------
    judged : dict of str to ndarray, each with one row an image
        What `ScoreCalibration.judge` returns, "score" standardised, and "route" ("unknown" or a
        name), "nearest_route" and "route_p_value".
    """
    judged = {"route_p_value": np.empty(len(maps))}
    for name in np.unique(maps.route):
        if name not in routes:
            raise ValueError(
                f"The maps have the route {str(name)!r}, for which nothing was learned: known are "
                f"{', '.join(routes)}. Score images with the pipeline that was fitted."
            )
        mine, route = maps.route == name, routes[name]
        part = route.calibration.judge(evidence.of(mine))
        tail, distances = route.tail, maps.route_distance[mine]
        p_values = tail.p_values(distances)
        beyond = tail.z(distances) / tail.critical_z(unknown_level)
        scores = route.scale_scores(part["score"])
        # A distance that is no number is of no known product.
        unknown = ~(p_values >= unknown_level)
        part["score"] = np.where(unknown, np.maximum(scores, np.maximum(beyond, _ABOVE)), scores)
        rate = route.calibration.decision.rate
        part["p_value"] = np.where(
            unknown,
            np.fmin(part["p_value"], np.fmin(p_values / unknown_level, 1.0) * rate),
            part["p_value"],
        )
        for key, values in part.items():
            judged.setdefault(key, np.empty((len(maps), *values.shape[1:])))[mine] = values
        judged["route_p_value"][mine] = p_values
    is_known = judged["route_p_value"] >= unknown_level
    judged["route"] = np.where(is_known, maps.route, UNKNOWN).astype(object)
    judged["nearest_route"] = maps.route.astype(object)
    return judged
