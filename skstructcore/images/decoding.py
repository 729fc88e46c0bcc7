"""Decoding of image files: their headers, and the pages in them.

Pillow reads nearly all. It knows no colours of more than 8 bits: of PNG and TIFF files it decodes
the upper byte and the lower one, one after the other; other TIFFs are read by tifffile.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
import sys
from functools import lru_cache
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from .._utils.files import stamp
from .files import split_name

DEEP_MODES = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N", "F"})
N_REMEMBERED = 2**17  # files whose header and digest are kept, by path and time stamp
_SUBFILE_TYPE = 254  # of a TIFF's page: 1 is a smaller copy of another one, 4 a mask
# For each way to store colours of 16 bits, the raw mode of the byte that Pillow drops.
_OTHER_BYTE = {"16L": "16B", "16B": "16L", "16N": "16B" if sys.byteorder == "little" else "16L"}


class PixelType(NamedTuple):
    """What the values of an image are."""

    values: Literal["levels", "integers", "floats"]
    n_channels: int


class Header(NamedTuple):
    """What is known of one image of a file without its pixels."""

    path: str
    stamp: tuple[int, ...]  # see `files.stamp`
    page: int
    size: tuple[int, int]  # height and width, upright
    pixel_type: PixelType
    pages: tuple[int, ...]  # the images in the file that count
    reader: str  # "pillow", "halves", "netpbm", "tifffile" or "numpy"


def pages_of(path: str) -> tuple[int, ...]:
    """Numbers of the images in a file, without smaller copies and masks of another."""
    return _header(path, stamp(path), None).pages


def header_of(name: str) -> Header:
    """Header of the one image that a name stands for; ValueError if the file has several."""
    path, page, _ = split_name(name)
    header = _header(path, stamp(path), page)
    if page is None and len(header.pages) > 1:
        raise ValueError(
            f"it holds {len(header.pages)} images (pages), and each is to be judged. Pass "
            'as_images(images, pages="all") of skstructcore.images, a row a page; "parts", the '
            f'pages of a file as views of one part; or "first"; in commands --pages. A name like '
            f"{os.path.basename(path) + '[1]'!r} is one page, counted from 0"
        )
    return header


@lru_cache(N_REMEMBERED)
def _header(path, stamp, page):
    if stamp[0] == 0:
        raise ValueError("it is no image file: the file is empty")
    with open(path, "rb") as file:
        try:
            image = open_image(file)
        except Image.UnidentifiedImageError:
            is_array = _head_of(path).startswith(b"\x93NUMPY")
            return (_array_header if is_array else _tifffile_header)(path, stamp, page)
        pages = _pages(image)
        page = _checked(page, getattr(image, "n_frames", 1), pages)
        image.seek(page)
        pixels, reader = pixel_type_of_mode(image.mode), "pillow"
        if image.mode not in DEEP_MODES and _is_deep_colour(image, path):
            pixels, reader = PixelType("integers", 3), _deep_reader(image, pages)
        elif image.mode == "F" and image.format == "TIFF" and image.tile[0][0] == "libtiff":
            # Pillow 13 takes the bytes of compressed big-endian floats in the wrong order.
            reader = "tifffile" if image.tag_v2.prefix == b"MM" else reader
        if image.format == "TIFF" and np.prod(image.size, dtype=float) > _pillows_limit():
            if image.tag_v2.get(ExifTags.Base.PhotometricInterpretation) not in (1, 2):
                raise ValueError(
                    "Pillow takes no TIFF of so many pixels, and tifffile none of these colours; "
                    "save it as RGB or grey, or as PNG or JPEG"
                )
            reader = "tifffile"
        if reader == "tifffile":
            pixels = _tifffile_header(path, stamp, page).pixel_type
        # Pillow decodes a whole PNG to find an orientation that may stand behind the pixels.
        is_plain = image.format == "PNG" and not _mentions_orientation(path)
        size = image.size[::-1] if is_plain else upright_size_of(image)
        return Header(path, stamp, page, size, pixels, pages, reader)


def _checked(page, n_pages, counted=(0,)):
    """The page that is asked for, of all in a file; by default the first of those that count."""
    if page is not None and page >= n_pages:
        has = f"{n_pages} page{'s' if n_pages > 1 else ''}"
        raise ValueError(f"it has {has}, counted from 0: there is no page {page}")
    return counted[0] if page is None else page


def load(header: Header) -> Image.Image | NDArray[Any]:
    """The image decoded and upright; an array if it is of deep colours."""
    path, page = header.path, header.page
    if header.reader == "pillow":
        return _decode(path, page)
    if header.reader in MAPS:
        return np.array(MAPS[header.reader](path))
    if header.reader == "halves":
        high, low = (np.asarray(_decode(path, page, other)) for other in (False, True))
        values = high.astype(np.uint16) << 8 | low
    else:
        values = _tifffile_values(path, page)
    if values.shape[2:] == (4,) and header.pixel_type.n_channels == 3:
        if (values[..., 3] != values[..., 3].max()).any():
            raise ValueError(
                "it holds colours of more than 8 bits with transparent pixels; save it without an "
                "alpha channel"
            )
        values = values[..., :3]
    return values


def map_array(path: str) -> NDArray[Any]:
    """The array of a file of NumPy, which stays on the disk until it is looked at."""
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _map_pixmap(path):
    """The same of a PPM file, its colours of 16 bits."""
    with open(path, "rb") as file, open_image(file) as image:
        (width, height), offset = image.size, image.tile[0][2]
    return np.memmap(path, ">u2", "r", offset, (height, width, 3))


#: By the name of a reader, what maps the values of its files.
MAPS = {"numpy": map_array, "netpbm": _map_pixmap}


def _decode(path, page, other_byte=False):
    """A page as Pillow decodes it; of 16-bit colours the upper byte, or the other one."""
    # Opened as a file object, because Pillow 13 reads uncompressed turned TIFFs wrongly through
    # the memory map that it makes of a named file.
    with open(path, "rb") as file, open_image(file) as image:
        image.seek(page)
        refuse_deep_transparency(image)
        if other_byte:
            image.tile = [_of_other_byte(tile) for tile in image.tile]
        ImageOps.exif_transpose(image, in_place=True)
        image.load()
        return image


def open_image(file: BinaryIO) -> Image.Image:
    """As `Image.open`, but of any size: `check_pixels` knows what is allowed."""
    try:
        return Image.open(file)
    except Image.DecompressionBombError:  # its plugins, tried as there, know no limit
        for name in Image.ID:
            open_as, accepts = Image.OPEN[name]
            file.seek(0)
            start = file.read(16)
            file.seek(0)
            with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):
                if accepts is None or accepts(start) is True:
                    return open_as(file, "")
        raise


def _pillows_limit():
    return 2 * (Image.MAX_IMAGE_PIXELS or np.inf)


def check_pixels(size: tuple[int, int], max_pixels: int | None) -> None:
    """Raise ValueError if a file has more pixels than `max_pixels`; None: than Pillow takes."""
    height, width = size
    limit = max_pixels or _pillows_limit()
    if height * width > limit:
        raise ValueError(
            f"it has {height} x {width} pixels, and files of more than {limit:,.0f} are refused, "
            "as a small file may be made to fill the memory. If it is what it should be, pass "
            f"as_images(images, max_pixels={height * width}) of skstructcore.images, in commands "
            "--max-pixels"
        )


def _pages(image):
    """Numbers of the images in a file that count."""
    if not getattr(image, "is_animated", False):
        return (0,)
    if image.format == "MPO":  # of a camera or telephone: with previews and gain maps
        return tuple(k for k in range(image.n_frames) if k == 0 or _is_view(image, k))
    if image.format != "TIFF":
        return tuple(range(image.n_frames))
    pages = []
    with contextlib.suppress(EOFError):
        for k in itertools.count():
            with contextlib.suppress(SyntaxError):  # of a mode that Pillow does not know
                image.seek(k)
            if not image.tag_v2.get(_SUBFILE_TYPE, 0) & 5:
                pages.append(k)
    image.seek(0)
    return tuple(pages) or (0,)


def _is_view(image, k):
    return image.mpinfo[0xB002][k]["Attribute"]["MPType"].startswith("Multi-Frame")


def refuse_several(image):
    """Raise ValueError for a PIL image that is one frame of several."""
    if getattr(image, "is_animated", False) and (
        image.format != "MPO" or any(_is_view(image, k) for k in range(1, image.n_frames))
    ):
        raise ValueError(
            f"it is frame {image.tell()} of a file of {image.n_frames}: pass the file's path, or "
            "image.copy() of the frame that is meant"
        )


def _is_deep_colour(image, path):
    """Whether Pillow, which has colours of 8 bits alone, would drop bits of this file."""
    if image.format == "TIFF":
        return max(image.tag_v2.get(ExifTags.Base.BitsPerSample, (8,))) > 8
    if image.format == "PPM":
        return image.mode != "1" and image.tile[0][0] != "raw" and image.tile[0][3][-1] > 255
    if image.format == "JPEG2000":
        return (_byte_behind(path, b"\xff\x4f\xff\x51", 42) & 0x7F) + 1 > 8
    if image.format == "AVIF":
        return bool(_byte_behind(path, b"av1C", 6) & 0x40)
    return any(";16B" in rawmode for rawmode in _rawmodes(image))


def _byte_behind(path, mark, offset):
    """A byte at some distance from where a mark begins, near the start of a file; 0: none."""
    _, _, rest = _head_of(path).partition(mark)
    return int.from_bytes(rest[offset - len(mark) :][:1], "big")


def _head_of(path):
    with open(path, "rb") as file:
        return file.read(2**16)


def _rawmodes(image):
    args = [tile[3] for tile in image.tile]
    return [arg if isinstance(arg, str) else str(arg[0]) for arg in args if arg]


def _deep_reader(image, pages):
    """How to read colours of more than 8 bits from an opened file; ValueError if nothing can."""
    if image.format == "PPM" and image.tile[0][0] == "ppm":
        return "netpbm"
    is_tiff = image.format == "TIFF"
    is_together = is_tiff and image.tag_v2.get(ExifTags.Base.PlanarConfiguration, 1) == 1
    is_still_png = image.format == "PNG" and len(pages) == 1
    modes = {mode.partition(";")[0] for mode in _rawmodes(image)}
    if (is_together or is_still_png) and modes <= {"RGB", "RGBA", "RGBX"}:
        return "halves"
    if is_tiff:
        return "tifffile"
    raise ValueError(
        f"it holds colours of more than 8 bits in a way ({image.format}, {image.mode}) of which "
        "Pillow reads 8; save it as a PNG or TIFF of 16 bits without an alpha channel"
    )


def _of_other_byte(tile):
    """A piece of a file, as Pillow lists them, to be decoded to the byte that it drops."""
    args = tile[3]
    mode, _, bits = (args if isinstance(args, str) else args[0]).partition(";")
    other = f"{mode};{_OTHER_BYTE[bits]}"
    args = other if isinstance(args, str) else (other, *args[1:])
    return tile._replace(args=args) if hasattr(tile, "_replace") else (*tile[:3], args)


def pixel_type_of_mode(mode):
    """What the values of an image of Pillow are."""
    if mode in DEEP_MODES:
        return PixelType("floats" if mode == "F" else "integers", 1)
    return PixelType("levels", 3)


def _array_header(path, stamp, page):
    values = map_array(path)
    _checked(page, 1)
    check_array(values, "it")
    pixels = pixel_type_of_array(values)
    return Header(path, stamp, 0, values.shape[:2], pixels, (0,), "numpy")


def check_array(array: NDArray[Any], name: str) -> None:
    """Raise ValueError if an array cannot be an image."""
    if array.dtype.kind not in "uif":
        raise ValueError(f"{name} is an array of {array.dtype}; convert it to uint8, 0 to 255.")
    if array.ndim not in (2, 3) or not array.size:
        raise ValueError(
            f"{name} is an array of shape {array.shape}; expected (h, w) or (h, w, n_channels), "
            "with at least one pixel."
        )


def pixel_type_of_array(array: NDArray[Any]) -> PixelType:
    """What the values of an array are."""
    return PixelType(_values_of(array.dtype), array.shape[2] if array.ndim == 3 else 1)


def _values_of(dtype):
    if dtype == np.uint8:
        return "levels"
    return "integers" if dtype.kind in "ui" else "floats"


def open_tiff(path: str) -> Any:
    """A `tifffile.TiffFile`; ValueError if the library is not there or the file is no TIFF."""
    try:
        import tifffile
    except ImportError:
        raise ValueError(
            "it is a TIFF that Pillow cannot read in full depth; pip install "
            "'skstructcore[tiff]', or save it with 16 bits and the colours of a pixel together"
        ) from None
    return tifffile.TiffFile(path)


def _tifffile_header(path, stamp, page):
    """Header of a file that Pillow cannot read, if it is a TIFF."""
    if _head_of(path)[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        raise Image.UnidentifiedImageError
    with open_tiff(path) as file:
        pages = tuple(k for k, p in enumerate(file.pages) if not p.subfiletype & 5) or (0,)
        number = _checked(page, len(file.pages), pages)
        page = file.pages[number]
        size, n_channels = (page.imagelength, page.imagewidth), page.samplesperpixel
        if page.tags.valueof("Orientation", 1) >= 5:
            size = size[::-1]
        opaque = page.photometric == 2 and n_channels == 4
        pixels = PixelType(_values_of(page.dtype), 3 if opaque else n_channels)
        return Header(path, stamp, number, size, pixels, pages, "tifffile")


def _tifffile_values(path, page):
    with open_tiff(path) as file:
        page = file.pages[page]
        values, orientation = page.asarray(), page.tags.valueof("Orientation", 1)
    if values.ndim == 3 and page.planarconfig == 2:
        values = np.moveaxis(values, 0, -1)
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    values = values[::-1] if orientation in (3, 4, 7, 8) else values
    values = values[:, ::-1] if orientation in (2, 3, 6, 7) else values
    return np.ascontiguousarray(values)


def _mentions_orientation(path):
    """Whether a PNG has a piece that may hold an orientation; its pixels are passed over."""
    marks, place = (b"eXIf", b"Raw profile type", b"adobe.xmp"), 8
    with open(path, "rb", buffering=0) as file:
        # Of each piece its length, its name, and the keyword of a text, which has 79 bytes at most.
        while file.seek(place) and len(start := file.read(87)) >= 8:
            length, piece = int.from_bytes(start[:4], "big"), start[4:]
            if not piece.startswith(b"IDAT") and any(mark in piece[: 4 + length] for mark in marks):
                return True
            place += 8 + length + 4  # and a checksum
    return False


def upright_size_of(image):
    """Height and width after the EXIF orientation is applied; five to eight exchange them."""
    width, height = image.size
    lying = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    if lying and image.format == "TIFF":  # newer releases of Pillow report the upright size
        tags = image.tag_v2
        lying = image.size == (tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength])
    return (width, height) if lying else (height, width)


def refuse_deep_transparency(image):
    """Raise ValueError for 16-bit colours of which one is transparent.

    Pillow keeps their high bytes, but compares them with all of this one.
    """
    if image.mode == "RGB" and max(np.ravel(image.info.get("transparency", 0))) > 255:
        raise ValueError(
            "it marks a colour of 16 bits as transparent, which Pillow cannot apply; save it "
            "without, or with an alpha channel"
        )
