"""Nearest neighbours in a memory bank, exact or approximate."""

import numpy as np

__all__ = ["NeighborIndex", "kneighbors"]

_CHUNK_ENTRIES = 4_000_000  # of the distance block: 16 MB


def kneighbors(
    queries, bank, n_neighbors=1, *, exclude=None, algorithm="auto", device="cpu", random_state=None
):
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
        Rows to look among; kept as float32.
    groups : array-like of shape (m,) or None, default=None
        Group number of each row, for ``query(..., exclude=)``.
    algorithm : {"auto", "exact", "approximate"}, default="auto"
        "exact" compares each query with the whole bank; "auto" does so too.
    device : str or torch.device, default="cpu"
        Where to compute.
    random_state : int, RandomState or None, default=None
        For the approximate algorithm.

    Attributes
    ----------
    bank : ndarray of shape (m, d), float32
    groups : ndarray of shape (m,) or None
    """

    def __init__(self, bank, *, groups=None, algorithm="auto", device="cpu", random_state=None):
        self.bank = _check_rows("bank", bank)
        self.groups = None if groups is None else np.asarray(groups)
        if self.groups is not None and self.groups.shape != self.bank.shape[:1]:
            raise ValueError(
                f"groups must hold one group for each of the {len(self.bank)} bank rows; "
                f"got shape {self.groups.shape}."
            )
        if algorithm not in ("auto", "exact", "approximate"):
            raise ValueError(
                f"algorithm must be 'auto', 'exact' or 'approximate'; got {algorithm!r}."
            )
        self.algorithm = algorithm
        self.device = device
        self.random_state = random_state

    def query(self, queries, n_neighbors=1, *, exclude=None):
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
        queries = _check_rows("queries", queries, allow_empty=True)
        m, d = self.bank.shape
        if queries.shape[1] != d:
            raise ValueError(f"queries have {queries.shape[1]} features, the bank has {d}.")
        if not 1 <= n_neighbors <= m:
            raise ValueError(
                f"n_neighbors must be 1 to {m}, the size of the bank; got {n_neighbors}."
            )
        if exclude is not None:
            exclude = self._check_exclude(exclude, len(queries))
        distances = np.empty((len(queries), n_neighbors), dtype=np.float32)
        indices = np.empty((len(queries), n_neighbors), dtype=np.int64)
        norms = np.einsum("ij,ij->i", self.bank, self.bank, dtype=np.float64)
        step = max(1, _CHUNK_ENTRIES // m)
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            block = norms - 2.0 * (queries[part].astype(np.float64) @ self.bank.T)
            if exclude is not None:
                block[exclude[part, None] == self.groups] = np.inf
            distances[part], indices[part] = self._nearest(queries[part], block, n_neighbors)
        return distances, indices

    def _nearest(self, queries, block, k):
        chosen = np.argpartition(block, k - 1, axis=1)[:, :k]
        difference = queries[:, None].astype(np.float64) - self.bank[chosen]
        exact = np.einsum("qkd,qkd->qk", difference, difference)
        missing = np.isinf(np.take_along_axis(block, chosen, axis=1))
        exact[missing] = np.inf
        order = np.lexsort((chosen, exact), axis=1)
        chosen = np.where(missing, -1, chosen)
        return np.take_along_axis(exact, order, axis=1), np.take_along_axis(chosen, order, axis=1)

    def _check_exclude(self, exclude, n_queries):
        exclude = np.asarray(exclude)
        if self.groups is None:
            raise ValueError("exclude needs the groups of the bank rows: NeighborIndex(groups=).")
        if exclude.shape != (n_queries,):
            raise ValueError(
                f"exclude must hold one group for each of the {n_queries} queries; "
                f"got shape {exclude.shape}."
            )
        only = np.unique(self.groups)
        if len(only) == 1 and np.any(exclude == only[0]):
            raise ValueError(
                f"Every bank entry belongs to group {only[0]}, so its own queries have no entry "
                "left to match: leaving a group out needs a bank of at least two groups."
            )
        return exclude


def _check_rows(name, rows, allow_empty=False):
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    if rows.ndim != 2 or (len(rows) == 0 and not allow_empty):
        raise ValueError(f"{name} must be a table of rows (n, d); got shape {rows.shape}.")
    return rows
