"""Where further scores will lie: a smooth, robust upper tail of held-out scores.

The largest of few scores is one odd photograph. What lies between the middle and the upper fifth of
the scores says more. ``docs/decisions.md`` says how the constants were chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtr, stdtrit

# Of the tail: held-out scores of good images are much heavier than a normal.
DEGREES_OF_FREEDOM = 3.5
#: The spread is read between the median and this quantile.
UPPER = 0.8
# A first reading, up to a lower quantile, leaves out the scores that a smaller share of good images
# would exceed: they may be defects.
_FIRST, _TRIMMED = 0.7, 0.03
#: Factor of the spread of fresh scores, of `recalibrate`. A held-out image lacks its own entries in
#: the bank, which makes its score a little higher than that of a new one; fresh ones lack nothing.
FRESH = 1.1
#: Expected share of ordinary images among those that are called unlike the others.
FALSE_DISCOVERIES = 0.15
# Central share of `PredictiveTail.interval`.
_CONFIDENCE = 0.9
# n times the variance of z = (x - median) / scale, as a polynomial of z: with f the density of the
# tail at quantiles q1 <= q2, n cov(q1, q2) is q1 (1 - q2) / (f1 f2). The last is of the median.
_VARIANCE = (2.9074, -1.2301, 1.8088)


@dataclass(frozen=True)
class PredictiveTail:
    """Student's t about the median of scores, as wide as the middle of their upper half is.

    `scale` is the distance from the median to the 0.8-quantile, divided by that of a t distribution
    of scale 1; of fresh scores times `FRESH`. With few scores the tail is wider and heavier.
    """

    location: float
    scale: float
    degrees_of_freedom: float
    n_independent: float

    @property
    def predictive_scale(self) -> float:
        """Scale for the next score: the median of few scores is uncertain too."""
        return self.scale * float(np.sqrt(1 + _VARIANCE[-1] / self.n_independent))

    def sf(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Return the expected share of further scores above each of `scores`."""
        z = (np.asarray(scores, dtype=np.float64) - self.location) / self.predictive_scale
        return stdtr(self.degrees_of_freedom, -z)

    def isf(self, rate: float) -> float:
        """Return the score that a share `rate` of further scores is expected to exceed."""
        return self.location - self.predictive_scale * float(stdtrit(self.degrees_of_freedom, rate))

    def interval(self, threshold: float, n_known: float | None = None) -> tuple[float, float]:
        """Return limits of the share above `threshold`, 90 % of the time.

        With ``z = (threshold - location) / scale`` they are the shares of Student's t above ``z -+
        1.645 error``. By the delta method ``error ** 2 = (2.91 z ** 2 - 1.23 z + 1.81) / n_known``,
        from the asymptotic covariance of the quantiles that location and scale are read from (David
        and Nagaraja, Order Statistics, 2003, chapter 10). `n_known` scores say where the next one
        lies; None: all that the tail was learned from.
        """
        z = (threshold - self.location) / self.scale
        error = np.sqrt(np.polyval(_VARIANCE, z) / (n_known or self.n_independent))
        reach = ndtri((1 + _CONFIDENCE) / 2) * error
        low, high = stdtr(DEGREES_OF_FREEDOM, [-z - reach, -z + reach])
        return float(low), float(high)


def fit_predictive_tail(
    scores: ArrayLike, weights: ArrayLike | None = None, *, fresh: float = 0.0
) -> PredictiveTail:
    """Learn the tail from scores of good images, ``(n,)``; ValueError if all are equal.

    `weights` are what each score counts, and sum to the number of independent scores. `fresh`, from
    0 to 1, is how much of the scores is of images that had no part in the fit.
    """
    scores = np.asarray(scores, dtype=np.float64)
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, dtype=np.float64)
    n = float(weights.sum())
    kept = scores <= _tail_of(scores, weights, _FIRST, n).isf(_TRIMMED)
    if np.ptp(scores[kept]) == 0:  # most are equal: all of them say how wide it is
        kept = slice(None)
    return _tail_of(scores[kept], weights[kept], UPPER, n, FRESH**fresh)


def weighted_quantiles(scores, weights, shares):
    """Quantiles of scores that count as their weights say, between the middles of their steps."""
    order = np.argsort(scores, kind="stable")
    middles = np.cumsum(weights[order]) - weights[order] / 2
    return np.interp(np.multiply(shares, weights.sum()), middles, scores[order])


def _tail_of(scores, weights, upper, n, width=1.0):
    """The tail of `n` scores, by their weighted median and upper quantile."""
    location, high = weighted_quantiles(scores, weights, [0.5, upper])
    scale = (high - location) / stdtrit(DEGREES_OF_FREEDOM, upper)
    if not scale > 0:  # most scores are equal
        scale = scores.std()
    if not scale > 0:
        raise ValueError(
            f"All {len(scores)} held-out scores are equal ({location:g}), so that nothing says "
            "what is rare: the training images are copies of each other. Add other good images."
        )
    # A scale of few scores is uncertain, which makes the tail of the next one heavier.
    degrees = 1 / (1 / DEGREES_OF_FREEDOM + 0.75 / n)
    return PredictiveTail(float(location), width * float(scale), degrees, n)


def tail_p_values(scores: ArrayLike, weights: ArrayLike | None = None) -> NDArray[np.float64]:
    """Share of good images that score as high, by the tail of the scores themselves."""
    if np.ptp(scores) == 0:  # copies of one image: none is unlike the others
        return np.ones(len(scores))
    return fit_predictive_tail(scores, weights).sf(scores)


def suspects_of(scores: ArrayLike, weights: ArrayLike | None = None) -> NDArray[np.int64]:
    """Positions of the scores that are unlike the others, the strangest first."""
    from scipy.stats import false_discovery_control  # slow to import, and needed in a fit only

    p_values = tail_p_values(scores, weights)
    unlike = np.flatnonzero(false_discovery_control(p_values) <= FALSE_DISCOVERIES)
    return unlike[np.argsort(p_values[unlike], kind="stable")]
