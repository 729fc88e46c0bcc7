"""Resampling of anomaly maps: from the patch grid to pixels, and back onto the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from .containers import Geometry


def upsample_maps(
    maps: ArrayLike, size: tuple[int, int], sigma: float = 0.0
) -> NDArray[np.float32]:
    """Resize maps bilinearly and smooth them with a Gaussian.

    Both are linear and act on each axis alone, so that one matrix an axis does the work.
    Pixel centres are aligned as in torch's ``interpolate(align_corners=False)``; the border
    value is repeated outside.

    Parameters
    ----------
    maps : ndarray of shape (n, h, w)
    size : tuple of int
        Height and width of the result, in pixels.
    sigma : float, default=0.0
        Standard deviation of the Gaussian, in pixels of the result; cut off at four sigmas.

    Returns
    -------
    pixels : ndarray of shape (n, *size), float32

    Examples
    --------
    >>> import numpy as np
    >>> upsample_maps(np.array([[[0.0, 1.0]]]), (1, 4))
    array([[[0.  , 0.25, 0.75, 1.  ]]], dtype=float32)
    """
    maps = np.asarray(maps, dtype=np.float32)
    rows = _resize_matrix(maps.shape[1], size[0], sigma)
    columns = _resize_matrix(maps.shape[2], size[1], sigma)
    return rows @ maps @ columns.T


def _resize_matrix(n_in, n_out, sigma):
    centres = np.clip((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0, n_in - 1)
    left = np.minimum(centres.astype(np.int64), max(n_in - 2, 0))
    weight = centres - left
    matrix = np.zeros((n_out, n_in))
    matrix[np.arange(n_out), left] = 1 - weight
    matrix[np.arange(n_out), np.minimum(left + 1, n_in - 1)] += weight
    if sigma > 0:
        matrix = gaussian_filter1d(matrix, sigma, axis=0, mode="nearest")
    return matrix.astype(np.float32)


def place_on_image(
    pixels: NDArray[np.floating], geometry: Geometry, index: int
) -> NDArray[np.float32]:
    """Bring a map at the backbone's input size back onto its own image.

    Parameters
    ----------
    pixels : ndarray of shape (H, W)
        One map, at the size that the backbone saw.
    geometry : Geometry
        Of the set of images that the map belongs to.
    index : int
        Which image of the set it is.

    Returns
    -------
    placed : ndarray of shape (height, width), float32
        At the size of the upright original. NaN where the backbone saw nothing (outside of
        a centre crop).
    """
    height, width = (int(length) for length in geometry.original_sizes[index])
    top, left, bottom, right = geometry.boxes[index]
    rows = slice(round(top), round(bottom))
    columns = slice(round(left), round(right))
    placed = np.full((height, width), np.nan, dtype=np.float32)
    seen = (rows.stop - rows.start, columns.stop - columns.start)
    placed[rows, columns] = upsample_maps(pixels[np.newaxis], seen)[0]
    return placed


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
