"""From descriptors of good images to scores, p-values and thresholds that keep a promise.

Pure functions of arrays, and one small object that holds what they learn. Every number comes
from held-out scores of good training images; no label is used.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.covariance import ledoit_wolf

if TYPE_CHECKING:
    from typing import Any, Literal

    from numpy.typing import ArrayLike, NDArray

    Norm = Literal["sum", "sum+", "l2", "l2+", "linf", "linf+", "mahalanobis"]

#: How the standardised descriptors ``z`` of an image become one number, ``D_struct``.
NORMS = ("sum", "sum+", "l2", "l2+", "linf", "linf+", "mahalanobis")


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
    if norm.endswith("+"):
        z, norm = np.maximum(z, 0), norm[:-1]
    if norm == "sum":
        return z.sum(axis=1)
    if norm == "mahalanobis":
        return np.sqrt(np.einsum("ni,ij,nj->n", z, precision, z))
    return np.linalg.norm(z, ord=2 if norm == "l2" else np.inf, axis=1)


def conformal_p_values(
    scores: ArrayLike, calibration_scores: ArrayLike, groups: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Return how often a good image scores at least as high.

    Of ``n`` exchangeable good images and a new one, the new one exceeds the ``k``-th largest
    score with probability ``k / (n + 1)``; this is the p-value at that score, and between two
    scores it is interpolated. Images of one group are alike, so that they count as one: each of
    the ``G`` groups has weight one, shared by its images, and the p-value at a calibration score
    is ``(1 + weight of all higher ones) / (G + 1)``. That bounds the false-alarm rate for good
    images of new groups (hierarchical conformal prediction, Lee, Barber & Willett 2023).

    Parameters
    ----------
    scores : array-like of shape (n_scores,)
        Higher is more anomalous.
    calibration_scores : array-like of shape (n,)
        Held-out scores of good images.
    groups : array-like of shape (n,), default=None
        Group of each calibration image; None: each is its own.

    Returns
    -------
    p_values : ndarray of shape (n_scores,), in [1 / (G + 1), 1]

    Examples
    --------
    >>> conformal_p_values([0.5, 3, 3.5, 9], [1, 2, 3, 4])
    array([1. , 0.4, 0.3, 0.2])
    >>> conformal_p_values([3], [1, 2, 3, 4], groups=["a", "a", "a", "b"]).round(2)
    array([0.67])
    """
    scores = np.asarray(scores, dtype=np.float64)
    levels, p_at_level, at_least, n_groups = _tail(calibration_scores, groups)
    p_values = np.interp(scores, levels, p_at_level, left=1.0)
    # Equal scores: a new image like them is as usual as all of them together.
    position = np.searchsorted(levels, scores, side="left")
    return np.maximum(p_values, np.append(at_least, 0.0)[position] / (n_groups + 1))


def conformal_threshold(
    calibration_scores: ArrayLike, level: float, groups: ArrayLike | None = None
) -> tuple[float, float]:
    """Return the threshold that a share `level` of good images exceeds.

    It is the score whose p-value is `level`, see `conformal_p_values`.

    Parameters
    ----------
    calibration_scores : array-like of shape (n,)
        Held-out scores of good images.
    level : float in (0, 1)
        The false-alarm rate that is asked for.
    groups : array-like of shape (n,), default=None

    Returns
    -------
    threshold : float
    promised : float
        `level`, or the smallest level that so few images can promise, ``1 / (G + 1)``, if
        that is larger: the threshold is the largest calibration score then.

    Examples
    --------
    >>> conformal_threshold(range(1, 20), 0.1)
    (18.0, 0.1)
    >>> conformal_threshold([1, 2, 3], 0.01)
    (3.0, 0.25)
    """
    levels, p_at_level, _, n_groups = _tail(calibration_scores, groups)
    promised = max(level, smallest_level(n_groups))
    return float(np.interp(promised, p_at_level[::-1], levels[::-1])), float(promised)


def smallest_level(n_groups: int) -> float:
    """False-alarm rate that `n_groups` independent good images can promise at best."""
    return 1 / (n_groups + 1)


def _tail(scores, groups):
    """Distinct scores ascending, p-value at each, weight of all at least as high, groups."""
    scores = np.asarray(scores, dtype=np.float64)
    if groups is None:
        groups = np.arange(len(scores))
    if len(groups) != len(scores):
        raise ValueError(
            f"groups must hold one group for each of the {len(scores)} calibration images, "
            f"got {len(groups)}."
        )
    _, group, size = np.unique(groups, return_inverse=True, return_counts=True)
    levels, place = np.unique(scores, return_inverse=True)
    at_least = np.cumsum(np.bincount(place, 1 / size[group])[::-1])[::-1]
    higher = np.append(at_least[1:], 0.0)
    return levels, (1 + higher) / (len(size) + 1), at_least, len(size)


@dataclass(frozen=True, eq=False)
class ScoreCalibration:
    """What good images of one kind look like, and what follows for the score.

    Attributes
    ----------
    base_location, base_scale : float
        Mean and standard deviation of the base score.
    mu, scale : ndarray of shape (p,)
        Mean and standard deviation of the descriptors.
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
    groups : ndarray of shape (n,) or None
    threshold : float
        Scores above it are anomalous.
    level : float or None
        The false-alarm rate that the threshold promises; None for a plain quantile.
    base_threshold : float
        The same for the base score alone.
    """

    base_location: float
    base_scale: float
    mu: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    norm: str
    precision: NDArray[np.float64] | None
    lam: float
    base_weight: float
    scores: NDArray[np.float64]
    groups: NDArray[Any] | None
    threshold: float
    level: float | None
    base_threshold: float

    def score(
        self, base: NDArray[np.floating], phi: NDArray[np.floating]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the anomaly score, ``D_struct`` and ``z``, of shapes (n,), (n,), (n, p)."""
        z = (phi - self.mu) / self.scale
        d_struct = combine(z * self.weights, self.norm, self.precision)
        return self.base_weight * base + self.lam * d_struct, d_struct, z

    def p_values(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Return conformal p-values of anomaly scores, see `conformal_p_values`."""
        return conformal_p_values(scores, self.scores, self.groups)


def fit_calibration(
    base: NDArray[np.floating],
    phi: NDArray[np.floating],
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
    base : ndarray of shape (n,)
        Base scores.
    phi : ndarray of shape (n, p)
        Descriptors.
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

    Warns
    -----
    UserWarning
        If there are too few images (groups) to promise the false-alarm rate.
    """
    (base_location,), (base_scale,) = location_and_scale(base[:, np.newaxis])
    mu, scale = location_and_scale(phi)
    weights = np.ones(phi.shape[1]) if weights is None else np.asarray(weights, np.float64)
    if weights.shape != phi.shape[1:]:
        raise ValueError(
            f"weights must hold one number for each of the {phi.shape[1]} descriptors, got "
            f"shape {weights.shape}."
        )
    z = (phi - mu) / scale * weights
    precision = np.linalg.inv(ledoit_wolf(z)[0]) if norm == "mahalanobis" else None
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
        if level > 1 - quantile + 1e-12:
            _warn_too_few(len(scores), groups, quantile, level)
    return ScoreCalibration(
        base_location=float(base_location),
        base_scale=float(base_scale),
        mu=mu,
        scale=scale,
        weights=weights,
        norm=norm,
        precision=precision,
        lam=float(lam),
        base_weight=base_weight,
        scores=scores,
        groups=groups,
        threshold=float(limits[0]),
        level=level,
        base_threshold=float(limits[1]),
    )


def _warn_too_few(n_images, groups, quantile, level):
    n_groups = n_images if groups is None else len(np.unique(groups))
    found = f"{n_images} training images"
    if n_groups < n_images:
        found += f" in {n_groups} groups"
    needed = int(np.ceil(1 / (1 - quantile) - 1 - 1e-9))
    warnings.warn(
        f"quantile={quantile:g} asks for a false-alarm rate of {1 - quantile:.2%}, which takes "
        f"{needed} independent good images; with {found} the best promise is {level:.1%}. The "
        f"threshold is the largest training score. Add images, or ask for "
        f"quantile={np.floor(1000 * (1 - level)) / 1000:.3f} or less.",
        UserWarning,
        stacklevel=2,
    )
