"""Nearest neighbours in a memory bank, exact or approximate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._utils.device import find_device
from ._search import ApproximateSearch, DeviceSearch, ExactSearch, check_not_vanishing, check_range

if TYPE_CHECKING:
    import torch

    from .._utils.typing import Algorithm, ArrayLike, NDArray, RandomState

__all__ = ["NeighborIndex", "kneighbors"]

_RECALL_SAMPLE = 500
_RECALL_NEIGHBORS = 5
#: The exact search of fewer entries takes less than the walk, whose first use in a process compiles
#: for a minute (``docs/benchmarks.md``).
FEW_ENTRIES = 2048


def kneighbors(
    queries: ArrayLike,
    bank: ArrayLike,
    n_neighbors: int = 1,
    *,
    exclude: tuple[ArrayLike, ArrayLike] | None = None,
    algorithm: Algorithm = "auto",
    device: str | torch.device = "cpu",
    random_state: RandomState = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Nearest bank entries of each query row.

    Parameters
    ----------
    queries : array-like of shape (q, d)
        Rows to look up; computed in float32.
    bank : array-like of shape (m, d)
        Rows to look among.
    n_neighbors : int, default=1
        How many, 1 to m.
    exclude : None or (query_groups, bank_groups), default=None
        Group numbers of shape (q,) and (m,): a query never matches an entry of its
        own group. This leaves an image's own patches out of its scores.
    algorithm, device, random_state
        See :class:`NeighborIndex`.

    Returns
    -------
    distances : ndarray of shape (q, n_neighbors), float32
        *Squared* distances, ascending. ``inf`` where, after exclusion, fewer than
        `n_neighbors` entries remain.
    indices : ndarray of shape (q, n_neighbors), int64
        Rows of `bank`; -1 where the distance is ``inf``.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore.neighbors import kneighbors
    >>> bank = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]])
    >>> distances, indices = kneighbors(np.array([[0.9, 0.0]]), bank, 2)
    >>> distances.round(2), indices
    (array([[0.01, 0.81]], dtype=float32), array([[1, 0]]))
    >>> kneighbors(np.array([[0.9, 0.0]]), bank, exclude=([7], [3, 7, 3]))[1]
    array([[0]])
    """
    query_groups, bank_groups = (None, None) if exclude is None else exclude
    index = NeighborIndex(
        bank, groups=bank_groups, algorithm=algorithm, device=device, random_state=random_state
    )
    return index.query(queries, n_neighbors, exclude=query_groups)


class NeighborIndex:
    """A bank made ready for many calls of :meth:`query`.

    Parameters
    ----------
    bank : array-like of shape (m, d)
        Rows to look among; computed in float32.
    groups : array-like of shape (m,) or None, default=None
        Group number of each row, for ``query(..., exclude=)``.
    algorithm : {"auto", "exact", "approximate"}, default="auto"
        "exact" finds the nearest entries, always. "approximate" walks a graph of neighbours
        (pynndescent), which pays for banks of many 100,000 entries only, and states its
        recall; below 2,048 entries it is the exact search. "auto" is "exact".
    device : str or torch.device, default="cpu"
        "cpu", "auto" (a CUDA GPU where there is one) or, for the exact search, a torch device
        ("cuda", …; "torch:cpu" for torch on the CPU).
    random_state : int, RandomState or None, default=None
        For the approximate algorithm.

    Attributes
    ----------
    bank : ndarray of shape (m, d)
    groups : ndarray of shape (m,) or None
    recall_ : float
        Share of the 5 truly nearest entries that the approximate search finds, measured on
        up to 500 entries of the bank (themselves left out). 1.0 for the exact search.

    Notes
    -----
    The exact search compares the leading principal coordinates and, as one more coordinate,
    the length of the rest: the distance of these is never more than that of the whole rows.
    The products of a block of queries and entries hold it for all pairs at a fraction of the
    cost, and only the few pairs that it cannot rule out are computed, as float64 sums
    of squared differences. So a query that equals an entry has distance 0, exactly, and equal
    distances go to the lowest index. Memory beyond the bank: a quarter of it, and 8 MB or so for
    each thread, of which there are as many as numba is set to use.

    Only the bank and its groups are pickled; the rest is prepared again at the next query.
    """

    def __init__(
        self,
        bank: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        algorithm: Algorithm = "auto",
        device: str | torch.device = "cpu",
        random_state: RandomState = None,
    ) -> None:
        bank = np.asarray(bank, dtype=np.float32)
        if bank.ndim != 2 or bank.size == 0:
            raise ValueError(f"bank must be a table of rows (m, d); got shape {bank.shape}.")
        self.bank = bank
        self.groups = None if groups is None else np.asarray(groups)
        if self.groups is not None and self.groups.shape != bank.shape[:1]:
            raise ValueError(
                f"groups must hold one group for each of the {len(bank)} bank rows; "
                f"got shape {self.groups.shape}."
            )
        if algorithm not in ("auto", "exact", "approximate"):
            raise ValueError(
                f"algorithm must be 'auto', 'exact' or 'approximate'; got {algorithm!r}."
            )
        self.algorithm = algorithm
        self.device = device
        if device != "auto":  # which may be another one where a pickle is opened
            find_device(str(device))
        self.random_state = random_state
        check_range(bank, "bank")
        check_not_vanishing(bank)
        self._search = None
        self.recall_ = self._measure_recall() if self._walks else 1.0

    def __getstate__(self):
        # A graph cannot be made the same again.
        return {
            **self.__dict__,
            "_search": self._search if self._walks else None,
        }

    def query(
        self, queries: ArrayLike, n_neighbors: int = 1, *, exclude: ArrayLike | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Nearest bank entries of each query row.

        Parameters
        ----------
        queries : array-like of shape (q, d)
        n_neighbors : int, default=1
        exclude : array-like of shape (q,) or None, default=None
            Group of each query: bank entries of the same group (`groups`) are left out.

        Returns
        -------
        distances : ndarray of shape (q, n_neighbors), float32
            Squared distances, ascending; ``inf`` where no entry remains.
        indices : ndarray of shape (q, n_neighbors), int64
            Rows of the bank; -1 where the distance is ``inf``.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        m, d = self.bank.shape
        if queries.ndim != 2 or queries.shape[1] != d:
            raise ValueError(
                f"queries must be a table of rows (q, {d}) like the bank; got {queries.shape}."
            )
        if not 1 <= n_neighbors <= m:
            raise ValueError(
                f"n_neighbors must be 1 to {m}, the size of the bank; got {n_neighbors}."
            )
        if self._search is None:
            self._search = self._prepare()
        own, groups = self._check_exclude(exclude, len(queries))
        distances, indices = self._search(queries, n_neighbors, own, groups)
        return distances.astype(np.float32), indices

    @property
    def _walks(self):
        return self.algorithm == "approximate" and len(self.bank) >= FEW_ENTRIES

    def _prepare(self):
        rows = np.ascontiguousarray(self.bank)
        if self._walks:
            return ApproximateSearch(rows, self.random_state)
        device = find_device(str(self.device))
        return ExactSearch(rows) if device == "cpu" else DeviceSearch(rows, device)

    def _measure_recall(self):
        self._search = self._prepare()
        m = len(self.bank)
        chosen = np.linspace(0, m - 1, min(m, _RECALL_SAMPLE)).astype(np.int64)
        k = min(_RECALL_NEIGHBORS, m - 1)
        if k == 0:
            return 1.0
        rows = self.bank[chosen]
        _, by_graph = self._search(rows, k, chosen, np.arange(m))
        _, exact = self._search.exact(rows, k, chosen, np.arange(m))
        return float((by_graph[:, :, None] == exact[:, None, :]).any(axis=2).mean())

    def _check_exclude(self, exclude, n_queries):
        """The groups of queries and entries, numbered alike; None, None without exclusion."""
        if exclude is None:
            return None, None
        exclude = np.asarray(exclude)
        if self.groups is None:
            raise ValueError("exclude needs the groups of the bank rows: NeighborIndex(groups=).")
        if exclude.shape != (n_queries,):
            raise ValueError(
                f"exclude must hold one group for each of the {n_queries} queries; "
                f"got shape {exclude.shape}."
            )
        names, groups = np.unique(self.groups, return_inverse=True)
        if len(names) == 1 and np.any(exclude == names[0]):
            raise ValueError(
                f"Every bank entry belongs to group {names[0]}, so its own queries have no entry "
                "left to match: leaving a group out needs a bank of at least two groups."
            )
        places = np.minimum(np.searchsorted(names, exclude), len(names) - 1)
        return np.where(names[places] == exclude, places, -1), groups.astype(np.int64)
