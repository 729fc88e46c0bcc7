"""Tiles: where they lie, how their features become one grid, and what that costs."""

import threading
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Blocks

from skstructcore import ConvFeatures, make_structcore
from skstructcore.features._extraction import (
    TiledExtraction,
    Tiling,
    blend_weights,
    tile_starts,
)
from skstructcore.images import as_images
from skstructcore.images.geometry import Framing

OWN = dict(layers=("stage1", "stage2"), image_size=(48, 64))


def photos(n=2, height=48, width=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def features_of(X, module, **params):
    return np.asarray(ConvFeatures(module, **{**OWN, **params}).fit_transform(X))


def test_tiles_lie_evenly_and_their_shares_fall_to_their_edges():
    assert tile_starts(32, 16, 0) == [0, 16]
    assert tile_starts(10, 4, 0) == [0, 3, 6]
    # Where both cover, 0.5 of the edge of one stands beside 1.5 of the middle of the other.
    expected = [[1, 1, 0.75, 0.25], [0.25, 0.75, 1, 1]]
    np.testing.assert_allclose(blend_weights([0, 2], 4, 6), expected)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 39))
def test_tiles_cover_the_axis_with_the_overlap_asked_for(side, tile, overlap):
    side, tile = side + tile, tile
    overlap = min(overlap, tile - 1)
    starts = tile_starts(side, tile, overlap)
    assert (starts[0], starts[-1]) == (0, side - tile)
    assert all(b - a <= tile - overlap for a, b in pairwise(starts))
    assert len(starts) == 1 + -(-(side - tile) // (tile - overlap))  # no fewer would do
    weights = blend_weights(starts, tile, side)
    total = np.zeros(side)
    for start, share in zip(starts, weights, strict=True):
        total[start : start + tile] += share
    np.testing.assert_allclose(total, 1)


def test_overlapping_tiles_are_blended_linearly():
    """Two tiles of 4 patches on 6: where both are, the left one counts 3/4 and then 1/4."""
    tiling = Tiling((1, 12), (1, 8), 4, (1, 2))
    assert len(tiling) == 2
    grid = np.zeros((1, 6, 1), np.float32)
    tiling.blend(grid, 0, np.full((1, 4, 1), 8.0, np.float32))
    tiling.blend(grid, 1, np.full((1, 4, 1), 4.0, np.float32))
    assert grid.ravel().tolist() == [8, 8, 7, 5, 4, 4]
    pixels = np.arange(12)[np.newaxis, :, np.newaxis]
    assert tiling.cut(pixels, 1).ravel().tolist() == list(range(4, 12))


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("tile, overlap", [(16, 0), (16, 4), (16, 12), ((24, 32), 8), (48, 0)])
def test_tiles_do_not_show_where_each_patch_is_seen_alone(tile, overlap, on_cpu):
    tile = (tile, tile) if isinstance(tile, int) else tile
    tiling, X = Tiling((48, 64), tile, overlap, (4, 4)), photos()

    def means(pixels):
        return pixels.float().unflatten(2, (-1, 4)).unflatten(1, (-1, 4)).mean((2, 4))

    extraction = TiledExtraction(
        as_images(X),
        (*tiling.grid_shape, 3),
        read=lambda images, i: images.pixels(i, Framing((48, 64))),
        network=lambda: means,
        cache=None,
        on_cpu=on_cpu,
        n_threads=2,
        tiling=tiling,
    )
    grids = list(extraction.iter_batches(4))
    assert [grid.shape for grid in grids] == [(1, 12, 16, 3)] * 2
    np.testing.assert_allclose(np.concatenate(grids), means(torch.from_numpy(X)), rtol=1e-5)


def test_without_overlap_each_tile_is_an_image_of_its_own():
    X = photos()
    tiled = features_of(X, Blocks(), tile_size=(24, 32))
    tiles = [X[:, row : row + 24, col : col + 32] for row in (0, 24) for col in (0, 32)]
    grids = [features_of(tile, Blocks(), image_size=(24, 32)) for tile in tiles]
    np.testing.assert_array_equal(tiled[:, :12, :16], grids[0])
    np.testing.assert_array_equal(tiled[:, 12:, 16:], grids[3])


def test_one_tile_is_the_whole_image():
    whole = features_of(photos(), Blocks())
    np.testing.assert_array_equal(features_of(photos(), Blocks(), tile_size=(48, 64)), whole)


@pytest.mark.parametrize("params", [{"batch_size": 5}, {"n_jobs": 1}, {"n_jobs": 3}])
def test_features_do_not_depend_on_batches_or_threads(params):
    options = dict(tile_size=16, tile_overlap=8)
    expected = features_of(photos(3), Blocks(), **options)
    np.testing.assert_array_equal(features_of(photos(3), Blocks(), **options, **params), expected)


def test_other_devices_get_batches_of_tiles():
    sizes = []

    def network(pixels):
        sizes.append(len(pixels))
        return torch.zeros(len(pixels), 4, 4, 1)

    tiling = Tiling((48, 64), (16, 16), 4, (4, 4))
    extraction = TiledExtraction(
        as_images(photos()),
        (12, 16, 1),
        read=lambda images, i: images.pixels(i, Framing((48, 64))),
        network=lambda: network,
        cache=None,
        on_cpu=False,
        n_threads=2,
        tiling=tiling,
    )
    list(extraction.iter_batches(8))
    assert sizes == [8, 8, 4] * 2  # 4 x 5 tiles an image


@pytest.fixture
def by_halves():
    """Makes the extraction of images in two tiles each, by a network that is given."""

    def make(n_images, n_threads, network):
        images, tiling = as_images(photos(n_images, 8, 16)), Tiling((8, 16), (8, 8), 0, (4, 4))
        options = dict(network=lambda: network, cache=None, on_cpu=True, n_threads=n_threads)
        return TiledExtraction(
            images, (2, 4, 1), read=lambda images, i: images.array(i), tiling=tiling, **options
        )

    return make


def test_tiles_of_the_next_image_fill_threads_that_are_free(by_halves):
    """Four threads and two tiles an image: each tile waits until four are in work."""
    barrier = threading.Barrier(4)

    def network(pixels):
        barrier.wait(timeout=20)
        return torch.zeros(len(pixels), 2, 2, 1)

    assert len(list(by_halves(4, 4, network).iter_batches(1))) == 4


def test_the_next_image_is_in_work_while_the_caller_works(by_halves):
    calls, is_third = [], threading.Event()

    def network(pixels):
        calls.append(len(pixels))
        if len(calls) == 3:
            is_third.set()
        return torch.zeros(len(pixels), 2, 2, 1)

    batches = by_halves(4, 1, network).iter_batches(1)
    next(batches)
    assert is_third.wait(timeout=20)
    batches.close()


def test_only_some_tiles_are_in_work():
    module = Blocks()
    lazy = ConvFeatures(module, **OWN, tile_size=8, n_jobs=2).fit_transform(photos(20))
    module.n_images = 0
    batches = lazy.iter_batches()
    assert next(batches).shape == (1, 24, 32, 10)
    batches.close()
    assert module.n_images <= 48 + 2 * 2  # the tiles of one image, and those ahead


def test_memory_counts_all_images_whose_tiles_are_begun():
    """16 tiles are begun by 8 threads, 2 of an image: 8 images beside two that are there always."""
    lazy = ConvFeatures(image_size=(64, 128), tile_size=64).fit_transform(photos(20, 64, 128))
    few, all_of_them = (part.memory(n_jobs=8)[2] for part in (lazy[:3], lazy))
    assert all_of_them - few == (8 + 2 - 3) * (3 * 64 * 128 + 4 * 8 * 16 * 152)


def test_grids_are_cached_as_those_of_whole_images_are(tmp_path):
    module = Blocks()
    params = dict(memory=tmp_path, tile_size=16, tile_overlap=8)
    expected = features_of(photos(), module, **params)
    module.n_images = 0
    np.testing.assert_array_equal(features_of(photos(), module, **params), expected)
    assert module.n_images == 0
    other = features_of(photos(), module, **{**params, "tile_overlap": 0})
    assert module.n_images > 0
    assert not np.array_equal(other, expected)


def test_whole_images_keep_the_key_that_they_had_in_caches():
    features = ConvFeatures(Blocks(), **OWN).fit(photos())
    assert "tiles" not in features._cache_recipe()
    features.set_params(tile_size=16).fit(photos())
    assert features._cache_recipe()["tiles"] == (16, 16, 0)


def test_places_of_a_tiled_image_are_those_of_the_image():
    """A dot that no training image has, in an image that is enlarged and cut into tiles."""
    X = np.full((6, 60, 80), 120, np.uint8) + photos(6, 60, 80)[..., 0] // 32
    bad = X[:1].copy()
    bad[0, 40:46, 12:18] = 255
    pipe = make_structcore(
        ConvFeatures(image_size=(192, 256), tile_size=64, tile_overlap=16),
        projection__n_components=32,
        bank__ratio=60,
        structcore__false_alarm_rate=0.2,
    ).fit(X)
    parts = pipe[-1].describe(pipe[:-1].transform(bad)).iloc[0]
    assert abs(parts["peak_row"] - 43) < 6
    assert abs(parts["peak_col"] - 15) < 6


@pytest.mark.parametrize(
    "params, message",
    [
        (dict(tile_size=16, tile_overlap=16), "tile_overlap=16 must be smaller than tile_size=16"),
        (dict(tile_overlap=8), "tile_overlap=8 has an effect with tile_size only"),
        (dict(tile_size=(16, 16, 16)), "tile_size must be a positive integer or two"),
        (dict(tile_size=16, tile_overlap=3), "tile_overlap must be a multiple of 2.* 2 and 4"),
        (dict(tile_size=16, image_size=49), "image_size must be a multiple of 2.* 48 and 50"),
        (dict(tile_size=0), "'tile_size' parameter"),
        (dict(tile_size=16, tile_overlap=-2), "'tile_overlap' parameter"),
    ],
)
def test_tiles_that_cannot_be_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        ConvFeatures(Blocks(), **{**OWN, **params}).fit(photos())


def test_a_tile_that_is_no_whole_number_of_patches_is_refused():
    """Lite0 has no whole patch for the last pixels of 36."""
    with pytest.raises(ValueError, match="tile_size must be a multiple of"):
        ConvFeatures(image_size=72, tile_size=36).fit(photos())


def test_fit_does_not_read_large_images_as_a_whole(tmp_path):
    side = 4200  # 53 MB
    path = tmp_path / "large.npy"
    np.lib.format.open_memmap(path, "w+", np.uint8, (side, side, 3))[:, :, 0] = 200
    features = ConvFeatures(Blocks(), ("stage1",), image_size="native", tile_size=40)
    tracemalloc.start()
    features.fit([path])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6
    np.testing.assert_allclose(features.colours_, [[200, 0, 0]], atol=1)
