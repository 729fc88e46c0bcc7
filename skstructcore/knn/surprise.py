"""How surprising a distance is, given what the patch looks like.

Some normal patches lie far from their nearest bank entries wherever they appear: rare content,
coarse texture, edges. Their distance says less than the same distance of a plain patch. The
held-out distances of the training patches tell which content is like that: every bank entry
gets the location and scale of the log distances of the training patches around it, and a
distance is judged against those of the entries nearest to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

# Bank entries whose expectations are averaged; more than one, because the training patches
# around a single entry are few.
N_CONTEXT = 5

# A distance is at least this share of the median, so that the logarithm of a patch that is
# also in the bank of another image stays finite.
_FLOOR = 1e-3


@dataclass(frozen=True, eq=False)
class DistanceExpectation:
    """What distances are normal around each bank entry.

    Attributes
    ----------
    location : ndarray of shape (n_entries,), float64
        Mean log distance of the training patches whose neighbour the entry is, shrunk.
    scale : ndarray of shape (n_entries,), float64
        Standard deviation of the log distances about their expectation, shrunk.
    floor : float
        Smaller distances count as this one.

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

    location: NDArray[np.float64]
    scale: NDArray[np.float64]
    floor: float

    def surprise(
        self, distances: NDArray[np.floating], neighbors: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """Return ``(log d - location) / scale``, both averaged over the neighbours.

        Parameters
        ----------
        distances : ndarray of shape (n_patches,)
        neighbors : ndarray of shape (n_patches, k)
            Bank entries nearest to each patch; -1 where there are fewer than `k`.

        Returns
        -------
        surprise : ndarray of shape (n_patches,), float32
            0 is a normal distance for such content; 1 is one standard deviation more.
        """
        logs = np.log(np.maximum(distances, self.floor, dtype=np.float64))
        # Without a neighbour nothing is known about the content: what holds for the whole bank.
        location = _average(self.location, neighbors, default=self.location.mean())
        scale = _average(self.scale, neighbors, default=self.scale.mean())
        return ((logs - location) / scale).astype(np.float32)


def fit_expectation(
    distances: NDArray[np.floating],
    neighbors: NDArray[np.integer],
    groups: NDArray[Any],
    n_entries: int,
    prior: float = 20.0,
) -> tuple[DistanceExpectation, NDArray[np.float32]]:
    """Learn which distances are normal around each bank entry.

    With ``n_e`` training patches around entry ``e``, whose log distances sum to ``s_e``, and
    the mean ``m`` of all log distances, ``location_e = (s_e + prior * m) / (n_e + prior)``;
    the variance about the expectation is shrunk towards its mean in the same way.

    Parameters
    ----------
    distances : ndarray of shape (n_patches,)
        Distances of training patches, held out.
    neighbors : ndarray of shape (n_patches, k)
        Their nearest bank entries, held out as well; -1 where there are fewer than `k`.
    groups : ndarray of shape (n_patches,)
        Image (or group of images) that each patch belongs to.
    n_entries : int
        Size of the bank.
    prior : float, default=20.0
        How many patches the mean over the whole bank counts for.

    Returns
    -------
    expectation : DistanceExpectation
    surprise : ndarray of shape (n_patches,), float32
        Of the training patches themselves, each against the expectation that the *other*
        groups give: what calibration has to see.
    """
    floor = max(_FLOOR * float(np.median(distances)), np.finfo(np.float32).tiny)
    logs = np.log(np.maximum(distances, floor, dtype=np.float64))
    rows_of_groups = _rows_of_groups(groups)
    location, expected = _shrunk_means(logs, neighbors, rows_of_groups, n_entries, prior)
    squares = (logs - expected) ** 2
    if not squares.any():  # all patches at one distance: nothing to learn a scale from
        return DistanceExpectation(location, np.ones(n_entries), floor), np.zeros(
            len(logs), np.float32
        )
    variance, scale = _shrunk_means(squares, neighbors, rows_of_groups, n_entries, prior, np.sqrt)
    surprise = ((logs - expected) / scale).astype(np.float32)
    return DistanceExpectation(location, np.sqrt(variance), floor), surprise


def _shrunk_means(values, neighbors, rows_of_groups, n_entries, prior, transform=np.asarray):
    """Mean of the values around each entry, shrunk towards the mean of all.

    Also, for each patch, the average over its neighbours of `transform` of the means that the
    other groups alone give. Without that, a group that is far off widens the very scale that
    it is judged by, and calibration sees images that surprise too little.
    """
    centre = values.mean()
    counts, sums = _totals(neighbors, values - centre, n_entries)
    by_others = np.empty_like(values)
    for rows in rows_of_groups:
        own_counts, own_sums = _totals(neighbors[rows], values[rows] - centre, n_entries)
        table = transform(centre + (sums - own_sums) / (counts - own_counts + prior))
        by_others[rows] = _average(table, neighbors[rows], default=transform(centre))
    return centre + sums / (counts + prior), by_others


def join_expectations(expectations: Sequence[DistanceExpectation]) -> DistanceExpectation:
    """What is normal for the entries of several banks that stand one after the other.

    Parameters
    ----------
    expectations : sequence of DistanceExpectation
        The floor is that of the first.

    Returns
    -------
    expectation : DistanceExpectation
    """
    if len(expectations) == 1:
        return expectations[0]
    return DistanceExpectation(
        np.concatenate([part.location for part in expectations]),
        np.concatenate([part.scale for part in expectations]),
        expectations[0].floor,
    )


def _totals(neighbors, values, n_entries):
    """How many patches, and the sum of their values, around each entry."""
    entries, shares = neighbors.ravel(), np.repeat(values, neighbors.shape[1])
    there = entries >= 0
    if not there.all():
        entries, shares = entries[there], shares[there]
    return np.bincount(entries, minlength=n_entries), np.bincount(entries, shares, n_entries)


def _average(table, neighbors, default):
    there = neighbors >= 0
    if there.all():
        return table[neighbors] @ np.full(neighbors.shape[1], 1 / neighbors.shape[1])
    count = there.sum(axis=1)
    total = np.where(there, table[neighbors], 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), default)


def _rows_of_groups(groups):
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(np.asarray(groups)[order])) + 1)
