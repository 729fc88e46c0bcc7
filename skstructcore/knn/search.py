"""Search in the banks of one or several routes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._utils.typing import ArrayLike, NDArray
    from ..containers import MemoryBank
    from ..neighbors.index import NeighborIndex


def n_routes_searched(routing: str | None, bank: MemoryBank) -> int:
    """Return how many routes of a bank are searched for an image; 0: the bank as a whole.

    Parameters
    ----------
    routing : None, "auto", "top1", "top2", ...
        See `RoutedKNNScorer`.
    bank : MemoryBank
    """
    if routing is None or (routing == "auto" and bank.profiles is None):
        return 0
    top = re.fullmatch(r"top([1-9]\d*)", "top1" if routing == "auto" else routing)
    if top is None:
        raise ValueError(f"routing must be None, 'auto', 'top1', 'top2', ..., got {routing!r}.")
    if bank.profiles is None:
        raise ValueError(
            f"routing={routing!r} needs a bank with routes: pass bank__categories= to the "
            "pipeline's fit (categories= to CoresetBank), or set n_routes of CoresetBank."
        )
    return min(int(top[1]), len(bank.route_names))


def query_together(
    indexes: Sequence[NeighborIndex],
    rows: NDArray[np.floating],
    n_neighbors: int,
    *,
    exclude: ArrayLike | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Nearest entries in the banks of several routes.

    Parameters
    ----------
    indexes : sequence of NeighborIndex
        The banks; entries are numbered as if they stood one after the other.
    rows : ndarray of shape (q, n_features)
    n_neighbors : int
        May be more than there are entries.
    exclude : ndarray of shape (q,), default=None
        Group of each row, whose entries are left out.

    Returns
    -------
    squared : ndarray of shape (q, n_neighbors), float32
        Squared distances, ascending; ``inf`` where there is no entry.
    neighbors : ndarray of shape (q, n_neighbors), int64
        -1 where there is no entry.
    """
    squared = np.full((len(rows), len(indexes), n_neighbors), np.inf, dtype=np.float32)
    neighbors = np.full(squared.shape, -1, dtype=np.int64)
    offset = 0
    for place, index in enumerate(indexes):
        n_found = min(n_neighbors, len(index.bank))
        found = index.query(rows, n_found, exclude=exclude)
        squared[:, place, :n_found] = found[0]
        neighbors[:, place, :n_found] = np.where(found[1] < 0, -1, found[1] + offset)
        offset += len(index.bank)
    squared, neighbors = squared.reshape(len(rows), -1), neighbors.reshape(len(rows), -1)
    if len(indexes) > 1:
        order = np.argsort(squared, axis=1, kind="stable")[:, :n_neighbors]
        squared = np.take_along_axis(squared, order, axis=1)
        neighbors = np.take_along_axis(neighbors, order, axis=1)
    return squared, neighbors
