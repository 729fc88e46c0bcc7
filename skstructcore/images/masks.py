"""Masks: which pixels of an image are anomalous, read from files and seen as a backbone sees."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .reading import ImageReadError, check_regular, reason_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from .reading import StrPath


def read_mask(path: StrPath) -> NDArray[np.bool_]:
    """Read a mask from a file: every pixel that is not 0 counts, whatever its value.

    The stored values are taken as they are (indices of a palette, 16-bit values), because
    masks mark classes by small numbers that look black to the eye. Transparency is ignored.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    mask : ndarray of shape (h, w), dtype bool

    Raises
    ------
    ImageReadError
        If the file cannot be read; the message names it.
    """
    try:
        check_regular(path)
        with Image.open(path) as image:
            values = as_mask(np.asarray(image), "an image")
            if image.mode in ("LA", "RGBA"):
                values = values[..., :-1]
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
        raise ImageReadError(
            f"Cannot read the mask {os.fspath(path)!r}: {reason_of(error)}."
        ) from error
    return values.any(axis=-1) if values.ndim == 3 else values


def as_mask(values: NDArray[Any], name: str) -> NDArray[np.bool_]:
    """A mask from an array: what is not 0 counts. ValueError if it holds no numbers."""
    if values.dtype.kind not in "biuf" or (
        values.dtype.kind == "f" and not np.isfinite(values).all()
    ):
        raise ValueError(f"the mask of {name} holds values that are no finite numbers")
    return values != 0


def mask_as_seen(
    mask: NDArray[np.bool_],
    size: tuple[int, int],
    box: Sequence[float] | NDArray[np.floating] | None = None,
) -> NDArray[np.bool_]:
    """Bring the mask of an image to the part and size of it that a backbone saw.

    The nearest pixel is taken. If that misses everything, because the defects are too thin,
    the pixels that they fall into are marked instead, so that they do not vanish. What lies
    outside of the part that was seen does.

    Parameters
    ----------
    mask : ndarray of shape (height, width), dtype bool
        At the size of the upright original.
    size : tuple of int
        Height and width of the result, in pixels.
    box : sequence of 4 float, default=None
        Top, left, bottom and right of the part that was seen, in pixels of the original; it
        may reach beyond the image. None: the whole image.

    Returns
    -------
    seen : ndarray of shape `size`, dtype bool

    Examples
    --------
    >>> import numpy as np
    >>> mask_as_seen(np.eye(4, dtype=bool), (2, 2), box=(0, 0, 2, 2)).astype(int)
    array([[1, 0],
           [0, 1]])
    """
    top, left, bottom, right = (0, 0, *mask.shape) if box is None else box
    row_step, column_step = (bottom - top) / size[0], (right - left) / size[1]
    rows = np.floor(top + (np.arange(size[0]) + 0.5) * row_step).astype(np.int64)
    columns = np.floor(left + (np.arange(size[1]) + 0.5) * column_step).astype(np.int64)
    inside_rows = (rows >= 0) & (rows < mask.shape[0])
    inside_columns = (columns >= 0) & (columns < mask.shape[1])
    seen = np.zeros(size, dtype=bool)
    seen[np.ix_(inside_rows, inside_columns)] = mask[
        np.ix_(rows[inside_rows], columns[inside_columns])
    ]
    if seen.any():
        return seen
    defect = np.argwhere(mask) + 0.5
    place = np.floor((defect - (top, left)) / (row_step, column_step)).astype(np.int64)
    place = place[((place >= 0) & (place < size)).all(axis=1)]
    seen[tuple(place.T)] = True
    return seen
