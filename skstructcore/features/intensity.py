"""Values and colours of images: found in the training images, asked of a fitted pipeline."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .._utils.warning import warn_user
from ..images.intensity import Intensity, as_channels
from ..images.reading import ImageReadError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal

    from ..images.image_list import ImageList

__all__ = ["intensity_of", "training_intensity"]


def training_intensity(
    images: ImageList, window: Literal["auto"] | Sequence[float], channels: object
) -> Intensity:
    """The intensity that all images of a model are seen through.

    With the `window` "auto", deep training images are decoded: it is that of the bit depth that
    holds all of their values, or None if no image is deep.
    """
    find = isinstance(window, str)
    given = Intensity(None if find else (float(window[0]), float(window[1])), as_channels(channels))
    deep = [i for i in range(len(images)) if images.check(i, given) != "levels"]
    if not find or not deep:
        return given
    with ThreadPoolExecutor() as pool:
        return replace(given, window=max(pool.map(images.bit_depth_window, deep)))


def intensity_of(pipe: Any, *, channels: bool = True) -> Intensity | None:
    """How a fitted pipeline sees values of images; None where that is nothing special.

    Without `channels` its own do not count: for copies of images that it is to see again.
    """
    first = pipe.steps[0][1] if getattr(pipe, "steps", None) else None
    if not hasattr(first, "picture_"):
        return None
    found = first.picture_.intensity
    found = found if channels or found.channels == "bgr" else Intensity(found.window)
    return None if found == Intensity() else found


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
    if len(colours) and any(_looks_swapped(images, i, colours) for i in range(len(images))[:4]):
        warn_user(
            "The colours of these arrays fit the training images much better with red and blue "
            "exchanged. OpenCV gives blue first: pass image[..., ::-1], or fit with "
            "channels='bgr'."
        )


def _looks_swapped(images, i, colours):
    try:
        image = images.array(i)
    except ImageReadError:  # which is said where its features are computed
        return False
    if image is None or image.dtype != np.uint8 or image.shape[2:] != (3,):
        return False
    colour, centre = image[::8, ::8].mean(axis=(0, 1)), colours.mean(axis=0)
    spread = np.linalg.norm(colours - centre, axis=1).max() + 5
    straight, swapped = np.linalg.norm([colour - centre, colour[::-1] - centre], axis=1)
    return bool(straight > 3 * spread and swapped < straight / 3)
