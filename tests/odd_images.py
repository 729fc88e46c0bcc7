"""Odd images, made in code: each with the pixels that it means, or the error that it is."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

_ROWS, _COLS = np.mgrid[:48, :64]
RGB = np.stack([4 * _COLS % 256, 5 * _ROWS, (_ROWS + 2 * _COLS) % 200], -1).astype(np.uint8)
PICTURE = Image.fromarray(RGB)


def content(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data):
    """What Pillow makes of a file without any trouble: for formats that lose something."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def grey(values):
    return np.stack([np.asarray(values, np.uint8)] * 3, -1)


def on_white(rgba):
    white = Image.new("RGBA", rgba.size, "white")
    return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def _modes():
    """Every mode of Pillow in memory, and on disk where a format keeps it."""
    luminance = PICTURE.convert("L")
    yield "mode 1", PICTURE.convert("1"), np.asarray(PICTURE.convert("1").convert("RGB"))
    yield "mode L", luminance, grey(luminance)
    for mode in ("P", "CMYK", "YCbCr", "HSV", "RGBX"):
        image = PICTURE.convert(mode)
        yield f"mode {mode}", image, np.asarray(image.convert("RGB"))
    lab = Image.fromarray(RGB, "RGB").convert("RGB")
    yield "mode RGB", lab, RGB
    alpha = Image.fromarray(np.dstack([RGB, 3 * _COLS % 256]).astype(np.uint8))
    yield "mode RGBA", alpha, on_white(alpha)
    la = Image.merge("LA", [luminance, Image.fromarray((4 * _ROWS).astype(np.uint8))])
    yield "mode LA", la, on_white(la.convert("RGBA"))


def _files():
    png = content(PICTURE, "png")
    for kind in ("png", "bmp", "tiff", "ppm", "tga", "dib", "pcx", "sgi"):
        yield f"plain.{kind}", content(PICTURE, kind), RGB
    yield "lossless.webp", content(PICTURE, "webp", lossless=True), RGB
    for kind, options in {
        "jpg": {}, "webp": {}, "gif": {}, "jp2": {}, "avif": {},
    }.items():  # fmt: skip
        name = {"jpg": "jpeg", "jp2": "jpeg2000"}.get(kind, kind)
        try:
            data = content(PICTURE, name, **options)
        except (KeyError, OSError):  # this Pillow was built without it
            continue
        yield f"lossy.{kind}", data, decoded(data)
    for kind in ("L", "1", "P", "CMYK"):
        image = PICTURE.convert(kind)
        wanted = np.asarray(image.convert("RGB"))
        yield f"mode_{kind}.tif", content(image, "tiff"), wanted
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        yield f"{compression}.tif", content(PICTURE, "tiff", compression=compression), RGB
    data = content(PICTURE.convert("CMYK"), "jpeg", quality=95)
    yield "cmyk.jpg", data, decoded(data)
    data = content(PICTURE, "jpeg", progressive=True, quality=90)
    yield "progressive.jpg", data, decoded(data)
    yield "jpeg_in_truth.png", content(PICTURE, "jpeg"), decoded(content(PICTURE, "jpeg"))
    yield "png_in_truth.jpg", png, RGB
    yield "icc.png", content(PICTURE, "png", icc_profile=b"no profile"), RGB
    yield "interlaced_text.png", content(PICTURE, "png", pnginfo=_text(10**5)), RGB
    yield "junk_behind.png", png + b"junk" * 1000, RGB
    other = Image.fromarray(255 - RGB)
    frames = dict(save_all=True, append_images=[other])
    first = content(PICTURE, "gif")
    yield "animated.gif", content(PICTURE, "gif", duration=50, **frames), decoded(first)
    yield "pages.tif", content(PICTURE, "tiff", **frames), RGB
    yield "animated.png", content(PICTURE, "png", **frames), RGB
    yield "animated.webp", content(PICTURE, "webp", lossless=True, **frames), RGB
    for orientation in (1, 2, 3, 4, 5, 6, 7, 8):
        upright = _turned(RGB, orientation)
        yield f"exif_{orientation}.png", content(PICTURE, "png", exif=exif(orientation)), upright
    for orientation in (0, 9, 42, 65535):
        yield f"exif_{orientation}.png", content(PICTURE, "png", exif=exif(orientation)), RGB
    for size in ((1, 1), (1, 3000), (3000, 1), (2, 2)):
        image = PICTURE.resize(size)
        yield f"size_{size[0]}x{size[1]}.png", content(image, "png"), np.asarray(image)
    palette = PICTURE.convert("P")
    clear = palette.copy()
    clear.info["transparency"] = 0
    wanted = on_white(clear.convert("RGBA"))
    yield "transparent_index.png", content(palette, "png", transparency=0), wanted
    yield "transparent_colour.png", content(PICTURE, "png", transparency=(9, 9, 9)), RGB


def _broken():
    png = content(PICTURE, "png")
    yield "nothing.png", b"", "no image file"
    yield "zeros.png", bytes(1000), "no image file"
    yield "text.png", b"no image, but some text", "no image file"
    yield "pickle.png", b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00.", "no image file"
    yield "html.jpg", b"<html><body>404</body></html>", "no image file"
    yield "vector.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "no image file"
    yield "head_only.png", png[:33], "."
    yield "bad_crc.png", png[:45] + bytes([png[45] ^ 255]) + png[46:], "."
    yield "bomb.png", _bomb(50_000, 50_000), "more than .* are refused.*max_pixels="
    yield "no_width.png", _bomb(0, 10), "."
    kinds = {"jpg": "jpeg", "png": "png", "tif": "tiff", "webp": "webp", "bmp": "bmp"}
    for suffix, kind in kinds.items():
        data = content(PICTURE, kind)
        for tenth in range(1, 10):
            yield f"cut_{tenth}.{suffix}", data[: len(data) * tenth // 10], "."


def _arrays():
    yield "array", RGB, RGB
    yield "fortran", np.asfortranarray(RGB), RGB
    yield "strided", np.repeat(np.repeat(RGB, 2, 0), 2, 1)[::2, ::2], RGB
    yield "reversed", RGB[:, ::-1][:, ::-1], RGB
    yield "read-only", _read_only(RGB), RGB
    yield "grey", RGB[..., 0], grey(RGB[..., 0])
    yield "one channel", RGB[..., :1], grey(RGB[..., 0])
    opaque = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    yield "opaque alpha", opaque, RGB
    yield "deep colours", RGB.astype(np.uint16) * 257, RGB  # full range of 16 bits


def _wrong_arrays():
    floats = RGB / 255
    yield "floats to 1", floats, "float|window|intensity"
    yield "floats to 255", RGB.astype(float), "float|window|intensity"
    yield "NaN", np.where(floats > 0.5, np.nan, floats), "float|NaN|window"
    yield "infinite", np.where(floats > 0.5, np.inf, floats), "float|inf|window"
    yield "objects", RGB.astype(object), "array of object"
    yield "text", RGB.astype(str), "type|array of"
    yield "complex", RGB.astype(complex), "array of complex"
    yield "switches", RGB > 100, "array of bool"
    yield "channels first", np.moveaxis(RGB, -1, 0), "channels"
    yield "two channels", RGB[..., :2], "channels"
    yield "a row", RGB[0, :, 0], "shape"
    yield "five axes", RGB[None, None], "shape|list"
    yield "no pixel", RGB[:0], "at least one pixel|channels"
    yield "None", None, "NoneType"
    yield "a number", 7, "int"
    yield "bytes", b"png", "bytes"


NAMES = [
    "ä ü ß 漢字 😀.png", "with space.png", " .png", "-rf.png", "=1+1.png", "'\"`$(id)`.png",
    "line\nbreak.png", "tab\tstop.png", "<b>&amp;.png", "a|b,c;d.png", "%s %d {0}.png",
    "x" * 250 + ".png", "UPPER.PNG", "two.dots.png", "\udcff\udcfe.png", "..png",
]  # fmt: skip


def write(folder, name, data):
    path = os.path.join(folder, name)
    Path(path).write_bytes(data)
    return path


def _turned(a, orientation):
    return {
        1: a, 2: a[:, ::-1], 3: a[::-1, ::-1], 4: a[::-1], 5: a.swapaxes(0, 1),
        6: np.rot90(a, -1), 7: a[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(a),
    }[orientation]  # fmt: skip


def _text(length):
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * length)
    return info


def _bomb(width, height):
    """A PNG of a few bytes that says to be as large as that."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(bytes(1000))), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


MODES, FILES, BROKEN = list(_modes()), list(_files()), list(_broken())
ARRAYS, WRONG_ARRAYS = list(_arrays()), list(_wrong_arrays())
