"""Routes: each has its own statistics, weight and threshold; how images are judged by theirs.

With routes, scores are standardised. That of an image that is too far from its route, of no known
product, is at least the ratio of its standardised routing distance to the largest still known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..containers import AnomalyMaps
from ..routing import UNKNOWN, DistanceTail, fit_tail
from .calibration import Judged, ScoreCalibration, fit_calibration
from .decision import MIN_IMAGES, Decision, percent
from .evidence import Evidence

#: A route with fewer independent images is judged by the statistics of all routes together.
MIN_GROUPS = 8
#: With fewer independent images than these, next to nothing is far enough away to be unknown.
MIN_GROUPS_FOR_UNKNOWN = 5

_ABOVE = float(np.nextafter(1.0, 2.0))  # the lowest standardised score that is rejected


@dataclass(frozen=True, eq=False)
class RouteCalibration:
    """What good images of one route look like.

    `calibration` is of its own training images or, where these are too few (`is_pooled`), of all.
    `tail` is how far they are from the route; None: images are not routed, scores stay as they are.
    """

    calibration: ScoreCalibration
    tail: DistanceTail | None = None
    is_pooled: bool = False

    @property
    def score_span(self) -> float:
        """One unit in raw scores; a standard deviation if the threshold is at most the median."""
        decision = self.calibration.decision
        span = decision.threshold - float(np.median(decision.scores))
        return span if span > 0 else float(decision.scores.std()) or 1.0

    def scale_scores(self, scores: NDArray[np.floating]) -> NDArray[np.floating]:
        """Standardise raw scores: 1 is the threshold, 0 the median of held-out training images."""
        if self.tail is None:
            return scores
        decision = self.calibration.decision
        scaled = 1 + (scores - decision.threshold) / self.score_span
        # Rounding must not carry a score over the threshold.
        return np.where(
            decision.rejects(scores), np.maximum(scaled, _ABOVE), np.minimum(scaled, 1.0)
        )

    def judge(self, evidence: Evidence, unknown_level: float) -> Judged:
        """Judge n images of the route; a share `unknown_level` of good ones is called unknown."""
        judged = self.calibration.judge(evidence)
        if self.tail is None:
            return judged
        route_p_value = self.tail.p_values(evidence.route_distance)
        beyond = self.tail.z(evidence.route_distance) / self.tail.critical_z(unknown_level)
        score = self.scale_scores(judged.score)
        # A distance that is no number is of no known product.
        unknown = ~(route_p_value >= unknown_level)
        rate = self.calibration.decision.rate
        far = np.fmin(judged.p_value, np.fmin(route_p_value / unknown_level, 1.0) * rate)
        nearest = evidence.route.astype(object)
        return judged._replace(
            score=np.where(unknown, np.maximum(score, np.maximum(beyond, _ABOVE)), score),
            p_value=np.where(unknown, far, judged.p_value),
            nearest_route=nearest,
            route=np.where(unknown, UNKNOWN, nearest),
            route_p_value=route_p_value,
        )


@dataclass(frozen=True, eq=False)
class Routes(Mapping):
    """`RouteCalibration` of each route by its name; of "all" where images are not routed."""

    data: dict[str, RouteCalibration]

    def __getitem__(self, name: str) -> RouteCalibration:
        return self.data[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    @property
    def is_routed(self) -> bool:
        """Whether images are sent to routes."""
        return any(route.tail is not None for route in self.values())

    @property
    def decisions(self) -> dict[str, Decision]:
        """Threshold and p-values of each route, of scores that are not standardised."""
        return {name: route.calibration.decision for name, route in self.items()}

    @property
    def smallest_rate(self) -> float:
        """The smallest false-alarm rate that all routes can keep."""
        return max(decision.smallest_rate for decision in self.decisions.values())

    def at(self, rate: float) -> Routes:
        """The same statistics, with the thresholds of another false-alarm rate."""
        return Routes({k: replace(r, calibration=r.calibration.at(rate)) for k, r in self.items()})

    def route_of(self, maps: AnomalyMaps | Evidence) -> NDArray[np.object_]:
        """The route of each image, by name; ValueError if nothing was learned for it."""
        if not self.is_routed:
            return np.full(len(maps), "all", dtype=object)
        if maps.route is None:
            raise ValueError(
                "The training maps had routes and these have none: score images with the "
                "pipeline that was fitted."
            )
        if unknown := sorted({*maps.route} - self.keys()):
            raise ValueError(
                f"The maps have the route {str(unknown[0])!r}, for which nothing was learned: "
                f"known are {', '.join(self)}. Score images with the pipeline that was fitted."
            )
        return maps.route.astype(object)

    def judge(self, evidence: Evidence, unknown_level: float) -> Judged:
        """Judge images, each by its own route; see `RouteCalibration.judge`."""
        nearest = self.route_of(evidence)
        rows = {name: np.flatnonzero(nearest == name) for name in np.unique(nearest)}
        judged = [self[k].judge(evidence.take(mine), unknown_level) for k, mine in rows.items()]
        order = np.argsort(np.concatenate([*rows.values()]))
        columns = zip(*judged, strict=True)
        return Judged(*(None if c[0] is None else np.concatenate(c)[order] for c in columns))


def calibrate(training: Evidence, **options: Any) -> tuple[ScoreCalibration, Routes]:
    """Calibrate all images together, and each route; `options` are those of `fit_calibration`."""
    calibration = fit_calibration(training, **options)
    if training.route is None:
        return calibration, Routes({"all": RouteCalibration(calibration)})
    routes = {}
    for name in map(str, np.unique(training.route)):
        mine = training.take(training.rows_of(name))
        tail = fit_tail(mine.route_distance, mine.groups)
        is_pooled = tail.n < MIN_GROUPS
        of_route = calibration if is_pooled else fit_calibration(mine, **options)
        routes[name] = RouteCalibration(of_route, tail, is_pooled)
    return calibration, Routes(routes)


@dataclass(frozen=True, eq=False)
class LotRates:
    """Each lot left out in turn: how many of its good images the others would have rejected."""

    lots: NDArray[np.int64]  # (n_lots,): numbers of lots, or codes of groups
    n_images: NDArray[np.int64]
    rates: NDArray[np.float64]  # above the threshold of the others, whose bank has none of it

    def __str__(self) -> str:
        worst, rate = self.rates.max(), np.average(self.rates, weights=self.n_images)
        of_worst = self.n_images[self.rates == worst].max()  # of few images it says little
        return (
            f"of {len(self.lots)} lots, each left out in turn, {percent(rate)} of the good "
            f"images would be rejected, {percent(worst)} of the worst ({of_worst} images)"
        )


def rates_by_lot(training: Evidence, apart: Evidence, routes: Routes) -> LotRates | None:
    """Count, for each lot, what the threshold of the others rejects.

    `apart` is the evidence of the `training` images, scored without the entries of their lot, which
    is their group there. Lots count with 5 images or more, and as many beside them that a threshold
    is learned from; None where fewer than two have.
    """
    lots = apart.groups
    if lots is None:
        return None
    names, counts = np.unique(lots, return_counts=True)
    rejected = np.full(len(lots), np.nan)  # not judged
    for name, route in routes.items():
        if route.is_pooled:
            continue
        mine = training.rows_of(name)
        scores = route.calibration.judge(apart.take(mine)).score
        for lot in names[counts >= MIN_IMAGES]:
            of_lot = np.flatnonzero(lots[mine] == lot)
            if 0 < len(of_lot) <= len(mine) - MIN_IMAGES:
                others = route.calibration.decision.without(of_lot)
                if others is not None:
                    rejected[mine[of_lot]] = others.rejects(scores[of_lot])
    table = pd.Series(rejected).groupby(lots).agg(["count", "mean"])
    table = table[table["count"] >= MIN_IMAGES]
    if len(table) < 2:
        return None
    return LotRates(table.index.to_numpy(), table["count"].to_numpy(), table["mean"].to_numpy())
