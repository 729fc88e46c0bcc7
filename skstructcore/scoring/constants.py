"""All numbers that turn descriptors into score, p-value and decision, for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtr

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .decision import Decision
    from .routed import RouteCalibration
    from .structcore import StructCoreScorer

# Smooth tails are read from tables, linear between their points: these are standardised scores,
# dense where scores are. The largest relative error of a p-value is below 1e-4.
_Z = np.sinh(np.linspace(np.arcsinh(-40.0), np.arcsinh(2000.0), 8192))


@dataclass(frozen=True, eq=False)
class ScoreConstants:
    """What is known of one route; without routes, of all images.

    With ``z = (phi - location) / scale * weights``, an image has the raw score ``base_weight *
    base + lam * combine(z, norm)``, is rejected if that is above `threshold`, and has
    the score ``(raw - score_location) / score_span``.

    Attributes
    ----------
    name : str
        Of the route; "all" without routes.
    location, scale, weights : ndarray of shape (p,)
    norm : str
    base_weight, lam, threshold, score_location, score_span : float
    rate : float
        P-values are at most this where, and only where, an image is rejected.
    levels, p_values : ndarray of shape (n,)
        Raw scores, ascending, and their p-values; linear in between.
    tail_location, tail_scale, tail_critical : float
        A distance to the route is of no known product if ``z = (log distance - tail_location) /
        tail_scale`` exceeds `tail_critical`. The score is then at least their ratio.
    tail_levels, tail_p_values : ndarray of shape (m,)
        Values of that z, ascending, and how often a known product is at least as far, as a share
        of the level at which it becomes unknown.
    """

    name: str
    location: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    norm: str
    base_weight: float
    lam: float
    threshold: float
    score_span: float
    rate: float
    levels: NDArray[np.float64]
    p_values: NDArray[np.float64]
    score_location: float = 0.0
    tail_location: float = 0.0
    tail_scale: float = 1.0
    tail_critical: float = np.inf
    tail_levels: NDArray[np.float64] | None = None
    tail_p_values: NDArray[np.float64] | None = None


def score_constants(
    scorer: StructCoreScorer, route_names: tuple[str, ...] = ("all",)
) -> list[ScoreConstants]:
    """Return the constants of a fitted scorer, those of each route in the order of `route_names`.

    Raises
    ------
    ValueError
        If nothing was learned for a route.
    """
    missing = [name for name in route_names if name not in scorer.routes_]
    if missing:
        raise ValueError(f"Nothing was learned for the route {missing[0]!r}: fit again.")
    return [_of_route(scorer.routes_[name], name, scorer.unknown_level) for name in route_names]


def _of_route(route: RouteCalibration, name: str, unknown_level: float) -> ScoreConstants:
    calibration, tail, of_tail = route.calibration, route.tail, {}
    levels, p_values = _table(calibration.decision)
    n_counted = len(calibration.weights)
    if tail is not None:
        of_tail = {
            "score_location": calibration.threshold - route.score_span,
            "tail_location": tail.location,
            "tail_scale": float(tail.scale * np.sqrt(1 + 1 / tail.n)),
            "tail_critical": tail.critical_z(unknown_level),
            "tail_levels": _Z,
            "tail_p_values": np.minimum(stdtr(tail.n - 1, -_Z) / unknown_level, 1.0),
        }
    return ScoreConstants(
        name=name,
        location=calibration.location[:n_counted],
        scale=calibration.scale[:n_counted],
        weights=calibration.weights,
        norm=calibration.norm,
        base_weight=calibration.base_weight,
        lam=calibration.lam,
        threshold=calibration.threshold,
        score_span=route.score_span,
        rate=calibration.decision.rate,
        levels=levels,
        p_values=p_values,
        **of_tail,
    )


def _table(decision: Decision) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores, and their p-values by the decision."""
    if decision.tail is not None:
        levels = decision.tail.location + decision.tail.predictive_scale * _Z
    else:
        scores = np.unique(decision.scores)
        # P-values that fall in steps do so between a score and the next larger number.
        levels = np.unique([scores, np.nextafter(scores, np.inf)])
    return levels, decision.p_values(levels)
