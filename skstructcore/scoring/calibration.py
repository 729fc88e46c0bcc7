"""From descriptors of good images to scores, and to what is normal for them.

Every number comes from held-out scores of good training images; no label is used.

Anomaly scores of different products differ in location and spread. Each route has its own
statistics, weight and threshold, and its scores are standardised so that 0 is the median of its
held-out good training images and 1 is its threshold. An image that is too far from its route is
of no known product; its score is then at least the ratio of its standardised routing distance to
the largest that is still known, which is above 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .._utils.warning import warn_user
from ..routing.grouping import UNKNOWN
from .decision import Decision, decide, decide_by_base

if TYPE_CHECKING:
    from typing import Any, Literal

    from numpy.typing import ArrayLike, NDArray

    from ..containers import AnomalyMaps
    from ..routing.profile import DistanceTail
    from .decision import Rule
    from .evidence import Evidence

    Norm = Literal["sum", "l2", "linf"]

#: How the standardised descriptors ``z`` of an image become one number, ``D_struct``.
NORMS = ("sum", "l2", "linf")

_LARGEST = 1e100
_ABOVE = float(np.nextafter(1.0, 2.0))  # the lowest standardised score that is rejected


def location_and_scale(
    phi: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each descriptor ``(n, p)`` over the training images.

    A descriptor that is constant there gets scale 1, as in scikit-learn's StandardScaler: a new
    image that differs from the constant is then measured in the descriptor's own units.
    """
    location, scale = phi.mean(axis=0), phi.std(axis=0)
    # Rounding leaves a tiny spread where all values are equal.
    constant = scale <= 10 * np.finfo(np.float64).eps * np.abs(location)
    return location, np.where(constant, 1.0, scale)


def combine(z: NDArray[np.floating], norm: str) -> NDArray[np.float64]:
    """Turn standardised descriptors ``(n, p)`` into the structural part ``D_struct`` of the score.

    `norm` is one of `NORMS`. "sum" adds ``z`` with their signs; "l2" and "linf" are the norms of
    the paper, for which a value far *below* normal counts too.

    Examples
    --------
    >>> import numpy as np
    >>> z = np.array([[3.0, -4.0]])
    >>> [float(combine(z, norm)[0]) for norm in ("sum", "l2", "linf")]
    [-1.0, 5.0, 4.0]
    """
    # Contiguous rows are summed in one order: an image alone has the sum of one among many.
    z = np.ascontiguousarray(z)
    if norm == "sum":
        return z.sum(axis=1)
    return np.linalg.norm(z, ord=2 if norm == "l2" else np.inf, axis=1)


@dataclass(frozen=True, eq=False)
class ScoreCalibration:
    """What good images of one kind look like, and what follows for the score.

    Attributes
    ----------
    base_location, base_scale : float
        Mean and standard deviation of the base score.
    location, scale : ndarray of shape (p,)
        Mean and standard deviation of the descriptors.
    paper_location, paper_scale : ndarray of shape (3,)
        The same of the descriptors of the paper, which are shown even where they do not count.
    weights : ndarray of shape (p,)
        Factors of ``z`` before they are combined.
    norm : str
        How ``z`` becomes ``D_struct``, see `combine`.
    lam : float
        Weight of ``D_struct``.
    base_weight : float
        1, or 0 where only ``D_struct`` counts.
    decision : Decision
        By held-out anomaly scores of the calibration images: the threshold.
    base_decision : Decision
        The same by their base scores alone.
    """

    base_location: float
    base_scale: float
    location: NDArray[np.float64]
    scale: NDArray[np.float64]
    paper_location: NDArray[np.float64]
    paper_scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    norm: str
    lam: float
    base_weight: float
    decision: Decision
    base_decision: Decision

    @property
    def scores(self) -> NDArray[np.float64]:
        return self.decision.scores

    @property
    def threshold(self) -> float:
        return self.decision.threshold

    @property
    def level(self) -> float:
        warn_user("level is called decision.rate now.", FutureWarning)
        return self.decision.rate

    @property
    def asked_level(self) -> float:
        warn_user("asked_level is called decision.asked_rate now.", FutureWarning)
        return self.decision.asked_rate

    @property
    def groups(self) -> NDArray[Any] | None:
        return self.decision.groups

    def at(self, rate: float) -> ScoreCalibration:
        """The same statistics, with the threshold of another false-alarm rate."""
        decisions = {"decision": self.decision.at(rate)}
        return replace(self, base_decision=self.base_decision.at(rate), **decisions)

    def score(self, evidence: Evidence) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the anomaly score and ``D_struct`` of n images, of shape (n,) each."""
        d_struct = combine(self._z(evidence) * self.weights, self.norm)
        return self.base_weight * evidence.base + self.lam * d_struct, d_struct

    def judge(self, evidence: Evidence) -> dict[str, NDArray[Any]]:
        """Judge n images.

        Returns
        -------
        judged : dict of str to ndarray, each with one row an image
            "score", "d_struct", "p_value", "base_threshold"; "z" of the base score and the
            descriptors, "paper_z" of the descriptors of the paper.
        """
        score, d_struct = self.score(evidence)
        base_z = (evidence.base - self.base_location) / self.base_scale
        return {
            "score": score,
            "d_struct": d_struct,
            "z": np.column_stack([base_z, self._z(evidence)]),
            "paper_z": (evidence.paper_phi - self.paper_location) / self.paper_scale,
            "p_value": self.decision.p_values(score),
            "base_threshold": np.full(len(score), self.base_decision.threshold),
        }

    def _z(self, evidence):
        return (evidence.phi - self.location) / self.scale


@dataclass(frozen=True, eq=False)
class RouteCalibration:
    """What good images of one route look like.

    Attributes
    ----------
    calibration : ScoreCalibration
        Of its own training images, or of those of all routes.
    tail : DistanceTail or None
        How far they are from the route. None: images are not routed, and scores stay as they are.
    is_pooled : bool
        Whether the route had too few images for a calibration of its own.
    """

    calibration: ScoreCalibration
    tail: DistanceTail | None = None
    is_pooled: bool = False

    @property
    def threshold(self) -> float:
        """Scores above it are rejected."""
        return self.calibration.threshold if self.tail is None else 1.0

    @property
    def score_span(self) -> float:
        """What one unit of a score is, in units of the raw score."""
        if self.tail is None:
            return 1.0
        decision = self.calibration.decision
        span = decision.threshold - float(np.median(decision.scores))
        return span if span > 0 else float(decision.scores.std()) or 1.0

    def scale_scores(self, scores: NDArray[np.floating]) -> NDArray[np.floating]:
        """Standardise raw scores: 1 is the threshold, 0 the median of good training images.

        Where the threshold is not above the median, one unit is a standard deviation.
        """
        if self.tail is None:
            return scores
        decision = self.calibration.decision
        scaled = 1 + (scores - decision.threshold) / self.score_span
        # Rounding must not carry a score over the threshold.
        return np.where(
            decision.rejects(scores), np.maximum(scaled, _ABOVE), np.minimum(scaled, 1.0)
        )

    def judge(
        self, evidence: Evidence, distances: NDArray[np.floating] | None, unknown_level: float
    ) -> dict[str, NDArray[Any]]:
        """Judge n images of the route, whose distances from it are known if images are routed."""
        judged = self.calibration.judge(evidence)
        if self.tail is None:
            return judged
        p_values = self.tail.p_values(distances)
        beyond = self.tail.z(distances) / self.tail.critical_z(unknown_level)
        scores = self.scale_scores(judged["score"])
        # A distance that is no number is of no known product.
        unknown = ~(p_values >= unknown_level)
        judged["score"] = np.where(unknown, np.maximum(scores, np.maximum(beyond, _ABOVE)), scores)
        rate = self.calibration.decision.rate
        far = np.fmin(judged["p_value"], np.fmin(p_values / unknown_level, 1.0) * rate)
        judged["p_value"] = np.where(unknown, far, judged["p_value"])
        return {**judged, "route_p_value": p_values}


def judge_routes(
    routes: dict[str, RouteCalibration],
    evidence: Evidence,
    maps: AnomalyMaps,
    unknown_level: float,
) -> dict[str, NDArray[Any]]:
    """Judge images, each by its own route.

    Returns what `ScoreCalibration.judge` returns, a row an image. With routes "score" is
    standardised, and there are "route" (a name, or "unknown" for a share `unknown_level` of the
    images of known products), "nearest_route" and "route_p_value".
    """
    nearest, judged = route_of_maps(routes, maps), {}
    for name in np.unique(nearest):
        mine = nearest == name
        distances = None if maps.route_distance is None else maps.route_distance[mine]
        part = routes[name].judge(evidence.of(mine), distances, unknown_level)
        for key, values in part.items():
            judged.setdefault(key, np.empty((len(maps), *values.shape[1:])))[mine] = values
    if "route_p_value" in judged:
        is_known = judged["route_p_value"] >= unknown_level
        judged["route"] = np.where(is_known, nearest, UNKNOWN).astype(object)
        judged["nearest_route"] = nearest
    return judged


def route_of_maps(routes: dict[str, RouteCalibration], maps: AnomalyMaps) -> NDArray[np.object_]:
    """The route of each image, by name; ValueError if nothing was learned for it."""
    if all(route.tail is None for route in routes.values()):
        return np.full(len(maps), "all", dtype=object)
    if maps.route is None:
        raise ValueError(
            "The training maps had routes and these have none: score images with the "
            "pipeline that was fitted."
        )
    for name in np.unique(maps.route):
        if name not in routes:
            raise ValueError(
                f"The maps have the route {str(name)!r}, for which nothing was learned: known are "
                f"{', '.join(routes)}. Score images with the pipeline that was fitted."
            )
    return maps.route.astype(object)


def fit_calibration(
    evidence: Evidence,
    groups: NDArray[Any] | None = None,
    *,
    norm: Norm = "sum",
    lam: float | Literal["auto", "struct-only"] = "auto",
    false_alarm_rate: float = 0.01,
    weights: ArrayLike | None = None,
    threshold: Rule = "expected",
) -> ScoreCalibration:
    """Learn the calibration of one kind of image from held-out good images.

    Parameters
    ----------
    evidence : Evidence
        Of n images.
    groups : ndarray of shape (n,), default=None
        Images of one group are alike and count as one.
    norm : str, default="sum"
        See `combine`.
    lam : "auto", "struct-only" or float, default="auto"
        Weight of ``D_struct``. "auto": ``std(base)`` for the sum, which makes the base one
        more ``z`` of the sum, and ``std(base) / std(D_struct)``, as published, for the norms.
        "struct-only": the base score does not count.
    false_alarm_rate : float, default=0.01
        The share of good images that may be rejected.
    weights : array-like of shape (p,), default=None
        Factors of ``z``; None: all 1.
    threshold : {"expected", "guaranteed", "quantile"}, default="expected"
        See `decide`.

    Returns
    -------
    calibration : ScoreCalibration
    """
    base, phi, paper_phi = evidence
    (base_location,), (base_scale,) = location_and_scale(base[:, np.newaxis])
    location, scale = location_and_scale(phi)
    paper_location, paper_scale = location_and_scale(paper_phi)
    weights = np.ones(phi.shape[1]) if weights is None else np.asarray(weights, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        z = (phi - location) / scale * weights
    # This is far below the largest number, because values of new images may be larger.
    factor = 1.0 if isinstance(lam, str) else lam
    if not np.abs(np.append(z, [factor, *base])).max() <= _LARGEST:  # NaN is no number either
        raise ValueError(
            f"Maps, the weights {weights.tolist()} and lam={lam!r} make scores that are too large "
            "for floating-point numbers: divide them by a constant."
        )
    d_struct = combine(z, norm)
    base_weight = 0.0 if lam == "struct-only" else 1.0
    if lam == "struct-only":
        lam = 1.0
    elif lam == "auto" and norm == "sum":
        lam = base_scale
    elif lam == "auto":
        spread = d_struct.std()
        lam = base.std() / spread if spread > 0 else 0.0
    scores = base_weight * base + lam * d_struct
    decision = decide(scores, false_alarm_rate, threshold, groups)
    return ScoreCalibration(
        base_location=float(base_location),
        base_scale=float(base_scale),
        location=location,
        scale=scale,
        paper_location=paper_location,
        paper_scale=paper_scale,
        weights=weights,
        norm=norm,
        lam=float(lam),
        base_weight=base_weight,
        decision=decision,
        base_decision=decide_by_base(base, false_alarm_rate, threshold, groups),
    )
