"""Colours of more than 8 bits: whether a file has them, and how they are read.

Pillow has none. This looks at what it lists of a file before decoding, and goes when it has them.
"""

from __future__ import annotations

import sys

from PIL import ExifTags

from .files import head_of

# For each way to store colours of 16 bits, the raw mode of the byte that Pillow drops.
_NATIVE = "16L" if sys.byteorder == "little" else "16B"
_OTHER_BYTE = {"16L": "16B", "16B": "16L", "16N": {"16L": "16B", "16B": "16L"}[_NATIVE]}
_SPLITTABLE = ("RGB", "RGBA", "RGBX")


def _rawmodes(image):
    args = [tile[3] for tile in image.tile]
    return [arg if isinstance(arg, str) else str(arg[0]) for arg in args if arg]


def is_deep_colour(image, path):
    """Whether Pillow, which has colours of 8 bits alone, would drop bits of this file."""
    if image.format == "JPEG":
        return False
    if image.format == "TIFF":
        return max(image.tag_v2.get(ExifTags.Base.BitsPerSample, (8,))) > 8
    if image.format == "PPM":
        return image.tile[0][0] != "raw" and image.tile[0][3][-1] > 255
    if image.format == "JPEG2000":
        return (_byte_behind(path, b"\xff\x4f\xff\x51", 42) & 0x7F) + 1 > 8
    if image.format == "AVIF":
        return bool(_byte_behind(path, b"av1C", 6) & 0x40)
    return any(";16" in rawmode for rawmode in _rawmodes(image))


def _byte_behind(path, mark, offset):
    """A byte at some distance from where a mark begins, near the start of a file; 0: none."""
    start = head_of(path)
    place = start.find(mark)
    byte = start[place + offset : place + offset + 1] if place >= 0 else b""
    return int.from_bytes(byte, "big")


def deep_reader(image, pages):
    """How to read colours of more than 8 bits from an opened file; ValueError if nothing can."""
    if image.format == "PPM" and image.tile[0][0] == "ppm":
        return "netpbm"
    modes = {mode.partition(";")[0] for mode in _rawmodes(image)}
    separate = image.format == "TIFF" and image.tag_v2.get(284, 1) != 1
    still = image.format == "TIFF" or len(pages) == 1
    if image.format in ("TIFF", "PNG") and still and not separate and modes <= {*_SPLITTABLE}:
        return "halves"
    if image.format == "TIFF":
        return "tifffile"
    raise ValueError(
        f"it holds colours of more than 8 bits in a way ({image.format}, {image.mode}) of which "
        "Pillow reads 8; save it as a PNG or TIFF of 16 bits without an alpha channel"
    )


def of_other_byte(tile):
    """A piece of a file, as Pillow lists them, to be decoded to the byte that it drops."""
    mode, _, bits = (tile[3] if isinstance(tile[3], str) else tile[3][0]).partition(";")
    other = f"{mode};{_OTHER_BYTE[bits]}"
    args = other if isinstance(tile[3], str) else (other, *tile[3][1:])
    return tile._replace(args=args) if hasattr(tile, "_replace") else (*tile[:3], args)
