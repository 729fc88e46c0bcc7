"""Nearest neighbours in a memory bank, exact or approximate."""

from __future__ import annotations

from functools import cached_property, partial
from numbers import Integral

import numpy as np
from sklearn.utils.extmath import randomized_svd

from .._utils.computing import device_memory, find_device, slices, thread_pool
from .._utils.typing import Algorithm, ArrayLike, NDArray

_RECALL_SAMPLE, _RECALL_NEIGHBORS = 500, 5
#: Fewer are searched exactly: a walk compiles for a minute at its first use in a process.
FEW_ENTRIES = 2048
_BLOCK_QUERIES = 64
_BLOCK_ENTRIES = 6144  # 1.5 MB of products for each thread, which stays in cache
_PRODUCTS_A_THREAD = 2**25  # multiplications that are worth a second thread
_SMALL = 3  # entries a feature: below, coordinates cost more than they save
_DEVICE_PRODUCTS = 2**26  # distances that a torch device holds at a time
_IN_DEVICE_MEMORY = device_memory("use knn__device='cpu', or a smaller bank (bank__ratio)")
_ROUNDING = 2 * 2.0**-24  # of float32 products and sums, relative to the squared norms
_EXPLAINED = 0.9  # share of the variance that the leading coordinates have to carry
_GRAPH_DEGREE, _EPSILON = 30, 0.3  # neighbours of a node; how far beyond the nearest a walk looks
_LARGEST = 1e17  # squares of what is larger may overflow float32
_NO_GROUPS = np.empty(0, dtype=np.int64)


class NeighborIndex:
    """A bank made ready for many calls of :meth:`query`.

    Parameters
    ----------
    bank : array-like of shape (m, d)
        Rows to look among; computed in float32.
    groups : array-like of shape (m,) or None, default=None
        Group number of each row, for ``query(..., exclude=)``.
    algorithm : {"exact", "approximate"}, default="exact"
        "approximate" walks a graph of neighbours (pynndescent), which pays for banks of many
        100,000 entries only, and states its recall; below 2,048 entries it is the exact search.
    device : str, default="cpu"
        Of the exact search, see `greedy_k_center`.

    Attributes
    ----------
    bank : ndarray of shape (m, d)
    groups : ndarray of shape (m,) or None
    recall_ : float
        Share of the 5 truly nearest entries that the search finds of 500 entries of the bank
        (themselves left out). 1.0 for the exact search.

    Notes
    -----
    The exact search compares the leading principal coordinates and, as one more coordinate,
    the length of the rest: the distance of these is never more than that of the whole rows.
    Matrix products give it for all pairs at a fraction of the cost, and only the few pairs that it
    cannot rule out are computed, as float64 sums of squared differences. So a query that equals an
    entry has distance 0, exactly, and equal distances go to the lowest index. Memory beyond the
    bank: a quarter of it, and about 8 MB for each thread, as many as numba is set to use. It is not
    pickled, but prepared again at the next query.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore.neighbors import NeighborIndex
    >>> index = NeighborIndex([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]], groups=[3, 7, 3])
    >>> distances, indices = index.query([[0.9, 0.0]], 2)
    >>> distances.round(2), indices
    (array([[0.01, 0.81]], dtype=float32), array([[1, 0]]))
    >>> index.query([[0.9, 0.0]], exclude=[7])[1]
    array([[0]])
    """

    def __init__(
        self,
        bank: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        algorithm: Algorithm = "exact",
        device: str = "cpu",
    ) -> None:
        bank = self.bank = check_rows(bank, "bank")
        self.groups = None if groups is None else _one_each(groups, "groups", bank, "bank rows")
        if algorithm not in ("exact", "approximate"):
            raise ValueError(f"algorithm must be 'exact' or 'approximate'; got {algorithm!r}.")
        self.algorithm, self.device = algorithm, device
        if device != "auto":  # which may be another one where a pickle is opened
            find_device(device)
        largest = max(float(bank.max()), -float(bank.min()))
        if 0 < largest < 1e-21:
            raise ValueError(
                f"Values of bank must be larger: the largest is {largest:.3g}, and squared "
                "distances vanish in float32. Multiply queries and bank by a constant."
            )

    def __getstate__(self):
        return {name: vars(self)[name] for name in ("bank", "groups", "algorithm", "device")}

    def query(
        self, queries: ArrayLike, n_neighbors: int = 1, *, exclude: ArrayLike | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Nearest bank entries of each query row.

        Parameters
        ----------
        queries : array-like of shape (q, d)
        n_neighbors : int, default=1
        exclude : array-like of shape (q,) or None, default=None
            Group of each query: bank entries of the same group (`groups`) are left out. ValueError
            if the whole bank is of that group.

        Returns
        -------
        distances : ndarray of shape (q, n_neighbors), float32
            *Squared* distances, ascending; ``inf`` where fewer entries remain.
        indices : ndarray of shape (q, n_neighbors), int64
            Rows of the bank; -1 where the distance is ``inf``.
        """
        queries = np.ascontiguousarray(check_rows(queries, "queries", least=0))
        m, d = self.bank.shape
        if queries.shape[1] != d:
            raise ValueError(
                f"queries must be a table of rows (q, {d}) like the bank; got {queries.shape}."
            )
        check_integer("n_neighbors", n_neighbors, 1, m)
        query_groups, groups = self._check_exclude(exclude, queries)
        distances, indices = self._search(queries, n_neighbors, query_groups, groups)
        return distances.astype(np.float32), indices

    @property
    def recall_(self) -> float:
        if not self._walks:
            return 1.0
        m = len(self.bank)
        chosen = np.linspace(0, m - 1, _RECALL_SAMPLE).astype(np.int64)
        queries = self.bank[chosen], _RECALL_NEIGHBORS, chosen, np.arange(m)
        by_graph, exact = self._search(*queries)[1], self._search.exact(*queries)[1]
        return float((by_graph[:, :, None] == exact[:, None, :]).any(axis=2).mean())

    @property
    def _walks(self):
        return self.algorithm == "approximate" and len(self.bank) >= FEW_ENTRIES

    @cached_property
    def _search(self):
        rows = np.ascontiguousarray(self.bank)
        if self._walks:
            return ApproximateSearch(rows)
        device = find_device(self.device)
        return ExactSearch(rows) if device == "cpu" else DeviceSearch(rows, device)

    @cached_property
    def _numbered_groups(self):
        names, groups = np.unique(self.groups, return_inverse=True)
        return names, groups.astype(np.int64)

    def _check_exclude(self, exclude, queries):
        """The groups of queries and entries, numbered alike; empty without exclusion."""
        if exclude is None:
            return _NO_GROUPS, _NO_GROUPS
        if self.groups is None:
            raise ValueError("exclude needs the groups of the bank rows: NeighborIndex(groups=).")
        exclude = _one_each(exclude, "exclude", queries, "queries")
        if (exclude.dtype.kind in "US") != (self.groups.dtype.kind in "US"):
            raise ValueError(
                f"exclude ({exclude.dtype}) and groups ({self.groups.dtype}) must be of one kind: "
                "1 is not '1'."
            )
        names, groups = self._numbered_groups
        places = np.minimum(np.searchsorted(names, exclude), len(names) - 1)
        query_groups = np.where(names[places] == exclude, places, -1)
        if len(names) == 1 and (query_groups == 0).any():
            raise ValueError(
                f"Every bank entry belongs to group {names[0]}, so that nothing is left to score "
                "that group with: use a larger bank (bank__ratio), or more images."
            )
        return query_groups, groups


# Each search is made from a finite float32 bank and called with ``(queries, k, query_groups,
# groups)``: float32 queries, the number of neighbours, and the groups of queries and entries that
# must not meet (or nothing). It returns squared distances (inf: no entry) and indices.


class ExactSearch:
    """Leading principal coordinates rule out nearly all entries, see NeighborIndex."""

    def __init__(self, bank):
        from . import _kernels

        self.kernels = _kernels
        self.bank = bank
        self.origin = bank.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.axes = _leading_axes(bank - self.origin)
        n_coordinates = bank.shape[1] if self.axes is None else self.axes.shape[1] + 1
        self.coordinates = np.empty((n_coordinates, len(bank)), dtype=np.float32)
        self.offsets = np.empty(len(bank), dtype=np.float32)
        for part in slices(len(bank), _BLOCK_ENTRIES):
            centred = bank[part] - self.origin
            self.coordinates[:, part] = self._leading(centred).T
            self.offsets[part] = self._half_norms(centred)

    def __call__(self, queries, k, query_groups, groups):
        distances = np.full((len(queries), k), np.inf)
        indices = np.full((len(queries), k), -1, dtype=np.int64)
        # Threads share an image's queries, unless these are done before a thread has started.
        step = min(max(_BLOCK_QUERIES, len(queries) // 8), 8 * _BLOCK_QUERIES)
        blocks = slices(len(queries), step)
        n_products = len(queries) * self.coordinates.size
        most = min(len(blocks), max(1, n_products // _PRODUCTS_A_THREAD))
        search = partial(self._search, queries, query_groups, groups, distances, indices)
        with thread_pool(most=most) as run_all:
            run_all(search, blocks)
        return distances, indices

    def _search(self, queries, query_groups, groups, distances, indices, part):
        rows, query_groups = queries[part], query_groups[part]
        distances, indices = distances[part], indices[part]
        centred = rows - self.origin
        leading, halves = self._leading(centred), self._half_norms(centred)
        n_together = max(_BLOCK_QUERIES, _BLOCK_QUERIES * _BLOCK_ENTRIES // len(self.bank))
        for some in slices(len(rows), n_together):
            for block in slices(len(self.bank), _BLOCK_ENTRIES):
                products = leading[some] @ self.coordinates[:, block]
                self.kernels.search_block(
                    rows[some], halves[some], products, self.bank, block.start,
                    self.offsets[block], query_groups[some], groups, distances[some], indices[some],
                )  # fmt: skip

    def _leading(self, centred):
        """Leading coordinates, and the length of the rest."""
        if self.axes is None:
            return centred
        leading = np.empty((len(centred), self.axes.shape[1] + 1), dtype=np.float32)
        np.matmul(centred, self.axes, out=leading[:, :-1])
        others = centred - leading[:, :-1] @ self.axes.T
        np.sqrt(2 * self.kernels.half_norms(others), out=leading[:, -1])
        return leading

    def _half_norms(self, centred):
        """Half the squared norms, rounded down far enough to make up for rounding in products."""
        slack = 4 * (centred.shape[1] + 32) * np.float32(2.0**-24)
        return self.kernels.half_norms(centred) * (1 - slack)


def _leading_axes(centred):
    """Orthonormal axes (d, p) of most of the variance; None where whole rows are faster."""
    n_features = centred.shape[1]
    if len(centred) < _SMALL * n_features:
        return None
    sample = centred[:: len(centred) // 4096 + 1]
    most = min(n_features // 2, 127, len(sample))
    if most < 7:
        return None
    _, singular, axes = randomized_svd(sample, most, random_state=0)
    total = np.einsum("ij,ij->", sample, sample, dtype=np.float64)
    explained = np.cumsum(singular.astype(np.float64) ** 2) / max(total, 1e-300)
    enough = int(np.searchsorted(explained, _EXPLAINED)) + 1
    # One more coordinate, for the rest, makes a multiple of 8.
    n_axes = -(-(enough + 1) // 8) * 8 - 1
    return np.ascontiguousarray(axes[:n_axes].T, dtype=np.float32) if n_axes <= most else None


class DeviceSearch:
    """Chunked matrix products in torch; the nearest few are computed again by differences."""

    @_IN_DEVICE_MEMORY
    def __init__(self, bank, device):
        import torch

        self.torch, self.device = torch, torch.device(device.removeprefix("torch:"))
        self.double = torch.float32 if self.device.type == "mps" else torch.float64
        self.origin = bank.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.bank = torch.from_numpy(bank).to(self.device)
        self.centred = torch.from_numpy(bank - self.origin).to(self.device)
        self.norms = self.centred.square().sum(dim=1)

    @_IN_DEVICE_MEMORY
    def __call__(self, queries, k, query_groups, groups):
        step = max(1, _DEVICE_PRODUCTS // len(self.bank))
        query_groups, groups = (
            self.torch.from_numpy(codes).to(self.device) for codes in (query_groups, groups)
        )
        distances = np.empty((len(queries), k))
        indices = np.empty((len(queries), k), dtype=np.int64)
        for part in slices(len(queries), step):
            some = queries[part], k, query_groups[part], groups
            distances[part], indices[part] = self._search(*some)
        return distances, indices

    def _search(self, queries, k, query_groups, groups):
        torch = self.torch
        rows = torch.from_numpy(queries).to(self.device)
        centred = rows - torch.from_numpy(self.origin).to(self.device)
        rough = torch.addmm(self.norms, centred, self.centred.T, alpha=-2)
        if len(groups):
            rough.masked_fill_(query_groups[:, None] == groups, torch.inf)
        norms = centred.square().sum(dim=1)
        slack = _ROUNDING * (queries.shape[1] + 16) * (norms + self.norms.max())
        exact, chosen = self._nearest(rows, rough, slack - norms, k, k + 8)
        chosen = chosen.masked_fill(torch.isinf(exact), -1)
        return exact.cpu().numpy(), chosen.cpu().numpy()

    def _nearest(self, rows, rough, slack, k, n):
        """The nearest of the `n` roughly nearest; of more where rounding may hide nearer ones."""
        torch = self.torch
        n = min(n, len(self.bank))
        values, chosen = rough.topk(n, dim=1, largest=False)
        exact = torch.full(values.shape, torch.inf, dtype=self.double, device=self.device)
        for column in range(n):
            difference = rows.to(self.double) - self.bank[chosen[:, column]].to(self.double)
            exact[:, column] = difference.square_().sum(dim=1)
        exact.masked_fill_(torch.isinf(values), torch.inf)
        chosen, order = chosen.sort(dim=1)
        exact, order = exact.gather(1, order).sort(dim=1, stable=True)
        exact, chosen = exact[:, :k], chosen.gather(1, order)[:, :k]
        last = values[:, -1]
        unsure = (last - slack <= exact[:, -1]) & torch.isfinite(last)
        if n < len(self.bank) and unsure.any():
            again = rows[unsure], rough[unsure], slack[unsure]
            exact[unsure], chosen[unsure] = self._nearest(*again, k, 4 * n)
        return exact, chosen


class ApproximateSearch:
    """A graph of neighbours by pynndescent; the exact search steps in where it finds too few."""

    def __init__(self, bank):
        from pynndescent import NNDescent

        self.exact = ExactSearch(bank)
        self.graph = NNDescent(bank, n_neighbors=_GRAPH_DEGREE, random_state=0)
        self.graph.prepare()

    def __call__(self, queries, k, query_groups, groups):
        bank = self.exact.bank
        spare = int(np.bincount(groups).max(initial=0))
        indices, _ = self.graph.query(queries, k=min(k + spare, len(bank)), epsilon=_EPSILON)
        indices = np.sort(indices.astype(np.int64), axis=1)
        excluded = indices < 0
        if len(groups):
            excluded |= groups[indices] == query_groups[:, None]
        differences = (queries.astype(np.float64) - bank[chosen] for chosen in indices.T)
        distances = np.stack([np.einsum("ij,ij->i", d, d) for d in differences], axis=1)
        distances[excluded] = np.inf
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        distances = np.take_along_axis(distances, order, axis=1)
        indices = np.take_along_axis(indices, order, axis=1)
        short = np.flatnonzero(np.isinf(distances[:, -1]))
        if len(short):
            again = query_groups[short] if len(groups) else groups
            distances[short], indices[short] = self.exact(queries[short], k, again, groups)
        return distances, indices


def _one_each(values, name, rows, what):
    values, n = np.asarray(values), len(rows)
    if values.shape != (n,):
        raise ValueError(
            f"{name} must hold one group for each of the {n} {what}; got shape {values.shape}."
        )
    if values.dtype == object and all(isinstance(value, str) for value in values):
        return values.astype(str)  # as pandas has them
    return values


def check_rows(rows: ArrayLike, name: str, least: int = 1) -> NDArray[np.float32]:
    """Return a table of rows as float32; ValueError where distances cannot be told in that."""
    rows = np.asarray(rows, dtype=np.float32)
    if rows.ndim != 2 or len(rows) < least or rows.shape[1] == 0:
        raise ValueError(f"{name} must be a table of rows (n, d), got shape {rows.shape}.")
    # Two looks without a copy tell that all is well.
    if -_LARGEST <= rows.min(initial=0) and rows.max(initial=0) <= _LARGEST:  # false for NaN
        return rows
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise ValueError(f"{name} must be finite; row {finite.argmin()} holds NaN or infinity.")
    largest = np.abs(rows).max(axis=1)
    raise ValueError(
        f"{name} must be smaller: row {largest.argmax()} reaches {largest.max():.3g}, and squared "
        "distances overflow float32. Divide all rows by a constant."
    )


def check_integer(name: str, value: object, low: int, high: int) -> None:
    """Raise ValueError unless a parameter is an integer of a range, whose ends may be equal."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} must be an integer from {low} to {high}; got {value!r}.")
