"""Masks: which pixels of an image are anomalous, read from files and seen as a backbone sees.

Corners of polygons are (x, y): the pixel in row r and column c covers (c, r) to (c + 1, r + 1).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._utils.files import StrPath
from .geometry import Mask, Size
from .reading import FileImage, reading

_logger = logging.getLogger(__name__)


def read_mask(path: StrPath, max_pixels: int | None = None) -> NDArray[np.bool_]:
    """Read a mask from a file: every pixel that is not 0 counts, whatever its value.

    It is turned upright as images are (EXIF), and files of NumPy are read as well. The stored
    values are taken as they are (indices of a palette, 16-bit values). Transparency is ignored,
    unless nothing else varies in the image. A JPEG and a drawing with soft edges count from half of
    their largest value on; that is logged. More than 16 values are soft edges, unless they are
    those of a palette, whole numbers below 128, or 16-bit numbers without gaps.

    Parameters
    ----------
    max_pixels : int, default=None
        See `as_images`.

    Returns
    -------
    mask : ndarray of shape (h, w), dtype bool

    Raises
    ------
    ImageReadError
        If the file cannot be read, or is a JPEG too dark to be told from its noise; the message
        names it.
    """
    with reading(f"the mask {os.fspath(path)!r}"):
        image = FileImage(os.fspath(path), max_pixels).decode()
        mode = getattr(image, "mode", None)
        # 0 is white in one of these colours, and no black in the other.
        values = np.asarray(image.convert("RGB") if mode in ("CMYK", "YCbCr") else image)
        if mode in ("LA", "RGBA"):
            colour, alpha = values[..., :-1], values[..., -1]
            is_cut_out = (colour == colour[0, 0]).all() and (alpha != alpha[0, 0]).any()
            values = alpha if is_cut_out else colour
        marked, largest = as_mask(values, "an image"), values.max()
        is_jpeg = getattr(image, "format", None) in ("JPEG", "MPO")
        if is_jpeg and 0 < largest <= _JPEG_NOISE:
            raise ValueError(
                f"it is a JPEG with values up to {largest}, which may be noise: save masks as PNG"
            )
        is_soft = is_jpeg or not (mode == "P" or _are_classes(np.unique(values)))
        if is_soft and marked.any():
            _logger.warning(
                "The mask %r has more than two values (%s): those above half of the largest, %g, "
                "count. Save masks as PNG, with 0 and one other value",
                *(os.fspath(path), "a JPEG" if is_jpeg else "soft edges", largest),
            )
            marked = values > largest / 2
    return marked.any(axis=-1) if marked.ndim == 3 else marked


_MOST_CLASSES = 16  # more values are no classes, unless they are numbers of regions
_LARGEST_NUMBER = 127  # what is drawn in black and white reaches beyond this, up to 255
_JPEG_NOISE = 32  # a JPEG without a value above it is noise, or classes spoiled by noise


def _are_classes(values):
    """Whether the values of a mask, sorted, stand for classes or regions, and are no soft edges."""
    if len(values) <= _MOST_CLASSES:
        return True
    if (values != np.rint(values)).any():
        return False
    has_no_gaps = values.dtype.itemsize > 1 and values[0] <= 1 and (np.diff(values) == 1).all()
    return values[-1] <= _LARGEST_NUMBER or has_no_gaps


class InvertedMask(NamedTuple):
    """The file of a mask in which 0 marks the defect."""

    path: str


def mask_of(mask: Any, name: str, max_pixels: int | None = None) -> Mask:
    """The mask that an entry of `ImageSet.masks` stands for: a file, an array or a drawing."""
    if isinstance(mask, InvertedMask):
        return ~read_mask(mask.path, max_pixels)
    if hasattr(mask, "read"):
        return mask.read()
    return read_mask(mask, max_pixels) if isinstance(mask, str) else as_mask(mask, name)


def as_mask(values: ArrayLike, name: str) -> Mask:
    """A mask from an array: what is not 0 counts. ValueError if it holds no numbers."""
    values = np.asarray(values)
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise ValueError(f"the mask of {name} holds values that are no finite numbers")
    return values != 0


def mask_as_seen(mask: Mask, size: Size, box: Sequence[float] | None = None) -> Mask:
    """Bring the mask of an upright image to the part and size of it that a backbone saw.

    The nearest pixel is taken. If that misses everything, because the defects are too thin, the
    pixels that they fall into are marked instead. `box` is top, left, bottom and right of what was
    seen, which may reach beyond the image; None: all of it.
    """
    top, left, bottom, right = (0, 0, *mask.shape) if box is None else box
    row_step, column_step = (bottom - top) / size[0], (right - left) / size[1]
    rows = np.floor(top + (np.arange(size[0]) + 0.5) * row_step).astype(np.int64)
    columns = np.floor(left + (np.arange(size[1]) + 0.5) * column_step).astype(np.int64)
    padded = np.pad(mask, 1)  # beyond the image nothing is marked
    seen = padded[np.ix_(rows.clip(-1, mask.shape[0]) + 1, columns.clip(-1, mask.shape[1]) + 1)]
    if seen.any():
        return seen
    defect = np.argwhere(mask) + 0.5
    place = np.floor((defect - (top, left)) / (row_step, column_step)).astype(np.int64)
    place = place[((place >= 0) & (place < size)).all(axis=1)]
    seen[tuple(place.T)] = True
    return seen


def fill_polygons(polygons: Sequence[ArrayLike], size: Size) -> Mask:
    """Pixels of an image of this size whose centre lies, by the even-odd rule, in a polygon."""
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


# Ways from a corner of the lattice, clockwise from the east: (row, column).
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))
# The pixel on the left of each way, seen from the corner. On its right is that of the next way.
_LEFT = ((-1, 0), (0, 0), (0, -1), (-1, -1))


def outline(region: Mask) -> NDArray[np.int64]:
    """Corners ``(n, 2)`` of the outer outline of a connected region, clockwise along its pixels.

    Filled again, it gives the region with its holes closed. Pixels that touch at a corner only are
    connected.
    """
    if not region.any():
        raise ValueError("The region is empty: it has no outline.")
    filled = np.pad(region, 1)
    start = np.unravel_index(filled.argmax(), filled.shape)  # upper left of the first, row by row
    (row, column), way, corners = start, 0, []
    while not corners or (row, column, way) != (*start, 0):
        row, column = row + _STEPS[way][0], column + _STEPS[way][1]
        left, right = (filled[row + y, column + x] for y, x in (_LEFT[way], _LEFT[(way + 1) % 4]))
        if left or not right:  # the region stays on the right
            corners.append((column, row))
            way = (way + (-1 if left else 1)) % 4
    return np.array(corners[-1:] + corners[:-1], dtype=np.int64) - 1
