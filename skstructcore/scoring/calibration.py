"""From descriptors of good images to scores, and to what is normal for them.

Pure functions of arrays, and one small object that holds what they learn. Every number comes
from held-out scores of good training images; no label is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .conformal import ROUNDING, conformal_p_values, conformal_threshold

if TYPE_CHECKING:
    from typing import Any, Literal

    from numpy.typing import ArrayLike, NDArray

    from .evidence import Evidence

    Norm = Literal["sum", "sum+", "l2", "l2+", "linf", "linf+", "mahalanobis"]

#: How the standardised descriptors ``z`` of an image become one number, ``D_struct``.
NORMS = ("sum", "sum+", "l2", "l2+", "linf", "linf+", "mahalanobis")

_LARGEST = 1e100


def location_and_scale(
    phi: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each descriptor over the training images.

    A descriptor that is constant there gets scale 1, as in scikit-learn's StandardScaler: a
    new image that differs from the constant is then measured in the descriptor's own units.

    Parameters
    ----------
    phi : ndarray of shape (n, p)

    Returns
    -------
    location, scale : ndarray of shape (p,)
    """
    location, scale = phi.mean(axis=0), phi.std(axis=0)
    # Rounding leaves a tiny spread where all values are equal.
    constant = scale <= 10 * np.finfo(np.float64).eps * np.abs(location)
    return location, np.where(constant, 1.0, scale)


def combine(
    z: NDArray[np.floating], norm: str, precision: NDArray[np.floating] | None = None
) -> NDArray[np.float64]:
    """Turn standardised descriptors into the structural evidence ``D_struct``.

    Parameters
    ----------
    z : ndarray of shape (n, p)
    norm : str
        One of `NORMS`. "sum" adds ``z`` with their signs; "l2" and "linf" are the norms of
        the paper, which count a value far *below* normal as evidence too; "mahalanobis" is
        ``sqrt(z' precision z)``. With "+", values below normal count as zero.
    precision : ndarray of shape (p, p) or None
        For "mahalanobis".

    Returns
    -------
    d_struct : ndarray of shape (n,)

    Examples
    --------
    >>> import numpy as np
    >>> z = np.array([[3.0, -4.0]])
    >>> [float(combine(z, norm)[0]) for norm in ("sum", "sum+", "l2", "linf", "linf+")]
    [-1.0, 3.0, 5.0, 4.0, 3.0]
    """
    # In the order of the rows: an image alone is summed as one of many, to the last bit.
    z = np.ascontiguousarray(z)
    if norm.endswith("+"):
        z, norm = np.maximum(z, 0), norm[:-1]
    if norm == "sum":
        return z.sum(axis=1)
    if norm == "mahalanobis":
        return np.sqrt(np.einsum("ni,ij,nj->n", z, precision, z))
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
    precision : ndarray of shape (p, p) or None
        Inverse shrunk correlation matrix, for the norm "mahalanobis".
    lam : float
        Weight of ``D_struct``.
    base_weight : float
        1, or 0 where only ``D_struct`` counts.
    scores : ndarray of shape (n,)
        Anomaly scores of the calibration images.
    base_scores : ndarray of shape (n,)
        Their base scores.
    groups : ndarray of shape (n,) or None
    threshold : float
        Scores above it are anomalous.
    asked_level : float
        The false-alarm rate that was asked for.
    level : float or None
        The one that the threshold promises; None for a plain quantile.
    base_threshold : float
        The same for the base score alone.
    score_weights : ndarray of shape (n,) or None
        What each calibration image counts; None: all 1. See `recalibrate`.
    """

    base_location: float
    base_scale: float
    location: NDArray[np.float64]
    scale: NDArray[np.float64]
    paper_location: NDArray[np.float64]
    paper_scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    norm: str
    precision: NDArray[np.float64] | None
    lam: float
    base_weight: float
    scores: NDArray[np.float64]
    base_scores: NDArray[np.float64]
    groups: NDArray[Any] | None
    threshold: float
    asked_level: float
    level: float | None
    base_threshold: float
    score_weights: NDArray[np.float64] | None = None

    @property
    def n_groups(self) -> int:
        """Number of independent calibration images."""
        return len(self.scores) if self.groups is None else len(np.unique(self.groups))

    @property
    def keeps_promise(self) -> bool:
        """Whether there are enough images to promise the rate that was asked for."""
        return self.level is None or self.level <= self.asked_level + ROUNDING

    def score(self, evidence: Evidence) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the anomaly score and ``D_struct`` of n images, of shape (n,) each."""
        d_struct = combine(self._z(evidence) * self.weights, self.norm, self.precision)
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
            "p_value": self.p_values(score),
            "base_threshold": np.full(len(score), self.base_threshold),
        }

    def _z(self, evidence):
        return (evidence.phi - self.location) / self.scale

    def p_values(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Return conformal p-values of anomaly scores, see `conformal_p_values`."""
        return conformal_p_values(scores, self.scores, self.groups, self.score_weights)


def fit_calibration(
    evidence: Evidence,
    groups: NDArray[Any] | None = None,
    *,
    norm: Norm = "sum",
    lam: float | Literal["auto", "struct-only"] = "auto",
    quantile: float = 0.995,
    weights: ArrayLike | None = None,
    threshold: Literal["conformal", "quantile"] = "conformal",
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
        Weight of ``D_struct``. "auto": ``std(base)`` for the sums, which makes the base one
        more ``z`` of the sum, and ``std(base) / std(D_struct)``, as published, for the norms.
        "struct-only": the base score does not count.
    quantile : float, default=0.995
        One minus the false-alarm rate that is asked for.
    weights : array-like of shape (p,), default=None
        Factors of ``z``; None: all 1.
    threshold : {"conformal", "quantile"}, default="conformal"
        "quantile" is the plain quantile of the training scores, which promises nothing.

    Returns
    -------
    calibration : ScoreCalibration
        Its ``keeps_promise`` says whether there are enough images (groups) for `quantile`.
    """
    base, phi, paper_phi = evidence
    (base_location,), (base_scale,) = location_and_scale(base[:, np.newaxis])
    location, scale = location_and_scale(phi)
    paper_location, paper_scale = location_and_scale(paper_phi)
    weights = np.ones(phi.shape[1]) if weights is None else np.asarray(weights)
    if weights.dtype.kind not in "biuf":
        raise ValueError(f"weights must be finite numbers, got {weights.tolist()!r}.")
    weights = weights.astype(np.float64)
    if weights.shape != phi.shape[1:]:
        raise ValueError(
            f"weights must hold one number for each of the {phi.shape[1]} descriptors, got "
            f"shape {weights.shape}."
        )
    if not np.isfinite(weights).all():
        raise ValueError(f"weights must be finite numbers, got {weights.tolist()}.")
    with np.errstate(over="ignore", invalid="ignore"):
        z = (phi - location) / scale * weights
    # Far from where numbers end, so that those of new images, which may be larger, do as well.
    factor = 1.0 if isinstance(lam, str) else lam
    if not np.abs(np.append(z, [factor, *base])).max() <= _LARGEST:  # NaN is no number either
        raise ValueError(
            f"Maps, weights={weights.tolist()} and lam={lam!r} make scores that are too large for "
            "floating-point numbers: divide them by a constant."
        )
    precision = None
    if norm == "mahalanobis":
        from sklearn.covariance import ledoit_wolf

        precision = np.linalg.inv(ledoit_wolf(z)[0])
    d_struct = combine(z, norm, precision)
    base_weight = 0.0 if lam == "struct-only" else 1.0
    if lam == "struct-only":
        lam = 1.0
    elif lam == "auto" and norm.startswith("sum"):
        lam = base_scale
    elif lam == "auto":
        spread = d_struct.std()
        lam = base.std() / spread if spread > 0 else 0.0
    scores = base_weight * base + lam * d_struct
    if threshold == "quantile":
        limits, level = np.quantile([scores, base], quantile, axis=1), None
    else:
        found = [conformal_threshold(s, 1 - quantile, groups) for s in (scores, base)]
        limits, level = [limit for limit, _ in found], found[0][1]
    return ScoreCalibration(
        base_location=float(base_location),
        base_scale=float(base_scale),
        location=location,
        scale=scale,
        paper_location=paper_location,
        paper_scale=paper_scale,
        weights=weights,
        norm=norm,
        precision=precision,
        lam=float(lam),
        base_weight=base_weight,
        scores=scores,
        base_scores=base,
        groups=groups,
        threshold=float(limits[0]),
        asked_level=1 - quantile,
        level=level,
        base_threshold=float(limits[1]),
    )


def explain_shortage(calibration: ScoreCalibration) -> str | None:
    """Say that there are too few images for the rate that was asked for; None if there are not."""
    if calibration.keeps_promise:
        return None
    n_images, n_groups = len(calibration.scores), calibration.n_groups
    asked, level = calibration.asked_level, calibration.level
    found = f"{n_images} training images"
    if n_groups < n_images:
        found += f" in {n_groups} groups"
    needed = int(np.ceil(1 / asked - 1 - 1e-9))
    return (
        f"quantile={1 - asked:g} asks for a false-alarm rate of {asked:.2%}, which takes "
        f"{needed} independent good images; with {found} the best promise is {level:.1%}. The "
        f"threshold is the largest training score. Add images, or ask for "
        f"quantile={np.floor(1000 * (1 - level)) / 1000:.3f} or less."
    )
