from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skstructcore.scoring.descriptors import DESCRIPTORS, compute_descriptors, descriptor_names

MAP = np.array([[[1, 2, 3], [4, 5, 6], [7, 8, 18]]], dtype=np.float32)

finite_maps = arrays(np.float64, (2, 4, 5), elements=st.floats(-1e3, 1e3))


@pytest.mark.parametrize(
    "name, expected",
    [
        ("max", 18),
        ("mean", 6),  # 54 / 9
        ("median", 5),
        ("contrast", 13),  # 18 - 5
        ("std", np.sqrt((25 + 16 + 9 + 4 + 1 + 0 + 1 + 4 + 144) / 9)),
        ("top1", 18),  # round(0.09) pixels, at least one
        ("top33", (18 + 8 + 7) / 3),
        ("top100", 6),
        # down the columns 3+3, 3+3, 3+12; along the rows 1+1, 1+1, 1+10
        ("tv", (6 + 6 + 15 + 2 + 2 + 11) / 9),
        # the 3 x 3 mean in the lower right corner repeats the edges: 5, 2*6, 2*8, 4*18 over 9
        ("smoothmax", (5 + 12 + 16 + 72) / 9),
        # centred -5 -4 -3 / -2 -1 0 / 1 2 12: products down the columns 10+4+0-2-2+0, along
        # the rows 20+12+2+0+2+24; 12 pairs; the mean square is 204 / 9
        ("moran", (10 + 60) / 12 / (204 / 9)),
        # mean 6 + 2 * 4.76 = 15.5: the pixel of 18 alone
        ("component", np.log(2)),
    ],
)
def test_value_worked_out_by_hand_on_a_three_by_three_map(name, expected):
    assert compute_descriptors(MAP, [name])[0, 0] == pytest.approx(expected)


def test_the_default_is_phi_of_the_paper():
    np.testing.assert_array_equal(
        compute_descriptors(MAP), compute_descriptors(MAP, ["std", "top1", "tv"])
    )


@given(finite_maps, st.floats(0.1, 10), st.floats(-5, 5))
def test_every_descriptor_scales_with_the_map_and_none_reacts_to_order(maps, factor, shift):
    names = [name for name in DESCRIPTORS if name != "component"]  # has a limit to round to
    phi = compute_descriptors(maps, names)
    moved = compute_descriptors(maps[::-1] * factor + shift, names)[::-1]
    shape_only = np.isin(names, "moran")
    factors = np.where(shape_only, 1.0, factor)
    still = shape_only | np.isin(names, ["std", "tv", "contrast"])
    expected = phi * factors + np.where(still, 0.0, shift)
    np.testing.assert_allclose(moved[:, ~shape_only], expected[:, ~shape_only], atol=1e-8)
    # Rounding decides what the shape of a constant map is.
    rough = phi[:, names.index("std")] > 1e-6
    np.testing.assert_allclose(moved[rough], expected[rough], atol=1e-5)


@pytest.mark.parametrize("value", [7.0, 0.1])  # the mean of 49 times 0.1 is not 0.1
def test_a_constant_map_has_no_spread(value):
    names = ["tv", "contrast", "moran", "component", "max"]
    phi = compute_descriptors(np.full((1, 7, 7), value), [*names, "std"])
    np.testing.assert_allclose(phi, [[0, 0, 0, 0, value, 0]], rtol=0, atol=1e-16)


def test_corners_connect_the_pixels_of_a_component():
    maps = np.zeros((1, 8, 8))
    maps[0, [0, 1, 6], [0, 1, 6]] = 9
    assert compute_descriptors(maps, ["component"])[0, 0] == pytest.approx(np.log(3))


def test_a_single_pixel_is_its_own_everything():
    np.testing.assert_array_equal(
        compute_descriptors(np.full((2, 1, 1), 3.0), ["max", "top1", "smoothmax", "tv"]),
        [[3, 3, 3, 0]] * 2,
    )


def test_a_function_of_the_user_is_a_descriptor():
    def corner(maps):
        return maps[:, 0, 0]

    assert descriptor_names([corner, "max"]) == ["corner", "max"]
    np.testing.assert_array_equal(compute_descriptors(MAP, [corner, "max"]), [[1, 18]])


@pytest.mark.parametrize("name", ["sigma", "top", "top0", "top101", "top-1", 3])
def test_unknown_name_is_answered_with_the_known_ones(name):
    with pytest.raises(ValueError, match="Unknown descriptor 'surprise_surprise_max'"):
        descriptor_names(["surprise_surprise_max"])
    with pytest.raises(ValueError, match=r"Unknown descriptor .* Known are max, std"):
        compute_descriptors(MAP, [name])


def test_wrong_shape_and_nan_name_the_descriptor():
    with pytest.raises(ValueError, match=r"'bad_shape' must return one number an image"):
        compute_descriptors(MAP, [named("bad_shape", lambda maps: maps[0])])
    ignored = np.arange(9).reshape(1, 3, 3) < 2
    with pytest.raises(ValueError, match=r"'bad_shape' must return one number an .* shape \(7,\)"):
        compute_descriptors(MAP, [named("bad_shape", lambda maps: maps[0])], ignored=ignored)
    with pytest.raises(ValueError, match=r"'bad_value' returned nan for image 0"):
        compute_descriptors(MAP, [named("bad_value", lambda maps: np.full(len(maps), np.nan))])


def test_two_descriptors_of_one_name_are_refused():
    with pytest.raises(ValueError, match="found twice: max"):
        compute_descriptors(MAP, ["max", "max"])
    largest, spread = (partial(function, axis=(1, 2)) for function in (np.max, np.std))
    with pytest.raises(ValueError, match=r"found twice: partial.* its __name__ says"):
        compute_descriptors(MAP, [largest, spread])
    largest.__name__, spread.__name__ = "largest", "spread"
    assert compute_descriptors(MAP, [largest, spread]).tolist() == [[MAP.max(), MAP.std()]]


@pytest.mark.parametrize("maps", [np.ones((3, 3)), np.ones((0, 3, 3)), np.ones((2, 0, 3))])
def test_maps_of_a_wrong_shape_are_refused(maps):
    with pytest.raises(ValueError, match=r"non-empty array \(n, h, w\)"):
        compute_descriptors(maps)


def test_nan_in_the_maps_names_the_image():
    maps = np.ones((3, 2, 2))
    maps[1, 0, 0] = np.nan
    with pytest.raises(ValueError, match="1 of 3 images, first in image 1"):
        compute_descriptors(maps)


def named(name, function):
    function.__name__ = name
    return function


@pytest.mark.parametrize("odd", ["a", 1j, None])
def test_a_descriptor_returns_real_numbers(odd):
    def own(maps):
        return [odd] * len(maps)

    with pytest.raises(ValueError, match="'own' must return real numbers"):
        compute_descriptors(np.ones((2, 3, 3)), [own])
