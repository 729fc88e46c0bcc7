"""Images that are read: files, PIL images and arrays, brought into one form.

Whatever comes in is brought into the form in which an image viewer shows it:

* the EXIF orientation is applied;
* transparent pixels (RGBA, LA, a palette or a colour marked as transparent) lie on white;
* CMYK, YCbCr, palette, grey and black-and-white images are converted to RGB by Pillow, without
  colour profiles;
* images of 8 bits (uint8 arrays, and all files but the following) hold levels from 0 to 255. Images
  with more, called *deep*, are 16- and 32-bit integers and floating-point numbers: the window of an
  `Intensity` says which of their values become 0 and 255. They stay unrounded until the network
  has them;
* large files of some formats are read in parts, see `raster`;
* a file of several images (pages, frames) is an error, unless the name says which, see `files`.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageOps

from .decoding import (
    DEEP_MODES,
    N_REMEMBERED,
    header_of,
    load,
    pixel_type_of_array,
    pixel_type_of_mode,
    refuse_deep_transparency,
    refuse_several,
    upright_size_of,
)
from .files import split_page, split_view, stamp
from .intensity import Intensity, bit_depth_window, own_window
from .raster import open_raster


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
        is_deep = pixel_type(item).values == "integers"
        intensity = Intensity(own_bit_depth_window(item) if is_deep else None)
    levels = levels_of(item, intensity)
    if not isinstance(levels, Image.Image):
        levels = Image.fromarray(np.rint(levels).astype(np.uint8))
    return levels.convert("RGB")  # a copy, also of an image that the user has opened


def check_whole(item):
    """Decode an image to its end, whatever its values stand for: what a model says of them."""
    image = _upright(item)
    if isinstance(image, Image.Image) and image.mode not in DEEP_MODES:
        _to_rgb(image)


def levels_of(item, intensity):
    """Levels of an upright image: in mode RGB or L if they are whole, else a float32 array."""
    intensity.check(pixel_type(item))
    return _levels(_upright(item), item, intensity)


def _levels(image, item, intensity):
    """Levels of a decoded image, or of a part of it."""
    if intensity.channels == "bgr":
        intensity = replace(intensity, channels=None)
        if plain_array(item) is not None and image.ndim == 3 and image.shape[2] > 2:
            image = image[..., [2, 1, 0, 3][: image.shape[2]]]
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


def plain_array(item):
    """An array, or that of a file: only the user knows what its channels are. Else None."""
    try:
        is_file = isinstance(item, str) and header_of(item).reader == "numpy"
    except Exception:  # reading it says so
        return None
    if is_file:
        return np.load(split_page(item)[0], mmap_mode="r")
    return item if isinstance(item, np.ndarray) else None


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


def pixel_type(item):
    """What the values of an image are; of a file only the header is read."""
    if isinstance(item, str):
        return header_of(item).pixel_type
    if isinstance(item, np.ndarray):
        return pixel_type_of_array(item)
    refuse_several(item)
    return pixel_type_of_mode(item.mode)


def own_bit_depth_window(item):
    """The window of the bit depth that a deep image uses, see `bit_depth_window`."""
    return bit_depth_window(*_extremes(item))


def _extremes(item):
    """The lowest and the highest value of an image."""
    if isinstance(item, str):
        return _extremes_of_file(item, stamp(split_page(item)[0]))
    values = np.asarray(item)
    return values.min().item(), values.max().item()


@lru_cache(N_REMEMBERED)
def _extremes_of_file(name, stamp):
    raster = open_raster(name)
    return _extremes(_upright(name)) if raster is None else raster.extremes()


def upright_size(item):
    if isinstance(item, str):
        return header_of(item).size
    if isinstance(item, np.ndarray):
        return item.shape[:2]
    refuse_several(item)
    return upright_size_of(item)


def digest(item):
    if isinstance(item, str):
        path, _ = split_page(item)
        whole, part = _file_digest(path, stamp(path)), item[len(path) :]
        return hashlib.sha256(f"{whole}{part}".encode()).hexdigest() if part else whole
    pixels = item
    if not isinstance(item, np.ndarray):
        is_deep = pixel_type(item).values != "levels"
        pixels = np.asarray(ImageOps.exif_transpose(item) if is_deep else read(item))
    digest = hashlib.blake2b(f"{pixels.dtype.str}{pixels.shape}".encode(), digest_size=32)
    digest.update(np.ascontiguousarray(pixels))
    return digest.hexdigest()


@lru_cache(N_REMEMBERED)
def _file_digest(path, stamp):
    digest = hashlib.blake2b(digest_size=32)
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def seen_box(item, framing):
    """Top, left, bottom and right of what is seen of an image, or of the view in its name."""
    return framing.box(upright_size(item), split_view(item)[1] if isinstance(item, str) else None)


def scaled_pixels(item, framing, intensity):
    """An image as a backbone sees it: levels `(*framing.size, 3)`, uint8, or float32 if deep."""
    height, width = framing.size
    top, left, bottom, right = seen_box(item, framing)
    raster, intensity = _open_raster(item, intensity)
    if raster is None:
        # Crop and scaling in one step; the filter widens with the reduction: nothing aliases.
        planes = _planes(levels_of(item, intensity))
        return _stacked(_scaled(planes, (width, height), (left, top, right, bottom)))
    # Pillow scales rows first, each alone, and then columns. The values are the same, to the bit.
    columns = _reach(left, right, width, raster.shape[1])
    rows = _reach(top, bottom, height, raster.shape[0])
    is_whole = _is_whole(item, raster, intensity)
    scaled = None
    for band in raster.bands(rows.start, rows.stop):
        values = np.zeros((band.stop - band.start, *raster.shape[1:]), raster.dtype)
        values[:, columns] = raster.read(band, columns)
        levels = _levels(values, item, intensity)
        planes = _planes(levels if is_whole else np.asarray(levels, np.float32))
        planes = _scaled(planes, (width, len(values)), (left, 0, right, len(values)))
        if scaled is None:
            scaled = [Image.new(plane.mode, (width, raster.shape[0])) for plane in planes]
        for whole, part in zip(scaled, planes, strict=True):
            whole.paste(part, (0, band.start))
    return _stacked(_scaled(scaled, (width, height), (0, top, width, bottom)))


def native_pixels(item, framing, intensity, first, last):
    """Some rows of what `scaled_pixels` gives of a large image in its own size."""
    top, left, _, right = map(int, seen_box(item, framing))
    raster, intensity = _open_raster(item, intensity)
    values = raster.read(slice(top + first, top + last), slice(left, right))
    return _stacked(_planes(_levels(values, item, intensity)))


def is_native(item, framing):
    """Whether an image can be read in parts, and is seen in its own size, pixel by pixel."""
    top, left, bottom, right = seen_box(item, framing)
    own_size = (bottom - top, right - left) == framing.size and (top % 1, left % 1) == (0, 0)
    return own_size and open_raster(item) is not None


def _open_raster(item, intensity):
    """What reads parts of a large image, or None; and the intensity, which is that of all of it."""
    raster = open_raster(item)
    if raster is not None:
        intensity.check(pixel_type(item))
        if intensity.window is None and raster.dtype != np.uint8:
            intensity = replace(intensity, window=own_window(*_extremes(item)))
    return raster, intensity


def _is_whole(item, raster, intensity):
    """Whether all levels of an image are whole numbers, so that 8 bits hold them."""
    if raster.dtype == np.uint8 and not intensity.is_weighted:
        return True
    bands = (raster.read(rows, slice(None)) for rows in raster.bands(0, raster.shape[0]))
    return all(isinstance(_levels(band, item, intensity), Image.Image) for band in bands)


def _reach(start, stop, n_out, length):
    """Pixels along an axis that decide over `n_out` scaled ones between two places."""
    filter_reach = max((stop - start) / n_out, 1) + 1
    return slice(max(int(start - filter_reach), 0), min(int(stop + filter_reach) + 1, length))


def _planes(levels):
    if isinstance(levels, Image.Image):
        return [levels]
    planes = [levels] if levels.ndim == 2 else np.moveaxis(levels, -1, 0)
    return [Image.fromarray(plane.copy()) for plane in planes]


def _scaled(planes, size, box):
    if all((plane.size, (0, 0, *plane.size)) == (size, box) for plane in planes):
        return planes  # Pillow would copy them
    return [plane.resize(size, Image.Resampling.BILINEAR, box) for plane in planes]


def _stacked(planes):
    if planes[0].mode != "F":
        [plane] = planes
        return np.array(plane if plane.mode == "RGB" else plane.convert("RGB"))  # writable
    return np.stack(planes if len(planes) == 3 else planes * 3, axis=-1)
