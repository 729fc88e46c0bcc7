"""Reading and checking images: the only module that opens image files.

Whatever comes in is brought into the form in which an image viewer shows it:

* the EXIF orientation is applied;
* transparent pixels (RGBA, LA, a palette or a colour marked as transparent) lie on white;
* CMYK, YCbCr, palette, grey and black-and-white images are converted to RGB by Pillow, without
  colour profiles;
* values of more than 8 bits (deep images) become levels from 0 to 255 by an `Intensity`;
* a file of several images (pages, frames) is an error, unless the name says which, see `files`.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from .files import (
    DEEP_MODES,
    N_REMEMBERED,
    header_of,
    kind_of_mode,
    load,
    refuse_deep_transparency,
    refuse_several,
    split_page,
    stamp,
    upright_size_of,
)
from .geometry import box_on_image
from .intensity import Intensity, Kind, bit_depth_window

if TYPE_CHECKING:
    StrPath = str | os.PathLike[str]


class ImageReadError(OSError, ValueError):
    """An image cannot be read; the message names it and its position in the list."""


def reason_of(error):
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is no image file that Pillow knows"
    return str(error).rstrip(".") or type(error).__name__


def read(item, intensity=None):
    """An image as upright 8-bit RGB; without an intensity a deep one by its own bit depth."""
    if intensity is None:
        is_deep = kind(item).values == "integers"
        intensity = Intensity(bit_depth_window(*_extremes(item)) if is_deep else None)
    levels = decode(item, intensity)
    if not isinstance(levels, Image.Image):
        levels = Image.fromarray(np.rint(levels).astype(np.uint8))
    return levels.convert("RGB")  # a copy, also of an image that the user has opened


def check_whole(item):
    """Decode an image to its end, whatever its values stand for: what a model says of them."""
    image = _upright(item)
    if isinstance(image, Image.Image) and image.mode not in DEEP_MODES:
        _to_rgb(image)


def decode(item, intensity):
    """Levels of an upright image: in mode RGB or L if they are whole, else a float32 array."""
    intensity.check(kind(item))
    if intensity.channels == "bgr":
        intensity = replace(intensity, channels=None)
        if isinstance(item, np.ndarray) and item.ndim == 3 and item.shape[2] > 2:
            item = item[..., [2, 1, 0, 3][: item.shape[2]]]
    image = _upright(item)
    if isinstance(image, Image.Image) and image.mode not in DEEP_MODES:
        image = _to_rgb(image)
        if intensity.channels is None:
            return image
    # An alpha channel of an array is composed only where it is not asked for by number.
    elif isinstance(image, np.ndarray) and image.shape[2:] == (4,) and intensity.channels is None:
        return _to_rgb(Image.fromarray(image))
    levels = intensity.levels(_values(image))
    transparent = getattr(image, "info", {}).get("transparency")
    if transparent is not None and levels.ndim == 2:
        levels[_values(image) == transparent] = 255
    if levels.dtype != np.uint8:
        return levels
    return Image.fromarray(levels[..., 0] if levels.shape[2:] == (1,) else levels)


def _upright(item):
    """A decoded PIL image in the mode that it is stored in, or an array."""
    if isinstance(item, str):
        return load(item)
    if isinstance(item, np.ndarray):
        return item
    refuse_deep_transparency(item)
    return ImageOps.exif_transpose(item)


def _values(image):
    values = np.asarray(image)
    return values[..., 0] if values.shape[2:] == (1,) else values


def _to_rgb(image):
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def kind(item):
    """What kind of values an image holds; of a file only the header is read."""
    if isinstance(item, str):
        return header_of(item).kind
    if isinstance(item, np.ndarray):
        values = {"u": "integers", "i": "integers", "f": "floats"}[item.dtype.kind]
        if item.dtype == np.uint8:
            values = "levels"
        return Kind(values, item.shape[2] if item.ndim == 3 else 1)
    refuse_several(item)
    return kind_of_mode(item.mode)


def own_bit_depth_window(item):
    """The window of the bit depth that a deep image uses, see `bit_depth_window`."""
    return bit_depth_window(*_extremes(item))


def _extremes(item):
    """The lowest and the highest value of a deep image."""
    if isinstance(item, str):
        return _file_extremes(item, stamp(split_page(item)[0]))
    values = np.asarray(item)
    return values.min().item(), values.max().item()


@lru_cache(N_REMEMBERED)
def _file_extremes(name, stamp):
    return _extremes(_upright(name))


def upright_size(item):
    if isinstance(item, str):
        return header_of(item).size
    if isinstance(item, np.ndarray):
        return item.shape[:2]
    refuse_several(item)
    return upright_size_of(item)


def digest(item):
    if isinstance(item, str):
        path, page = split_page(item)
        whole = _file_digest(path, stamp(path))
        return whole if page is None else hashlib.sha256(f"{whole}[{page}]".encode()).hexdigest()
    pixels = item
    if not isinstance(item, np.ndarray):
        is_deep = kind(item).values != "levels"
        pixels = np.asarray(ImageOps.exif_transpose(item) if is_deep else read(item))
    digest = hashlib.blake2b(f"{pixels.dtype.str}{pixels.shape}".encode(), digest_size=32)
    digest.update(np.ascontiguousarray(pixels))
    return digest.hexdigest()


@lru_cache(N_REMEMBERED)
def _file_digest(path, stamp):
    return hashlib.blake2b(Path(path).read_bytes(), digest_size=32).hexdigest()


def source_box(
    size: tuple[int, int],
    image_size: tuple[int, int],
    resize: int | None = None,
    crop: bool = False,
    region: tuple[float, float, float, float] | None = None,
) -> tuple[float, float, float, float]:
    """The part of an image that is scaled to the size that the backbone sees.

    Parameters
    ----------
    size : tuple of (int, int)
        Height and width of the upright image.
    image_size : tuple of (int, int)
        Height and width that the backbone sees.
    resize : int, default=None
        With `crop`, the length of the shorter side before the crop. None means the smallest
        size that covers `image_size`.
    crop : bool, default=False
        False takes the whole image, True the centre.
    region : tuple of 4 floats, default=None
        Left, top, right and bottom of the part of the image that is taken for the whole; all
        up to 1: as shares of its width and height.

    Returns
    -------
    box : tuple of 4 floats
        Top, left, bottom and right in pixels of the image.
    """
    if region is not None:
        y, x, bottom, right = box_on_image(region, size)
        box = source_box((bottom - y, right - x), image_size, resize, crop)
        return box[0] + y, box[1] + x, box[2] + y, box[3] + x
    height, width = size
    if not crop:
        return 0.0, 0.0, float(height), float(width)
    target = np.array(image_size)
    if resize is None:
        scaled = np.maximum(target, np.round(np.array(size) * (target / size).max()))
    else:
        scaled = np.array(size) * resize // min(size)
    if (scaled < target).any():
        raise ValueError(
            f"an image of {height} x {width} pixels, its shorter side scaled to crop={resize}, "
            f"is smaller than image_size={(int(target[0]), int(target[1]))}; raise crop or lower "
            "image_size"
        )
    corner = np.round((scaled - target) / 2)
    factor = np.array(size) / scaled
    (top, left), (bottom, right) = corner * factor, (corner + target) * factor
    return float(top), float(left), float(bottom), float(right)


def scaled_pixels(item, image_size, resize, crop, intensity, region=None):
    """An image as a backbone sees it: levels `(*image_size, 3)`, uint8, or float32 if deep."""
    height, width = image_size
    top, left, bottom, right = source_box(upright_size(item), image_size, resize, crop, region)

    def scaled(image):
        # Crop and scaling in one step; the filter widens with the reduction: nothing aliases.
        return image.resize((width, height), Image.Resampling.BILINEAR, (left, top, right, bottom))

    levels = decode(item, intensity)
    if isinstance(levels, Image.Image):
        return np.array(scaled(levels).convert("RGB"))  # writable, as torch wants it
    planes = [levels] if levels.ndim == 2 else np.moveaxis(levels, -1, 0)
    planes = [np.asarray(scaled(Image.fromarray(plane.copy()))) for plane in planes]
    return np.stack(planes if len(planes) == 3 else planes * 3, axis=-1)
