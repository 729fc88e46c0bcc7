"""Greedy k-center selection: the memory bank's few rows that cover all the others."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._utils.computing import device_memory, find_device, slices, thread_pool
from .index import check_integer, check_rows

_BLOCK_ROWS = 1024  # rows and picks of one matrix product: 1 MB of products, which stays in cache
_BLOCK_PICKS = 256
_DEVICE_BLOCK = 2**25  # values of the differences that a torch device holds at a time
_LIVE_ROWS = 8192  # most rows that one round copies to pick among
# A round lowers the threshold to a share of it, such that it makes about a tenth as many picks as
# there are, and 8 at least. From one round to the next, 1 - share changes by a factor of 2 at most.
_FIRST_SHARE, _LEAST_SHARE, _MOST_SHARE = 0.9, 0.5, 0.999


def greedy_k_center(
    X: ArrayLike,
    n_select: int,
    *,
    start: int = 0,
    nearest: ArrayLike | None = None,
    device: str = "cpu",
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Select rows farthest first, exactly.

    The first pick is `start` or, with `nearest`, the row where that is largest; every further pick
    is the row farthest from all before it (Gonzalez 1985: at most twice the best covering radius).
    Distances are summed in float64; of equally far rows the lowest index is picked. Where `X` has
    fewer distinct rows than `n_select`, the lowest indices not picked yet follow, at radius 0.

    Beside `X` this takes about 20 bytes a row, three copies of the picked rows and 32 MB
    or so of blocks. ``device="cpu"`` uses as many threads as numba is set to use.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Rows to select from, finite and at most 1e17; computed in float32. Not modified.
    n_select : int
        How many rows to select, 1 to n.
    start : int, default=0
        Index of the first pick.
    nearest : array-like of shape (n,), default=None
        Squared distance of each row to the nearest of the centres that are there already, from
        which the selection goes on, without `start`.
    device : str, default="cpu"
        "cpu", "auto" (a CUDA GPU where there is one), or a torch device ("cuda", "mps", …;
        "torch:cpu" for torch on the CPU), which sums distances in float32: picks may differ where
        two rows are equally far up to rounding.

    Returns
    -------
    indices : ndarray of shape (n_select,), int64
        The picks, in order.
    radii : ndarray of shape (n_select,), float32
        ``radii[i]``: the largest distance of any row to its nearest among the first
        ``i + 1`` picks (or the centres before them), in the units of `X`.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore.neighbors.coreset import greedy_k_center
    >>> X = np.array([[0.0], [1.0], [2.0], [10.0]], dtype=np.float32)
    >>> indices, radii = greedy_k_center(X, 3)
    >>> indices
    array([0, 3, 2])
    >>> radii
    array([10.,  2.,  1.], dtype=float32)
    >>> greedy_k_center(X, 1, nearest=X[:, 0] ** 2)  # beside a centre at 0
    (array([3]), array([2.], dtype=float32))
    """
    X = check_rows(X, "X")
    check_integer("n_select", n_select, 1, len(X))
    check_integer("start", start, 0, len(X) - 1)
    if nearest is not None:
        nearest = np.array(nearest, dtype=np.float64)  # a copy
        if nearest.shape != (len(X),) or not ((nearest >= 0) & (nearest < np.inf)).all():
            raise ValueError(
                f"nearest must be {len(X)} finite squared distances, one for each row of X."
            )
        start = int(nearest.argmax())
    indices = np.full(n_select, start, dtype=np.int64)
    radii = np.full(n_select, np.nan, dtype=np.float32)
    device = find_device(device)
    if device == "cpu":
        _Selection(X, indices, radii, nearest).run()
    else:
        _select_on_device(X, indices, radii, nearest, device.removeprefix("torch:"))
    return indices, radii


@device_memory("use bank__device='cpu', or bank__max_memory, which selects from a stream")
def _select_on_device(X, indices, radii, nearest, device):
    """The textbook loop in torch."""
    import torch

    rows = torch.from_numpy(X).to(device)
    nearest = np.full(len(X), np.inf) if nearest is None else nearest
    nearest = torch.from_numpy(nearest.astype(np.float32)).to(device)
    step = max(1, _DEVICE_BLOCK // X.shape[1])
    picks = torch.from_numpy(indices).to(device)
    squared = torch.empty(len(indices), device=device)
    for i in range(len(indices)):
        centre = rows[picks[i]]
        for first in range(0, len(rows), step):
            part = slice(first, first + step)
            distance = (rows[part] - centre).square_().sum(dim=1)
            torch.minimum(nearest[part], distance, out=nearest[part])
        nearest[picks[i]] = -1.0
        squared[i], farthest = nearest.max(dim=0)
        if i + 1 < len(indices):
            picks[i + 1] = farthest
    indices[:] = picks.cpu().numpy()
    radii[:] = squared.clamp_(min=0).sqrt_().cpu().numpy()


class _Selection:
    """Lazy evaluation of farthest first.

    A row's distance to its nearest pick only ever falls, so that an older value is an upper bound.
    Each round brings up to date only the rows whose bound reaches a threshold just below the
    current radius, by blocked matrix products that filter the few exact distances needed, and then
    picks among these until the radius has fallen to the threshold. Most rows are never looked at
    again once they lie closer to a pick than the final radius.
    """

    def __init__(self, X, indices, radii, nearest=None):
        from . import _kernels

        self.kernels = _kernels
        self.X, self.indices, self.radii = X, indices, radii
        n, d = X.shape
        self.goes_on = nearest is not None
        self.nearest = nearest if self.goes_on else np.empty(n)
        self.seen = np.full(n, 0 if self.goes_on else 1, dtype=np.int32)
        self.slack = 2 * (d + 16) * 2.0**-24  # rounding of products and norms, relative to norms
        self.picks = np.empty((len(indices), d), dtype=np.float32)
        self.centred_picks = np.empty_like(self.picks)
        self.offsets = np.empty(len(indices), dtype=np.float32)

    def run(self):
        """Make the picks, in rounds."""
        with thread_pool() as run_all:
            if not self.goes_on:
                start = self.X[self.indices[0]]
                run_all(
                    lambda part: self.kernels.distances_to(self.X[part], start, self.nearest[part]),
                    slices(len(self.X), 8 * _BLOCK_ROWS),
                )
            # Matrix products lose the less to cancellation the nearer the rows are to 0.
            sample = self.X[:: len(self.X) // 1024 + 1]
            self.origin = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
            self._take_up(0, 1)
            done, threshold, share = 1, self.nearest.max(), _FIRST_SHARE
            while np.isnan(self.radii[-1]):  # until what the last pick leaves is known
                rows, threshold = self._frontier(threshold * share)
                stale = rows[self.seen[rows] < done]
                stale = stale[np.argsort(self.seen[stale], kind="stable")]
                blocks = [stale[part] for part in slices(len(stale), _BLOCK_ROWS)]
                run_all(partial(self._update, done=done, threshold=threshold), blocks)
                live, threshold, last = self._live(rows, threshold)
                before = done
                done = self.kernels.pick_within(
                    self.X[live], live, threshold, last, self.slack,
                    self.nearest, self.seen, self.indices, self.radii, done,
                )  # fmt: skip
                self._take_up(before, done)
                if done == len(self.X):
                    self.radii[-1] = 0.0
                wanted = min(max(8, done // 10), len(self.indices) - done)
                change = min(max(wanted / (done - before + 1), 0.5), 2.0)
                share = min(max(1 - (1 - share) * change, _LEAST_SHARE), _MOST_SHARE)

    def _frontier(self, threshold):
        """Rows whose upper bound reaches the threshold, lowered where none does."""
        rows = np.flatnonzero(self.nearest >= threshold)
        if len(rows) == 0:
            threshold = 0.98 * self.nearest.max()
            rows = np.flatnonzero(self.nearest >= threshold)
        return rows, threshold

    def _live(self, rows, threshold):
        """The first `_LIVE_ROWS` by value, then index; the least value, and the last row of it."""
        values = self.nearest[rows]
        rows, values = rows[values >= threshold], values[values >= threshold]
        if len(rows) <= _LIVE_ROWS:
            return rows, threshold, len(self.X)
        threshold = np.partition(values, -_LIVE_ROWS)[-_LIVE_ROWS]
        above, at = rows[values > threshold], rows[values == threshold]
        at = at[: _LIVE_ROWS - len(above)]
        return np.sort(np.concatenate([above, at])), threshold, at[-1]

    def _take_up(self, first, last):
        """Make picks ready for matrix products."""
        part = slice(first, last)
        self.picks[part] = self.X[self.indices[part]]
        self.centred_picks[part] = self.picks[part] - self.origin
        halves = self.kernels.half_norms(self.centred_picks[part])
        self.offsets[part] = halves * (1 - self.slack)
        self.nearest[self.indices[part]] = -1.0  # never again in a frontier

    def _update(self, places, done, threshold):
        """Bring rows up to date with all picks, or until they fall below the threshold."""
        rows = self.X[places]
        centred = rows - self.origin
        halves = self.kernels.half_norms(centred) * (1 - self.slack)
        values = self.nearest[places]
        for first in range(self.seen[places[0]], done, _BLOCK_PICKS):
            part = slice(first, min(first + _BLOCK_PICKS, done))
            products = centred @ self.centred_picks[part].T
            self.kernels.lower_to_block(
                rows, halves, self.picks[part], self.offsets[part], products, values
            )
            above = values >= threshold
            if 4 * np.count_nonzero(above) < 3 * len(places):
                self.nearest[places], self.seen[places] = values, part.stop
                places, rows, centred = places[above], rows[above], centred[above]
                halves, values = halves[above], values[above]
        self.nearest[places], self.seen[places] = values, done
