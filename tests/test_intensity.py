"""Deep images: which of their values are black and white, and that nothing is rounded before."""

import struct
import zlib

import numpy as np
import pytest
from networks import Blocks
from PIL import Image

from skstructcore import ConvFeatures, make_structcore, operating_points
from skstructcore.datasets import ImageSet
from skstructcore.display import AnomalyMapDisplay
from skstructcore.evaluation import evaluate
from skstructcore.features._picture import training_intensity
from skstructcore.images import ImageReadError, as_images
from skstructcore.images.geometry import Framing
from skstructcore.images.intensity import (
    Intensity,
    bit_depth_window,
    own_window,
)
from skstructcore.model_selection import painted_defects_scorer
from skstructcore.report import report

OWN = dict(layers=("stage1", "stage2"), image_size=32)
RNG = np.random.default_rng(0)
LEVELS = RNG.integers(0, 256, (3, 40, 44), dtype=np.uint8)


def saved(folder, values, name="image.png", **options):
    Image.fromarray(values).save(folder / name, **options)
    return str(folder / name)


def read(X, i=0):
    return np.asarray(as_images(X).read(i))


def features_of(X, fitted_on=None, **params):
    features = ConvFeatures(Blocks(), **OWN, **params).fit(X if fitted_on is None else fitted_on)
    return np.asarray(features.transform(X))


# -- the window --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("high", "top"), [(0, 255), (255, 255), (256, 1023), (4095, 4095), (4096, 16383), (65535,) * 2]
)
def test_bit_depth_is_the_smallest_that_holds_the_values(high, top):
    assert bit_depth_window(0, high) == (0, top)


@pytest.mark.parametrize(("high", "top"), [(255, 255), (8192, 65535), (65535, 65535)])
def test_a_single_deep_image_has_8_or_16_bits(high, top):
    assert own_window(0, high) == (0, top)


@pytest.mark.parametrize(("high", "bits"), [(256, 10), (4095, 12), (8191, 14)])
def test_a_single_deep_image_between_cannot_be_judged(high, bits):
    with pytest.raises(ValueError, match=rf"end at {high}: .* of {bits} bits, or of 16 and dark"):
        own_window(0, high)


@pytest.mark.parametrize(("low", "high"), [(-1, 10), (0, 65536)])
def test_what_does_not_fit_16_bits_needs_a_window(low, high):
    with pytest.raises(ValueError, match=rf"from {low} to {high} do not fit 16 bits.*window="):
        bit_depth_window(low, high)


def test_auto_window_is_that_of_all_training_images():
    X = [np.full((4, 4), top, np.uint16) for top in (300, 3000, 90)]
    assert training_intensity(as_images(X), "auto", None).window == (0, 4095)
    assert training_intensity(as_images(X), (10, 400), None).window == (10, 400)
    assert training_intensity(as_images(LEVELS), "auto", None).window is None


def test_values_beyond_the_window_become_its_ends():
    # (v - 100) * 255 / 1000, by hand: 350 -> 63.75
    found = Intensity((100, 1100)).levels(np.array([[-5, 100, 350, 1100, 9000]], np.int32))
    assert found.tolist() == [[0, 0, 63.75, 255, 255]]


# -- twins -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "twin",
    [
        lambda levels: levels.astype(np.uint16),
        lambda levels: levels.astype(np.int64),
        lambda levels: levels * np.uint16(257),
    ],
    ids=["values to 255", "int64", "values to 65535"],
)
@pytest.mark.parametrize("trained_on", ["levels", "twins"])
def test_an_8_bit_image_in_a_deeper_array_is_the_same_image(twin, trained_on):
    twins = twin(LEVELS)
    found = features_of(twins, fitted_on=LEVELS if trained_on == "levels" else twins)
    np.testing.assert_array_equal(found, features_of(LEVELS))


@pytest.mark.parametrize("name", ["deep.png", "deep.tif", "deep.pgm"])
def test_files_and_arrays_of_12_bits_give_the_same(name, tmp_path):
    deep = RNG.integers(0, 4096, (40, 44)).astype(np.uint16)
    if name == "deep.pgm":  # by hand: not every Pillow writes it
        path = tmp_path / name
        path.write_bytes(b"P5 44 40 65535\n" + deep.astype(">u2").tobytes())
    else:
        path = saved(tmp_path, deep, name)
    first, *others = (features_of([x]) for x in (deep, path, Image.open(path), deep[..., None]))
    for other in others:
        np.testing.assert_array_equal(other, first)
    # As bright as its 8-bit rendering, not nearly black.
    rendering = features_of([np.rint(deep / 4095 * 255).astype(np.uint8)])
    assert np.abs(first - rendering).mean() < 0.01 * np.abs(rendering).mean()


def test_deep_values_are_not_rounded_before_the_network():
    ramp = np.linspace(1000, 1008, 64 * 64).reshape(64, 64).astype(np.uint16)
    pixels = as_images([ramp]).pixels(0, Framing((32, 32)), Intensity((0, 65535)))
    assert pixels.dtype == np.float32
    # Of 2 x 2 blocks inside: means of the values, to the last decimal, at 255 / 65535.
    by_hand = Image.fromarray(ramp.astype(np.float32)).resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(pixels[..., 1], np.asarray(by_hand) / 257, rtol=1e-5)
    assert len(np.unique(pixels)) > 20


@pytest.mark.parametrize("name", ["turned.png", "turned.tif"])
def test_deep_files_come_out_upright(name, tmp_path):
    deep = RNG.integers(0, 4096, (40, 60)).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, deep, name, exif=exif)
    upright = np.rot90(deep, -1).copy()
    np.testing.assert_array_equal(features_of([path]), features_of([upright]))


def test_a_model_of_deep_images_takes_8_bit_images_as_they_are():
    deep = LEVELS.astype(np.uint16) * 16
    found = features_of(LEVELS, fitted_on=deep)
    np.testing.assert_array_equal(found, features_of(LEVELS))


def test_a_dark_deep_image_is_refused_by_a_model_of_8_bit_images():
    features = ConvFeatures(Blocks(), **OWN).fit(LEVELS)
    lazy = features.transform([LEVELS[0], LEVELS[1].astype(np.uint16) * 16])
    with pytest.raises(ImageReadError, match=r"position 1 .*12 bits, or of 16 and dark"):
        np.asarray(lazy)


def test_window_belongs_to_the_cached_features(tmp_path):
    deep = [LEVELS[0].astype(np.uint16) * 16]
    for window in ((0, 4095), (0, 65535), (0, 4095)):
        found = features_of(deep, window=window, memory=tmp_path)
        np.testing.assert_array_equal(found, features_of(deep, window=window))


def test_opened_deep_images_are_told_apart_by_all_their_bits():
    first, second = (Image.fromarray(np.full((4, 4), v, np.uint16)) for v in (1000, 1001))
    images = as_images([first, second])
    assert images.digest(0) != images.digest(1)


def test_for_viewing_a_deep_image_is_seen_by_its_own_bit_depth():
    # Of 12 bits: 4095 is white, 1000 is 62.3; of 8 bits: as they are.
    assert read([np.array([[0, 1000, 4095]], np.uint16)])[0, :, 0].tolist() == [0, 62, 255]
    assert read([np.array([[0, 7, 200]], np.uint16)])[0, :, 0].tolist() == [0, 7, 200]


# -- floats ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_seen_through_the_window(dtype, tmp_path):
    values = RNG.random((40, 44)).astype(dtype)
    found = features_of([values], window=(0, 1))
    deep = np.rint(values.astype(float) * 65535).astype(np.uint16)
    expected = features_of([deep], window=(0, 65535))
    np.testing.assert_allclose(found, expected, atol=2e-3)
    if dtype == np.float32:
        path = saved(tmp_path, values, "float.tif")
        np.testing.assert_array_equal(features_of([path], window=(0, 1)), found)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_floats_that_are_not_finite_are_named(bad):
    X = RNG.random((2, 40, 44))
    X[1, 3, 4] = bad
    features = ConvFeatures(Blocks(), **OWN, window=(0, 1)).fit(X)
    with pytest.raises(ImageReadError, match=r"position 1 .*: 1 of its 1760 values are NaN or inf"):
        np.asarray(features.transform(X))


def test_floats_without_a_window_are_refused_at_fit(tmp_path):
    path = saved(tmp_path, np.full((4, 4), 0.5, np.float32), "real.tif")
    for X in ([path], np.zeros((2, 4, 4, 3))):
        with pytest.raises(ImageReadError, match=r"floating-point .*multiply by 255.*window=\(low"):
            ConvFeatures(Blocks(), **OWN).fit(X)


def test_integers_of_more_than_16_bits_are_refused_at_fit(tmp_path):
    path = saved(tmp_path, np.array([[0, 70000]], np.int32), "wide.tif")
    with pytest.raises(ImageReadError, match=r"wide.tif.*from 0 to 70000 do not fit 16 bits"):
        ConvFeatures(Blocks(), **OWN).fit([path])
    assert features_of([path], window=(0, 70000)).shape == (1, 16, 16, 10)


# -- channels ----------------------------------------------------------------------------------


def test_chosen_channels_are_red_green_and_blue(tmp_path):
    X = RNG.integers(0, 256, (2, 40, 44, 5), dtype=np.uint8)
    expected = features_of(X[..., [4, 0, 2]])
    np.testing.assert_array_equal(features_of(X, channels=(4, 0, 2)), expected)
    deep = X.astype(np.uint16) * 257
    np.testing.assert_array_equal(features_of(deep, channels=[4, 0, 2]), expected)
    path = saved(tmp_path, X[0, ..., :3])
    expected = features_of(X[:1, ..., [2, 2, 1]])
    np.testing.assert_array_equal(features_of([path], channels=np.array([2, 2, 1])), expected)


def test_weights_mix_channels():
    X = RNG.integers(0, 256, (1, 40, 44, 4), dtype=np.uint8)
    weights = ((0, 0, 1, 0), (0.5, 0, 0, 0.5), (0, 2, 0, 0))
    pixels = as_images(X).pixels(0, Framing((40, 44)), Intensity.of("auto", weights))
    x = X[0].astype(float)
    expected = [x[..., 2], (x[..., 0] + x[..., 3]) / 2, np.minimum(2 * x[..., 1], 255)]
    np.testing.assert_allclose(pixels, np.stack(expected, axis=-1), atol=1e-4)


def test_colour_of_16_bits_is_seen_through_the_window():
    X = RNG.integers(0, 256, (1, 40, 44, 3), dtype=np.uint8)
    np.testing.assert_array_equal(features_of(X.astype(np.uint16) * 257), features_of(X))


@pytest.mark.parametrize(
    ("shape", "dtype", "channels", "message"),
    [
        ((4, 4, 2), np.uint8, None, r"2 channels of levels.*channels=\(i, j, k\)"),
        ((3, 8, 8), np.uint8, None, r"8 channels.*where channels stand first move the axis"),
        ((4, 4, 4), np.uint16, None, "4 channels of integers; expected 1 or 3"),
        ((4, 4, 2), np.uint8, (0, 1, 2), r"2 channels, but channels=\(0, 1, 2\) is for at least 3"),
        ((4, 4, 3), np.uint8, [[1, 0]] * 3, "3 channels, but channels=.* is for 2"),
        ((4, 4), np.uint8, (0, 1), "channels must be three channels"),
        ((4, 4), np.uint8, (0, 1, -1), "channels must be three channels"),
        ((4, 4), np.uint8, ([1, 2], [1], [0, 1]), "channels must be three channels"),
        ((4, 4), np.uint8, "rgb", "channels must be three channels"),
    ],
)
def test_channels_that_do_not_fit_are_named_at_fit(shape, dtype, channels, message):
    with pytest.raises(ValueError, match=message):
        ConvFeatures(Blocks(), **OWN, channels=channels).fit([np.zeros(shape, dtype)])


def test_weights_of_channels_that_are_all_zero_are_refused():
    with pytest.raises(ValueError, match="not all 0"):
        Intensity.of("auto", np.zeros((3, 3)))


@pytest.mark.parametrize("window", [None, "Auto", 7, (0,), (5, 5), (9, 1), (0, np.nan), ("a", "b")])
def test_windows_that_are_none_are_refused(window):
    with pytest.raises(ValueError, match=r"window must be 'auto' or \(low, high\)"):
        ConvFeatures(Blocks(), **OWN, window=window).fit(LEVELS)


# -- a transparent colour ----------------------------------------------------------------------


def png(values, transparent):
    """A PNG of 16 bits, grey or RGB, with a colour marked as transparent; Pillow writes none."""

    def chunk(name, content):
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, 2 * (values.ndim == 3), 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [(b"IHDR", header), (b"tRNS", np.array(transparent, ">u2").tobytes())]
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_transparent_grey_of_16_bits_lies_on_white(tmp_path):
    (tmp_path / "grey.png").write_bytes(png(np.array([[0, 1000, 65535, 1001]]), 1000))
    # 1001 / 257 = 3.9
    assert read([str(tmp_path / "grey.png")])[0, :, 0].tolist() == [0, 255, 255, 4]


def test_transparent_colour_of_16_bits_is_refused(tmp_path):
    path = tmp_path / "colour.png"
    path.write_bytes(png(np.array([[[0, 300, 600], [7, 8, 9]]]), (0, 300, 600)))
    with pytest.raises(ImageReadError, match=r"colour.png.*colour of 16 bits as transparent"):
        read([path])


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_8_bits_in_a_deeper_container_are_told_where_they_become_black(dtype, tmp_path, caplog):
    deep = [16 * image.astype(np.uint16) for image in LEVELS]
    features = ConvFeatures(Blocks(), **OWN).fit(deep)
    assert features.window_ == (0, 4095)
    path = saved(tmp_path, LEVELS[0].astype(dtype), "image.tif")
    np.asarray(features.transform([deep[0], LEVELS[0], path]))
    (record,) = caplog.records
    assert "image.tif' (position 2 in the list) has no value above 255" in record.message
    assert "from 0 to 4095 it is next to black" in record.message


@pytest.fixture(scope="module")
def deep_pipe():
    """A model that sees 12 bits through 16, and its images: an eighth of the range of a picture."""
    images = [16 * image.astype(np.uint16) for image in RNG.integers(0, 256, (9, 40, 44))]
    pipe = make_structcore(
        ConvFeatures(Blocks(), window=(0, 65535), **OWN),
        bank__ratio=0.5,
        structcore__false_alarm_rate=0.2,
    )
    return pipe.fit(images), images


def test_paint_alone_tells_painted_copies_from_deep_images(deep_pipe):
    # Read as 12 bits, a copy was sixteen times as bright as its original, and always found.
    pipe, images = deep_pipe
    table = operating_points(
        pipe, images, false_alarm_rates=[0.2], sizes=[0.2], severity=1e-3, n_painted=9
    )
    assert table["painted_found"][0] <= 0.3
    assert painted_defects_scorer(pipe, images, severities=[1e-3]) <= 0.75


@pytest.mark.parametrize("kind", ["floats", "channels"])
def test_pictures_and_pages_show_what_only_the_model_can_read(kind, tmp_path):
    if kind == "floats":
        images, settings = list(LEVELS.astype(np.float32) / 255), {"window": (0, 1)}
    else:
        images, settings = [np.dstack([i] * 5) for i in LEVELS], {"channels": (4, 2, 0)}
    pipe = make_structcore(
        ConvFeatures(Blocks(), **settings, **OWN),
        bank__ratio=0.5,
        structcore__false_alarm_rate=0.5,
        structcore__threshold="guaranteed",
    ).fit(images)
    found = evaluate(pipe, ImageSet(images, ["good", "good", "dent"]))
    shown = AnomalyMapDisplay.from_evaluation(found)
    assert any((image[..., 0] == LEVELS[0]).all() for image in shown.images)
    display = AnomalyMapDisplay.from_estimator(pipe, images)
    np.testing.assert_array_equal(display.images[1][..., 0], LEVELS[1])
    page = report(pipe, images, tmp_path / "r.html").read_text()
    assert page.count('"error":null') == 3
