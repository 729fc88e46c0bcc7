"""What is known of images reaches the bank: passed comes before carried."""

import logging

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin

from skstructcore import ConvFeatures, CoresetBank, make_structcore
from skstructcore._utils.rows import LazyRows
from skstructcore.datasets import ImageSet
from skstructcore.images import Annotations, as_images


@pytest.fixture(scope="module")
def images():
    """Ten images of four parts of two products; the last has a defect."""
    pixels = np.random.default_rng(0).integers(0, 256, size=(10, 32, 32), dtype=np.uint8)
    return ImageSet(
        pixels,
        ["good"] * 9 + ["crack"],
        groups=["p", "p", "p", "q", "q", "q", "r", "r", "s", "s"],
        categories=["nut"] * 6 + ["bolt"] * 4,
    )


@pytest.fixture(scope="module")
def features(images):
    return ConvFeatures(image_size=32).fit_transform(images)


def one_category(features):
    part = features[:6]
    assert set(part.annotations.categories) == {"nut"}
    return part


def test_annotations_are_cut_with_the_images(images):
    part = as_images(images)[[0, 9]].annotations
    assert part.labels.tolist() == ["good", "crack"]
    assert part.groups.tolist() == ["p", "s"] and part.categories.tolist() == ["nut", "bolt"]


def test_annotations_travel_through_the_lazy_steps(images):
    pipe = make_structcore("efficientnet_lite0", features__image_size=32)
    projected = pipe[:2].fit_transform(images)
    np.testing.assert_array_equal(projected[3:].annotations.groups, images.groups[3:])


def test_images_without_annotations_have_none():
    known = as_images(np.zeros((2, 8, 8), np.uint8))[1:].annotations
    assert (known.labels, known.groups, known.categories) == (None, None, None)


def test_groups_labels_and_categories_reach_the_bank_by_themselves(images, features, caplog):
    with caplog.at_level(logging.INFO):
        patches = CoresetBank(0.5, random_state=0).fit_transform(features)
    assert patches.groups.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 3]  # without the crack
    assert patches.bank.route_names == ("bolt", "nut")
    assert patches.routes.tolist() == [1] * 6 + [0] * 3
    assert "Took the groups of the images: 4 for 10 images" in caplog.text
    assert "Took the categories of the images: 2 for 10 images" in caplog.text
    assert "Left out 1 of 10 images" in caplog.text


def test_a_pipeline_fitted_on_an_image_set_is_one_fitted_with_its_parts(images):
    good = images[:6]
    pipes = [make_structcore("efficientnet_lite0", features__image_size=32) for _ in range(2)]
    for pipe in pipes:
        pipe.set_params(bank__ratio=0.5)
    carried = pipes[0].fit(good)
    passed = pipes[1].fit(good.paths, bank__groups=good.groups)
    np.testing.assert_array_equal(carried["bank"].bank_.groups, passed["bank"].bank_.groups)
    np.testing.assert_array_equal(
        carried.score_samples(images.paths), passed.score_samples(images.paths)
    )
    assert carried[-1].offset_ == passed[-1].offset_


def test_what_is_passed_comes_before_what_is_carried(features):
    patches = CoresetBank(0.5).fit_transform(
        features, ["good"] * 10, groups=np.arange(10) // 5, categories=["a", "b"] * 5
    )
    assert len(patches) == 10
    assert patches.groups.tolist() == [0] * 5 + [1] * 5
    assert patches.bank.route_names == ("a", "b")


def test_none_turns_off_what_is_carried(features):
    patches = CoresetBank(0.5).fit_transform(features, groups=None, categories=None)
    assert patches.groups.tolist() == list(range(9))
    assert patches.bank.route_names == ("all",) and patches.bank.profiles is None


def test_one_category_for_all_is_no_reason_for_routing(features):
    patches = CoresetBank(0.5).fit_transform(one_category(features))
    assert patches.bank.route_names == ("all",) and patches.bank.profiles is None


def test_one_category_that_is_passed_is_a_route(features):
    patches = CoresetBank(0.5).fit_transform(one_category(features), categories=["nut"] * 6)
    assert patches.bank.route_names == ("nut",) and len(patches.bank.profiles) == 1


def test_n_routes_comes_before_categories_that_are_carried(features):
    bank = CoresetBank(0.5, n_routes=1).fit(features).bank_
    assert bank.route_names == ("route0",)


class Halved(TransformerMixin, BaseEstimator):
    """A step of a user: lazy in, an array out, which carries nothing."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.asarray(X) / 2


def test_arrays_carry_nothing(features):
    assert CoresetBank(0.5).fit(Halved().fit_transform(features)).n_images_ == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": ["a"] * 3}, "groups must have one entry per image: expected 10"),
        ({"groups": "lots"}, "groups must have one entry per image, got one string: 'lots'"),
        ({"groups": ["a", None] + ["b"] * 8}, "groups has no entry for image 1: got None"),
        ({"groups": [0.0] * 9 + [np.nan]}, "groups has no entry for image 9: got nan"),
        (
            {"categories": np.array(["a"] * 9 + [1], dtype=object)},
            "categories mixes the types int, str",
        ),
        ({"categories": ["nut"] * 9 + ["bolt"]}, r"No good image is left in 'bolt'"),
        ({"categories": ["nut"] * 8 + ["bolt"] * 2}, r"without categories \(categories=None\)"),
    ],
)
def test_bad_annotations_are_errors_that_say_the_way_out(features, arguments, message):
    with pytest.raises(ValueError, match=message):
        CoresetBank(0.5).fit(features, **arguments)


def test_carried_groups_of_the_wrong_length_are_an_error(features):
    class Wrong(LazyRows):
        shape, dtype, ndim = features.shape, features.dtype, 4
        annotations = Annotations(groups=np.arange(3))
        iter_batches = features.iter_batches

        def __getitem__(self, rows):
            return features[rows]

        def __len__(self):
            return 10

    with pytest.raises(ValueError, match="groups must have one entry per image: expected 10"):
        CoresetBank(0.5).fit(Wrong())


@pytest.mark.parametrize(
    ("odd", "message"),
    [(1, "y mixes labels of the types"), (np.nan, "an empty label"), (None, "an empty label")],
)
@pytest.mark.parametrize("as_table", [False, True])
def test_labels_of_mixed_kinds_are_an_error(features, odd, message, as_table):
    X = np.random.default_rng(0).random((10, 3)) if as_table else features
    with pytest.raises(ValueError, match=message):
        CoresetBank(0.5).fit(X, ["good"] * 9 + [odd])


@pytest.mark.parametrize("name", ["groups", "categories"])
@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (np.nan, "has no entry for image 9: got nan"),
        (None, "has no entry for image 9: got None"),
        (" ", "has no entry for image 9: got ' '"),
        (1, "mixes the types int, str"),
    ],
)
def test_names_of_mixed_kinds_are_an_error(features, name, odd, message):
    # numpy alone would make the strings "nan" and "1" of them.
    with pytest.raises(ValueError, match=f"{name} {message}"):
        CoresetBank(0.5).fit(features, **{name: ["p"] * 9 + [odd]})


def test_copies_among_training_images_are_told_unless_they_are_one_group(caplog):
    X = np.random.default_rng(0).random((4, 2, 2, 3)).astype(np.float32)
    X[3] = X[1]
    CoresetBank(0.5).fit(X, groups=["a", "b", "c", "b"])
    assert not caplog.records
    CoresetBank(0.5).fit(X)
    assert "1 of 4 good images are copies of others (the first: image 3 of image 1)" in caplog.text


def test_messages_number_all_images_that_were_given(caplog):
    X = np.random.default_rng(0).normal(size=(20, 3, 3, 4))
    y = ["broken"] * 5 + ["good"] * 15
    X[9] = X[8]
    CoresetBank(random_state=0).fit(X, y, groups=None)
    assert "image 9 of image 8" in caplog.text
    X[7] = np.nan
    with pytest.raises(ValueError, match="Every patch of image 7 is ignored"):
        CoresetBank(random_state=0).fit(X, y)


@pytest.mark.parametrize("share", [0.07, 0.14, 0.28])  # 0.07 * 100 is 7.000000000000001
def test_contamination_is_rounded_up_from_what_was_meant(share):
    X = np.random.default_rng(0).normal(size=(100, 3))
    left_out = CoresetBank(contamination=share, random_state=0).fit(X).left_out_
    assert len(left_out) == round(100 * share)
