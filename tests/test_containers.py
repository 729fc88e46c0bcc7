"""What travels beside the numbers: one row is one image, whatever is done to it."""

import pickle

import joblib
import numpy as np
import pytest

from skstructcore import AnomalyMaps, MemoryBank, Patches
from skstructcore.containers import TrainingImages
from skstructcore.images import Geometry


@pytest.fixture
def bank():
    return MemoryBank(
        values=np.arange(12, dtype=np.float32).reshape(6, 2),
        image_index=np.array([0, 0, 1, 2, 2, 3]),
        groups=np.array([0, 0, 0, 1, 1, 1]),
        routes=np.array([0, 1, 0, 1, 1, 0]),
        route_names=("left", "right"),
    )


@pytest.fixture
def maps():
    values = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    return AnomalyMaps(
        values,
        images=TrainingImages(np.array([0, 0, 1, 1])),
        route=np.array(["a", "b", "a", "b"]),
        route_distance=np.arange(4.0),
        geometry=Geometry((8, 12), [[8, 12]] * 4, [[i, 0, 8, 12] for i in range(4)]),
        surprise=-values,
    )


@pytest.mark.parametrize(
    ("key", "rows"),
    [
        (2, [2]),
        (-1, [3]),
        (slice(1, 3), [1, 2]),
        ([3, 0], [3, 0]),
        (np.array([True, False, False, True]), [0, 3]),
        ((slice(0, 2), Ellipsis), [0, 1]),
    ],
)
def test_all_that_belongs_to_an_image_is_cut_with_it(maps, key, rows):
    cut = maps[key]
    np.testing.assert_array_equal(cut.values, maps.values[rows])
    np.testing.assert_array_equal(cut.surprise, maps.surprise[rows])
    assert cut.groups.tolist() == maps.groups[rows].tolist()
    assert cut.route.tolist() == maps.route[rows].tolist()
    assert cut.route_distance.tolist() == rows
    assert cut.geometry.boxes[:, 0].tolist() == rows


def test_indexing_pixels_is_an_error_and_a_loop_ends(maps):
    with pytest.raises(IndexError, match="indexed by image only"):
        maps[0, 1]
    for key in (True, None, np.True_, [[0]], np.zeros((4, 1), bool)):
        with pytest.raises(IndexError, match="indexed by image only"):
            maps[key]
    many = AnomalyMaps(np.zeros((300, 1, 1)))
    assert len(many[np.uint8(255)]) == len(many[np.int8(-1)]) == 1
    assert [np.asarray(one).shape for one in maps] == [(1, 2, 3)] * 4


def test_they_are_arrays_to_numpy(maps):
    assert (maps.shape, maps.ndim, maps.dtype, len(maps)) == ((4, 2, 3), 3, np.float32, 4)
    assert np.asarray(maps) is maps.values
    assert np.asarray(maps, dtype=np.float64).dtype == np.float64
    copy = np.array(maps)
    copy[:] = 0
    assert maps.values.max() == 23


def test_pickles_keep_the_values_and_hashes_tell_content_apart(maps, bank):
    for thing in (maps, bank, Patches(maps.values[..., None], bank)):
        again = pickle.loads(pickle.dumps(thing))
        np.testing.assert_array_equal(again.values, thing.values)
        assert joblib.hash(pickle.loads(pickle.dumps(again))) == joblib.hash(again)
    changed = maps.values.copy()
    changed[3, 1, 2] += 1
    plain = AnomalyMaps(maps.values)
    assert joblib.hash(AnomalyMaps(maps.values.copy())) == joblib.hash(plain)
    assert joblib.hash(AnomalyMaps(changed)) != joblib.hash(plain)


def test_the_bank_of_a_route_is_its_entries(bank):
    right = bank.select(1)
    assert right.values[:, 0].tolist() == [2, 6, 8] and right.image_index.tolist() == [0, 2, 2]
    assert right.route_names == ("right",) and right.routes.tolist() == [0, 0, 0]
    whole = MemoryBank.of_rows(bank.values)
    assert np.shares_memory(whole.select(0).values, bank.values)  # a stretch needs no copy


def test_patches_keep_what_only_training_images_have(bank):
    values = np.zeros((4, 1, 1, 2), dtype=np.float32)
    images = TrainingImages(np.arange(4) // 2, names=np.array(list("abcd")))
    patches = Patches(values, bank, images=images)
    cut = patches[1:3]
    assert cut.image_index.tolist() == [1, 2] and cut.groups.tolist() == [0, 1]
    assert cut.names.tolist() == ["b", "c"] and cut.parts is None and cut[1:].groups.tolist() == [1]
    assert cut.bank is bank and Patches(values, bank)[0].image_index is None


def test_what_is_known_of_some_training_images_only_is_not_lost_when_they_are_joined():
    def images(n, **known):
        never = np.zeros(n, dtype=np.int64)
        return TrainingImages(np.arange(n), digests=np.arange(n).astype(str), came=never,
                              went=never, **known)  # fmt: skip

    first, second = images(2, parts=np.array([7, 8])), images(3)
    with pytest.raises(ValueError, match="parts is known of some of the rows only"):
        first.join(second)
    both = first.join(images(3, parts=np.array([1, 1, 2])))
    assert both.parts.tolist() == [7, 8, 1, 1, 2] and both.came.tolist() == [0, 0, 1, 1, 1]
    less = both.forget(np.arange(5) == 1)
    assert less.is_there.tolist() == [True, False, True, True, True] and less.digests[1] == ""
    # Nothing changed after the second three came; after the first two, much did.
    every, last = np.ones(5, dtype=bool), np.arange(5) > 1
    assert both.is_unchanged_since(last, every) and not both.is_unchanged_since(~last, every)
    assert not less.is_unchanged_since(last, every) and less.is_unchanged_since(last, last)


def test_images_of_which_no_digest_is_known_are_not_found_and_can_be_forgotten():
    images = TrainingImages(np.arange(3))
    assert images.find(["a", ""]).tolist() == [-1, -1]
    less = images.forget(np.array([True, False, False]))
    assert less.is_there.tolist() == [False, True, True] and less.digests is None


def test_entries_of_two_banks_are_joined_route_by_route():
    def entries(values, images, routes, names):
        rows = np.array(values, dtype=np.float32)[:, np.newaxis]
        index = np.array(images)
        return MemoryBank(rows, index, index, np.array(routes), names)

    first = entries([1, 2, 3], [0, 1, 1], [0, 0, 1], ("nut", "bolt"))
    second = entries([7, 8, 9], [5, 6, 6], [0, 1, 0], ("bolt", "pin"))
    joined = first.join(second)
    assert joined.route_names == ("nut", "bolt", "pin")
    assert joined.routes.tolist() == [0, 0, 1, 1, 1, 2]
    assert joined.values.ravel().tolist() == [1, 2, 3, 7, 9, 8]
    assert joined.image_index.tolist() == [0, 1, 1, 5, 6, 6]
    without = joined.select(0, 2)
    assert without.route_names == ("nut", "pin") and without.routes.tolist() == [0, 0, 1]
    assert joined.take(joined.groups == 1).values.ravel().tolist() == [2, 3]


def test_routes_are_selected_in_their_order_however_they_are_asked_for(bank):
    for part in (bank.select(1, 0), bank.select(0, 1, 1)):
        assert part.route_names == bank.route_names
        np.testing.assert_array_equal(part.routes, bank.routes)


def test_columns_of_another_length_are_an_error_that_names_them():
    with pytest.raises(ValueError, match="groups has 3, routes has 5"):
        TrainingImages(np.zeros(3, int), routes=np.zeros(5, int))
    with pytest.raises(ValueError, match="values has 3, route has 1"):
        AnomalyMaps(np.zeros((3, 2, 2)), route=np.array(["a"]))
    rows = np.arange(2)
    with pytest.raises(ValueError, match="values has 3, image_index has 2"):
        MemoryBank(np.zeros((3, 4)), rows, rows, rows)


def test_what_belongs_to_maps_is_given_by_name():
    with pytest.raises(TypeError, match="positional"):
        AnomalyMaps(np.zeros((3, 2, 2)), np.zeros((3, 2, 2)))
