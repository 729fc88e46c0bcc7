"""Images that are read: files, PIL images and arrays, as an image viewer shows them.

The EXIF orientation is applied, transparent pixels lie on white, and all colours become RGB by
Pillow, without profiles. Images of 8 bits hold levels from 0 to 255. Those with more, called
*deep*, are 16- and 32-bit integers and floating-point numbers: the window of an `Intensity` says
which of their values become 0 and 255, and they stay unrounded until the network has them.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
from PIL import Image, ImageOps

from .._utils.files import file_digest
from .decoding import (
    DEEP_MODES,
    N_REMEMBERED,
    check_pixels,
    header_of,
    load,
    map_array,
    pixel_type_of_array,
    pixel_type_of_mode,
    refuse_deep_transparency,
    refuse_several,
    upright_size_of,
)
from .files import split_name
from .geometry import check_within
from .intensity import Intensity, bit_depth_window, own_window
from .raster import open_raster

_new_digest = partial(hashlib.blake2b, digest_size=32)


class ImageReadError(OSError, ValueError):
    """An image cannot be read; the message names it and its position in the list."""


@contextlib.contextmanager
def reading(what):
    """Make any error one of reading something; Pillow's plugins raise nearly anything."""
    try:
        yield
    except Exception as error:
        raise ImageReadError(f"Cannot read {what}: {reason_of(error)}.") from error


def reason_of(error):
    """Why something cannot be read, without a point at its end."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is no image file that Pillow knows"
    return str(error).rstrip(".") or type(error).__name__


class OneImage:
    """What can be asked of an image alike, whether it is of a file, an array or one of Pillow.

    `size` (height and width, upright) and `pixel_type` are known without decoding. `view` is the
    part of a file that is meant, if not all; `array` the image, if it is of an array or of NumPy.
    `decode()` gives an upright PIL image as it is stored, or an array; `digest()` tells content.
    """

    view = array = None

    def extremes(self):
        """The lowest and the highest value."""
        return _extremes([np.asarray(self.decode())])

    def raster(self):
        """What reads parts of it, if it is large and can be read so, else None."""


class FileImage(OneImage):
    """By a name, which may say which page of the file it is, and which view of that."""

    def __init__(self, name, max_pixels=None):
        self.name, self.view = name, split_name(name).view
        self.header = header_of(name)
        self.size, self.pixel_type = self.header.size, self.header.pixel_type
        check_pixels(self.size, max_pixels)
        if self.view is not None:
            check_within(self.view, self.size)

    @property
    def array(self):
        return map_array(self.header.path) if self.header.reader == "numpy" else None

    def decode(self):
        return load(self.header)

    def digest(self):
        path = self.header.path
        whole, part = file_digest(path, _new_digest), self.name[len(path) :]
        return hashlib.sha256(f"{whole}{part}".encode()).hexdigest() if part else whole

    def extremes(self):
        return _file_extremes(self.header)

    def raster(self):
        return open_raster(self.header)


class ArrayImage(OneImage):
    """An array."""

    def __init__(self, array):
        self.array, self.size, self.pixel_type = array, array.shape[:2], pixel_type_of_array(array)

    def decode(self):
        return self.array

    def digest(self):
        return _digest_of_array(self.array)


class PillowImage(OneImage):
    """An image of Pillow."""

    def __init__(self, image):
        refuse_several(image)
        self.image = image
        self.size, self.pixel_type = upright_size_of(image), pixel_type_of_mode(image.mode)

    def decode(self):
        refuse_deep_transparency(self.image)
        return ImageOps.exif_transpose(self.image)

    def digest(self):
        if self.pixel_type.values == "levels":
            return _digest_of_array(np.asarray(read(self)))
        transparent = self.image.info.get("transparency", "")  # a value, which is seen as white
        return _digest_of_array(np.asarray(self.decode()), transparent)


def image_of(item, max_pixels):
    """The `OneImage` of an entry of `ImageList.items`."""
    if isinstance(item, str):
        return FileImage(item, max_pixels)
    return (ArrayImage if isinstance(item, np.ndarray) else PillowImage)(item)


def read(image, intensity=None):
    """An image as upright 8-bit RGB; without an intensity a deep one by its own bit depth."""
    if intensity is None:
        is_deep = image.pixel_type.values == "integers"
        intensity = Intensity(bit_depth_window(*image.extremes()) if is_deep else None)
    intensity.check(image.pixel_type)
    levels = _levels(image.decode(), image, intensity)
    if not isinstance(levels, Image.Image):
        levels = Image.fromarray(np.rint(levels).astype(np.uint8))
    return levels.convert("RGB")  # a copy, also of an image that the user has opened


def check_whole(image):
    """Decode an image completely. Whether a model takes its values is checked elsewhere."""
    decoded = image.decode()
    if isinstance(decoded, Image.Image) and decoded.mode not in DEEP_MODES:
        _to_rgb(decoded)


def _levels(decoded, image, intensity):
    """Levels of a decoded image, or of a part: in mode RGB or L if they are whole, else float32."""
    if intensity.channels == "bgr":
        intensity = replace(intensity, channels=None)
        if image.array is not None and decoded.ndim == 3 and decoded.shape[2] > 2:
            decoded = decoded[..., [2, 1, 0, 3][: decoded.shape[2]]]
    if isinstance(decoded, Image.Image) and decoded.mode not in DEEP_MODES:
        decoded = _to_rgb(decoded)
        if intensity.channels is None:
            return decoded
    values = np.asarray(decoded)
    # An alpha channel of an array is composed only where it is not asked for by number.
    if values.shape[2:] == (4,) and intensity.channels is None:
        return _to_rgb(Image.fromarray(values))
    values = values[..., 0] if values.shape[2:] == (1,) else values
    if values.ndim == 2 and image.pixel_type.n_channels == 3 and intensity.channels is not None:
        values = np.stack([values] * 3, axis=-1)  # a grey file read in parts, as `_to_rgb` has it
    levels = intensity.levels(values)
    transparent = getattr(decoded, "info", {}).get("transparency")
    if transparent is not None and levels.ndim == 2:
        levels[values == transparent] = 255
    return Image.fromarray(levels) if levels.dtype == np.uint8 else levels


def _to_rgb(image):
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache(N_REMEMBERED)
def _file_extremes(header):
    raster = open_raster(header)
    return _extremes([np.asarray(load(header))] if raster is None else raster.values())


def _extremes(bands):
    ends = [(band.min().item(), band.max().item()) for band in bands]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _digest_of_array(array, beside=""):
    digest = _new_digest(f"{array.dtype.str}{array.shape}{beside}".encode())
    digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def scaled_pixels(image, framing, intensity):
    """An image as a backbone sees it: levels `(*framing.size, 3)`, uint8, or float32 if deep."""
    height, width = framing.size
    top, left, bottom, right = framing.box(image.size, image.view)
    raster, intensity = _open_raster(image, intensity)
    if raster is None:
        # Crop and scaling in one step; the filter widens with the reduction: nothing aliases.
        planes = _planes(_levels(image.decode(), image, intensity))
        return _stacked(_scaled(planes, (width, height), (left, top, right, bottom)))
    # Pillow scales rows first, each alone, and then columns. The values are the same, to the bit.
    columns = _reach(left, right, width, raster.shape[1])
    rows = _reach(top, bottom, height, raster.shape[0])
    is_whole = _is_whole(image, raster, intensity)
    scaled = None
    for band in raster.bands(rows.start, rows.stop):
        values = np.zeros((band.stop - band.start, *raster.shape[1:]), raster.dtype)
        values[:, columns] = raster.read(band, columns)
        levels = _levels(values, image, intensity)
        planes = _planes(levels if is_whole else np.asarray(levels, np.float32))
        planes = _scaled(planes, (width, len(values)), (left, 0, right, len(values)))
        if scaled is None:
            scaled = [Image.new(plane.mode, (width, raster.shape[0])) for plane in planes]
        for whole, part in zip(scaled, planes, strict=True):
            whole.paste(part, (0, band.start))
    return _stacked(_scaled(scaled, (width, height), (0, top, width, bottom)))


def native_pixels(image, framing, intensity, first, last):
    """Some rows of what `scaled_pixels` gives of a large image in its own size."""
    top, left, _, right = map(int, framing.box(image.size, image.view))
    raster, intensity = _open_raster(image, intensity)
    values = raster.read(slice(top + first, top + last), slice(left, right))
    return _stacked(_planes(_levels(values, image, intensity)))


def is_native(image, framing):
    """Whether an image can be read in parts, and is seen in its own size, pixel by pixel."""
    top, left, bottom, right = framing.box(image.size, image.view)
    own_size = (bottom - top, right - left) == framing.size and (top % 1, left % 1) == (0, 0)
    return own_size and image.raster() is not None


def _open_raster(image, intensity):
    """What reads parts of a large image, or None; and the intensity, which is that of all of it."""
    intensity.check(image.pixel_type)
    raster = image.raster()
    if raster is not None and intensity.window is None and raster.dtype != np.uint8:
        intensity = replace(intensity, window=own_window(*image.extremes()))
    return raster, intensity


def _is_whole(image, raster, intensity):
    """Whether all levels of an image are whole numbers, so that 8 bits hold them."""
    if raster.dtype == np.uint8 and not intensity.is_weighted:
        return True
    bands = raster.values()
    return all(isinstance(_levels(band, image, intensity), Image.Image) for band in bands)


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
