import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import check_cv

from skstructcore.datasets import ImageSet
from skstructcore.images.labels import is_anomalous
from skstructcore.model_selection import (
    MVTecSplit,
    OneClassGroupKFold,
    OneClassGroupShuffleSplit,
    OneClassKFold,
    OneClassShuffleSplit,
)

SPLITTERS = [
    OneClassKFold(3),
    OneClassKFold(3, shuffle=True, random_state=0),
    OneClassShuffleSplit(3, test_size=0.3, random_state=0),
    OneClassGroupKFold(3),
    OneClassGroupKFold(3, shuffle=True, random_state=0),
    OneClassGroupShuffleSplit(3, test_size=0.3, random_state=0),
]
GROUPED = [s for s in SPLITTERS if "Group" in type(s).__name__]


@st.composite
def labels_and_groups(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**31 - 1)))
    # Each group has good and anomalous images, so that any split of them can be evaluated.
    n_groups = draw(st.integers(6, 12))
    y = np.tile(["good", "good", "crack", "hole"], n_groups)
    groups = np.repeat(np.arange(n_groups), 4)
    order = rng.permutation(len(y))
    return y[order], groups[order]


@pytest.mark.parametrize("splitter", SPLITTERS, ids=repr)
@settings(max_examples=15, deadline=None)
@given(case=labels_and_groups())
def test_good_images_train_and_both_kinds_test(splitter, case):
    y, groups = case
    splits = list(splitter.split(np.zeros(len(y)), y, groups))

    assert len(splits) == splitter.get_n_splits() == 3
    for train, test in splits:
        assert (y[train] == "good").all()
        assert set(y[test]) == {"good", "crack", "hole"}
        assert not set(train) & set(test)
        assert len(set(train)) == len(train) and len(set(test)) == len(test)


@pytest.mark.parametrize("splitter", GROUPED, ids=repr)
@settings(max_examples=15, deadline=None)
@given(case=labels_and_groups())
def test_no_group_is_on_both_sides(splitter, case):
    y, groups = case
    for train, test in splitter.split(y, y, groups):
        assert not set(groups[train]) & set(groups[test])


@pytest.mark.parametrize("splitter", [OneClassKFold(3), OneClassGroupKFold(3)], ids=repr)
def test_k_folds_test_every_image_once(splitter):
    y = np.tile(["good", "good", "crack"], 5)
    groups = np.repeat(np.arange(5), 3)
    tested = np.concatenate([test for _, test in splitter.split(y, y, groups)])
    assert sorted(tested) == list(range(15))


def test_k_folds_get_their_share_of_each_type():
    y = ["good"] * 6 + ["crack"] * 6 + ["hole"] * 3
    for _, test in OneClassKFold(3, shuffle=True, random_state=1).split(y, y):
        assert sorted(np.asarray(y)[test]) == ["crack"] * 2 + ["good"] * 2 + ["hole"]


@pytest.mark.parametrize("splitter", [OneClassKFold, OneClassGroupKFold])
def test_a_seed_without_shuffling_is_refused_as_by_scikit_learn(splitter):
    y = ["good", "crack", "good"] * 4
    with pytest.raises(ValueError, match="random_state has no effect since shuffle is False"):
        next(splitter(2, random_state=0).split(y, y, np.repeat(np.arange(4), 3)))


@pytest.mark.parametrize("splitter", SPLITTERS[1:], ids=repr)
def test_the_seed_fixes_the_splits(splitter):
    y, groups = np.tile(["good", "good", "crack", "hole"], 8), np.repeat(np.arange(8), 4)
    first = list(splitter.split(y, y, groups))
    again = list(splitter.split(y, y, groups))
    for (train, test), (train_again, test_again) in zip(first, again, strict=True):
        np.testing.assert_array_equal(train, train_again)
        np.testing.assert_array_equal(test, test_again)


def test_shuffle_split_holds_out_the_share_that_is_asked_for():
    y = ["good"] * 10 + ["crack"] * 4
    for train, test in OneClassShuffleSplit(4, test_size=0.3, random_state=0).split(y, y):
        assert len(train) == 7 and len(test) == 3 + 4


def test_labels_and_groups_come_from_the_image_set():
    images = ImageSet(
        [f"{i}.png" for i in range(8)],
        ["good", "good", "crack", "good"] * 2,
        groups=[0] * 4 + [1] * 4,
        splits=["train", "train", "train", "test"] + ["test"] * 4,
    )
    for train, test in OneClassGroupKFold(2).split(images):
        assert len(train) == 3 and len(test) == 4
    # The crack among the training images is left out.
    [(train, test)] = MVTecSplit().split(images)
    assert list(train) == [0, 1] and list(test) == [3, 4, 5, 6, 7]
    assert MVTecSplit().get_n_splits() == 1


@pytest.mark.parametrize("coding", [[0, 0, 1], [1, 1, -1], [False, False, True]], ids=repr)
def test_all_label_codings_are_split(coding):
    y = np.tile(coding, 4)
    for train, _ in OneClassKFold(2).split(y, y):
        assert not is_anomalous(y)[train].any()


def test_scikit_learn_knows_them_as_splitters():
    for splitter in [*SPLITTERS, MVTecSplit()]:
        assert check_cv(splitter) is splitter
        assert repr(splitter).startswith(type(splitter).__name__ + "(")
    assert OneClassGroupKFold().get_metadata_routing().split.requests == {"groups": True}


@pytest.mark.parametrize(
    ("splitter", "y", "groups", "message"),
    [
        (OneClassKFold(2), None, None, "Labels are needed"),
        (OneClassKFold(2), ["good"] * 6, None, "y has only normal labels"),
        (OneClassKFold(2), ["defect"] * 6, None, "y has only anomalous labels"),
        (OneClassKFold(2), ["good", "hole"], None, "images has 6, y has 2"),
        (OneClassKFold(3), ["good"] * 4 + ["hole"] * 2, None, "1 good and 0 anomalous test images"),
        (OneClassKFold(3), ["good"] * 2 + ["hole"] * 4, None, "splits n_splits=3 greater than"),
        (OneClassGroupKFold(2), ["good"] * 4 + ["hole"] * 2, None, "needs groups"),
        (
            OneClassGroupKFold(2),
            ["good"] * 4 + ["hole"] * 2,
            [0],
            "groups must have one entry per image: expected 6",
        ),
        (
            OneClassGroupKFold(2),
            ["good"] * 4 + ["hole"] * 2,
            [0, 0, 0, 0, 1, 1],
            "0 training images",
        ),
        (MVTecSplit(), ["good"] * 4 + ["hole"] * 2, None, "needs splits"),
        (MVTecSplit(["train"]), ["good"] * 4 + ["hole"] * 2, None, "splits must have one entry"),
        (MVTecSplit(["a"] * 6), ["good"] * 4 + ["hole"] * 2, None, "must hold"),
        (
            MVTecSplit(["train"] * 4 + ["test"] * 2),
            ["good"] * 4 + ["hole"] * 2,
            None,
            "4 training images, 0 good and 2 anomalous test images",
        ),
    ],
)
def test_what_cannot_be_split_is_an_error(splitter, y, groups, message):
    with pytest.raises(ValueError, match=message):
        list(splitter.split(np.zeros(6), y, groups))


@pytest.mark.parametrize("groups", [[np.nan] * 6, ["a", None] * 3, [1, 2]])
def test_groups_that_are_not_there_for_each_image_are_an_error(groups):
    splitter = OneClassGroupKFold(2)
    with pytest.raises(ValueError, match=r"groups (has no entry|must have one entry)"):
        list(splitter.split(np.zeros(6), ["good"] * 4 + ["hole"] * 2, groups))


def test_numbers_of_splits_are_checked_as_by_scikit_learn():
    with pytest.raises(ValueError, match="must be of Integral type"):
        OneClassKFold("3")
