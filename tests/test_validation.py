import numpy as np
import pytest
from sklearn.base import BaseEstimator

from skstructcore._utils.rows import as_patch_grid, check_features
from skstructcore._utils.validation import check_per_image


class Estimator(BaseEstimator):
    pass


@pytest.fixture
def fitted():
    estimator = Estimator()
    check_features(estimator, np.zeros((2, 3, 3, 4)), reset=True)
    return estimator


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 5, 4)])
def test_fit_remembers_the_number_of_features_and_other_calls_compare_it(shape):
    estimator = Estimator()
    X = check_features(estimator, np.ones(shape, np.float32), reset=True)
    assert X.shape == shape and X.dtype == np.float32 and estimator.n_features_in_ == 4
    check_features(estimator, np.ones((1, *shape[1:])), reset=False)
    assert estimator.n_features_in_ == 4
    with pytest.raises(ValueError, match="X has 3 features, but Estimator is expecting 4"):
        check_features(estimator, np.ones((*shape[:-1], 3)), reset=False)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((2, 3, 4)), r"must be patch features .* got an array of shape \(2, 3, 4\)"),
        (np.zeros((2, 3, 3, 2, 4)), r"must be patch features"),
        (np.zeros((0, 3, 3, 4)), r"0 sample\(s\)"),
        (np.full((2, 3, 3, 4), np.inf), "infinity"),
        (np.full((2, 4), np.nan), "NaN"),
    ],
    ids=["3-D", "5-D", "no images", "infinity", "NaN in a table"],
)
def test_what_are_no_features_is_an_error(fitted, X, message):
    with pytest.raises(ValueError, match=message):
        check_features(fitted, X, reset=False)


def test_a_patch_is_ignored_as_a_whole_or_not_at_all(fitted):
    X = np.zeros((2, 3, 3, 4))
    X[0, 1, 1] = np.nan
    assert np.isnan(check_features(fitted, X, reset=False)).sum() == 4
    for feature in (0, 3):  # also where the first feature alone would not tell
        X[0, 2, 2] = 0
        X[0, 2, 2, feature] = np.nan
        with pytest.raises(ValueError, match="some are and some are not"):
            check_features(fitted, X, reset=False)


def test_integers_become_floats(fitted):
    assert check_features(fitted, np.ones((1, 3, 3, 4), int), reset=False).dtype.kind == "f"


def test_a_row_of_a_table_is_an_image_of_one_patch():
    table = np.arange(6.0).reshape(3, 2)
    grid = as_patch_grid(table)
    assert grid.shape == (3, 1, 1, 2) and (grid[:, 0, 0] == table).all()
    assert as_patch_grid(grid) is grid


@pytest.mark.parametrize("values", [["a"], ["a", "b", "c"], "ab", [["a"], ["b"]], 1])
def test_one_entry_an_image_is_needed(values):
    with pytest.raises(ValueError, match="groups must have one entry per image: expected 2"):
        check_per_image(values, 2, "groups")
    with pytest.raises(ValueError, match="groups must have one entry per image, got several"):
        check_per_image([[1], [1, 2]], 2, "groups")


@pytest.mark.parametrize("odd", [None, np.nan, 1, 1.5, b"b"])
@pytest.mark.parametrize("kind", [list, tuple])
def test_what_stands_beside_a_string_is_not_made_one(odd, kind):
    values = check_per_image(kind(["a", odd]), 2, "groups")
    assert values[0] == "a" and type(values[1]) is type(odd)
