"""P-values and thresholds that keep a promise, from held-out scores of good images alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_array, column_or_1d

from .._utils.validation import check_number, check_same_length

#: Levels that differ by less are the same: shares of groups add up with rounding.
ROUNDING = 1e-12


def conformal_p_values(
    scores: ArrayLike,
    calibration_scores: ArrayLike,
    groups: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Return how often a good image scores at least as high.

    With ``n`` exchangeable good images and a new one, the p-value of a score is ``(1 + number of
    calibration scores that are at least as high) / (n + 1)``; a good image gets one of at most
    ``a`` with a probability of at most ``a``. Each of ``G`` groups has weight one, shared by its
    images, and the p-value is ``(1 + weight of all that are at least as high) / (G + 1)``, which
    bounds the false-alarm rate for good images of new groups (hierarchical conformal prediction,
    Lee, Barber & Willett 2023).

    Parameters
    ----------
    scores : array-like of shape (n_scores,)
        Higher is more anomalous.
    calibration_scores : array-like of shape (n,)
        Held-out scores of good images.
    groups : array-like of shape (n,), default=None
        Group of each calibration image; None: each is its own.
    weights : array-like of shape (n,), default=None
        What each calibration image counts, compared with the new one; None: all 1. What is
        promised holds exactly for equal weights of 1 only.

    Returns
    -------
    p_values : ndarray of shape (n_scores,), in [1 / (G + 1), 1]

    Examples
    --------
    >>> conformal_p_values([0.5, 3, 3.5, 9], [1, 2, 3, 4])
    array([1. , 0.6, 0.4, 0.2])
    >>> conformal_p_values([3], [1, 2, 3, 4], groups=["a", "a", "a", "b"]).round(2)
    array([0.78])
    """
    levels, at_least, total = _tail(calibration_scores, groups, weights)
    position = np.searchsorted(levels, np.asarray(scores, dtype=np.float64), side="left")
    # Rounded shares of groups must not add up to more than all.
    return np.minimum((1 + np.append(at_least, 0.0)[position]) / (total + 1), 1.0)


def conformal_threshold(
    calibration_scores: ArrayLike,
    level: float,
    groups: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> tuple[float, float]:
    """Return the threshold that at most a share `level` of good images exceeds.

    It is the lowest calibration score above which all p-values are at most `level`, see
    `conformal_p_values`: a value between two ranks would promise more than holds.

    Parameters
    ----------
    calibration_scores : array-like of shape (n,)
        Held-out scores of good images.
    level : float in (0, 1)
        The false-alarm rate that is asked for.
    groups, weights : see `conformal_p_values`

    Returns
    -------
    threshold : float
    promised : float
        The false-alarm rate that the threshold promises: the largest p-value above it. More than
        `level` where so few images cannot promise that: then it is ``1 / (G + 1)``.

    Examples
    --------
    >>> conformal_threshold(range(1, 20), 0.1)
    (18.0, 0.1)
    >>> conformal_threshold(range(1, 20), 0.14)
    (18.0, 0.1)
    >>> conformal_threshold([1, 2, 3], 0.01)
    (3.0, 0.25)
    """
    check_number(level, "level", 0, 1)
    levels, at_least, total = _tail(calibration_scores, groups, weights)
    above = (1 + np.append(at_least[1:], 0.0)) / (total + 1)
    keeps = np.flatnonzero(above <= level + ROUNDING)
    place = keeps[0] if len(keeps) else -1
    return float(levels[place]), float(above[place])


def _tail(scores, groups, weights):
    """Distinct scores ascending, weight of all that are at least as high, weight of all groups."""
    scores = column_or_1d(check_array(scores, ensure_2d=False, input_name="calibration_scores"))
    check_same_length(calibration_scores=scores, groups=groups, weights=weights)
    counts = count_images(len(scores), groups, weights)
    if not (counts >= 0).all():
        raise ValueError(f"weights must hold numbers that are at least 0, got {weights!r}.")
    levels, place = np.unique(scores.astype(np.float64), return_inverse=True)
    at_least = np.cumsum(np.bincount(place, counts)[::-1])[::-1]
    total = float(counts.sum())
    return levels, at_least, round(total) if weights is None else total  # a number of groups


def count_images(
    n: int, groups: ArrayLike | None = None, weights: ArrayLike | None = None
) -> NDArray[np.float64]:
    """What each of n images counts: a share of its group, times its own weight."""
    counts = np.ones(n)
    if groups is not None:
        _, group, size = np.unique(groups, return_inverse=True, return_counts=True)
        counts = 1.0 / size[group]
    return counts if weights is None else counts * np.asarray(weights, np.float64)
