"""Calibration of each route by itself; without routes, of the one route "all"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..routing.profile import fit_tail
from .calibration import RouteCalibration, ScoreCalibration, fit_calibration
from .decision import explain_shortage

if TYPE_CHECKING:
    from typing import Any

    from .evidence import Evidence


#: A route with fewer independent images is judged by the statistics of all routes together.
MIN_GROUPS = 8

#: With fewer independent images than these, next to nothing is far enough away to be unknown.
MIN_GROUPS_FOR_UNKNOWN = 5


def calibrate(
    training: Evidence, **options: Any
) -> tuple[ScoreCalibration, dict[str, RouteCalibration], list[str]]:
    """Calibrate all images together, and each route ("all" without routes).

    A route with fewer than `MIN_GROUPS` images (groups) has the calibration of all. The messages
    say what too few images cost. Options are those of `fit_calibration`.
    """
    calibration = fit_calibration(training, training.groups, **options)
    if training.route is None:
        shortage = explain_shortage(calibration.decision)
        messages = [] if shortage is None else [shortage]
        return calibration, {"all": RouteCalibration(calibration)}, messages
    routes = {}
    for name in map(str, np.unique(training.route)):
        mine = training.take(training.rows_of(name))
        tail = fit_tail(mine.route_distance, mine.groups)
        if tail.n < MIN_GROUPS:
            routes[name] = RouteCalibration(calibration, tail, is_pooled=True)
        else:
            own = fit_calibration(mine, mine.groups, **options)
            routes[name] = RouteCalibration(own, tail)
    return calibration, routes, explain_routes(routes)


def explain_routes(routes: dict[str, RouteCalibration]) -> list[str]:
    """Say what too few images cost: of the promised rate, and of what is told apart."""
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
