"""Telling arrays in the order of OpenCV, blue first, by the colours of the training images."""

import contextlib

import numpy as np

from .._utils.warning import warn_user
from ..images.reading import plain_array


def mean_colours(picture, images):
    """Mean red, green and blue of up to eight images, an array of shape (n, 3)."""
    colours = []
    for i in np.unique(np.linspace(0, len(images) - 1, 8).astype(int)):
        # What cannot be read is named where its features are computed.
        with contextlib.suppress(OSError, ValueError):
            colours.append(picture.pixels(images, i).mean(axis=(0, 1)))
    return np.array(colours)


def warn_if_swapped(images, colours):
    """Warn if one of the first arrays fits the training images much better with blue first."""
    arrays = [plain_array(item) for item in images.items[:4]] if len(colours) else []
    if any(array is not None and _looks_swapped(array, colours) for array in arrays):
        warn_user(
            "The colours of these arrays fit the training images much better with red and blue "
            "exchanged. OpenCV gives blue first: pass image[..., ::-1], or fit with "
            "channels='bgr'."
        )


def _looks_swapped(image, colours):
    if image.dtype != np.uint8 or image.shape[2:] != (3,):
        return False
    colour, centre = image[::8, ::8].mean(axis=(0, 1)), colours.mean(axis=0)
    spread = np.linalg.norm(colours - centre, axis=1).max() + 5
    straight, swapped = np.linalg.norm([colour - centre, colour[::-1] - centre], axis=1)
    return bool(straight > 3 * spread and swapped < straight / 3)
