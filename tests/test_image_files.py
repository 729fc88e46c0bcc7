"""Files of several images, of colours with more than 8 bits, and of very many pixels."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from skstructcore import ConvFeatures, make_structcore
from skstructcore.images import (
    Annotations,
    ImageList,
    ImageReadError,
    as_images,
    find_unreadable,
    read_mask,
)
from skstructcore.images.decoding import header_of, load
from skstructcore.images.geometry import Framing
from skstructcore.images.intensity import Intensity

LEVELS = (10, 120, 240)


@pytest.fixture
def tray(tmp_path):
    """A TIFF of three pages, grey of the levels above."""
    return write_pages(tmp_path / "tray.tif")


def write_pages(path, **options):
    first, *others = (Image.new("RGB", (32, 24), (level,) * 3) for level in LEVELS)
    first.save(path, save_all=True, append_images=others, **options)
    return str(path)


def level_of(images, i):
    return round(np.asarray(images.read(i)).mean())


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("tif", {}),
        ("tif", {"compression": "tiff_lzw"}),
        ("gif", {}),
        ("png", {}),
        ("webp", {"lossless": True}),
        ("avif", {"quality": 100}),
    ],
)
def test_each_page_of_each_format_is_a_row(tmp_path, suffix, options):
    if f".{suffix}" not in Image.registered_extensions():
        pytest.skip(f"this Pillow has no {suffix}")
    path = write_pages(tmp_path / f"pages.{suffix}", **options)

    images = as_images([path], pages="all")

    assert images.file_names() == [f"{path}[{page}]" for page in range(3)]
    assert [level_of(images, i) for i in range(3)] == pytest.approx(LEVELS, abs=2)
    assert len({images.digest(i) for i in range(3)}) == 3
    assert images.sizes().tolist() == [[24, 32]] * 3


def test_several_pages_without_a_word_are_an_error(tray):
    with pytest.raises(ImageReadError, match=r"holds 3 images.*pages=\"all\".*'tray.tif\[1\]'"):
        as_images([tray]).size(0)
    assert "holds 3 images" in find_unreadable([tray])[0].reason


def test_defect_on_the_third_page_is_found_or_refused(tmp_path):
    rng = np.random.default_rng(0)
    frames = [
        Image.fromarray(rng.integers(90, 110, (32, 32, 3), dtype=np.uint8)) for _ in range(27)
    ]
    frames[26].paste((255, 0, 0), (8, 8, 24, 24))
    paths = []
    for k in range(9):
        first, *others = frames[3 * k : 3 * k + 3]
        first.save(tmp_path / f"{k}.tif", save_all=True, append_images=others)
        paths.append(str(tmp_path / f"{k}.tif"))
    pipe = make_structcore("efficientnet_lite0", features__image_size=32)
    pipe.fit(as_images(paths[:8], pages="all"))

    assert pipe.predict(as_images(paths[8:], pages="all")).tolist()[2] == -1
    with pytest.raises(ImageReadError, match="holds 3 images"):
        pipe.predict(paths[8:])


def test_first_page_and_pages_by_name(tray):
    assert level_of(as_images([tray], pages="first"), 0) == LEVELS[0]
    assert level_of(as_images([f"{tray}[2]"]), 0) == LEVELS[2]
    with pytest.raises(ImageReadError, match="3 pages, counted from 0: there is no page 3"):
        as_images([f"{tray}[3]"]).size(0)


@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_a_page_beyond_the_only_one_is_named(suffix, tmp_path):
    path = str(tmp_path / f"photo{suffix}")
    if suffix == ".npy":
        np.save(path, np.zeros((4, 4), np.uint8))
    else:
        Image.new("L", (4, 4)).save(path)
    with pytest.raises(ImageReadError, match="it has 1 page, counted from 0: there is no page 2"):
        as_images([f"{path}[2]"]).size(0)


def test_a_file_whose_name_ends_in_brackets_is_that_file(tmp_path):
    path = tmp_path / "image.png[1]"
    Image.new("L", (8, 8), 77).save(path, "png")

    assert level_of(as_images([str(path)]), 0) == 77


def test_pages_keep_what_is_known_of_their_file(tray, tmp_path):
    plain = str(tmp_path / "plain.png")
    Image.new("L", (32, 24)).save(plain)
    listed = ImageList([tray, plain], annotations=Annotations(labels=np.array(["good", "bad"])))

    pages = as_images(listed, pages="parts")

    assert pages.file_names()[3] == plain
    assert pages.annotations.labels.tolist() == ["good"] * 3 + ["bad"]
    assert pages.annotations.parts.tolist() == [tray] * 3 + [plain]
    assert list(pages.positions) == [0, 0, 0, 1]


def test_thumbnails_and_masks_in_a_tiff_are_no_pages(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    path = str(tmp_path / "thumbnail.tif")
    with tifffile.TiffWriter(path) as file:
        for subfiletype, side in ((1, 8), (0, 32)):
            file.write(np.full((side, side), side, np.uint8), subfiletype=subfiletype)
        file.write(np.ones((32, 32), bool), subfiletype=4)

    images = as_images([path])

    assert images.size(0) == (32, 32)
    assert level_of(images, 0) == 32


def test_an_opened_file_of_several_frames_is_an_error(tray):
    with Image.open(tray) as image:
        image.seek(1)
        with pytest.raises(ImageReadError, match=r"frame 1 of a file of 3.*copy\(\)"):
            as_images([image]).size(0)
        assert level_of(as_images([image.copy()]), 0) == LEVELS[1]


def test_other_words_for_pages_are_an_error(tray):
    with pytest.raises(ValueError, match="pages must be 'all', 'parts', 'first' or None"):
        as_images([tray], pages="each")


def tifffile_with(compression):
    """The library, or a skip where it cannot write by this compression."""
    if compression in ("lzw", "packbits"):
        pytest.importorskip("imagecodecs")
    return pytest.importorskip("tifffile")


def colours(depth, n_channels=3, shape=(37, 53)):
    """Every value of a depth is likely, the highest is there, and alpha is opaque."""
    values = np.random.default_rng(depth).integers(0, 2**depth, (*shape, n_channels))
    values[0, 0] = 2**depth - 1
    if n_channels == 4:
        values[..., 3] = 65535
    return values.astype(np.uint16)


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "packbits"])
@pytest.mark.parametrize("byte_order", "<>")
@pytest.mark.parametrize("depth", [10, 12, 14, 16])
def test_colours_of_a_tiff_keep_all_their_bits(tmp_path, depth, byte_order, compression):
    tifffile = tifffile_with(compression)
    path = str(tmp_path / "deep.tif")
    for planar in ("contig", "separate"):
        for n_channels in (3, 4):
            for tile in (None, (16, 16)):
                values = colours(depth, n_channels)
                tifffile.imwrite(
                    path,
                    values if planar == "contig" else np.moveaxis(values, -1, 0),
                    byteorder=byte_order,
                    compression=compression,
                    predictor=compression in ("lzw", "deflate"),
                    planarconfig=planar,
                    photometric="rgb",
                    tile=tile,
                    extrasamples=["unassalpha"][: n_channels - 3],
                )
                assert_array_equal(
                    load(header_of(path)), values[..., :3], err_msg=f"{planar} {tile}"
                )


def packed_tiff(values, depth, byte_order):
    """An uncompressed TIFF whose values are packed: 12 bits of each, for instance."""
    height, width, n_channels = values.shape
    bits = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(*values.shape, 2), axis=-1)
    data = np.packbits(bits[..., 16 - depth :].reshape(height, -1), axis=1).tobytes()
    data += b"\0" * (len(data) % 2)
    tags = [
        *((256, 4, width), (257, 4, height), (258, 3, depth), (259, 3, 1)),
        *((262, 3, 1 if n_channels == 1 else 2), (273, 4, 8), (277, 3, n_channels)),
        *((278, 4, height), (279, 4, len(data))),
    ]
    start = struct.pack(
        f"{byte_order}2sHI", b"II" if byte_order == "<" else b"MM", 42, 8 + len(data)
    )
    directory, depths_at = (
        struct.pack(f"{byte_order}H", len(tags)),
        8 + len(data) + 6 + 12 * len(tags),
    )
    for tag, kind, value in tags:
        if tag == 258 and n_channels == 3:
            directory += struct.pack(f"{byte_order}HHII", tag, kind, 3, depths_at)
        else:
            layout, rest = ("H", (0,)) if kind == 3 else ("I", ())
            layout = f"{byte_order}HHI{layout}{'H' * len(rest)}"
            directory += struct.pack(layout, tag, kind, 1, value, *rest)
    depths = struct.pack(f"{byte_order}3H", *[depth] * 3)
    return start + data + directory + struct.pack(f"{byte_order}I", 0) + depths


@pytest.mark.parametrize("byte_order", "<>")
@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("depth", [10, 12, 14])
def test_packed_values_of_a_tiff_keep_all_their_bits(tmp_path, depth, n_channels, byte_order):
    values = colours(depth, 3)[..., :n_channels]
    path = tmp_path / "packed.tif"
    path.write_bytes(packed_tiff(values, depth, byte_order))

    assert_array_equal(np.asarray(load(header_of(str(path)))).reshape(values.shape), values)


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "packbits"])
@pytest.mark.parametrize("byte_order", "<>")
@pytest.mark.parametrize("depth", [8, 10, 12, 16])
def test_grey_tiffs_keep_all_their_bits(tmp_path, depth, byte_order, compression):
    tifffile = tifffile_with(compression)
    values = colours(depth)[..., 0].astype(np.uint8 if depth == 8 else np.uint16)
    path = str(tmp_path / "grey.tif")
    tifffile.imwrite(path, values, byteorder=byte_order, compression=compression)

    images = as_images([path])
    found = images.pixels(0, Framing(values.shape), Intensity((0, 2**depth - 1)))

    assert images.check(0, Intensity()) == ("levels" if depth == 8 else "integers")
    expected = values * np.float64(255 / (2**depth - 1))
    assert_array_equal(found, np.repeat(expected.astype(found.dtype)[..., np.newaxis], 3, axis=2))


# What an image viewer shows of pixels that are known: six of three channels, upright, 2 x 3.
SHOWN = np.array(
    [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[9, 9, 9], [200, 100, 50], [255, 255, 255]]],
    dtype=np.uint8,
)
GREY = SHOWN[..., :1].repeat(3, axis=2)


def of_cmyk(shown):
    """No black: cyan, magenta and yellow are what is missing of red, green and blue."""
    return np.dstack([255 - shown, np.zeros_like(shown[..., 0])])


def with_alpha(shown):
    """What is transparent is shown white, whatever colour it has."""
    alpha = np.full_like(shown[..., :1], 255)
    alpha[1, 2] = 0
    colour = shown.copy()
    colour[1, 2] = 7
    return np.dstack([colour, alpha])


FILES = {
    "RGB": (Image.fromarray(SHOWN), SHOWN, "png bmp tif webp avif ppm tga jp2 jpg"),
    "grey": (Image.fromarray(GREY[..., 0]), GREY, "png bmp tif webp pgm tga jp2 jpg gif"),
    "palette": (Image.fromarray(SHOWN).quantize(6), SHOWN, "png bmp tif gif tga"),
    "alpha": (Image.fromarray(with_alpha(SHOWN)), SHOWN, "png tif webp tga"),
    "CMYK": (Image.fromarray(of_cmyk(SHOWN), "CMYK"), SHOWN, "tif jpg"),
    "two colours": (
        Image.fromarray(np.array([[0, 255, 0], [255, 0, 255]], np.uint8)).convert("1"),
        np.array([[0, 255, 0], [255, 0, 255]], np.uint8)[..., np.newaxis].repeat(3, axis=2),
        "png bmp tif pbm",
    ),
}


# What an orientation of EXIF turns upright again.
TURNED = {
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
    3: Image.Transpose.ROTATE_180,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
}


@pytest.mark.parametrize(
    ("kind", "suffix", "turned"),
    [
        (kind, suffix, turned)
        for kind, (*_, suffixes) in FILES.items()
        for suffix in suffixes.split()
        for turned in (None, *(TURNED if suffix in ("png", "jpg", "tif", "webp") else ()))
    ],
)
def test_files_of_8_bits_are_what_a_viewer_shows(tmp_path, kind, suffix, turned):
    if f".{suffix}" not in Image.registered_extensions():
        pytest.skip(f"this Pillow has no {suffix}")
    image, shown, _ = FILES[kind]
    # 8 x 8 for each pixel: lossy formats are exact on such blocks but for rounding.
    large = image.resize((8 * image.width, 8 * image.height), Image.Resampling.NEAREST)
    options = {
        "jpg": {"quality": 100, "subsampling": 0},
        "avif": {"quality": 100, "subsampling": "4:4:4"},
        "webp": {"lossless": True},
    }.get(suffix, {})
    if turned is not None:
        large, exif = large.transpose(TURNED[turned]), Image.Exif()
        exif[0x0112] = turned
        options = {**options, "exif": exif}
    path = str(tmp_path / f"image.{suffix}")
    large.save(path, **options)

    images = as_images([path])

    assert images.size(0) == (16, 24)
    expected = shown.repeat(8, axis=0).repeat(8, axis=1)
    error = np.abs(np.asarray(images.read(0)).astype(int) - expected).max()
    assert error <= (4 if suffix in ("jpg", "avif", "jp2") else 0)


def png(values, colour_type, filters=0):
    """A PNG of 16 bits; `filters` 2 stores each row as its difference to the one above."""
    height, width = values.shape[:2]
    rows = values.astype(">u2").reshape(height, -1).view(np.uint8)
    if filters == 2:
        rows = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    data = zlib.compress(np.insert(rows, 0, filters, axis=1).tobytes())

    def chunk(name, content):
        crc = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def test_a_mask_in_deep_colours_keeps_its_small_numbers(tmp_path):
    mask = np.eye(5, dtype=bool)
    (tmp_path / "m.png").write_bytes(png(np.repeat(mask[..., np.newaxis], 3, axis=2), 2))
    assert_array_equal(read_mask(tmp_path / "m.png"), mask)


@pytest.mark.parametrize("filters", [0, 2])
@pytest.mark.parametrize("n_channels", [3, 4])
@pytest.mark.parametrize("depth", [10, 12, 14, 16])
def test_colours_of_a_png_keep_all_their_bits(tmp_path, depth, n_channels, filters):
    values = colours(depth, n_channels)
    path = tmp_path / "deep.png"
    path.write_bytes(png(values, {3: 2, 4: 6}[n_channels], filters))

    assert_array_equal(load(header_of(str(path))), values[..., :3])


def test_colours_of_a_portable_pixmap_keep_all_their_bits(tmp_path):
    values = colours(12)
    path = tmp_path / "deep.ppm"
    path.write_bytes(b"P6\n53 37\n4095\n" + values.astype(">u2").tobytes())

    assert_array_equal(load(header_of(str(path))), values)


def test_deep_colours_are_seen_as_an_array_of_them_is(tmp_path):
    values = colours(12)
    path = tmp_path / "deep.png"
    path.write_bytes(png(values, 2))
    intensity = Intensity((0, 4095))

    seen = as_images([str(path)]).pixels(0, Framing((16, 16)), intensity)

    assert_array_equal(seen, as_images([values]).pixels(0, Framing((16, 16)), intensity))
    assert as_images([str(path)]).bit_depth_window(0) == (0, 4095)
    assert level_of(as_images([str(path)]), 0) == round((values / 4095 * 255).mean())


def test_a_turned_file_of_deep_colours_is_set_upright(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    values = colours(16)
    for planar in ("contig", "separate"):
        for orientation in range(1, 9):
            path = str(tmp_path / f"{planar}{orientation}.tif")
            stored = values if planar == "contig" else np.moveaxis(values, -1, 0)
            tag = (274, "H", 1, orientation, True)
            tifffile.imwrite(
                path, stored, photometric="rgb", planarconfig=planar, extratags=[tag], tile=(16, 16)
            )
            turned = Image.fromarray((values >> 8).astype(np.uint8))
            turned.getexif()[274] = orientation
            turned.save(tmp_path / "shallow.png", exif=turned.getexif())
            upright = np.asarray(as_images([str(tmp_path / "shallow.png")]).read(0))

            assert_array_equal(load(header_of(path)) >> 8, upright, err_msg=path)
            assert as_images([path]).size(0) == upright.shape[:2]


def test_transparent_deep_colours_are_refused(tmp_path):
    values = colours(16, 4)
    values[0, 0, 3] = 100
    path = tmp_path / "transparent.png"
    path.write_bytes(png(values, 6))

    with pytest.raises(ImageReadError, match="more than 8 bits with transparent pixels; save it"):
        as_images([str(path)]).read(0)


def test_what_pillow_would_cut_to_8_bits_is_refused(tmp_path):
    grey_and_alpha = tmp_path / "la.png"
    grey_and_alpha.write_bytes(png(colours(16)[..., :2], 4))
    paths = [grey_and_alpha]
    codecs = pytest.importorskip("imagecodecs")
    paths.append(tmp_path / "deep.jp2")
    paths[-1].write_bytes(codecs.jpeg2k_encode(colours(12), level=0, bitspersample=12))
    if ".avif" in Image.registered_extensions():
        paths.append(tmp_path / "deep.avif")
        paths[-1].write_bytes(codecs.avif_encode(colours(10), bitspersample=10))
    for path in paths:
        with pytest.raises(ImageReadError, match=r"more than 8 bits in a way.*save it as a PNG"):
            as_images([str(path)]).size(0)


def test_small_pixels_are_no_deep_colours(tmp_path):
    pixels = np.full((4, 4), 0xF800, "<u2")  # of 5, 6 and 5 bits: red
    header = struct.pack("<IiiHHIIiiII3I", 40, 4, 4, 1, 16, 3, 32, *[0] * 4, 0xF800, 0x7E0, 0x1F)
    start = b"BM" + struct.pack("<IHHI", 14 + len(header) + 32, 0, 0, 14 + len(header))
    (tmp_path / "red.bmp").write_bytes(start + header + pixels.tobytes())
    assert np.asarray(as_images([tmp_path / "red.bmp"]).read(0))[0, 0].tolist() == [255, 0, 0]
    (tmp_path / "plain.pbm").write_text("P1\n4 1\n0 1 0 1\n")
    assert np.asarray(as_images([tmp_path / "plain.pbm"]).read(0))[0, :, 0].tolist() == [255, 0] * 2
    assert read_mask(tmp_path / "plain.pbm").tolist() == [[True, False] * 2]


def test_a_tiff_beyond_pillow_names_the_extra_that_reads_it(tmp_path, monkeypatch):
    tifffile = pytest.importorskip("tifffile")
    path = str(tmp_path / "floats.tif")
    values = np.random.default_rng(0).random((32, 40, 5), dtype=np.float32)
    tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig")
    images = as_images([path])

    features = ConvFeatures(image_size=32, window=(0, 1), channels=(4, 2, 0)).fit(images)
    assert_array_equal(load(header_of(path)), values)
    assert features.transform(images).shape[0] == 1

    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    as_other = str(tmp_path / "others.tif")
    tifffile.imwrite(as_other, values, photometric="minisblack", planarconfig="contig")
    with pytest.raises(ImageReadError, match=r"pip install 'skstructcore\[tiff\]'"):
        as_images([as_other]).size(0)


def test_compressed_floats_of_either_byte_order_are_the_same(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    values = np.random.default_rng(0).random((16, 16), dtype=np.float32)
    for byte_order in "<>":
        path = str(tmp_path / f"{ord(byte_order)}.tif")
        tifffile.imwrite(path, values, byteorder=byte_order, compression="deflate")
        assert_array_equal(np.asarray(load(header_of(path))), values)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_a_file_of_too_many_pixels_names_the_option(tmp_path, monkeypatch, suffix):
    path = str(tmp_path / f"large.{suffix}")
    Image.new("L", (60, 50), 9).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # twice as many are refused

    with pytest.raises(ImageReadError, match=r"50 x 60 pixels.*max_pixels=3000\)"):
        as_images([path]).size(0)
    assert "max_pixels=3000" in find_unreadable([path])[0].reason
    allowed = as_images([path], max_pixels=3000)
    assert allowed[:1].pixels(0, Framing((8, 8))).tolist() == np.full((8, 8, 3), 9).tolist()
    assert not find_unreadable(allowed)
    with pytest.raises(ImageReadError, match="more than 2,999 are refused"):
        as_images([path], max_pixels=2999).read(0)
    with pytest.raises(ValueError, match="max_pixels must be an int in the range"):
        as_images([path], max_pixels=0)
    with pytest.raises(ValueError, match="max_pixels must be an int in the range"):
        as_images([path], max_pixels=True)


def test_a_view_of_the_first_pixel_is_that_pixel(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)
    images = as_images([f"{path}[1x1+0+0]", path])
    assert images.box(0, Framing((8, 8))) == (0, 0, 1, 1)
    assert images.box(1, Framing((8, 8), region=(0.0, 0.0, 1.0, 1.0))) == (0, 0, 8, 8)


# --- arrays in files of NumPy -------------------------------------------------------------------


@pytest.mark.parametrize("channels", [None, "bgr"])
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<f4", "<f8"])
@pytest.mark.parametrize("shape", [(12, 16), (12, 16, 1), (12, 16, 3)])
def test_a_file_of_an_array_is_seen_as_the_array(tmp_path, shape, dtype, channels):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    np.save(tmp_path / "x.npy", np.asfortranarray(array))
    pair = as_images([str(tmp_path / "x.npy"), array])
    assert pair.size(0) == (12, 16) and len(as_images(pair, pages="all")) == 2
    intensity = Intensity(None if dtype == "u1" else (0, 255), channels)
    seen = [pair.pixels(i, Framing((12, 16)), intensity) for i in (0, 1)]
    assert_array_equal(*seen)
    order = [2, 1, 0] if channels and shape[2:] == (3,) else slice(None)
    assert_array_equal(seen[0], np.broadcast_to(array.reshape(12, 16, -1), (12, 16, 3))[..., order])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.uint8), r"shape \(2, 8, 8, 3\); expected \(h, w\)"),
        (np.zeros((8, 8), bool), "array of bool; convert it to uint8"),
        (np.zeros((8, 8, 5), np.uint8), "5 channels of levels"),
        (np.zeros((8, 8), np.float32), "floating-point numbers, of a range that is not known"),
        (np.array([{}]), "Python objects in dtype"),
        (None, "it is no image file"),
    ],
)
def test_a_file_of_numpy_that_holds_no_image_says_why(tmp_path, array, message):
    path = tmp_path / "x.npy"
    path.write_text("no array") if array is None else np.save(path, array)
    with pytest.raises(ImageReadError, match=message):
        as_images([path]).pixels(0, Framing((8, 8)))


def test_a_file_of_numpy_that_ends_too_early_is_found(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((8, 8), np.uint8))
    path.write_bytes(path.read_bytes()[:-10])
    assert [r.position for r in find_unreadable([str(path)])] == [0]


def test_the_pages_of_views_are_views(tray):
    views = [f"{tray}[8x8+4+2]"]
    named = as_images(views, pages="all").file_names()
    assert named == [f"{tray}[{page}][8x8+4+2]" for page in range(3)]
    (first,) = as_images(views, pages="first").file_names()
    assert level_of(as_images([first]), 0) == LEVELS[0]
    parts = as_images(views, pages="parts").annotations.parts
    assert parts.tolist() == [tray] * 3
