"""The label convention: which value of y means normal and which anomalous.

It is written down here and nowhere else: metrics, scorers and splitters ask `is_anomalous`, and
`ImageSet` spells all labels as `defect_types` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["ANOMALOUS", "GOOD", "defect_types", "is_anomalous", "is_defect_in_training"]

GOOD = "good"
#: The type of a defect of which numbers say no more.
ANOMALOUS = "anomalous"


def is_anomalous(y: ArrayLike, *, both: bool = False) -> NDArray[np.bool_]:
    """Read labels in any of the codings that are in use.

    =====================  ==========  =========================
    coding                 normal      anomalous
    =====================  ==========  =========================
    strings                "good"      every other string
    numbers or booleans    0, False    1, True
    numbers with a -1      +1          -1 (scikit-learn's coding)
    =====================  ==========  =========================

    Parameters
    ----------
    y : array-like of shape (n,)
    both : bool, default=False
        Whether normal and anomalous labels must both be there, as most metrics need.

    Returns
    -------
    anomalous : ndarray of shape (n,), dtype bool

    Raises
    ------
    ValueError
        If y mixes codings, has other values, or may be read in two ways: nothing but ones
        is all anomalous in one coding and all normal in the other. With `both=True` also
        if only one class is there.

    Examples
    --------
    >>> from skstructcore.images.labels import is_anomalous
    >>> is_anomalous(["good", "scratch", "good"])
    array([False,  True, False])
    >>> is_anomalous([1, -1, 1])
    array([False,  True, False])
    >>> is_anomalous([0, 1, 0])
    array([False,  True, False])
    """
    # As objects, or a list of strings and numbers would silently become all strings.
    y = np.asarray(y) if hasattr(y, "dtype") else np.asarray(y, dtype=object)
    if y.ndim != 1:
        raise ValueError(f"y must be one-dimensional, got shape {y.shape}")
    if not len(y):
        raise ValueError("y is empty; a label for each image is needed")
    if y.dtype.kind in "US" or (y.dtype == object and _all(y, str)):
        anomalous = _from_strings(y)
    else:
        anomalous = _from_numbers(y)
    if both and (anomalous.all() or not anomalous.any()):
        kind = "normal" if not anomalous.any() else "anomalous"
        raise ValueError(
            f"y has only {kind} labels ({_found(y)}); normal and anomalous ones are both needed"
        )
    return anomalous


def defect_types(y: ArrayLike) -> NDArray[np.object_]:
    """Spell labels as strings: "good", and the type of the defect.

    Parameters
    ----------
    y : array-like of shape (n,)
        In any coding of `is_anomalous`; errors are those of `is_anomalous`.

    Returns
    -------
    types : ndarray of shape (n,), dtype object
        Strings as they are; numbers as "good" and "anomalous".

    Examples
    --------
    >>> from skstructcore.images.labels import defect_types
    >>> defect_types([0, 1, 0]).tolist(), defect_types(["good", "crack"]).tolist()
    (['good', 'anomalous', 'good'], ['good', 'crack'])
    """
    anomalous = is_anomalous(y)
    y = np.asarray(y, dtype=object)
    if isinstance(y[0], str):
        return np.array([str(label) for label in y], dtype=object)
    return np.where(anomalous, ANOMALOUS, GOOD).astype(object)


def is_defect_in_training(y: ArrayLike) -> NDArray[np.bool_]:
    """Read labels of images that are all supposed to be good.

    As `is_anomalous`, but nothing but the number 1 means that all are good: that is what a
    fold of good images holds where defects are -1.

    Parameters
    ----------
    y : array-like of shape (n,)

    Returns
    -------
    anomalous : ndarray of shape (n,), dtype bool

    Examples
    --------
    >>> from skstructcore.images.labels import is_defect_in_training
    >>> is_defect_in_training([1, 1]), is_defect_in_training(["good", "crack"])
    (array([False, False]), array([False,  True]))
    """
    y = np.asarray(y) if hasattr(y, "dtype") else np.asarray(y, dtype=object)
    numbers = [label for label in y.tolist() if not isinstance(label, (str, bool))]
    if len(numbers) == len(y) and set(numbers) == {1}:
        return np.zeros(len(y), dtype=bool)
    return is_anomalous(y)


def _all(y, types):
    return all(isinstance(label, types) for label in y)


def _from_strings(y):
    labels = y.astype(str)
    spelled = sorted({s for s in set(labels.tolist()) if s != GOOD and s.strip().lower() == GOOD})
    if spelled:
        raise ValueError(f"y contains {spelled}: write normal images as {GOOD!r}, exactly")
    return labels != GOOD


def _from_numbers(y):
    if y.dtype == object and _all(y, (bool, np.bool_)):
        y = y.astype(bool)
    if y.dtype == object:
        types = sorted({type(label).__name__ for label in y})
        try:
            if any(isinstance(label, str) for label in y):
                raise TypeError
            y = y.astype(np.float64)
        except (TypeError, ValueError):
            raise ValueError(
                f"y mixes labels of the types {types}; use strings or numbers, not both"
            ) from None
    values = set(np.unique(y).tolist())
    if values <= {0, 1} and (0 in values or y.dtype == bool):
        return y.astype(bool)
    if values == {1}:
        raise ValueError(
            "y holds nothing but 1, which is anomalous beside 0 and normal beside -1; "
            f"use the strings {GOOD!r} and the type of the defect, or booleans"
        )
    if values <= {-1, 1}:
        return y == -1
    raise ValueError(
        f"y must hold 0 and 1, or -1 and 1, or strings of which {GOOD!r} is normal; "
        f"found {_found(y)}"
    )


def _found(y):
    values = np.unique(y.astype(str) if y.dtype == object else y).tolist()
    return ", ".join(map(repr, values[:5])) + (", …" if len(values) > 5 else "")
