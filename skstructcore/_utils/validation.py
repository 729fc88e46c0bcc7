"""Checks of parameters, and of lists that have one entry an image."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def check_number(value, name, low, high=None, *, closed="neither", type=Real):
    """Raise ValueError unless a parameter of a function is a number of an interval."""
    from sklearn.utils._param_validation import Interval  # an exported model does without

    wanted = Interval(type, low, high, closed=closed)
    if isinstance(value, bool) or not wanted.is_satisfied_by(value):
        raise ValueError(f"{name} must be {wanted}, got {value!r}.")


def check_per_image(values, n_images, name):
    """Return `values` as a 1-D array with one entry an image, or raise ValueError."""
    # Beside a string, numpy would turn NaN, None and 1 into the strings "nan", "None" and "1".
    is_mixed = isinstance(values, (list, tuple)) and len({isinstance(v, str) for v in values}) > 1
    try:
        values = np.asarray(values, dtype=object if is_mixed else None)
    except ValueError:
        raise ValueError(f"{name} must have one entry per image, got several of one.") from None
    if values.shape != (n_images,):
        raise ValueError(
            f"{name} must have one entry per image: expected {n_images}, "
            f"got an array of shape {values.shape}."
        )
    return values


def check_labels(values: ArrayLike, n_images: int, name: str) -> NDArray[Any]:
    """Return names of groups or categories, one an image and none empty, or raise ValueError."""
    if isinstance(values, str):
        raise ValueError(f"{name} must have one entry per image, got one string: {values!r}.")
    values = check_per_image(values, n_images, name)
    from pandas import Series  # slow to import

    column = Series(values)
    missing = np.flatnonzero(column.isna() | (column.astype(str).str.strip() == ""))
    if len(missing):
        got = values.tolist()[missing[0]]
        raise ValueError(
            f"{name} has no entry for image {missing[0]}: got {got!r}. Give every image one."
        )
    try:
        np.unique(values)
    except TypeError:
        types = sorted({type(value).__name__ for value in values})
        raise ValueError(
            f"{name} mixes the types {', '.join(types)}: use one type for all images."
        ) from None
    return values


def check_same_length(**columns: ArrayLike | None) -> None:
    """Raise ValueError unless all that are given have one entry an image."""
    lengths = {name: len(values) for name, values in columns.items() if values is not None}
    if len(set(lengths.values())) > 1:
        lengths_found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"One entry an image is needed: {lengths_found}.")
