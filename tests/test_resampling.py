import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from skstructcore.images import Geometry, place_on_image, upsample_maps
from skstructcore.images.geometry import ignored_pixels, upsample_counted


@pytest.fixture
def maps():
    return np.random.default_rng(0).random((3, 5, 7)).astype(np.float32)


@pytest.mark.parametrize("size", [(5, 7), (10, 21), (13, 9), (3, 4), (1, 1)])
def test_resizing_is_the_bilinear_interpolation_of_torch(maps, size):
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(maps)[:, None], size=size, mode="bilinear", align_corners=False
    )[:, 0]
    np.testing.assert_allclose(upsample_maps(maps, size), expected, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.5, 4.0])
def test_smoothing_is_the_gaussian_of_scipy_on_the_resized_map(maps, sigma):
    resized = upsample_maps(maps, (20, 35))
    expected = [gaussian_filter(m, sigma, mode="nearest", truncate=4.0) for m in resized]
    np.testing.assert_allclose(upsample_maps(maps, (20, 35), sigma), expected, atol=1e-5)


def test_a_constant_map_stays_what_it_is_and_a_single_patch_fills_the_image():
    np.testing.assert_allclose(upsample_maps(np.full((1, 3, 3), 2.5), (11, 8), 3.0), 2.5, rtol=1e-6)
    assert (upsample_maps([[[7.0]]], (4, 4)) == 7).all()


def test_a_map_lies_on_its_own_image():
    # Image 1 of 8 x 12 pixels: the backbone saw rows 2 to 6 and columns 4 to 12 as 2 x 4 pixels.
    geometry = Geometry((2, 4), [[9, 9], [8, 12]], [[0, 0, 9, 9], [2, 4, 6, 12]])
    pixels = np.arange(8, dtype=np.float32).reshape(2, 4)
    placed = place_on_image(pixels, geometry, 1)
    assert placed.shape == (8, 12)
    seen = np.zeros((8, 12), bool)
    seen[2:6, 4:12] = True
    np.testing.assert_array_equal(np.isnan(placed), ~seen)
    np.testing.assert_allclose(placed[2:6, 4:12], upsample_maps(pixels[np.newaxis], (4, 8))[0])


def test_the_whole_image_is_filled_without_a_crop():
    geometry = Geometry((4, 4), [[7, 10]], [[0, 0, 7, 10]])
    placed = place_on_image(np.ones((4, 4), np.float32), geometry, 0)
    assert placed.shape == (7, 10) and (placed == 1).all()


def test_ignored_patches_have_no_say_in_what_is_counted(maps):
    ignored = np.zeros(maps.shape, bool)
    ignored[:, :2] = True
    changed = np.where(ignored, 1e6, maps)
    one, other = (upsample_counted(m, ignored, (25, 35), 2.0) for m in (maps, changed))
    np.testing.assert_array_equal(one, other)
    out = ignored_pixels(ignored, (25, 35))
    # Two of five rows of patches are ten of 25 rows of pixels.
    assert out[:, :10].all() and not out[:, 10:].any()
    assert (one[out] == 0).all() and (one[~out] > 0).all()


def test_with_nothing_ignored_the_maps_are_those_without(maps):
    nothing = np.zeros(maps.shape, bool)
    np.testing.assert_allclose(
        upsample_counted(maps, nothing, (20, 35), 2.0),
        upsample_maps(maps, (20, 35), 2.0),
        rtol=1e-5,
    )


def test_a_part_narrower_than_a_pixel_is_placed_on_one():
    geometry = Geometry((8, 8), [[2, 2], [2, 2]], [[0.6, 0, 1.4, 2], [1.8, 0, 2, 2]])
    for i in range(2):
        placed = place_on_image(np.ones((8, 8)), geometry, i)
        np.testing.assert_array_equal(placed, [[np.nan, np.nan], [1, 1]])


@pytest.mark.parametrize("start", [0, 1, 2])
def test_a_map_between_two_pixels_lies_on_the_later_one(start):
    box = [start + 0.5, 0, start + 2.5, 8]
    placed = place_on_image(np.ones((4, 4), np.float32), Geometry((4, 4), [[8, 8]], [box]), 0)
    assert np.flatnonzero(np.isfinite(placed).any(axis=1)).tolist() == [start + 1, start + 2]
