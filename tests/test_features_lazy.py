"""LazyFeatures: an array that is computed when it is asked for."""

import numpy as np
import pytest
from networks import Blocks
from PIL import Image

from skstructcore import ConvFeatures


@pytest.fixture
def module():
    return Blocks()


@pytest.fixture
def lazy(module):
    X = np.random.default_rng(0).integers(0, 256, (5, 40, 30), dtype=np.uint8)
    features = ConvFeatures(module, ("stage1", "stage2"), image_size=32, batch_size=2).fit(X)
    module.n_images = 0
    return features.transform(X)


def test_looks_like_an_array_without_running_the_network(lazy, module):
    assert lazy.shape == (5, 16, 16, 10)
    assert (lazy.dtype, lazy.ndim, len(lazy)) == (np.float32, 4, 5)
    assert lazy[1:4].map(np.abs, 10).shape == (3, 16, 16, 10)
    assert lazy.geometry.original_sizes.tolist() == [[40, 30]] * 5
    assert module.n_images == 0


def test_batches_are_the_array_in_order(lazy, module):
    batches = list(lazy)
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert module.n_images == 5
    np.testing.assert_array_equal(np.concatenate(batches), np.asarray(lazy))
    assert np.asarray(lazy, dtype=np.float64).dtype == np.float64


@pytest.mark.parametrize(
    "index", [slice(1, 4), slice(None, None, -2), [3, 0], np.array([1, 0, 1, 1, 0], bool), []]
)
def test_subset_is_lazy_and_equals_the_rows(lazy, index):
    subset = lazy[index]
    expected = np.asarray(lazy)[index]
    assert subset.shape == expected.shape
    np.testing.assert_array_equal(np.asarray(subset), expected)
    assert len(subset.geometry) == len(expected)


@pytest.mark.parametrize("index", [0, -1, np.int64(3)])
def test_one_image_is_an_array(lazy, index):
    np.testing.assert_array_equal(lazy[index], np.asarray(lazy)[index])


def test_index_outside_is_an_index_error(lazy):
    with pytest.raises(IndexError):
        lazy[5]


@pytest.mark.parametrize("index", [(..., 0), (slice(None), 0), (0, 0)])
def test_what_is_within_images_is_no_index(lazy, index):
    with pytest.raises(IndexError, match="LazyFeatures is indexed by image only"):
        lazy[index]
    assert lazy[1:3, ...].shape == (2, 16, 16, 10)


def test_functions_are_applied_in_turn(lazy):
    mapped = lazy.map(np.negative, 10).map(first_three, 3)
    assert mapped.shape == (5, 16, 16, 3)
    np.testing.assert_array_equal(np.asarray(mapped), -np.asarray(lazy)[..., :3])


def first_three(batch):
    return batch[..., :3].astype(np.float64)


def test_a_copy_cannot_be_avoided(lazy):
    with pytest.raises(ValueError, match="cannot avoid a copy"):
        lazy.__array__(copy=False)  # what NumPy 2 calls for `copy=False`


def test_only_as_many_images_as_needed_are_in_work(lazy, module):
    batches = lazy.iter_batches()
    next(batches)
    batches.close()
    assert module.n_images <= 5
    module.n_images = 0
    next(lazy[:2].iter_batches())
    assert module.n_images == 2


def test_later_parameters_do_not_change_what_was_given(lazy):
    expected = np.asarray(lazy)
    features = lazy.backbone
    given = features.transform(np.zeros((1, 40, 30), np.uint8))
    features.set_params(image_size=16)
    assert np.asarray(given).shape == (1, 16, 16, 10)
    assert expected.shape == (5, 16, 16, 10)


def test_layers_changed_in_place_do_not_change_what_was_given(lazy):
    features = lazy.backbone
    features.set_params(layers=list(features.layers)).fit(lazy.images.items)
    given = features.transform(np.zeros((1, 40, 30), np.uint8))
    features.layers.reverse()
    assert given.backbone.layers == features.layers[::-1] != features.layers


def test_geometry_of_a_crop_follows_the_orientation_of_files(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying: 60 wide, 40 high; upright 60 high, 40 wide
    Image.new("L", (60, 40)).save(tmp_path / "turned.png", exif=exif)
    features = ConvFeatures(image_size=32, crop=True).fit([tmp_path / "turned.png"])
    geometry = features.transform(tmp_path).geometry
    assert geometry.original_sizes.tolist() == [[60, 40]]
    # Scaled by 0.8 to 48 x 32; the crop starts at 8 of 48, that is 10 of 60.
    assert geometry.boxes.tolist() == [[10, 0, 50, 40]]
    assert geometry.input_size == (32, 32)


def test_progress_is_shown_when_verbose(capsys):
    X = np.zeros((3, 32, 32), np.uint8)
    features = ConvFeatures(Blocks(), ("stage1",), image_size=32, verbose=1)
    np.asarray(features.fit_transform(X))
    assert "3/3" in capsys.readouterr().err
