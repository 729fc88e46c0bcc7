"""Large files that are read in parts: the very values that decoding them as a whole gives."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from skstructcore import ConvFeatures
from skstructcore.images import ImageReadError, as_images, raster
from skstructcore.images.decoding import header_of
from skstructcore.images.geometry import Framing
from skstructcore.images.intensity import Intensity

SIZE = (61, 83)
FRAMINGS = [
    Framing((16, 24)),
    Framing(SIZE),
    Framing((80, 90)),
    Framing((61, 20)),
    Framing((20, 20), crop=True),
    Framing((12, 12), 17, crop=True),
    Framing((8, 9), region=(30, 20, 69, 49)),
    Framing((25, 30), region=(40, 20, 70, 45)),
]
PART = slice(3, 8), slice(2, 9)


@pytest.fixture
def set_large(monkeypatch):
    """Set the number of pixels from which on an image is large; bands have a few rows."""
    monkeypatch.setattr(raster, "_BAND", 9 * SIZE[1])
    return lambda n_pixels: monkeypatch.setattr(raster, "LARGE", n_pixels)


def values_of(dtype, n_channels=3):
    rng = np.random.default_rng(n_channels)
    shape = SIZE if n_channels == 1 else (*SIZE, n_channels)
    return rng.integers(0, 256 if np.dtype(dtype).itemsize == 1 else 60_000, shape).astype(dtype)


def assert_same_in_parts(path, set_large, intensity=Intensity(), in_parts=True):  # noqa: B008
    images = as_images([str(path)])
    for framing in FRAMINGS:
        set_large(2**60)
        whole = images.pixels(0, framing, intensity)
        set_large(1)
        assert (raster.open_raster(header_of(str(path))) is not None) == in_parts
        streamed = images.pixels(0, framing, intensity)
        assert streamed.dtype == whole.dtype
        assert_array_equal(streamed, whole)
        parts = images.sliceable_pixels(0, framing, intensity)
        assert_array_equal(parts[PART], whole[PART])


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "packbits", "lzma", "zstd"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize(
    ("n_channels", "layout"),
    [
        (3, {"rowsperstrip": 7, "bigtiff": True}),
        (1, {"tile": (16, 32)}),
        (3, {"tile": (16, 48), "byteorder": ">", "planarconfig": "separate"}),
    ],
)
def test_strips_and_tiles_of_a_tiff(tmp_path, compression, dtype, n_channels, layout, set_large):
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    values = values_of(dtype, n_channels)
    tifffile.imwrite(
        tmp_path / "x.tif",
        np.moveaxis(values, -1, 0) if "planarconfig" in layout else values,
        photometric="minisblack" if n_channels == 1 else "rgb",
        compression=compression,
        predictor=compression in ("lzw", "deflate") and dtype != "f4",
        **layout,
    )
    intensity = Intensity((0, 60_000) if dtype == "f4" else None)
    assert_same_in_parts(tmp_path / "x.tif", set_large, intensity)


@pytest.mark.parametrize(
    "channels", [None, "bgr", (1, 0, 1), ((1, 0, 0), (0, 0.5, 0), (0, 0, 0.3))]
)
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "f8"])
def test_arrays_in_files(tmp_path, dtype, channels, set_large):
    np.save(tmp_path / "x.npy", np.asfortranarray(values_of(dtype)))
    intensity = Intensity((0, 60_000) if dtype == "f8" else None, channels)
    assert_same_in_parts(tmp_path / "x.npy", set_large, intensity)


def test_transparent_arrays_lie_on_white(tmp_path, set_large):
    np.save(tmp_path / "x.npy", values_of("u1", 4))
    assert_same_in_parts(tmp_path / "x.npy", set_large)


def test_pixmaps_of_16_bits(tmp_path, set_large):
    content = b"P6\n83 61\n65535\n" + values_of(">u2").tobytes()
    (tmp_path / "x.ppm").write_bytes(content)
    assert_same_in_parts(tmp_path / "x.ppm", set_large)


@pytest.mark.parametrize(
    "channels", [(2, 1, 0), ((0.3, 0.3, 0.4), (1, 0, 0), (0, 0.5, 0.6)), "bgr"]
)
def test_channels_of_a_grey_file_of_8_bits(tmp_path, channels, set_large):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "grey.tif", values_of("u1", 1), rowsperstrip=7)
    assert_same_in_parts(tmp_path / "grey.tif", set_large, Intensity(channels=channels))


@pytest.mark.parametrize("last", [7, 7.5])
def test_whole_levels_stay_whole_unless_a_late_row_is_not(tmp_path, last, set_large):
    values = values_of("u1").astype("f4")
    values[-1] = last
    np.save(tmp_path / "x.npy", values)
    assert_same_in_parts(tmp_path / "x.npy", set_large, Intensity((0, 255)))
    seen = as_images([tmp_path / "x.npy"]).pixels(0, FRAMINGS[0], Intensity((0, 255)))
    assert seen.dtype == (np.uint8 if last == 7 else np.float32)


def test_what_is_turned_or_in_one_strip_is_read_as_a_whole(tmp_path, set_large):
    tifffile = pytest.importorskip("tifffile")
    turned = (274, "H", 1, 3, True)  # the tag of the orientation: by 180 degrees
    tifffile.imwrite(tmp_path / "a.tif", values_of("u1"), rowsperstrip=7, extratags=[turned])
    tifffile.imwrite(tmp_path / "b.tif", values_of("u1"), rowsperstrip=61)
    Image.fromarray(values_of("u1")).save(tmp_path / "c.png")
    inverted = {"photometric": "miniswhite", "rowsperstrip": 7}
    tifffile.imwrite(tmp_path / "d.tif", values_of("u1", 1), **inverted)
    for name in ("a.tif", "b.tif", "c.png", "d.tif"):
        assert_same_in_parts(tmp_path / name, set_large, in_parts=False)


def test_views_pages_and_windows_of_large_files(tmp_path, set_large):
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        for start in (0, 9000):
            file.write(values_of("u2", 1) // 20 + np.uint16(start), rowsperstrip=8, metadata=None)
    assert_same_in_parts(f"{tmp_path}/x.tif[1]", set_large)
    assert_same_in_parts(f"{tmp_path}/x.tif[0][80x61+2+0]", set_large, Intensity((0, 4095)))
    assert as_images([f"{tmp_path}/x.tif[0]"]).bit_depth_window(0) == (0, 4095)
    assert as_images([f"{tmp_path}/x.tif[1]"]).bit_depth_window(0) == (0, 16383)


@pytest.mark.parametrize(
    "parameters", [{}, {"tile_size": 32}, {"tile_size": 32, "crop": (8, 8, 80, 56)}]
)
def test_features_are_the_same_to_the_bit(tmp_path, parameters, set_large):
    for i in range(2):
        np.save(tmp_path / f"{i}.npy", np.roll(values_of("u1"), i, axis=0))
    features = ConvFeatures(image_size="native" if parameters else 32, **parameters)
    found = []
    for n_pixels in (2**60, 1):
        set_large(n_pixels)
        found.append(np.asarray(features.fit_transform(str(tmp_path))))
    assert_array_equal(*found)


def test_a_file_that_ends_too_early_is_named(tmp_path, set_large):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, values_of("u1"), rowsperstrip=7)
    path.write_bytes(path.read_bytes()[:-300])
    set_large(1)
    with pytest.raises(ImageReadError, match=r"x\.tif.*ends before its last pixel"):
        as_images([path]).pixels(0, Framing((8, 8)))
