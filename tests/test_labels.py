from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from skstructcore.datasets import ImageSet
from skstructcore.images.labels import defect_types, is_anomalous, is_defect_in_training, labels_of

EXPECTED = [False, True, False]


@pytest.mark.parametrize(
    "y",
    [
        ["good", "crack", "good"],
        np.array(["good", "crack", "good"]),
        np.array(["good", "crack", "good"], dtype=object),
        np.array([b"good", b"crack", b"good"]),
        pd.Series(["good", "crack", "good"]),
        pd.Series(["good", "crack", "good"], dtype="category"),
        [0, 1, 0],
        [0.0, 1.0, 0.0],
        [False, True, False],
        np.array([0, 1, 0], dtype=np.uint8),
        [1, -1, 1],
        np.array([1, -1, 1], dtype=object),
        [Decimal(0), Decimal(1), Decimal(0)],  # as databases give them
        [Fraction(1), -1, 1.0],
    ],
    ids=repr,
)
def test_each_coding_is_read(y):
    np.testing.assert_array_equal(is_anomalous(y), EXPECTED)


@pytest.mark.parametrize(
    "words",
    [
        ("normal", "anomaly"),
        ("OK", "NG"),
        ("Pass", "FAIL"),
        ("good", "Anomaly"),
        ("Defect-Free", "defect"),
        ("no_defect", "defective"),
        ("i.O.", "n.i.O."),
        ("ok", "scratch"),
    ],
)
def test_words_of_other_people_mean_the_same(words):
    y = [words[0], words[1], words[0]]
    np.testing.assert_array_equal(is_anomalous(y), EXPECTED)
    assert defect_types(y).tolist() == ["good", words[1], "good"]
    assert not is_anomalous(words[:1]).any()


def test_a_set_of_defects_alone_keeps_its_types_and_is_refused_where_decisions_are_judged():
    assert defect_types(["crack", "dent"]).tolist() == ["crack", "dent"]
    assert defect_types(np.array([b"ok", b"dent"])).tolist() == ["good", "dent"]
    with pytest.raises(ValueError, match="no known words"):
        is_anomalous(["crack", "dent"])


def test_an_empty_label_is_no_type_of_defect():
    for function in (defect_types, is_defect_in_training):
        with pytest.raises(ValueError, match="empty label for image 1"):
            function(["good", "", "good"])


def test_two_words_for_good_are_both_good():
    assert is_anomalous(["good", "OK", "dent", "good"]).tolist() == [False, False, True, False]


def test_one_class_is_fine_unless_both_are_needed():
    assert not is_anomalous(["good"] * 3).any()
    assert not is_anomalous([0, 0]).any()
    assert is_anomalous([True, True]).all()
    assert is_anomalous([-1, -1]).all()
    with pytest.raises(ValueError, match=r"only normal labels \('good'\)"):
        is_anomalous(["good", "good"], both=True)
    with pytest.raises(ValueError, match=r"only anomalous labels \('NG', 'bad'\)"):
        is_anomalous(["bad", "NG"], both=True)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, 1, 1], "nothing but 1"),
        ([-1, 0, 1], "must hold 0 and 1, or -1 and 1"),
        ([0, 1, 2], "found 0.0, 1.0, 2.0"),
        ([0, np.nan], "empty label for image 1"),
        ([0, 1, 2**70], r"found 0.0, 1.0, 1.18\d*e\+21"),
        ([Decimal(0), "good"], r"types \['Decimal', 'str'\]"),
        (["good", 1], "types"),
        (["good", None], "empty label for image 1"),
        (["good", np.nan, "dent"], "empty label for image 1"),
        (["gut", "schlecht"], "no known words: 'gut', 'schlecht'. Good images .* normal.* ng"),
        (["NG", "gut"], "no known words"),
        (["0", "1"], "no known words"),
        (["good", ""], "empty label for image 1"),
        (np.array(["good", " ", "dent"]), "empty label for image 1"),
        ([], "y is empty"),
        ([["good"]], "one-dimensional"),
    ],
    ids=repr,
)
def test_what_is_ambiguous_is_refused(y, message):
    with pytest.raises(ValueError, match=message):
        is_anomalous(y)


def test_labels_of_an_image_set_are_taken_unless_others_are_given():
    images = ImageSet(["a.png", "b.png"], ["good", "spot"])
    assert labels_of(images, None).tolist() == ["good", "spot"]
    assert labels_of(images, [1, 0]).tolist() == ["anomalous", "good"]
    assert labels_of(["a.png", "b.png"], None) is None


def test_ones_alone_are_all_good_in_training():
    assert is_defect_in_training([1, 1]).tolist() == [False, False]  # a fold of +1 without -1
    assert is_defect_in_training(["good", "crack"]).tolist() == [False, True]
    assert is_defect_in_training([True, True]).all()


def test_labels_in_a_column_are_refused():
    for read in (is_anomalous, is_defect_in_training, defect_types):
        with pytest.raises(ValueError, match=r"one-dimensional, got shape \(2, 1\)"):
            read(np.array([["good"], ["bad"]]))


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="NumPy 2 has it")
def test_strings_of_numpy_2_are_labels():
    y = np.array(["good", "crack"], np.dtypes.StringDType())
    for read in (is_anomalous, is_defect_in_training):
        assert read(y).tolist() == [False, True]
    assert defect_types(y).tolist() == ["good", "crack"]
