"""Large files, of which a part can be read without the rest: arrays, pixmaps and TIFFs.

Strips and tiles of a TIFF are decoded one by one by tifffile, where it is there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from .decoding import MAPS, Header, open_tiff

LARGE = 2**24  # pixels of an image that is read in parts; smaller ones are decoded as a whole
_BAND = 2**22  # pixels that are read at a time, about
_LOSSLESS = (1, 5, 8, 32773, 32946, 34925, 50000)  # compressions of TIFF


class Raster(NamedTuple):
    """The values of an image; `read(rows, columns)` gives those in two slices."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    step: int  # rows that are decoded together
    read: Callable[[slice, slice], Any]

    def bands(self, first, last):
        """Rows from `first` to `last`, some at a time, none of which is decoded twice."""
        n_rows = max(_BAND // self.shape[1] // self.step, 1) * self.step
        for start in range(first // n_rows * n_rows, last, n_rows):
            yield slice(max(start, first), min(start + n_rows, last))

    def values(self):
        """All values, some rows at a time."""
        return (self.read(rows, slice(None)) for rows in self.bands(0, self.shape[0]))


class SliceablePixels:
    """Pixels that are read when asked for, `[rows, columns]`; whole rows stay for tiles beside."""

    def __init__(self, read):
        self._read = lru_cache(2)(read)
        self._lock = threading.Lock()

    def __getitem__(self, part):
        rows, columns = part
        with self._lock:  # of several threads one reads
            pixels = self._read(rows.start, rows.stop)
        return pixels[:, columns]


def open_raster(header: Header) -> Raster | None:
    """The values of a large file that can be read in parts; None for all other images."""
    return None if header.size[0] * header.size[1] < LARGE else _raster(header)


@lru_cache(16)
def _raster(header):
    path = header.path
    if maps := MAPS.get(header.reader):
        values = maps(path)
        # Mapped anew for each part: what has been read does not stay in memory.
        return Raster(values.shape, values.dtype, 1, lambda *part: np.array(maps(path)[part]))
    try:
        with open_tiff(path) as file:
            raster = _raster_of_tiff(path, file.pages[header.page], header)
        if raster is not None:
            raster.read(slice(1), slice(1))  # whether this compression can be decoded
        return raster
    except (ValueError, RuntimeError):  # also if it is no TIFF, or tifffile is not there
        return None


def _raster_of_tiff(path, page, header):
    """What reads strips or tiles; None where the values are not simply those in the file."""
    height, width = header.size
    n_channels = page.samplesperpixel
    n_planes = n_channels if page.planarconfig == 2 else 1
    is_tiled = page.is_tiled
    down, across = (page.tilelength, page.tilewidth) if is_tiled else (page.rowsperstrip, width)
    n_down, n_across = -(-height // down), -(-width // across)
    is_complete = len(page.dataoffsets) == n_planes * n_down * n_across
    is_one_strip = down > height / 2  # or nearly
    if not _holds_its_values(page, header) or not is_complete or is_one_strip:
        return None
    decode, tables, background = page.decode, page.jpegtables, page.nodata
    places = list(zip(page.dataoffsets, page.databytecounts, strict=True))

    def read(rows, columns):
        (top, bottom, _), (left, right, _) = rows.indices(height), columns.indices(width)
        values = np.full((bottom - top, right - left, n_channels), background, page.dtype)
        numbers = product(
            range(n_planes),
            range(top // down, -(-bottom // down)),
            range(left // across, -(-right // across)),
        )
        with open(path, "rb") as file:
            for plane, i, j in numbers:
                index = (plane * n_down + i) * n_across + j
                offset, n_bytes = places[index]
                file.seek(offset)
                content = file.read(n_bytes)
                if len(content) < n_bytes:
                    raise ValueError("the file ends before its last pixel")
                segment = decode(content, index, jpegtables=tables)[0] if content else None
                if segment is None:  # a part that is not stored
                    continue
                y, x = i * down - top, j * across - left
                segment = segment[0, max(-y, 0) :, max(-x, 0) :]
                channels = slice(plane, plane + 1) if n_planes > 1 else slice(None)
                part = values[max(y, 0) :, max(x, 0) :, channels]
                n_rows, n_columns = np.minimum(part.shape[:2], segment.shape[:2])
                part[:n_rows, :n_columns] = segment[:n_rows, :n_columns]
        return values if n_channels > 1 else values[..., 0]

    shape = (height, width, n_channels) if n_channels > 1 else (height, width)
    return Raster(shape, page.dtype, down, read)


def _holds_its_values(page, header):
    """Whether a page of a TIFF holds, upright, the very values that decoding all of it gives."""
    n_channels = page.samplesperpixel
    size = page.imagedepth, page.imagelength, page.imagewidth
    is_upright = page.tags.valueof("Orientation", 1) == 1
    if header.reader == "tifffile":
        is_plain = header.pixel_type.n_channels == n_channels  # else with alpha, which is checked
    else:  # Pillow would give these very values
        is_plain = (
            page.photometric in (1, 2)
            and page.compression in _LOSSLESS
            and str(page.dtype) in ("uint8", "uint16", "float32")
            and page.bitspersample == 8 * page.dtype.itemsize
            and n_channels == 2 * page.photometric - 1
        )
    return is_plain and is_upright and size == (1, *header.size)
