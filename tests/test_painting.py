import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from skstructcore.datasets import DEFECTS, ImageSet, paint_copies, paint_defect
from skstructcore.images import as_images


@pytest.fixture
def good():
    return np.random.default_rng(0).integers(90, 160, (8, 48, 64), dtype=np.uint8)


def test_the_copy_of_an_image_does_not_depend_on_the_others_or_on_its_file(good, tmp_path):
    copies = paint_copies(good, random_state=3)
    part = paint_copies(good[5:7], random_state=3)
    np.testing.assert_array_equal(part.paths, copies[5:7].paths)
    assert part.y.tolist() == copies.y[5:7].tolist()
    for name in ("a.png", "b.png"):  # the digest is that of the content, not of the name
        Image.fromarray(good[0]).save(tmp_path / name)
    first, second = paint_copies([tmp_path / "a.png", tmp_path / "b.png"])
    np.testing.assert_array_equal(first, second)
    other = paint_copies(good, random_state=4)
    assert any((a != b).any() for a, b in zip(copies, other, strict=True))


@pytest.mark.parametrize("form", [lambda images: images, as_images])
def test_copies_are_labelled_and_masked_and_keep_what_is_known(good, form):
    parts = list("ababcdcd")
    images = ImageSet(good, groups=list("aabbccdd"), categories=["nut"] * 8, parts=parts)
    copies = paint_copies(form(images), kinds=["spot", "noise"], severity=2.0)
    assert set(copies.y) <= {"spot", "noise"} and len(set(copies.y)) == 2
    assert copies.groups.tolist() == list("aabbccdd")
    assert copies.parts.tolist() == parts
    assert copies.categories.tolist() == ["nut"] * 8 and copies.splits is None
    for original, copy, mask in zip(good, copies, copies.masks, strict=True):
        assert copy.shape == mask.shape == (48, 64)
        assert (copy != original)[mask].mean() > 0.8
        assert (copy != original)[~mask].mean() < 0.25


@pytest.mark.parametrize("kind", DEFECTS)
def test_grey_stays_grey_and_colour_stays_colour(good, kind):
    grey = np.repeat(good[..., np.newaxis], 3, axis=-1)
    assert paint_copies(grey, kinds=[kind]).paths[0].shape == (48, 64)
    coloured = grey.copy()
    coloured[:, 0, 0, 0] ^= 1  # one pixel is enough
    assert paint_copies(coloured, kinds=[kind]).paths[0].shape == (48, 64, 3)


@pytest.mark.parametrize("kind", DEFECTS)
@pytest.mark.parametrize("size", [4, 12, 40])
def test_a_defect_is_as_long_as_asked(kind, size):
    flat = np.random.default_rng(0).integers(90, 160, (64, 80), dtype=np.uint8)
    for seed in range(5):
        _, mask = paint_defect(flat, kind, seed, size=size)
        pixels = np.argwhere(mask)
        apart = np.linalg.norm(pixels[:, None] - pixels[None], axis=2).max() + 1
        # Counted in whole pixels, and on a bent outline, it is not exact.
        assert abs(apart - size) <= max(2.0, 0.1 * size), (seed, apart)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ["dent"]}, r"kinds must hold some of \['missing'.*got \['dent'\]"),
        ({"kinds": []}, "kinds must hold some of"),
        ({"size": 49}, r"painted on <ndarray>: size must be .*48.0\], got 49"),
        ({"size": 0}, r"size must be a float in the range \[1.0"),
        ({"size": "a"}, "got 'a'"),
        ({"severity": -1}, "severity must be a float in the range"),
        ({"severity": np.inf}, "severity must be a float in the range"),
    ],
)
def test_what_cannot_be_painted_is_named(good, options, message):
    with pytest.raises(ValueError, match=message):
        paint_copies(good, **options)


def test_no_seed_and_a_generator_are_taken_too(good):
    rng = np.random.RandomState(0)
    first, second = (paint_copies(good[:1], random_state=rng).paths[0] for _ in range(2))
    assert (first != second).any()
    assert len(paint_copies(good, random_state=None)) == 8
    assert len(paint_copies(good, random_state=-1)) == 8


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
