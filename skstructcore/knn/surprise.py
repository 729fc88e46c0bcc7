"""How surprising a distance is, given what the patch looks like.

Some normal patches lie far from their nearest bank entries wherever they appear: rare content,
coarse texture, edges. So every bank entry gets the location and scale of the log distances, held
out, of the training patches around it, and a distance is judged by the entries nearest to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .._utils.typing import NDArray, Self

# Bank entries whose expectations are averaged: the training patches around one are few.
N_CONTEXT = 5

#: How many patches the mean over the whole bank counts for, at each entry.
PRIOR = 20.0

# A distance is at least this share of the median: logarithms of copies stay finite.
_FLOOR = 1e-3

# Where all distances are equal, rounding of the sums leaves at most this mean square.
_NO_SPREAD = 1e-15

# Expectations are learned from sums ``(3, n_entries + 1)`` over the training patches that have each
# entry among their neighbours and, in the last column, over all patches, each counted once: their
# number, log distances, and squares of these about what was expected.
_COUNT, _LOGS, _SQUARES = range(3)


class Lesson(NamedTuple):
    """Training patches that expectations are learned from, scored without their own groups."""

    distances: NDArray[np.floating]  # (n_patches,)
    neighbors: NDArray[np.integer]  # (n_patches, k), the nearest entries; -1 where there are fewer
    groups: NDArray[Any]  # (n_patches,)


@dataclass(frozen=True, eq=False)
class DistanceExpectation:
    """What distances are normal around each bank entry.

    Examples
    --------
    Around entry 1 normal patches are ten times as far away as around entry 0, so that the same
    distance surprises there less.

    >>> import numpy as np
    >>> from skstructcore.knn.surprise import DistanceExpectation
    >>> expectation = DistanceExpectation(np.log([1.0, 10.0]), np.array([0.5, 0.5]), 1e-3)
    >>> expectation.surprise(np.array([10.0, 10.0]), np.array([[0], [1]])).round(1)
    array([4.6, 0. ], dtype=float32)
    """

    # (n_entries,), of the log distances of training patches whose neighbour each entry is: mean,
    # and standard deviation about what was expected, both shrunk.
    location: NDArray[np.float64]
    scale: NDArray[np.float64]
    floor: float  # smaller distances count as this one
    sums: NDArray[np.float64] | None = None  # (3, n_entries + 1), what was learned from

    @classmethod
    def of_sums(cls, sums: NDArray[np.float64], floor: float) -> Self:
        """What is normal around each entry by the sums over training patches."""
        location = _location(sums)
        variance = np.ones_like(location)
        if _has_spread(sums):
            squares = np.maximum(sums[_SQUARES, :-1], 0.0)  # see _recentred
            variance = _shrunk(sums[_COUNT, :-1], squares, _mean(sums, _SQUARES))
            variance = np.maximum(variance, _NO_SPREAD)
        return cls(location, np.sqrt(variance), floor, sums)

    def surprise(
        self, distances: NDArray[np.floating], neighbors: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """Return ``(log d - location) / scale``, both averaged over the neighbours.

        `neighbors` ``(..., k)`` are the entries nearest to patches at `distances` ``(...,)``, -1
        where there are fewer. 0 is a normal distance for such content; 1 is one standard deviation
        more.
        """
        logs = self._logs(distances)
        # Without a neighbour nothing is known about the content: the mean of the whole bank holds.
        location = _average(self.location, neighbors, default=self.location.mean())
        scale = _average(self.scale, neighbors, default=self.scale.mean())
        return ((logs - location) / scale).astype(np.float32)

    def _logs(self, distances):
        return np.log(np.maximum(distances, self.floor, dtype=np.float64))


def fit_expectation(
    lesson: Lesson, n_entries: int
) -> tuple[DistanceExpectation, NDArray[np.float32]]:
    """Learn which distances are normal around each of `n_entries` bank entries.

    With ``n_e`` training patches around entry ``e``, whose log distances sum to ``s_e``, and the
    mean ``m`` of all log distances, ``location_e = (s_e + PRIOR * m) / (n_e + PRIOR)``; the
    variance about the expectation is shrunk towards its mean in the same way. Also returned is the
    surprise of the patches, each against what the *other* groups give, as calibration has to see.
    """
    floor = max(_FLOOR * float(np.median(lesson.distances)), np.finfo(np.float32).tiny)
    no_sums = np.zeros((3, n_entries + 1))
    nothing = DistanceExpectation(np.zeros(n_entries), np.ones(n_entries), floor, no_sums)
    return extend_expectation(lesson, nothing)


def extend_expectation(
    lesson: Lesson, expectation: DistanceExpectation
) -> tuple[DistanceExpectation, NDArray[np.float32]]:
    """Learn from more training patches what distances are normal, see `fit_expectation`.

    The squares of what was learned before are taken about what is expected now.
    """
    logs, before = expectation._logs(lesson.distances), expectation.sums
    # What is expected has to be known before the squares about it are.
    both = before + _sums(lesson, logs, np.zeros_like(logs), expectation)
    expected = _by_others(lesson, logs, both, _LOGS)
    squares = (logs - expected) ** 2
    before = _recentred(before, expectation.location, _location(both))
    after = before + _sums(lesson, logs, squares, expectation)
    scale = np.ones_like(logs)
    if _has_spread(after):
        scale = _by_others(lesson, squares, after, _SQUARES, to_expected=_root)
    surprise = ((logs - expected) / scale).astype(np.float32)
    return DistanceExpectation.of_sums(after, expectation.floor), surprise


def reduce_expectation(
    expectation: DistanceExpectation,
    lesson: Lesson | None,
    entries: NDArray[np.bool_],
    *,
    exact: bool,
) -> DistanceExpectation:
    """Take away what a lesson has contributed, and all but some `entries` of the bank.

    It is not `exact` if the bank has changed since, so that patches have other neighbours. Then as
    many are taken away, each like the average, which leaves location and scale as they were.
    """
    sums = expectation.sums
    if lesson is not None:
        logs = expectation._logs(lesson.distances)
        expected = _by_others(lesson, logs, sums, _LOGS)
        gone = _sums(lesson, logs, (logs - expected) ** 2, expectation)
        if not exact:
            counts = np.minimum(sums[_COUNT], gone[_COUNT])
            gone = sums * (counts / np.maximum(sums[_COUNT], 1))
            gone[_COUNT] = counts
        sums = sums - gone
    sums = sums[:, np.append(entries, True)]
    sums = _recentred(sums, expectation.location[entries], _location(sums))
    return DistanceExpectation.of_sums(sums, expectation.floor)


def join_expectations(expectations: Sequence[DistanceExpectation]) -> DistanceExpectation:
    """What is normal for the entries of several banks in a row; the floor is that of the first."""
    return DistanceExpectation(
        np.concatenate([part.location for part in expectations]),
        np.concatenate([part.scale for part in expectations]),
        expectations[0].floor,
    )


def _sums(lesson, logs, squares, expectation):
    n_entries = len(expectation.location)
    counts, log_sums = _totals(lesson.neighbors, logs, n_entries)
    square_sums = _totals(lesson.neighbors, squares, n_entries)[1]
    totals = [len(logs), logs.sum(), squares.sum()]
    return np.column_stack([np.stack([counts, log_sums, square_sums]), totals])


def _mean(sums, row):
    return sums[row, -1] / sums[_COUNT, -1]


def _shrunk(counts, sums, centre):
    """Means of sums of values, shrunk towards the mean of all."""
    return centre + (sums - counts * centre) / (counts + PRIOR)


def _location(sums):
    return _shrunk(sums[_COUNT, :-1], sums[_LOGS, :-1], _mean(sums, _LOGS))


def _has_spread(sums):
    """Whether there is a scale to learn: not all patches are at one distance."""
    return sums[_SQUARES, -1] > _NO_SPREAD * sums[_COUNT, -1]


def _recentred(sums, old, new):
    """The same with squares about other locations.

    ``sum (v - new)^2 - sum (v - old)^2 = n shift^2 - 2 shift sum (v - old)``. As what was expected
    is the average of several entries, the result may be negative. It is not clipped, so that the
    reverse step restores the sums.
    """
    counts, logs, _ = sums[:, :-1]
    shift, sums = new - old, sums.copy()
    change = counts * shift**2 - 2 * shift * (logs - counts * old)
    # A patch counts at several entries, but only once in the last column.
    total = change.sum() * sums[_COUNT, -1] / max(counts.sum(), 1)
    sums[_SQUARES] += np.append(change, total)
    return sums


def _root(squares):
    # Rounding, and what was taken away, can make a mean square negative.
    return np.sqrt(np.maximum(squares, 0))


def _by_others(lesson, values, sums, row, to_expected=np.asarray):
    """For each patch, the average over its neighbours of what all but its own group expect.

    Otherwise a group that is far off would widen the very scale that it is judged by. `row` of the
    `sums` is that of the values, whose mean `to_expected` turns into what an entry expects.
    """
    centre, counts = _mean(sums, row), sums[_COUNT, :-1]
    by_others = np.empty_like(values)
    order = np.argsort(lesson.groups, kind="stable")
    starts = np.flatnonzero(np.diff(lesson.groups[order])) + 1
    for rows in np.split(order, starts):
        neighbors = lesson.neighbors[rows]
        own_counts, own_sums = _totals(neighbors, values[rows], len(counts))
        counts_left = np.maximum(counts - own_counts, 0)
        others = to_expected(_shrunk(counts_left, sums[row, :-1] - own_sums, centre))
        by_others[rows] = _average(others, neighbors, default=to_expected(centre))
    return by_others


def _totals(neighbors, values, n_entries):
    """How many patches, and the sum of their values, around each entry."""
    entries, shares = neighbors.ravel(), np.repeat(values, neighbors.shape[1])
    entries, shares = entries[entries >= 0], shares[entries >= 0]
    return np.bincount(entries, minlength=n_entries), np.bincount(entries, shares, n_entries)


def _average(table, neighbors, default):
    is_entry = neighbors >= 0
    count = is_entry.sum(axis=-1)
    total = np.where(is_entry, table[neighbors], 0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), default)
