"""Checks of what the estimators are given."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_array, validate_data

from .lazy import is_lazy

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

_FLOATS = [np.float32, np.float64]


def check_features(estimator, X, *, reset):
    """Validate patch features (or maps) and set or compare ``n_features_in_``.

    Parameters
    ----------
    estimator : estimator
        Whose ``n_features_in_`` is set (`reset`) or compared.
    X : LazyFeatures or array-like of shape (n, h, w, d) or (n, d)
        Patch features, or a table that is read as n images of one patch each.
    reset : bool
        Whether this is `fit`.

    Returns
    -------
    X : LazyFeatures or ndarray
        Floating-point features, finite but for ignored patches, all of whose features are NaN.
        Lazy features come back untouched: their values are checked where they are computed.

    Raises
    ------
    ValueError
        For any other number of axes, no image, infinity, NaN in some features of a patch (or
        anywhere in a table), or a last axis that is not as long as in `fit`.
    """
    if is_lazy(X):
        if len(X) == 0:
            raise ValueError("X has no images: at least one is needed.")
        _check_last_axis(estimator, X.shape[-1], reset)
        return X
    if getattr(X, "ndim", 2) <= 2:
        return validate_data(estimator, X, reset=reset, dtype=_FLOATS)
    # NaN is told apart below: a patch of nothing else is ignored.
    X = check_array(
        X,
        dtype=_FLOATS,
        allow_nd=True,
        estimator=estimator,
        input_name="X",
        ensure_all_finite="allow-nan" if np.ndim(X) == 4 else True,
    )
    if X.ndim != 4:
        raise ValueError(
            "X must be patch features (n_images, h, w, n_features) or a table "
            f"(n_samples, n_features), got an array of shape {X.shape}."
        )
    _check_last_axis(estimator, X.shape[-1], reset)
    ignored = ignored_patches(X)
    if not np.isfinite(X if ignored is None else X[~ignored]).all() or (
        ignored is not None and not np.isnan(X[ignored]).all()
    ):
        raise ValueError(
            "Input X contains NaN: a patch is ignored if all of its features are NaN, but here "
            "some are and some are not. Check the backbone's weights and dtype."
        )
    return X


def ignored_patches(features):
    """Which patches of features ``(..., d)`` are ignored: those of NaN. None where none is.

    Examples
    --------
    >>> ignored_patches(np.array([[1.0, 2.0], [np.nan, np.nan]]))
    array([False,  True])
    """
    ignored = np.isnan(features[..., 0])
    return ignored if ignored.any() else None


def counted_rows(features):
    """Rows ``(m, d)`` of all patches that are not ignored, and their places; None: all are there.

    Examples
    --------
    >>> rows, places = counted_rows(np.array([[[np.nan], [1.0]], [[2.0], [3.0]]]))
    >>> rows.ravel(), places
    (array([1., 2., 3.]), array([1, 2, 3]))
    """
    rows = features.reshape(-1, features.shape[-1])
    ignored = ignored_patches(rows)
    if ignored is None:
        return rows, None
    places = np.flatnonzero(~ignored)
    return rows[places], places


def _check_last_axis(estimator, n_features, reset):
    if reset:
        estimator.n_features_in_ = n_features
    elif n_features != estimator.n_features_in_:
        raise ValueError(
            f"X has {n_features} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input."
        )


def as_patch_grid(X):
    """Give a table ``(n, d)`` the shape ``(n, 1, 1, d)`` of one patch an image.

    Examples
    --------
    >>> import numpy as np
    >>> as_patch_grid(np.zeros((3, 2))).shape
    (3, 1, 1, 2)
    """
    return X[:, np.newaxis, np.newaxis, :] if X.ndim == 2 else X


def check_number(value, name, low, high=None, *, closed="neither", kind=Real):
    """Raise ValueError unless a parameter of a function is a number of an interval.

    As scikit-learn checks the parameters of estimators.

    Examples
    --------
    >>> check_number(0.5, "fdr", 0, 1)
    >>> check_number("0.5", "fdr", 0, 1)
    Traceback (most recent call last):
    ValueError: fdr must be a float in the range (0.0, 1.0), got '0.5'.
    """
    wanted = Interval(kind, low, high, closed=closed)
    if isinstance(value, bool) or not wanted.is_satisfied_by(value):
        raise ValueError(f"{name} must be {wanted}, got {value!r}.")


def check_per_image(values, n_images, name):
    """Return `values` as a 1-D array with one entry an image, or raise ValueError.

    A list that mixes strings with anything else stays as it is, of dtype object.

    Examples
    --------
    >>> check_per_image(["a", "b"], 2, "groups")
    array(['a', 'b'], dtype='<U1')
    >>> check_per_image(["a", float("nan")], 2, "groups")
    array(['a', nan], dtype=object)
    """
    if isinstance(values, (list, tuple)):
        # numpy would make the strings "nan", "None" and "1" of what stands beside a string.
        is_string = [isinstance(value, str) for value in values]
        mixed = any(is_string) and not all(is_string)
        values = np.asarray(values, dtype=object if mixed else None)
    values = np.asarray(values)
    if values.shape != (n_images,):
        raise ValueError(
            f"{name} must have one entry per image: expected {n_images}, "
            f"got an array of shape {values.shape}."
        )
    return values


def check_labels(values: ArrayLike, n_images: int, name: str) -> NDArray[Any]:
    """Return names of groups or categories, one an image and none missing, or raise ValueError.

    Examples
    --------
    >>> check_labels(["a", "b", "a"], 3, "groups")
    array(['a', 'b', 'a'], dtype='<U1')
    >>> check_labels(["a", None, "a"], 3, "groups")
    Traceback (most recent call last):
    ValueError: groups has no entry for image 1: got None. Give every image one.
    """
    if isinstance(values, str):
        raise ValueError(f"{name} must have one entry per image, or be 'auto' or None: {values!r}.")
    values = check_per_image(values, n_images, name)
    from pandas import isna  # slow to import

    missing = np.flatnonzero(isna(values))
    if len(missing):
        raise ValueError(
            f"{name} has no entry for image {missing[0]}: got {values[missing[0]]}. Give every "
            "image one."
        )
    try:
        np.unique(values)
    except TypeError:
        types = sorted({type(value).__name__ for value in values})
        raise ValueError(
            f"{name} mixes the types {', '.join(types)}: use one type for all images."
        ) from None
    return values
