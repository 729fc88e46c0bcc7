"""At which size, of which part, and in which order of colours a network sees images."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from networks import Blocks
from numpy.testing import assert_array_equal
from PIL import Image

from skstructcore import ConvFeatures, make_structcore, regions
from skstructcore.images import ImageReadError, as_images, place_on_image

RNG = np.random.default_rng(0)


def features(X, **params):
    estimator = ConvFeatures(**params).fit(X)
    return estimator, np.asarray(estimator.transform(X))


def noise(height, width, n=2):
    return RNG.integers(0, 256, (n, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "image_size", "seen"),
    [
        ((240, 40), 64, (160, 24)),  # 64 * sqrt(6) = 157, 64 / sqrt(6) = 26.1: multiples of 8
        ((40, 240), 64, (24, 160)),
        ((800, 40), 96, (640, 32)),  # a third of 96, instead of 96 / sqrt(20) = 21.5
        ((480, 24), 96, (480, 24)),  # or the own side, instead of the third
        ((64, 32), 64, (64, 64)),  # 2 : 1 is not beyond it
        ((320, 32), (64, 64), (64, 64)),
        ((100, 60), "native", (96, 64)),
        ((100, 60), 0.5, (48, 32)),
    ],
)
def test_size_that_the_network_sees(size, image_size, seen):
    estimator, found = features(noise(*size), image_size=image_size)

    assert estimator.input_size_ == seen
    assert found.shape[1:3] == (seen[0] // 8, seen[1] // 8)
    assert estimator.scale_ == (seen[0] / size[0], seen[1] / size[1])


def test_images_of_several_shapes_have_no_own_one():
    X = [noise(320, 32)[0], noise(200, 32)[0], noise(32, 32)[0]]

    assert ConvFeatures(image_size=64).fit(X).input_size_ == (64, 64)
    with pytest.raises(ValueError, match="needs training images of one size, but"):
        ConvFeatures(image_size="native").fit(X)
    with pytest.raises(ValueError, match="image_size='native' and crop=True exclude each other"):
        ConvFeatures(image_size="native", crop=True).fit(X)


def test_the_scale_is_logged_and_a_squeeze_is_a_warning(caplog):
    with caplog.at_level(logging.INFO, "skstructcore"):
        ConvFeatures(image_size=64).fit(noise(320, 32))
        ConvFeatures(image_size=(64, 64)).fit(noise(320, 32))

    assert "320 x 32 pixels are seen at 216 x 24: heights times 0.675" in caplog.messages[0]
    assert [r.levelname for r in caplog.records] == ["INFO", "WARNING"]
    assert "'native' keeps their shape" in caplog.messages[1]


def test_another_size_after_the_fit_is_an_error():
    X = noise(320, 32)
    estimator = ConvFeatures(image_size=64).fit(X)

    estimator.set_params(image_size="native")
    with pytest.raises(ValueError, match="image_size is 'native', but"):
        estimator.transform(X)


@pytest.mark.parametrize("tile_size", [64, (64, 256), 512])
def test_no_tile_is_larger_than_the_image(tile_size):
    X = noise(320, 32)

    _, found = features(X, image_size="native", tile_size=tile_size)

    assert found.shape[1:3] == (40, 4)
    if tile_size == 512:  # one tile: the image as a whole
        assert_array_equal(found, features(X, image_size="native")[1])


@pytest.mark.parametrize(
    "region",
    [
        (16, 8, 48, 40),
        ((16, 8), (48, 40)),
        [(16, 8), (48, 8), (30, 40)],
        (0.25, 0.1, 0.75, 0.5),  # of 64 x 80 pixels
    ],
)
def test_a_region_is_seen_as_the_image_cut_out_by_hand(region):
    X = noise(80, 64)

    estimator, found = features(X, image_size="native", crop=region)

    assert_array_equal(found, features(X[:, 8:40, 16:48], image_size="native")[1])
    lazy = estimator.transform(X)
    assert lazy.geometry.boxes.tolist() == [[8, 16, 40, 48]] * 2


def test_a_polygon_on_the_right_is_its_box():
    triangle = [(30, 0), (62, 0), (40, 20)]
    lazy = ConvFeatures(image_size=32, crop=triangle).fit_transform(noise(80, 64))
    assert lazy.geometry.boxes.tolist() == [[0, 30, 20, 62]] * 2


def test_answers_are_in_coordinates_of_the_whole_image():
    X = RNG.integers(100, 110, (12, 96, 64), dtype=np.uint8)
    bad = X[:1].copy()
    bad[0, 60:76, 30:46] = 255
    pipe = make_structcore(
        ConvFeatures(image_size="native", crop=(8, 40, 56, 88)),
        structcore__false_alarm_rate=0.2,
    ).fit(X)

    maps = pipe[:-1].transform(bad)
    placed = place_on_image(pipe.transform(bad)[0], maps.geometry, 0)
    row, column = np.unravel_index(np.nanargmax(placed), placed.shape)
    (outline,) = regions(pipe, bad)["polygon"]

    assert placed.shape == (96, 64) and np.isnan(placed[:40]).all()
    assert 52 <= row < 84 and 22 <= column < 54
    assert np.asarray(outline).min(axis=0)[1] >= 40  # y
    assert pipe.predict(bad).tolist() == [-1]


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ((0, 0, 100, 10), "not within its 80 x 64 pixels"),
        ((30, 0, 10, 10), "crop must be"),
        ((0, 0, 10), "crop must be"),
        ([(0, 2), (9, 2), (4, 2)], "crop must be"),
        ("top", "'crop' parameter"),
    ],
)
def test_regions_that_cannot_be_are_refused(region, message):
    with pytest.raises((ValueError, ImageReadError), match=message):
        ConvFeatures(image_size=32, crop=region).fit(noise(80, 64))


def test_bgr_arrays_are_seen_as_the_files_they_come_from(tmp_path):
    X = noise(32, 32)
    Image.fromarray(X[0]).save(tmp_path / "image.png")
    files = [str(tmp_path / "image.png")]
    estimator, of_files = features(files, image_size=32, channels="bgr")

    assert_array_equal(np.asarray(estimator.transform(X[:1, ..., ::-1])), of_files)
    assert_array_equal(features(files, image_size=32)[1], of_files)
    alpha = np.dstack([X[0, ..., ::-1], np.full((32, 32), 255, np.uint8)])
    assert_array_equal(np.asarray(estimator.transform([alpha])), of_files)


def test_painted_copies_of_bgr_arrays_keep_their_colours():
    X = np.zeros((12, 32, 32, 3), np.uint8)
    X[..., 0] = RNG.integers(150, 250, (12, 32, 32))
    from skstructcore.datasets import paint_copies
    from skstructcore.pipeline.steps import intensity_of

    pipe = make_structcore(ConvFeatures(image_size=32, channels="bgr")).fit(X)
    copies = paint_copies(
        as_images(X).seen_through(intensity_of(pipe, channels=False)), random_state=0
    )

    blue = np.stack(copies.paths).mean(axis=(0, 1, 2))
    assert blue.argmax() == 0


def test_other_words_for_channels_are_an_error():
    with pytest.raises(ValueError, match="not all 0, or 'bgr'; got 'rgb'"):
        ConvFeatures(Blocks(), ["a"], image_size=32, channels="rgb").fit(noise(32, 32))


def test_swapped_colours_are_told(tmp_path):
    X = np.clip(RNG.normal([190, 130, 70], 12, (10, 32, 32, 3)), 0, 255).astype(np.uint8)
    estimator = ConvFeatures(image_size=32).fit(X)

    estimator.transform(X)  # warnings are errors here
    with pytest.warns(UserWarning, match="red and blue exchanged"):
        estimator.transform(X[..., ::-1])
    np.save(tmp_path / "frame.npy", X[0, ..., ::-1])
    with pytest.warns(UserWarning, match="red and blue exchanged"):
        estimator.transform([tmp_path / "frame.npy"])
    ConvFeatures(image_size=32, channels="bgr").fit(X).transform(X[..., ::-1])


def test_views_are_places_of_a_file_that_are_seen_as_cut_out_by_hand(tmp_path):
    X = noise(80, 64)
    files = [str(tmp_path / f"{i}.png") for i in range(2)]
    for pixels, file in zip(X, files, strict=True):
        Image.fromarray(pixels).save(file)

    images = as_images(files, views=[(16, 8, 48, 40), (0, 0.6, 0.5, 1), [(0, 0), (32, 32)]])
    estimator, found = features(images, image_size=32)
    lazy = estimator.transform(images)

    places = ["32x32+16+8", "32x32+0+48", "32x32+0+0"]
    assert images.items == [f"{file}[{place}]" for file in files for place in places]
    assert images.annotations.parts.tolist() == np.repeat(files, 3).tolist()
    assert_array_equal(found[[0, 3]], features(X[:, 8:40, 16:48], image_size=32)[1])
    assert_array_equal(found[[1, 4]], features(X[:, 48:, :32], image_size=32)[1])
    assert lazy.geometry.boxes[:3].tolist() == [[8, 16, 40, 48], [48, 0, 80, 32], [0, 0, 32, 32]]
    assert lazy.geometry.original_sizes.tolist() == [[80, 64]] * 6
    assert len({images.digest(i) for i in range(6)}) == 6
    # A crop is one of the view; a name alone says it too.
    cropped = ConvFeatures(image_size=16, crop=(0.5, 0.5, 1, 1)).fit(images[:1])
    assert cropped.transform(images[:1]).geometry.boxes.tolist() == [[24, 32, 40, 48]]
    assert_array_equal(np.asarray(estimator.transform([images.items[4]])), found[[4]])


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ([(0, 0, 100, 10)], "not within its 80 x 64 pixels"),
        ([(0, 0, 10)], r"a view must be \(left"),
        ([[(1, 1), (1, 5), (1, 9)]], r"a view must be \(left"),
        ([], "at least one"),
    ],
)
def test_views_that_cannot_be_are_refused(tmp_path, views, message):
    Image.fromarray(noise(80, 64)[0]).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=message):
        as_images([str(tmp_path / "a.png")], views=views).read(0)
    with pytest.raises(ValueError, match="of an array pass its parts"):
        as_images(noise(80, 64), views=[(0, 0, 8, 8)])
    view = as_images([str(tmp_path / "a.png")], views=[(10, 10, 30, 30)])
    with pytest.raises(ValueError, match=r"a.png\[20x20\+10\+10\]' is a view already"):
        as_images(view, views=[(0, 0, 8, 8)])


@pytest.mark.parametrize(
    "sizes",
    [
        {"image_size": np.int64(64)},
        {"image_size": (np.int64(64), np.int64(96))},
        {"image_size": 64, "tile_size": np.int64(32), "tile_overlap": np.int64(8)},
    ],
)
def test_sizes_may_be_integers_of_numpy_as_searches_over_arrays_give_them(sizes, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    plain = {
        name: tuple(map(int, size)) if isinstance(size, tuple) else int(size)
        for name, size in sizes.items()
    }
    found, wanted = (
        np.asarray(ConvFeatures(memory=tmp_path, **options).fit_transform(images))
        for options in (sizes, plain)
    )
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("size", [{"image_size": True}, {"image_size": (True, 64)}])
def test_true_is_no_length(size):
    with pytest.raises(ValueError, match="image_size must be a positive integer or two"):
        ConvFeatures(**size).fit(np.zeros((1, 64, 64), np.uint8))


def test_a_crop_of_less_than_a_pixel_is_said_to_hold_none():
    with pytest.raises(ImageReadError, match=r"holds none of its 64 x 64 pixels"):
        ConvFeatures(crop=(0, 0, 0.001, 0.001)).fit(np.zeros((1, 64, 64), np.uint8))
