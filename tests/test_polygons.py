"""Polygons: filled and traced, each the inverse of the other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from skstructcore.images.masks import fill_polygons, outline


@settings(deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_an_outline_filled_again_is_the_region_without_holes(mask):
    labels, n_regions = ndimage.label(mask, np.ones((3, 3)))
    for number in range(1, n_regions + 1):
        region = labels == number
        expected = ndimage.binary_fill_holes(region)
        np.testing.assert_array_equal(fill_polygons([outline(region)], mask.shape), expected)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-3, 12), st.floats(-3, 12)), min_size=3, max_size=7))
def test_filling_asks_whether_the_centre_of_a_pixel_is_inside(corners):
    """Against a ray to the left of each centre, pixel by pixel."""
    expected = np.zeros((8, 9), dtype=bool)
    for row, col in np.ndindex(expected.shape):
        y, x, inside = row + 0.5, col + 0.5, False
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
            if min(y0, y1) <= y < max(y0, y1) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x:
                inside = not inside
        expected[row, col] = inside
    np.testing.assert_array_equal(fill_polygons([corners], (8, 9)), expected)


def test_several_polygons_are_filled_together():
    square, other = [(0, 0), (2, 0), (2, 1), (0, 1)], [(1, 0), (3, 0), (3, 1), (1, 1)]
    assert fill_polygons([square, other], (2, 4)).astype(int).tolist() == [[1, 1, 1, 0], [0] * 4]


def test_an_outline_turns_only_where_the_region_does():
    region = np.zeros((5, 6), dtype=bool)
    region[1:4, 2:5] = True
    assert outline(region).tolist() == [[2, 1], [5, 1], [5, 4], [2, 4]]


def test_nothing_has_no_outline():
    with pytest.raises(ValueError, match="empty"):
        outline(np.zeros((2, 2), dtype=bool))
