"""Levels of images: files, PIL images and arrays, brought into one form.

Whatever comes in is brought into the form in which an image viewer shows it:

* the EXIF orientation is applied;
* transparent pixels (RGBA, LA, a palette or a colour marked as transparent) lie on white;
* CMYK, YCbCr, palette, grey and black-and-white images are converted to RGB by Pillow, without
  colour profiles;
* images of 8 bits (uint8 arrays, and all files but the following) hold levels from 0 to 255. Images
  with more, called *deep*, are 16- and 32-bit integers and floating-point numbers: the window of an
  `Intensity` says which of their values become 0 and 255. They stay unrounded until the network
  has them;
* a file of several images (pages, frames) is an error, unless the name says which, see `files`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from numbers import Integral, Real
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from .decoding import (
    DEEP_MODES,
    N_REMEMBERED,
    PixelType,
    header_of,
    load,
    pixel_type_of_array,
    pixel_type_of_mode,
    refuse_deep_transparency,
    refuse_several,
    upright_size_of,
)
from .files import split_page, split_view, stamp
from .raster import open_raster

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

FULL_RANGE = (0.0, 65535.0)
_DEPTHS = (8, 10, 12, 14, 16)
# From this value on, a single deep image is taken for one of 16 bits, see `own_window`.
_USES_THE_RANGE = 2**13


class ImageReadError(OSError, ValueError):
    """An image cannot be read; the message names it and its position in the list."""


@dataclass(frozen=True)
class Intensity:
    """How the values of an image become levels of red, green and blue.

    Parameters
    ----------
    window : tuple of (float, float) or None, default=None
        The values of deep images that become 0 and 255; those beyond become the same. None
        decides for each image alone, see `own_window`. Images of 8 bits are left as they are.
    channels : tuple of 3 int, of 3 tuples of float, "bgr" or None, default=None
        Which three channels are red, green and blue, or the weights of all channels for each
        of them. None takes one channel as grey and three as they come. "bgr": arrays hold
        blue, green and red, as OpenCV gives them; files say themselves what they hold.

    Examples
    --------
    >>> import numpy as np
    >>> Intensity(window=(0, 4095)).levels(np.array([[0, 2048, 5000]], dtype=np.uint16))
    array([[  0.      , 127.531136, 255.      ]], dtype=float32)
    >>> Intensity(channels=(4, 2, 0)).levels(np.arange(5, dtype=np.uint8).reshape(1, 1, 5))
    array([[[4, 2, 0]]], dtype=uint8)
    """

    window: tuple[float, float] | None = None
    channels: tuple[Any, ...] | None = None

    def check(self, pixels: PixelType) -> None:
        """Raise ValueError if such images cannot be taken."""
        if pixels.values == "floats" and self.window is None:
            raise ValueError(
                "its values are floating-point numbers, of a range that is not known; convert it "
                "to uint8 (values from 0 to 1: multiply by 255 first), or give the feature "
                "estimator window=(low, high), the values that are black and white"
            )
        if self.channels is None or self.channels == "bgr":
            if pixels.n_channels not in ((1, 3, 4) if pixels.values == "levels" else (1, 3)):
                raise ValueError(
                    f"it has {pixels.n_channels} channels of {pixels.values}; expected 1 or 3 (or "
                    "4 of uint8: with alpha), the last axis. Give the feature estimator "
                    "channels=(i, j, k), those to take as red, green and blue; where channels "
                    "stand first move the axis: np.moveaxis(image, 0, -1)"
                )
            return
        needed = len(self.channels[0]) if self.is_weighted else max(self.channels) + 1
        if (needed != pixels.n_channels) if self.is_weighted else (needed > pixels.n_channels):
            raise ValueError(
                f"it has {pixels.n_channels} channels, but channels={self.channels} is for "
                f"{'' if self.is_weighted else 'at least '}{needed}"
            )

    @property
    def is_weighted(self) -> bool:
        """Whether channels are mixed by weights."""
        return self.channels is not None and isinstance(self.channels[0], tuple)

    def levels(self, values: NDArray[Any]) -> NDArray[np.uint8] | NDArray[np.float32]:
        """Levels of an image's values `(h, w)` or `(h, w, n_channels)`.

        Whole numbers come back as uint8: 8 bits in a deeper file are an image of 8 bits.
        """
        if values.dtype != np.uint8:
            values = self._windowed(values)
        if self.channels is not None:
            values = values if values.ndim == 3 else values[..., np.newaxis]
            if self.is_weighted:
                values = values @ np.array(self.channels, dtype=np.float32).T
                values = np.clip(values, 0, 255)
            else:
                values = values[..., list(self.channels)]
        if values.dtype == np.uint8:
            return values
        whole = values.astype(np.uint8)
        return whole if np.array_equal(whole, values) else values

    def _windowed(self, values):
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            bad = np.count_nonzero(~np.isfinite(values))
            raise ValueError(
                f"{bad} of its {values.size} values are NaN or infinite; replace them first"
            )
        low, high = self.window or own_window(values.min(), values.max())
        levels = (values.astype(np.float64) - low) * (255 / (high - low))
        return np.clip(levels, 0, 255).astype(np.float32)


def bit_depth_window(low: float, high: float) -> tuple[float, float]:
    """The window of 8, 10, 12, 14 or 16 bits, as few as hold integers from `low` to `high`.

    Examples
    --------
    >>> bit_depth_window(17, 3071)
    (0.0, 4095.0)
    """
    if low < 0 or high > FULL_RANGE[1]:
        raise ValueError(
            f"its values from {low} to {high} do not fit 16 bits; convert it to 8 or 16 bits, or "
            "give the feature estimator window=(low, high), the values that are black and white"
        )
    return 0.0, next(2.0**depth for depth in _DEPTHS if high < 2**depth) - 1


def own_window(low: float, high: float) -> tuple[float, float]:
    """The window of a deep image of which nothing is known but its lowest and highest value.

    Up to 255 it holds 8 bits, from 8192 on 16. What lies between, where it may as well be of
    any depth as dark, is an error.
    """
    window = bit_depth_window(low, high)
    if window[1] > 255 and high < _USES_THE_RANGE:
        raise ValueError(
            f"its integers end at {high}: whether they are of {round(np.log2(window[1] + 1))} "
            "bits, or of 16 and dark, cannot be told, as no training image had more than 8 bits. "
            f"Fit with window=(0, {window[1]:.0f}) or (0, 65535), or on such images"
        )
    return FULL_RANGE if window[1] > 255 else window


def check_window(window: object) -> None:
    """Raise ValueError unless `window` is "auto" or two finite numbers, the lower first."""
    if isinstance(window, str) and window == "auto":
        return
    numbers = isinstance(window, (tuple, list)) and all(isinstance(v, Real) for v in window)
    if not numbers or len(window) != 2 or not -np.inf < window[0] < window[1] < np.inf:
        raise ValueError(
            "window must be 'auto' or (low, high), the values of deep images that are black and "
            f"white, low below high; got {window!r}."
        )


def as_channels(channels: object) -> tuple[Any, ...] | None:
    """`channels` in the form that `Intensity` takes; ValueError if it is something else."""
    if channels is None or (isinstance(channels, str) and channels == "bgr"):
        return channels
    rows = list(channels) if isinstance(channels, (tuple, list, np.ndarray)) else []
    if len(rows) == 3:
        if all(isinstance(c, Integral) and not isinstance(c, bool) and c >= 0 for c in rows):
            return tuple(map(int, rows))
        if all(isinstance(row, (tuple, list, np.ndarray)) and len(row) > 0 for row in rows):
            numbers = all(isinstance(w, Real) and np.isfinite(w) for row in rows for w in row)
            if numbers and len({len(row) for row in rows}) == 1 and np.any(rows):
                return tuple(tuple(map(float, row)) for row in rows)
    raise ValueError(
        "channels must be three channels, counted from 0, three rows of a weight for each "
        f"channel, not all 0, or 'bgr'; got {channels!r}."
    )


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
    # An array and a PIL image may hold the same, but the colours of arrays can be in another order.
    form = "" if isinstance(item, np.ndarray) else "PIL"
    digest = hashlib.blake2b(f"{form}{pixels.dtype.str}{pixels.shape}".encode(), digest_size=32)
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
