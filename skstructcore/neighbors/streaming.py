"""Greedy k-center over more rows than fit in memory: merge and reduce."""

from __future__ import annotations

import sys

import numpy as np

from .._utils.typing import ArrayLike, NDArray
from .coreset import greedy_k_center
from .index import check_integer, check_rows

_COPIES = 3  # of a picked row, that a reduction makes
_WORK_PER_ROW = 20 + 8 + 4  # bytes: the selection's state; image and radius of a held row


def least_memory(n_select: int, n_features: int) -> int:
    """Bytes that a `StreamingCoreset` needs: four times the selection has to fit in its buffer."""
    return (4 * (_COPIES + 4) * n_features + 4 * _WORK_PER_ROW) * n_select


class StreamingCoreset:
    """Select rows from a stream, in bounded memory.

    Rows are collected in a buffer. When it is full, what came in since the last time is
    *reduced* to the `n_select` rows that greedy k-center picks of it; when these summaries take
    up half of the buffer, the latest of equally many reductions become one. :meth:`result` reduces
    all that is held: as long as everything fits, it is that of `greedy_k_center`, exactly.

    Parameters
    ----------
    n_select : int
        How many rows to select.
    max_memory : int, default=2 * 2**30
        Bytes that the held rows and what is kept for each during a reduction may take. The
        blocks that a reduction works on come on top, 64 MB at most.
    n_rows : int or None, default=None
        How many rows will come at most, if known: no more room is set aside.
    device : str, default="cpu"
        Of the reductions, see `greedy_k_center`.

    Attributes
    ----------
    n_seen : int
        Rows added so far.
    n_held : int
        Rows in the buffer.
    n_reductions : int
        The largest number of reductions, with that of `result`, that any row goes through.

    Notes
    -----
    Let R be the radius of the greedy selection of all rows at once, and OPT the least radius
    that any `n_select` rows reach. After greedy k-center with radius r, the picks and the row
    farthest from them are n_select + 1 rows at least r apart, two of which share their nearest
    optimal centre; so r ≤ 2 OPT ≤ 2 R, for any subset of the rows. The radii of all reductions
    that a row went through add up, so the result's radius is at most ``2 * n_reductions * R``.
    `result` returns that sum for the actual radii, which is usually far smaller.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore.neighbors.streaming import StreamingCoreset
    >>> stream = StreamingCoreset(2)
    >>> for image, x in enumerate([0.0, 1.0, 5.0]):
    ...     stream.add([[x]], image)
    >>> values, image_index, radius_bound = stream.result()
    >>> values.ravel(), image_index, radius_bound
    (array([0., 5.], dtype=float32), array([0, 2]), 1.0)
    """

    def __init__(
        self,
        n_select: int,
        *,
        max_memory: int = 2 * 2**30,
        n_rows: int | None = None,
        device: str = "cpu",
    ) -> None:
        for name, value in (("n_select", n_select), ("max_memory", max_memory)):
            check_integer(name, value, 1, sys.maxsize)
        self.n_select, self.max_memory = n_select, max_memory
        self.n_rows, self.device = n_rows, device
        self.n_seen = self.n_held = 0
        # Held rows that are the results of reductions: where each begins, and of how many.
        self._summaries = []
        self._n_reduced = 0  # rows of the summaries
        self._rows = None

    @property
    def n_reductions(self) -> int:
        return max((depth for _, depth in self._summaries), default=0) + 1

    def add(self, rows: ArrayLike, image_index: ArrayLike, radius: float = 0.0) -> None:
        """Take in rows ``(n, d)``, and which image each comes from.

        Of rows that are themselves the `result` of another stream, `radius` is its bound.
        """
        rows = check_rows(rows, "rows", least=0)
        images = np.broadcast_to(np.asarray(image_index, dtype=np.int64), len(rows))
        if self._rows is None:
            self._make_room(rows.shape[1])
        elif rows.shape[1] != self._rows.shape[1]:
            raise ValueError(
                f"Rows of {self._rows.shape[1]} features came before, not {rows.shape}."
            )
        self.n_seen += len(rows)
        if self.n_rows is not None and self.n_seen > self.n_rows:
            raise ValueError(f"n_rows={self.n_rows} were announced, but {self.n_seen} came.")
        while len(rows):
            if self.n_held == len(self._rows):
                self._reduce()
            n = min(len(rows), len(self._rows) - self.n_held)
            part = slice(self.n_held, self.n_held + n)
            self._rows[part] = rows[:n]
            self._images[part] = images[:n]
            self._radii[part] = radius
            self.n_held += n
            rows, images = rows[n:], images[n:]

    def result(self, *, start: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64], float]:
        """The selection of all rows so far: values, their images, and a bound on the radius.

        No row of the stream lies farther than this from the nearest value. `start` is the held row
        that is picked first, modulo their number. More rows may be added afterwards.
        """
        if self.n_held == 0:
            raise ValueError("There are no rows to select from: add some first.")
        picks, radius = self._select(0, start % self.n_held)
        return self._rows[picks], self._images[picks], radius

    def _make_room(self, n_features):
        left = self.max_memory - 4 * _COPIES * n_features * self.n_select
        capacity = int(max(left, 0) // (4 * n_features + _WORK_PER_ROW))
        if self.n_rows is not None and self.n_rows <= capacity:
            capacity = self.n_rows
        elif capacity < 4 * self.n_select:
            raise ValueError(
                f"max_memory={self.max_memory} bytes is too little to select {self.n_select} rows "
                f"of {n_features} features: it takes at least "
                f"{least_memory(self.n_select, n_features)}. Raise it, or select fewer rows."
            )
        self._rows = np.empty((capacity, n_features), dtype=np.float32)
        self._images = np.empty(capacity, dtype=np.int64)
        self._radii = np.empty(capacity, dtype=np.float32)

    def _reduce(self):
        """Reduce what came in last, and older summaries as long as they take up half the room.

        Of these, only the latest of equally many reductions are put together, as digits are
        carried: so the reductions grow with the logarithm of the rows.
        """
        summaries = self._summaries
        self._replace(self._n_reduced, 1)
        while 2 * self.n_held > len(self._rows) and len(summaries) > 1:
            depth = summaries[-2][1]
            start = min(start for start, of_one in summaries if of_one == depth)
            summaries[:] = [summary for summary in summaries if summary[0] < start]
            self._replace(start, depth + 1)
        self._n_reduced = self.n_held

    def _replace(self, start, depth):
        """Put a reduction of the held rows from `start` on in their place."""
        picks, radius = self._select(start, 0)
        kept = slice(start, start + len(picks))
        self._rows[kept], self._images[kept] = self._rows[picks], self._images[picks]
        self._radii[kept] = radius
        self.n_held = kept.stop
        self._summaries.append((start, depth))

    def _select(self, start, first):
        """Greedy picks among the held rows from `start` on, and the bound on their radius."""
        rows, radii_before = self._rows[start : self.n_held], self._radii[start : self.n_held]
        n_select = min(self.n_select, len(rows))
        picks, radii = greedy_k_center(rows, n_select, start=first, device=self.device)
        radius = radii[-1]
        if radii_before.any():
            # One float32 step up, as the sum must not be rounded down.
            radius = np.nextafter(radius + radii_before.max(), np.float32(np.inf))
        return start + picks, float(radius)
