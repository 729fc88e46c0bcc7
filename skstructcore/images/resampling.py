"""Resampling of anomaly maps: from the patch grid to pixels, and back onto the image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .geometry import Geometry


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
    rows = resize_matrix(maps.shape[1], size[0], sigma)
    columns = resize_matrix(maps.shape[2], size[1], sigma)
    return rows @ maps @ columns.T


def resize_matrix(n_in: int, n_out: int, sigma: float) -> NDArray[np.float32]:
    """What each pixel of an axis weighs in each new one, ``(n_out, n_in)``: linear, smoothed."""
    centres = np.clip((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0, n_in - 1)
    left = np.minimum(centres.astype(np.int64), max(n_in - 2, 0))
    weight = centres - left
    matrix = np.zeros((n_out, n_in))
    matrix[np.arange(n_out), left] = 1 - weight
    matrix[np.arange(n_out), np.minimum(left + 1, n_in - 1)] += weight
    if sigma > 0:
        from scipy.ndimage import gaussian_filter1d  # slow to import

        matrix = gaussian_filter1d(matrix, sigma, axis=0, mode="nearest")
    return matrix.astype(np.float32)


def upsample_counted(
    maps: ArrayLike, ignored: NDArray[np.bool_], size: tuple[int, int], sigma: float = 0.0
) -> NDArray[np.float32]:
    """Resize and smooth maps as `upsample_maps` does, by what is not ignored alone.

    `ignored` are patches ``(n, h, w)``; their pixels are 0, see `ignored_pixels`.

    Examples
    --------
    >>> upsample_counted([[[4.0, 0.0]]], np.array([[[False, True]]]), (1, 4))
    array([[[4., 4., 0., 0.]]], dtype=float32)
    """
    counted = (~ignored).astype(np.float32)
    shares = upsample_maps(counted, size, sigma)
    pixels = upsample_maps(np.asarray(maps) * counted, size, sigma)
    out = ignored_pixels(ignored, size)
    return np.where(out, 0, pixels / np.where(out, 1, shares)).astype(np.float32)


def ignored_pixels(ignored: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels ``(n, *size)`` whose centre lies in an ignored patch, from patches ``(n, h, w)``.

    Examples
    --------
    >>> ignored_pixels(np.array([[[False, True]]]), (1, 3))
    array([[[False,  True,  True]]])
    """
    rows, columns = (
        (2 * np.arange(pixels) + 1) * patches // (2 * pixels)
        for pixels, patches in zip(size, ignored.shape[1:], strict=True)
    )
    return ignored[:, rows[:, np.newaxis], columns]


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
    rows, columns = _whole_pixels(top, bottom, height), _whole_pixels(left, right, width)
    placed = np.full((height, width), np.nan, dtype=np.float32)
    seen = (rows.stop - rows.start, columns.stop - columns.start)
    placed[rows, columns] = upsample_maps(pixels[np.newaxis], seen)[0]
    return placed


def _whole_pixels(start, stop, length):
    """The pixels between two places on an axis of some length; at least one."""
    first = min(math.floor(start + 0.5), length - 1)  # `round` brings halves to even numbers
    return slice(first, max(math.floor(stop + 0.5), first + 1))
