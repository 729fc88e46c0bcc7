"""Betting against "nothing has changed": ranks that are uniform then, and capital that grows else.

Pure functions and two small states; nothing here knows images. A martingale starts at 1 and is
multiplied, image by image, by bets whose mean is at most 1 while nothing changes. By Ville's
inequality the chance that it *ever* reaches ``1 / alpha`` is then at most ``alpha``, however long
the stream is.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln

_NOTHING = -1e300  # logarithm of no capital: JSON has no infinity
#: Beta densities that bet on small ranks only: they gain nothing where values fall.
RISING = ((0.75, 1.0), (0.5, 1.0), (0.25, 1.0))
#: Beta densities that bet on any change: small, large, middle and extreme ranks.
ANY_CHANGE = (*RISING, (1.0, 0.75), (1.0, 0.5), (1.0, 0.25), (2.0, 2.0), (0.5, 0.5))


class OnlineRanks:
    """Where each value stands among the reference and all values before it, from the top.

    The ranks of a stream that is exchangeable with its reference are independent and uniform on
    [0, 1], exactly, although all share one reference: each value joins it. P-values of a fixed
    calibration set are not: one unlucky set makes all of them too small, for ever.
    """

    def __init__(self, reference: Iterable[float] = ()) -> None:
        self.values = sorted(float(value) for value in reference)

    def add(self, value: float, tie: float) -> float:
        """Rank of a value, which joins the reference; `tie` in [0, 1) orders equal values."""
        low, high = bisect_left(self.values, value), bisect_right(self.values, value)
        greater, n = len(self.values) - high, len(self.values)
        self.values.insert(high, float(value))
        return (greater + tie * (high - low + 1)) / (n + 1)


class StartMixture:
    """Capital that is laid on several bets, bit by bit, so that no start is too late.

    Of the capital 1, the share ``w_t = c(t - 1) - c(t)`` with ``c(t) = log 2 / log(t + 2)`` is
    laid on the bets at time ``t`` and stays there; what is left waits. A change after ``t``
    quiet images therefore costs ``log 1 / w_t``, about ``log t + 2 log log t``, instead of the
    capital that bets lose while nothing happens.
    """

    def __init__(self, n_bets: int) -> None:
        self.log_capital = np.full(n_bets, _NOTHING)  # of what is laid on each bet
        self.gain = np.zeros(n_bets)  # largest log growth over any stretch that ends now (CUSUM)
        self.since = np.zeros(n_bets, dtype=np.int64)  # the image that this stretch begins with
        self.n_steps = 0

    def add(self, log_factors: ArrayLike, image: int) -> float:
        """Multiply by the outcome of each bet on an image; return the log of the whole capital."""
        log_factors = np.asarray(log_factors, dtype=np.float64)
        idle = self.gain <= 0
        self.since[idle] = image
        self.gain = np.maximum(self.gain, 0) + log_factors
        laid = np.log((_waiting(self.n_steps) - _waiting(self.n_steps + 1)) / len(log_factors))
        self.log_capital = np.logaddexp(self.log_capital, laid) + log_factors
        self.n_steps += 1
        return self.log_value

    @property
    def log_value(self) -> float:
        log_waiting = np.log(_waiting(self.n_steps))
        return float(np.logaddexp(log_waiting, np.logaddexp.reduce(self.log_capital)))

    @property
    def start(self) -> int:
        """Image from which the bet that has gained most has grown."""
        return int(self.since[self.gain.argmax()])


def _waiting(t):
    """Share of the capital that is not laid before step `t`."""
    return np.log(2.0) / np.log(t + 2.0)


def log_beta_bets(rank: float, bets: ArrayLike) -> NDArray[np.float64]:
    """Log densities of `bets`, parameters of Beta distributions, at a rank."""
    a, b = np.transpose(bets)
    rank = min(max(rank, 1e-12), 1 - 1e-12)
    return (a - 1) * np.log(rank) + (b - 1) * np.log1p(-rank) - betaln(a, b)


def log_count_bets(is_hit: bool, tolerated: float) -> NDArray[np.float64]:
    """Log outcomes of two bets that more than a share `tolerated` are hits: some more, or most."""
    claimed = tolerated + (1 - tolerated) * np.array([0.2, 0.6])
    return np.log(claimed / tolerated if is_hit else (1 - claimed) / (1 - tolerated))
