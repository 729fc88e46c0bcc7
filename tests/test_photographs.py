import numpy as np
import pytest

from skstructcore.datasets import DEFECTS, PHOTOGRAPHS, make_photographs

SMALL = dict(tile_size=48, n_train=4, n_test_good=2, n_test_defect=1)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_each_photograph_gives_the_images_that_were_asked_for(name):
    images = make_photographs(name, **SMALL, random_state=0)

    assert len(images.train) == 4 and set(images.train.y) == {"good"}
    assert list(images.test.y) == ["good", "good", *DEFECTS]
    assert all(p.shape == (48, 48, 3) and p.dtype == np.uint8 for p in images.paths)
    for label, mask in zip(images.y, images.masks, strict=True):
        assert (mask is None) == (label == "good")
    assert set(images.categories) == {name}


def test_training_and_test_tiles_come_from_different_blocks():
    images = make_photographs("brick", **SMALL, random_state=1)
    assert not set(images.train.groups) & set(images.test.groups)


def test_same_seed_same_tiles():
    first = make_photographs("moon", **SMALL, random_state=5)
    again = make_photographs("moon", **SMALL, random_state=5)
    np.testing.assert_array_equal(first.paths, again.paths)


def test_unknown_names_and_tiles_that_are_too_large_are_errors():
    with pytest.raises(ValueError, match="'wood'"):
        make_photographs("wood")
    with pytest.raises(ValueError, match=r"tile_size=600 is too large .* at most 409"):
        make_photographs("brick", tile_size=600)
    assert len(make_photographs("brick", **{**SMALL, "tile_size": 409})) == 12
