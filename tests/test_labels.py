import numpy as np
import pandas as pd
import pytest

from skstructcore.images.labels import is_anomalous

EXPECTED = [False, True, False]


@pytest.mark.parametrize(
    "y",
    [
        ["good", "crack", "good"],
        np.array(["good", "crack", "good"]),
        np.array(["good", "crack", "good"], dtype=object),
        pd.Series(["good", "crack", "good"]),
        pd.Series(["good", "crack", "good"], dtype="category"),
        [0, 1, 0],
        [0.0, 1.0, 0.0],
        [False, True, False],
        np.array([0, 1, 0], dtype=np.uint8),
        [1, -1, 1],
        np.array([1, -1, 1], dtype=object),
    ],
    ids=repr,
)
def test_each_coding_is_read(y):
    np.testing.assert_array_equal(is_anomalous(y), EXPECTED)


def test_one_class_is_fine_unless_both_are_needed():
    assert not is_anomalous(["good"] * 3).any()
    assert not is_anomalous([0, 0]).any()
    assert is_anomalous([True, True]).all()
    assert is_anomalous([-1, -1]).all()
    with pytest.raises(ValueError, match=r"only normal labels \('good'\)"):
        is_anomalous(["good", "good"], both=True)
    with pytest.raises(ValueError, match=r"only anomalous labels \('crack', 'ok'\)"):
        is_anomalous(["crack", "ok"], both=True)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, 1, 1], "nothing but 1"),
        ([-1, 0, 1], "must hold 0 and 1, or -1 and 1"),
        ([0, 1, 2], "found 0.0, 1.0, 2.0"),
        ([0, np.nan], "nan"),
        (["good", 1], "types"),
        (["good", None], "types"),
        (["good", "Good", "crack"], r"\['Good'\]"),
        ([], "y is empty"),
        ([["good"]], "one-dimensional"),
    ],
    ids=repr,
)
def test_what_is_ambiguous_is_refused(y, message):
    with pytest.raises(ValueError, match=message):
        is_anomalous(y)
