"""Polygons in the pixels of an image: filled, and traced around regions.

A corner is (x, y): x to the right and y down from the upper left corner of the image, so that
the pixel in row r and column c covers the square from (c, r) to (c + 1, r + 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["fill_polygons", "outline"]


def fill_polygons(polygons: Sequence[ArrayLike], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels of an image of this height and width whose centre lies in one of the polygons.

    One that crosses itself is filled by the even-odd rule.

    Examples
    --------
    >>> fill_polygons([[(0, 0), (4, 0), (0, 4)]], (4, 4)).astype(int)
    array([[1, 1, 1, 0],
           [1, 1, 0, 0],
           [1, 0, 0, 0],
           [0, 0, 0, 0]])
    """
    height, width = size
    mask = np.zeros((height, width), dtype=bool)
    for polygon in polygons:
        corners = np.asarray(polygon, dtype=np.float64)
        # How often an outline is crossed on the way to each pixel, from the left.
        crossings = np.zeros((height, width + 1), dtype=np.uint8)
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            low, high = min(y0, y1), max(y0, y1)
            first, last = np.clip(np.ceil([low - 0.5, high - 0.5]), 0, height).astype(np.int64)
            rows = np.arange(first, last)  # those with low <= centre < high
            x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0) if len(rows) else rows
            columns = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
            crossings[rows, columns] += 1
        mask |= np.cumsum(crossings[:, :width], axis=1, dtype=np.uint8) % 2 == 1
    return mask


# From a corner of the lattice, to the east, south, west and north: (column, row).
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def outline(region: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Corners ``(n, 2)`` of the outer outline of a connected region, clockwise as seen.

    It goes along the edges of pixels and is exact: filled again, it gives the region with its holes
    closed. Pixels that touch at a corner only are connected.

    Examples
    --------
    >>> import numpy as np
    >>> outline(np.array([[1, 1], [1, 0]], dtype=bool)).tolist()
    [[0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [0, 2]]
    """
    if not region.any():
        raise ValueError("The region is empty: it has no outline.")
    filled = np.pad(region, 1)
    row, column = np.unravel_index(filled.argmax(), filled.shape)  # the first, row by row
    start = position = (column, row)  # its upper left corner
    direction, corners = 0, []
    while True:
        dx, dy = _STEPS[direction]
        position = (position[0] + dx, position[1] + dy)
        # The pixels ahead, left and right of the way; the region is on the right.
        left = filled[_pixel(position, direction, -1)]
        right = filled[_pixel(position, direction, 1)]
        turn = -1 if left else (0 if right else 1)
        if turn:
            corners.append(position)
            direction = (direction + turn) % 4
        if position == start and direction == 0:
            break
    polygon = np.array(corners[-1:] + corners[:-1], dtype=np.int64)
    return polygon - 1


def _pixel(corner, direction, side):
    """Row and column of the pixel ahead of a corner of the lattice, on one side of the way."""
    (dx, dy), (x, y) = _STEPS[direction], corner
    right = (-dy, dx)
    # Centre of that pixel, in half pixels.
    centre = 2 * x + dx + side * right[0], 2 * y + dy + side * right[1]
    return (centre[1] - 1) // 2, (centre[0] - 1) // 2
