"""Greedy k-center over rows that never sit in memory all at once: merge and reduce."""

import numpy as np

from .coreset import greedy_k_center

__all__ = ["StreamingCoreset"]


class StreamingCoreset:
    """Select rows from a stream, in bounded memory.

    Rows are collected until the buffer is full; then the buffer is *reduced*: greedy
    k-center keeps `n_select` of its rows. What is kept stays in the buffer and is
    reduced again together with later rows. While everything fits, nothing is reduced
    and the result is exactly that of :func:`~skstructcore.coreset.greedy_k_center`.

    Parameters
    ----------
    n_select : int
        How many rows to select.
    max_memory : int, default=2 * 2**30
        Bytes that the held rows may take.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore.streaming import StreamingCoreset
    >>> stream = StreamingCoreset(2)
    >>> for image, x in enumerate([0.0, 1.0, 5.0]):
    ...     stream.add(np.array([[x]], dtype=np.float32), image)
    >>> values, image_index, radius_bound = stream.result()
    >>> values.ravel(), image_index, radius_bound
    (array([0., 5.], dtype=float32), array([0, 2]), 1.0)
    """

    def __init__(self, n_select, *, max_memory=2 * 2**30):
        self.n_select = n_select
        self.max_memory = max_memory
        self._rows, self._images, self._bounds = [], [], []
        self._held = 0

    def add(self, rows, image_index):
        """Take in rows.

        Parameters
        ----------
        rows : array-like of shape (n, d)
        image_index : int or array-like of shape (n,)
            Which image each row comes from.
        """
        rows = np.array(rows, dtype=np.float32)
        self._rows.append(rows)
        self._images.append(np.broadcast_to(np.asarray(image_index, np.int64), len(rows)).copy())
        self._bounds.append(0.0)
        self._held += len(rows)
        capacity = max(self.max_memory // (rows.shape[1] * 4), 2 * self.n_select)
        if self._held > capacity:
            self._reduce()

    def result(self, *, start=0, verbose=0):
        """The selection so far.

        Parameters
        ----------
        start : int, default=0
            Which of the held rows is picked first.
        verbose : int, default=0
            Show a progress bar if positive.

        Returns
        -------
        values : ndarray of shape (n_select, d), float32
        image_index : ndarray of shape (n_select,), int64
        radius_bound : float
            No row of the whole stream lies farther than this from the nearest of `values`.
        """
        self._reduce(start, verbose)
        return self._rows[0], self._images[0], self._bounds[0]

    def _reduce(self, start=0, verbose=0):
        rows, images = np.concatenate(self._rows), np.concatenate(self._images)
        picked, radii = greedy_k_center(
            rows, min(self.n_select, len(rows)), start=start, verbose=verbose
        )
        self._rows, self._images = [rows[picked]], [images[picked]]
        self._bounds = [max(self._bounds) + float(radii[-1])]
        self._held = len(picked)
