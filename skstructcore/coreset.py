"""Greedy k-center selection: the memory bank's few rows that cover all the others."""

import numbers

import numpy as np
from tqdm.auto import tqdm

__all__ = ["greedy_k_center"]


def greedy_k_center(X, n_select, *, start=0, verbose=0, device="cpu"):
    """Select rows farthest first, exactly.

    The first pick is `start`; every further pick is the row that lies farthest from
    all picks so far (Gonzalez 1985, at most twice the best covering radius there is).
    Distances are those of the float32 rows, summed in float64; of equally far rows
    the one with the lowest index is picked. Where `X` has fewer distinct rows than
    `n_select`, the remaining picks are the lowest indices not picked yet, at radius 0,
    so that the indices are always distinct.

    Parameters
    ----------
    X : array-like of shape (n, d), float32 or float16
        Rows to select from; other types are converted to float32. Not modified.
    n_select : int
        How many rows to select, 1 to n.
    start : int, default=0
        Index of the first pick.
    verbose : int, default=0
        Show a progress bar if positive.
    device : str or torch.device, default="cpu"
        Where to compute.

    Returns
    -------
    indices : ndarray of shape (n_select,), int64
        The picks, in order.
    radii : ndarray of shape (n_select,), float32
        ``radii[i]``: the largest distance of any row to its nearest among the first
        ``i + 1`` picks, in the units of `X`.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore.coreset import greedy_k_center
    >>> X = np.array([[0.0], [1.0], [2.0], [10.0]], dtype=np.float32)
    >>> indices, radii = greedy_k_center(X, 3)
    >>> indices
    array([0, 3, 2])
    >>> radii
    array([10.,  2.,  1.], dtype=float32)
    """
    X = _check_rows(X)
    _check_integer("n_select", n_select, 1, X.shape[0])
    _check_integer("start", start, 0, X.shape[0] - 1)

    from ._coreset_kernels import farthest_first

    indices = np.zeros(n_select, dtype=np.int64)
    indices[0] = start
    radii = np.zeros(n_select, dtype=np.float32)
    nearest = np.full(X.shape[0], np.inf)
    step = max(1, int(2e9 / (X.size + 1)))
    with tqdm(total=n_select, disable=not verbose, desc="k-center", unit="pick") as bar:
        for first in range(0, n_select, step):
            last = min(first + step, n_select)
            farthest_first(X, nearest, indices, radii, first, last)
            bar.update(last - first)
    return indices, radii


def _check_rows(X):
    X = np.asarray(X)
    if X.ndim != 2 or X.shape[0] == 0 or X.shape[1] == 0:
        raise ValueError(f"X must be a non-empty table of rows (n, d); got shape {X.shape}.")
    if X.dtype != np.float32:
        X = X.astype(np.float32)
    if not np.isfinite(X).all():
        row = int(np.flatnonzero(~np.isfinite(X).all(axis=1))[0])
        raise ValueError(f"X must be finite; row {row} holds NaN or infinity.")
    return X


def _check_integer(name, value, low, high):
    if not isinstance(value, numbers.Integral) or not low <= value <= high:
        raise ValueError(f"{name} must be an integer from {low} to {high}; got {value!r}.")
