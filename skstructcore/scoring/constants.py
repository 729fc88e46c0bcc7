"""All numbers that turn descriptors into score, p-value and decision, for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import stdtr

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .calibration import RouteCalibration
    from .decision import Decision
    from .structcore import StructCoreScorer

# Smooth tails are read from tables, linear between their points: these are standardised scores,
# dense where scores are. The largest relative error of a p-value is below 1e-4.
_Z = np.sinh(np.linspace(np.arcsinh(-40.0), np.arcsinh(2000.0), 8192))


def score_constants(
    scorer: StructCoreScorer, route_names: tuple[str, ...] = ("all",)
) -> dict[str, NDArray[Any]]:
    """Return the constants of a fitted scorer: arrays with a row a route, as in `route_names`.

    With ``z = (phi - location) / scale * weights``, an image has the raw score ``base_weight *
    base + lam * combine(z, norm)``, is rejected if that is above ``threshold``, and has the score
    ``(raw - score_location) / score_span``. P-values are at most ``rate`` where, and only where, an
    image is rejected; they lie on the lines between ``levels``, raw scores in ascending order, and
    ``p_values``.

    With routes, a distance to the route is of no known product if ``z = (log distance -
    tail_location) / tail_scale`` exceeds ``tail_critical``. The score is then at least their ratio.
    ``tail_levels`` and ``tail_p_values`` say how often a known product is at least as far, as a
    share of the level at which it becomes unknown.

    Raises
    ------
    ValueError
        If nothing was learned for a route.
    """
    missing = [name for name in route_names if name not in scorer.routes_]
    if missing:
        raise ValueError(f"Nothing was learned for the route {missing[0]!r}: fit again.")
    routes = [_of_route(scorer.routes_[name], scorer.unknown_level) for name in route_names]
    longest = max(len(route["levels"]) for route in routes)
    for route in routes:
        more = 0, longest - len(route["levels"])
        route["levels"] = np.pad(route["levels"], more, constant_values=np.inf)
        route["p_values"] = np.pad(route["p_values"], more, "edge")
    return {name: np.stack([route[name] for route in routes]) for name in routes[0]}


def _of_route(route: RouteCalibration, unknown_level: float) -> dict[str, Any]:
    calibration, tail = route.calibration, route.tail
    levels, p_values = _table(calibration.decision)
    n_counted = len(calibration.weights)
    constants = {
        "location": calibration.location[:n_counted],
        "scale": calibration.scale[:n_counted],
        "score_location": 0.0 if tail is None else calibration.threshold - route.score_span,
        "score_span": route.score_span,
        "rate": calibration.decision.rate,
        "levels": levels,
        "p_values": p_values,
    }
    same = "weights", "norm", "base_weight", "lam", "threshold"
    constants |= {name: getattr(calibration, name) for name in same}
    if tail is None:
        return constants
    return constants | {
        "tail_location": tail.location,
        "tail_scale": float(tail.scale * np.sqrt(1 + 1 / tail.n)),
        "tail_critical": tail.critical_z(unknown_level),
        "tail_levels": _Z,
        "tail_p_values": np.minimum(stdtr(tail.n - 1, -_Z) / unknown_level, 1.0),
    }


def _table(decision: Decision) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores, and their p-values by the decision."""
    if decision.tail is not None:
        levels = decision.tail.location + decision.tail.predictive_scale * _Z
    else:
        scores = np.unique(decision.scores)
        # P-values that fall in steps do so between a score and the next larger number.
        levels = np.unique([scores, np.nextafter(scores, np.inf)])
    return levels, decision.p_values(levels)
