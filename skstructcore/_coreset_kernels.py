"""Compiled loops of the greedy k-center selection: arrays in, arrays out."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def squared_distance(x, y):
    """Squared distance of two float32 rows, summed in float64 in eight interleaved lanes."""
    lanes = np.zeros(8)
    whole = x.shape[0] // 8 * 8
    for start in range(0, whole, 8):
        for lane in range(8):
            difference = np.float64(x[start + lane]) - np.float64(y[start + lane])
            lanes[lane] += difference * difference
    for j in range(whole, x.shape[0]):
        difference = np.float64(x[j]) - np.float64(y[j])
        lanes[j - whole] += difference * difference
    return lanes.sum()


@njit(cache=True, nogil=True)
def farthest_first(X, nearest, indices, radii, first, last):
    """Make picks ``first`` to ``last - 1``; ``nearest`` is -1 where a row is picked already."""
    for i in range(first, last):
        centre = indices[i]
        nearest[centre] = -1.0
        best, best_row = -1.0, -1
        for row in range(X.shape[0]):
            if nearest[row] < 0.0:
                continue
            distance = squared_distance(X[row], X[centre])
            if distance < nearest[row]:
                nearest[row] = distance
            if nearest[row] > best:
                best, best_row = nearest[row], row
        radii[i] = np.sqrt(max(best, 0.0))
        if i + 1 < indices.shape[0]:
            indices[i + 1] = best_row
