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
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol, TypeAlias

    from numpy.typing import NDArray

    class _HasPaths(Protocol):
        @property
        def paths(self) -> Sequence[Any]: ...

    StrPath = str | os.PathLike[str]
    #: What `as_images` takes.
    _Image = StrPath | Image.Image | NDArray[Any]
    ImagesLike: TypeAlias = "StrPath | ImageList | _HasPaths | Sequence[_Image] | NDArray[Any]"

IMAGE_SUFFIXES = frozenset(".bmp .gif .jpeg .jpg .pgm .png .pnm .ppm .tif .tiff .webp".split())
_WIDE_MODES = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})
_N_REMEMBERED = 2**17  # files whose size and digest are kept, by path and time stamp


class ImageReadError(OSError, ValueError):
    """An image cannot be read; the message names it and its position in the list."""


class Unreadable(NamedTuple):
    """One entry of the report of `find_unreadable`."""

    position: int
    name: str
    reason: str


def list_images(folder: StrPath) -> list[str]:
    """Paths of the image files that lie directly in a folder, sorted by name.

    Folders inside it are not searched: in the usual layouts they hold other classes.

    Parameters
    ----------
    folder : str or path-like
        The folder. Files count as images by their suffix, see `IMAGE_SUFFIXES`.

    Returns
    -------
    paths : list of str
        At least one path, sorted.
    """
    folder = Path(folder)
    if not folder.is_dir():
        hint = "It is one file: pass a list, [path]." if folder.is_file() else "It does not exist."
        raise ValueError(f"{str(folder)!r} is not a folder of images. {hint}")
    entries = sorted(folder.iterdir())
    paths = [str(p) for p in entries if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    if not paths:
        inside = [p.name for p in entries if p.is_dir()][:5]
        hint = f" It has folders ({', '.join(inside)}, ...): pass one of them." if inside else ""
        raise ValueError(f"No image files in the folder {str(folder)!r}.{hint}")
    return paths


def as_images(X: ImagesLike) -> ImageList:
    """Bring any supported kind of image input into one form.

    Parameters
    ----------
    X : str, path-like, ImageList, object with `paths`, sequence or ndarray
        A folder; a sequence of paths, PIL images or arrays of different sizes, `(h, w)`,
        `(h, w, 1)`, `(h, w, 3)` or `(h, w, 4)`; or one array `(n, h, w)` or `(n, h, w, 3)`.
        Arrays hold uint8 (or uint16, read as 16-bit images).

    Returns
    -------
    images : ImageList
        The images in the order of the input; no file has been opened.
    """
    if isinstance(X, ImageList):
        return X
    if isinstance(X, (str, os.PathLike)):
        return ImageList(list_images(X))
    if isinstance(X, Image.Image):
        raise ValueError("One PIL image was given where a list is needed: pass [image].")
    labels = None
    if hasattr(X, "paths"):
        X, labels = X.paths, getattr(X, "y", None)
    if isinstance(X, np.ndarray) and X.dtype.kind not in "OUS":
        _check_stack(X)
    elif not hasattr(X, "__len__") or isinstance(X, (bytes, dict)):
        raise ValueError(
            f"Images must be a folder, a sequence or an array, not {type(X).__name__}."
        )
    items = list(X)
    if not items:
        raise ValueError("The list of images is empty: at least one image is needed.")
    items = [_check_item(item, position) for position, item in enumerate(items)]
    return ImageList(items, labels=labels)


def _check_stack(X):
    if X.ndim not in (3, 4):
        raise ValueError(
            f"An array of images has the shape (n, h, w) or (n, h, w, 3), got {X.shape}."
        )
    if X.ndim == 3 and len(X) and X.shape[-1] in (3, 4):
        raise ValueError(
            f"An array of shape {X.shape} looks like one colour image: pass it in a list, [image]."
        )


def _check_item(item, position):
    if isinstance(item, (str, os.PathLike)):
        return os.fspath(item)
    if isinstance(item, Image.Image):
        return item
    if not isinstance(item, np.ndarray):
        raise ValueError(
            f"Image {position} is of type {type(item).__name__}; expected a path, a PIL image "
            "or a uint8 array."
        )
    if item.dtype not in (np.uint8, np.uint16):
        scale = " (values from 0 to 1: multiply by 255 first)" if item.dtype.kind == "f" else ""
        raise ValueError(
            f"Image {position} is an array of {item.dtype}; convert it to uint8{scale}."
        )
    channels = item.shape[2] if item.ndim == 3 else 1
    if item.ndim not in (2, 3) or channels not in (1, 3, 4) or not item.size:
        raise ValueError(
            f"Image {position} is an array of shape {item.shape}; expected (h, w), (h, w, 1), "
            "(h, w, 3) or (h, w, 4), with at least one pixel."
        )
    if item.dtype == np.uint16 and channels != 1:
        raise ValueError(f"Image {position} is a colour array of uint16; convert it to uint8.")
    return item


class ImageList:
    """Images that are read one at a time, when asked for.

    Parameters
    ----------
    items : list of str, PIL.Image.Image or ndarray
        Checked images, as `as_images` makes them.
    positions : list of int, default=None
        The positions of `items` in the list that the user gave, for messages.
    labels : ndarray of shape (n_images,), default=None
        What each image is, where that came with the images.
    """

    def __init__(
        self,
        items: Sequence[str | Image.Image | NDArray[Any]],
        positions: Sequence[int] | None = None,
        labels: NDArray[Any] | None = None,
    ) -> None:
        self.items = items
        self.positions = range(len(items)) if positions is None else positions
        self.labels = labels

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[Any]) -> ImageList:
        """The images at `index` (an int, a slice, integers or a mask), as an ImageList."""
        rows = np.atleast_1d(np.arange(len(self))[index]).tolist()
        return ImageList(
            [self.items[i] for i in rows],
            [self.positions[i] for i in rows],
            None if self.labels is None else self.labels[rows],
        )

    def name(self, i: int) -> str:
        """How messages call image `i`: its path, or what it is."""
        item = self.items[i]
        return repr(item) if isinstance(item, str) else f"<{type(item).__name__}>"

    def read(self, i: int) -> Image.Image:
        """Image `i` as an upright PIL image in mode RGB."""
        return self._guard(i, _read)

    def size(self, i: int) -> tuple[int, int]:
        """Height and width of upright image `i`; of a file only the header is read."""
        return self._guard(i, _size)

    def digest(self, i: int) -> str:
        """Hexadecimal digest of the content of image `i`, independent of its file name."""
        return self._guard(i, _digest)

    def pixels(
        self, i: int, image_size: tuple[int, int], resize: int | None = None, crop: bool = False
    ) -> NDArray[np.uint8]:
        """Image `i` as a backbone sees it, uint8 `(*image_size, 3)`; see `source_box`."""
        return self._guard(i, lambda item: _scaled_pixels(item, image_size, resize, crop))

    def box(
        self, i: int, image_size: tuple[int, int], resize: int | None = None, crop: bool = False
    ) -> tuple[float, float, float, float]:
        """The part of image `i` that is scaled to `image_size`; see `source_box`."""
        return self._guard(i, lambda item: source_box(_size(item), image_size, resize, crop))

    def sizes(self) -> NDArray[np.int64]:
        """Heights and widths of all upright images, an int64 array of shape (n, 2)."""
        with ThreadPoolExecutor(4) as pool:  # waits for the disk, mostly
            sizes = list(pool.map(self.size, range(len(self))))
        return np.array(sizes, dtype=np.int64).reshape(-1, 2)

    def _guard(self, i, function):
        try:
            return function(self.items[i])
        except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
            raise ImageReadError(
                f"Cannot read image {self.name(i)} (position {self.positions[i]} in the list): "
                f"{_reason(error)}."
            ) from error


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
        with Image.open(path) as image:
            values = np.asarray(image)
            if image.mode in ("LA", "RGBA"):
                values = values[..., :-1]
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
        raise ImageReadError(
            f"Cannot read the mask {os.fspath(path)!r}: {_reason(error)}."
        ) from error
    return values.any(axis=-1) if values.ndim == 3 else values != 0


def find_unreadable(X: ImagesLike, *, decode: bool = True) -> list[Unreadable]:
    """Check images and report all that cannot be read, without raising at the first one.

    Parameters
    ----------
    X : anything that `as_images` takes
        The images.
    decode : bool, default=True
        Whether to decode each image to its end, which finds truncated files, or to read its
        header only.

    Returns
    -------
    report : list of Unreadable
        Position, name and reason of each unreadable image, in order; empty if all is well.
    """
    images = as_images(X)
    check = _read if decode else _size

    def reason(item):
        try:
            check(item)
        except Exception as error:
            return _reason(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        reasons = pool.map(reason, images.items)
        return [Unreadable(i, images.name(i), why) for i, why in enumerate(reasons) if why]


def _reason(error):
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is no image file that Pillow knows"
    return str(error).rstrip(".") or type(error).__name__


def _read(item, reduction=1.0):
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


def _size(item):
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


def _digest(item):
    if isinstance(item, str):
        return _file_digest(item, _stamp(item))
    pixels = item if isinstance(item, np.ndarray) else np.asarray(_read(item))
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


def _scaled_pixels(item, image_size, resize, crop):
    size = _size(item)
    box = np.array(source_box(size, image_size, resize, crop))
    height, width = image_size
    image = _read(item, min((box[2] - box[0]) / height, (box[3] - box[1]) / width))
    box *= image.width / size[1]
    # Crop and scaling in one step; the filter widens with the reduction, so nothing aliases.
    top, left, bottom, right = box.tolist()
    scaled = image.resize((width, height), Image.Resampling.BILINEAR, (left, top, right, bottom))
    return np.array(scaled)  # writable, as torch wants it
