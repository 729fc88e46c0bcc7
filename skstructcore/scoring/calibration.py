"""From descriptors of good images to scores, and to what is normal for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from .decision import Decision, HeldOut, Rule, decide, decide_by_base
from .evidence import Evidence

Norm = Literal["sum", "l2", "linf"]

#: How the standardised descriptors ``z`` of an image become one number, ``D_struct``.
NORMS = get_args(Norm)

_LARGEST = 1e100


def location_and_scale(
    phi: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each descriptor ``(n, p)``, 1 where it is constant."""
    location, scale = phi.mean(axis=0), phi.std(axis=0)
    # Rounding leaves a tiny spread where all values are equal.
    constant = scale <= 10 * np.finfo(np.float64).eps * np.abs(location)
    return location, np.where(constant, 1.0, scale)


def combine(z: NDArray[np.floating], norm: str) -> NDArray[np.float64]:
    """Turn standardised descriptors ``(n, p)`` into the structural part ``D_struct`` of the score.

    `norm` is one of `NORMS`. "sum" adds ``z`` with their signs; for "l2" and "linf", the norms of
    the paper, a value far *below* normal counts too.
    """
    # Contiguous rows are summed in one order: an image alone has the sum of one among many.
    z = np.ascontiguousarray(z)
    if norm == "sum":
        return z.sum(axis=1)
    return np.linalg.norm(z, axis=1) if norm == "l2" else np.abs(z).max(axis=1, initial=0.0)


def shares(z: NDArray[np.floating], norm: str) -> NDArray[np.float64]:
    """The part of `combine` that each ``z`` accounts for, ``(n, p)``: z times its derivative."""
    if norm == "sum":
        return z
    size = combine(z, norm)[:, np.newaxis]
    if norm == "linf":
        return np.where(np.abs(z) == size, size, 0.0)
    return z * (z / np.where(size > 0, size, 1.0))


class Judged(NamedTuple):
    """What a calibration says of n images, (n,)."""

    score: NDArray[np.float64]  # standardised with routes
    raw_score: NDArray[np.float64]  # in units of the base score
    d_struct: NDArray[np.float64]
    z: NDArray[np.float64]  # (n, 1 + p): of the base score and the descriptors
    p_value: NDArray[np.float64]
    decided_by: NDArray[np.int64]  # the column of `z` that has raised the score most
    base_threshold: NDArray[np.float64]
    nearest_route: NDArray[np.object_] | None = None
    route: NDArray[np.object_] | None = None
    route_p_value: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class ScoreCalibration:
    """What good images of one route, or of all, look like, and what follows for the score."""

    base_location: float  #: Mean of the base score.
    base_scale: float  #: Standard deviation of the base score.
    location: NDArray[np.float64]  #: Mean of each descriptor, ``(p,)``.
    scale: NDArray[np.float64]  #: Standard deviation of each descriptor; 1 where it is constant.
    weights: NDArray[np.float64]  #: Factors of the ``z`` that count: of the first descriptors.
    norm: str  #: How ``z`` becomes ``D_struct``, see `StructCoreScorer`.
    lam: float  #: Weight of ``D_struct``.
    base_weight: float  #: Weight of the base score, 1 or 0.
    decision: Decision  #: By held-out anomaly scores of the calibration images.
    base_decision: Decision  #: By their base scores alone.

    def at(self, rate: float) -> ScoreCalibration:
        """The same statistics, with the thresholds of another false-alarm rate."""
        base_decision = self.base_decision.at(rate)
        return replace(self, decision=self.decision.at(rate), base_decision=base_decision)

    def judge(self, evidence: Evidence) -> Judged:
        """Judge n images."""
        z = (evidence.phi - self.location) / self.scale
        counted = z[:, : len(self.weights)] * self.weights
        d_struct = combine(counted, self.norm)
        score = self.base_weight * evidence.base + self.lam * d_struct
        above = evidence.base - self.base_location
        raised = np.column_stack([above * self.base_weight, shares(counted, self.norm) * self.lam])
        raised[:, np.append(self.base_weight, self.lam * self.weights) == 0] = -np.inf
        return Judged(
            score=score,
            raw_score=score,
            d_struct=d_struct,
            z=np.column_stack([above / self.base_scale, z]),
            p_value=self.decision.p_values(score),
            decided_by=raised.argmax(axis=1),
            base_threshold=np.full(len(score), self.base_decision.threshold),
        )


def fit_calibration(
    evidence: Evidence,
    *,
    norm: Norm = "sum",
    lam: float | Literal["auto", "struct-only"] = "auto",
    false_alarm_rate: float = 0.01,
    weights: Sequence[float] | None = None,
    threshold: Rule = "expected",
) -> ScoreCalibration:
    """Learn from held-out good images; options are those of `StructCoreScorer`.

    `weights` are as in `ScoreCalibration`; None: all 1.
    """
    base, phi = evidence.base, evidence.phi
    (base_location,), (base_scale,) = location_and_scale(base[:, np.newaxis])
    location, scale = location_and_scale(phi)
    weights = np.ones(phi.shape[1]) if weights is None else np.asarray(weights, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        z = ((phi - location) / scale)[:, : len(weights)] * weights
    # This is far below the largest number, because values of new images may be larger.
    factor = 1.0 if isinstance(lam, str) else lam
    if not np.abs(np.append(z, [factor, *base])).max() <= _LARGEST:  # NaN is no number either
        raise ValueError(
            f"Maps, the weights {weights.tolist()} and lam={lam!r} make scores that are too large "
            "for floating-point numbers: divide them by a constant."
        )
    d_struct, base_weight = combine(z, norm), float(lam != "struct-only")
    if not (base_weight or weights.any()):
        raise ValueError(
            "lam='struct-only' leaves nothing to score by, because no descriptor has a weight "
            "other than 0: give one, or another lam."
        )
    if lam == "struct-only":
        lam = 1.0
    elif lam == "auto" and norm == "sum":
        lam = base_scale
    elif lam == "auto":
        spread = d_struct.std()
        # Rounding leaves a tiny spread where all images are equally unusual, as two always are.
        lam = base.std() / spread if spread > 1e-9 * d_struct.mean() else 0.0
    options = {"groups": evidence.groups, "in_sample": evidence.in_sample}
    scores = HeldOut(base_weight * base + lam * d_struct, **options)
    return ScoreCalibration(
        base_location=float(base_location),
        base_scale=float(base_scale),
        location=location,
        scale=scale,
        weights=weights,
        norm=norm,
        lam=float(lam),
        base_weight=base_weight,
        decision=decide(scores, false_alarm_rate, threshold),
        base_decision=decide_by_base(HeldOut(base, **options), false_alarm_rate, threshold),
    )
