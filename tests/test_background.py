"""The background, ``ignore="background"``: how the part is found, image by image."""

import threading

import numpy as np
import pytest
from networks import Blocks
from PIL import Image

from skstructcore import ConvFeatures, JoinedFeatures
from skstructcore.features._picture import is_background, split_background
from skstructcore.images import as_images
from skstructcore.images.ignoring import find_foreground
from skstructcore.images.image_list import ImageList


def part_on(background, size=96):
    """A bright disc with a hole on a plain, noisy background."""
    rng = np.random.default_rng(0)
    rows, cols = np.mgrid[:size, :size] - size / 2
    radius = np.hypot(rows, cols)
    image = background + rng.normal(scale=3, size=(size, size))
    image[(radius < 30) & (radius > 6)] = 230
    return np.stack([np.clip(image, 0, 255).astype(np.uint8)] * 3, axis=-1), radius


@pytest.mark.parametrize("background", [10, 120, 160])
def test_the_part_is_what_differs_from_the_border(background):
    image, radius = part_on(background)
    found = find_foreground(image)
    assert found[radius < 28].all()  # its hole is part of it
    assert not found[radius > 32].any()


def test_without_a_part_the_whole_image_counts():
    """An empty conveyor is not to pass as good."""
    image, _ = part_on(100)
    image[:] = image[0, 0]
    assert find_foreground(image).all()


def test_a_patch_is_background_if_it_shows_nothing_of_the_part():
    image, radius = part_on(10)
    ignored = is_background(image, (12, 12))
    shows = (radius < 30).reshape(12, 8, 12, 8).any(axis=(1, 3))
    assert not ignored[shows].any()
    assert ignored.sum() > 0.5 * (~shows).sum()
    lazy = ConvFeatures(image_size=96, ignore="background").fit_transform([image])
    np.testing.assert_array_equal(np.isnan(np.asarray(lazy)[0, ..., 0]), ignored)
    left = [(0, 0), (0.5, 0), (0.5, 1), (0, 1)]
    both = ConvFeatures(image_size=96, ignore=["background", left]).fit_transform([image])
    ignored[:, :6] = True
    np.testing.assert_array_equal(np.isnan(np.asarray(both)[0, ..., 0]), ignored)


@pytest.mark.parametrize("joined", [False, True])
def test_the_background_of_views_and_pages_is_their_own(tmp_path, joined):
    board = np.full((64, 128), 20, np.uint8)
    board[20:44, 4:28] = 200  # a part at the left of the left half
    board[20:44, 100:124] = 200  # and one at the right of the right half
    left, right = board[:, :64], board[:, 64:]
    Image.fromarray(board).save(tmp_path / "board.png")
    pages = [Image.fromarray(half) for half in (left, right)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    backbone = ConvFeatures(image_size=64, ignore="background", batch_size=2)
    if joined:
        backbone = JoinedFeatures([backbone, ConvFeatures(layers=["_blocks.10"], image_size=64)])
    ignored = np.isnan(np.asarray(backbone.fit_transform([left, right])))
    assert (ignored[0] != ignored[1]).any()
    boxes = [(0, 0, 64, 64), (64, 0, 128, 64)]
    for images in (
        as_images([tmp_path / "board.png"], views=boxes),
        as_images([tmp_path / "pages.tif"], pages="all"),
    ):
        np.testing.assert_array_equal(np.isnan(np.asarray(backbone.transform(images))), ignored)


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("params", [{}, {"tile_size": 32}])
def test_the_background_is_found_where_images_are_decoded(params, joined, monkeypatch, tmp_path):
    """Once an image, in the threads that `n_jobs` allows, whether features are cached or not."""
    images = [part_on(10)[0], part_on(90)[0], part_on(10)[0][::-1]]
    kept = dict(layers=("stage1",), image_size=96, n_jobs=1, memory=tmp_path)
    backbone = ConvFeatures(Blocks, ignore="background", **kept, **params)
    if joined:
        backbone = JoinedFeatures([backbone, ConvFeatures(Blocks, ("stage2",), image_size=96)])
    lazy = backbone.fit_transform(images)
    expected = [is_background(image, (48, 48)) for image in images]
    read, threads, pixels = [], set(), ImageList.pixels

    def watched(self, i, framing, intensity):
        read.append(i)
        threads.add(threading.get_ident())
        return pixels(self, i, framing, intensity)

    monkeypatch.setattr(ImageList, "pixels", watched)
    for _ in range(2):  # the second time from the cache
        read.clear(), threads.clear()
        np.testing.assert_array_equal(np.isnan(np.asarray(lazy)[..., 0]), expected)
        assert sorted(read) == sorted([0, 1, 2] * (2 if joined else 1))
        assert joined or len(threads) == 1


def test_the_background_is_told_from_the_regions_beside_it():
    corner = [(0, 0), (1, 0), (1, 1)]
    assert split_background("background") == (True, None)
    assert split_background([corner, "background"]) == (True, [corner])
