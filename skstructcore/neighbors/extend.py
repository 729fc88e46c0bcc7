"""Greedy k-center that goes on from centres that are there already."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .index import NeighborIndex

if TYPE_CHECKING:
    from .._utils.typing import ArrayLike, NDArray

__all__ = ["continue_k_center"]

_LIVE_ROWS = 4096  # rows among which picks are made before all others are looked at again
_BLOCK_ROWS = 8192


def continue_k_center(
    X: ArrayLike, squared: ArrayLike, n_select: int
) -> tuple[NDArray[np.int64], float]:
    """Select rows farthest first: each is farthest from given centres and all picks before it.

    Parameters
    ----------
    X : array-like of shape (n, d), float32
    squared : array-like of shape (n,)
        Squared distance of each row to its nearest centre.
    n_select : int
        How many rows to select, 0 to n.

    Returns
    -------
    indices : ndarray of shape (n_select,), int64
        Distinct; of equally far rows the one with the lowest index.
    radius : float
        Largest distance of a row to its nearest centre or pick.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore.neighbors.extend import continue_k_center
    >>> X = np.array([[0.0], [4.0], [9.0], [10.0]], dtype=np.float32)
    >>> continue_k_center(X, X[:, 0] ** 2, 2)
    (array([3, 1]), 1.0)
    """
    X = np.asarray(X, dtype=np.float32)
    if not 0 <= n_select <= len(X):
        raise ValueError(f"n_select must be from 0 to {len(X)}, got {n_select}.")
    nearest = np.array(squared, dtype=np.float32)
    picks, seen = [], 0
    is_picked = np.zeros(len(X), dtype=bool)
    while True:
        _lower(nearest, X, X[picks[seen:]])
        seen = len(picks)
        nearest[is_picked] = -1.0  # never again
        if seen == n_select:
            return np.array(picks, dtype=np.int64), float(np.sqrt(max(nearest.max(), 0.0)))
        n_live = min(_LIVE_ROWS, len(X) - seen)
        # Rows below the limit stay below it: until the farthest falls under it, it is among these.
        limit = np.partition(nearest, -n_live)[-n_live]
        live = np.flatnonzero(nearest >= limit)
        rows, values = X[live], nearest[live]
        while len(picks) < n_select:
            farthest = int(values.argmax())
            if values[farthest] < limit or values[farthest] < 0:
                break
            picks.append(int(live[farthest]))
            is_picked[picks[-1]] = True
            offset = rows - rows[farthest]
            np.minimum(values, np.einsum("ij,ij->i", offset, offset), out=values)
            values[farthest] = -1.0


def _lower(nearest, X, picks):
    """Bring squared distances up to date with picks."""
    if len(picks) == 0:
        return
    index = NeighborIndex(picks)
    for start in range(0, len(X), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        np.minimum(nearest[part], index.query(X[part], 1)[0][:, 0], out=nearest[part])
