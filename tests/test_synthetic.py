import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skstructcore.datasets import DEFECTS, paint_defect


def textured(shape, seed=0):
    return np.random.default_rng(seed).integers(80, 170, size=shape).astype(np.uint8)


@pytest.mark.parametrize("kind", DEFECTS)
@pytest.mark.parametrize("shape", [(64, 64), (48, 80, 3)])
def test_only_the_surroundings_of_the_mask_change(kind, shape):
    good = textured(shape)
    before = good.copy()

    painted, mask = paint_defect(good, kind, random_state=0)

    assert painted.dtype == np.uint8 and painted.shape == shape
    assert mask.dtype == bool and mask.shape == shape[:2]
    assert 0 < mask.mean() < 0.5
    np.testing.assert_array_equal(good, before)
    changed = (painted != good).reshape(*shape[:2], -1).any(axis=2)
    # Soft edges reach out of the mask, but most of what changed is inside.
    assert changed[mask].mean() > 0.8
    assert changed[~mask].mean() < 0.25


@pytest.mark.parametrize("kind", DEFECTS)
def test_the_seed_fixes_the_defect(kind):
    good = textured((40, 40))
    first, first_mask = paint_defect(good, kind, random_state=3)
    again, again_mask = paint_defect(good, kind, random_state=3)
    other, _ = paint_defect(good, kind, random_state=4)

    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first_mask, again_mask)
    assert (first != other).any()


@pytest.mark.parametrize("kind", ["spot", "stain", "noise"])
def test_severity_raises_the_contrast(kind):
    good = textured((64, 64))

    def change(severity):
        painted, mask = paint_defect(good, kind, random_state=1, severity=severity)
        return np.abs(painted.astype(int) - good)[mask].mean()

    assert change(0.4) < change(1.5)


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(sorted(DEFECTS)),
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    level=st.sampled_from([0, 128, 255]),
    seed=st.integers(0, 2**31 - 1),
)
def test_plain_images_of_any_size_get_a_mask(kind, height, width, level, seed):
    good = np.full((height, width), level, np.uint8)
    _, mask = paint_defect(good, kind, random_state=seed)
    assert mask.any()


@pytest.mark.parametrize(
    ("image", "options", "error", "message"),
    [
        (np.zeros((20, 20)), {}, TypeError, "uint8, got float64"),
        (np.zeros((20, 20, 4), np.uint8), {}, ValueError, r"got \(20, 20, 4\)"),
        (np.zeros((4, 20), np.uint8), {}, ValueError, "8 x 8"),
        (np.zeros((20, 20), np.uint8), {"kind": "dent"}, ValueError, "'dent'"),
        (np.zeros((20, 20), np.uint8), {"severity": 0}, ValueError, "severity"),
    ],
)
def test_bad_input_is_named(image, options, error, message):
    with pytest.raises(error, match=message):
        paint_defect(image, **{"kind": "spot", **options})
