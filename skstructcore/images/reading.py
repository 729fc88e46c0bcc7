"""Reading and checking images: the only module that opens image files.

Whatever comes in, upright 8-bit RGB comes out, as an image viewer shows it:

* the EXIF orientation is applied;
* transparent pixels (RGBA, LA, a palette or a colour marked as transparent) lie on white;
* 16-bit values keep their high byte (0-65535 becomes 0-255), whatever range they use;
* CMYK, YCbCr, palette, grey and black-and-white images are converted by Pillow, without
  colour profiles;
* of an animation or a file of several pages, the first one is taken.
"""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image, ImageOps

if TYPE_CHECKING:
    StrPath = str | os.PathLike[str]

_WIDE_MODES = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})
_N_REMEMBERED = 2**17  # files whose size and digest are kept, by path and time stamp


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


def read(item, reduction=1.0):
    """Decode an image; one that is going to be reduced may come out smaller already."""
    if isinstance(item, str):
        # Not by its name: Pillow 13 reads uncompressed turned TIFFs wrongly through a memory map.
        with open(item, "rb") as file, Image.open(file) as image:
            # A JPEG decodes to 1/2, 1/4 or 1/8 in a fraction of the time. Twice the pixels that
            # are needed stay: what is then left to filter hides the difference.
            for scale in (8, 4, 2):
                if 2 * scale <= reduction and not (image.width % scale or image.height % scale):
                    image.draft(None, (image.width // scale, image.height // scale))
                    break
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)
    if isinstance(item, np.ndarray):
        channels = item.shape[2] if item.ndim == 3 else 1
        return _to_rgb(Image.fromarray(item[..., 0] if item.ndim == 3 and channels == 1 else item))
    return _to_rgb(ImageOps.exif_transpose(item))


def _to_rgb(image):
    if image.mode in _WIDE_MODES:
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError("its 32-bit pixels exceed 16 bits; convert it to 8 or 16 bits")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; convert it to 8 or 16 bits")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def upright_size(item):
    if isinstance(item, str):
        return _file_size(item, _stamp(item))
    if isinstance(item, np.ndarray):
        return item.shape[:2]
    return _upright_size(item)


def _stamp(path):
    """What changes when a file is written again."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ino


@lru_cache(_N_REMEMBERED)
def _file_size(path, stamp):
    with Image.open(path) as image:
        # Pillow decodes a whole PNG to find an orientation that may stand behind the pixels.
        if image.format == "PNG" and not _mentions_orientation(path):
            return image.size[::-1]
        return _upright_size(image)


def _mentions_orientation(path):
    content = Path(path).read_bytes()
    return any(mark in content for mark in (b"eXIf", b"Raw profile type", b"adobe.xmp"))


def _upright_size(image):
    """Height and width after the EXIF orientation is applied; five and above exchange them."""
    width, height = image.size
    lying = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    if lying and image.format == "TIFF":  # newer releases of Pillow report the upright size
        tags = image.tag_v2
        lying = image.size == (tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength])
    return (width, height) if lying else (height, width)


def digest(item):
    if isinstance(item, str):
        return _file_digest(item, _stamp(item))
    pixels = item if isinstance(item, np.ndarray) else np.asarray(read(item))
    digest = hashlib.blake2b(f"{pixels.dtype.str}{pixels.shape}".encode(), digest_size=32)
    digest.update(np.ascontiguousarray(pixels))
    return digest.hexdigest()


@lru_cache(_N_REMEMBERED)
def _file_digest(path, stamp):
    return hashlib.blake2b(Path(path).read_bytes(), digest_size=32).hexdigest()


def source_box(
    size: tuple[int, int],
    image_size: tuple[int, int],
    resize: int | None = None,
    crop: bool = False,
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

    Returns
    -------
    box : tuple of 4 floats
        Top, left, bottom and right in pixels of the image.
    """
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
            f"an image of {height} x {width} pixels, its shorter side scaled to resize={resize}, "
            f"is smaller than the crop of {target[0]} x {target[1]}; raise resize or lower "
            "image_size"
        )
    corner = np.round((scaled - target) / 2)
    factor = np.array(size) / scaled
    (top, left), (bottom, right) = corner * factor, (corner + target) * factor
    return float(top), float(left), float(bottom), float(right)


def scaled_pixels(item, image_size, resize, crop):
    size = upright_size(item)
    box = np.array(source_box(size, image_size, resize, crop))
    height, width = image_size
    image = read(item, min((box[2] - box[0]) / height, (box[3] - box[1]) / width))
    box *= image.width / size[1]
    # Crop and scaling in one step; the filter widens with the reduction, so nothing aliases.
    top, left, bottom, right = box.tolist()
    scaled = image.resize((width, height), Image.Resampling.BILINEAR, (left, top, right, bottom))
    return np.array(scaled)  # writable, as torch wants it
