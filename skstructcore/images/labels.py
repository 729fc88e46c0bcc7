"""The label convention, in one place: which value of y means normal and which anomalous."""

from __future__ import annotations

import re
from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._utils.validation import check_same_length

GOOD = "good"
ANOMALOUS = "anomalous"  # the type of a defect of which numbers say no more
UNLABELLED = "images"  # what pictures call all images, where no labels are known
#: Words that say that an image is good; case, spaces, points and hyphens do not count.
GOOD_WORDS = tuple(
    "good normal nominal ok okay pass passed accept accepted defect-free no-defect "
    "non-defective io".split()
)
#: Words that say that it is not, and nothing of the type of the defect.
DEFECT_WORDS = tuple(
    "anomalous anomaly abnormal bad defect defective faulty fail failed reject rejected ng nok ko "
    "not-good not-ok nio".split()
)


def _spelled(word):
    return re.sub(r"[\s._-]", "", word).lower()


_GOOD, _DEFECT = ({_spelled(word) for word in words} for words in (GOOD_WORDS, DEFECT_WORDS))


def means_good(label: str, good: str = GOOD) -> bool:
    """Whether a label is `good` or one of the words for good images, `GOOD_WORDS`."""
    return label.lower() == good.lower() or _spelled(label) in _GOOD


def means_defect(label: str) -> bool:
    """Whether a label is one of the words for images with a defect, `DEFECT_WORDS`."""
    return _spelled(label) in _DEFECT


def is_anomalous(y: ArrayLike, *, both: bool = False) -> NDArray[np.bool_]:
    """Read labels in any of the codings that are in use.

    ===================  ===========================  ==========================
    coding               normal                       anomalous
    ===================  ===========================  ==========================
    strings              "good" or a word for it      every other string
    numbers or booleans  0, False                     1, True
    numbers with a -1    +1                           -1 (scikit-learn's coding)
    ===================  ===========================  ==========================

    The words for good are `GOOD_WORDS` ("normal", "OK", "pass", "defect-free", ...), in any
    case. Any other string is the type of a defect, if a good image is there too. Without one,
    only `DEFECT_WORDS` ("bad", "NG", "anomaly", ...) are understood.

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
        If y mixes codings, has other values, or may be read in two ways: nothing but ones, or
        strings without a known word. With `both=True` also if only one class is there.

    Examples
    --------
    >>> from skstructcore.images.labels import is_anomalous
    >>> is_anomalous(["good", "scratch", "OK"])
    array([False,  True, False])
    >>> is_anomalous([1, -1, 1])
    array([False,  True, False])
    """
    y = _as_labels(y)
    if not len(y):
        raise ValueError("y is empty; a label for each image is needed")
    anomalous = _from_strings(y) if _are_strings(y) else _from_numbers(y)
    if both and (anomalous.all() or not anomalous.any()):
        only = "normal" if not anomalous.any() else "anomalous"
        raise ValueError(
            f"y has only {only} labels ({_found(y)}); normal and anomalous ones are both needed"
        )
    return anomalous


def defect_types(y: ArrayLike) -> NDArray[np.object_]:
    """Spell labels as strings ``(n,)``: "good" for words for it, and the type of the defect.

    They are read as `is_anomalous` reads them, but strings may be types of defects alone.
    """
    labels = _as_labels(y)
    if len(labels) and _are_strings(labels):
        return np.array([GOOD if means_good(label) else str(label) for label in labels], object)
    return np.where(is_anomalous(labels), ANOMALOUS, GOOD).astype(object)


def labels_of(images: object, y: ArrayLike | None) -> NDArray[np.object_] | None:
    """The types of labels `y`, or else those that an `ImageSet` brings; None: nothing is known."""
    return getattr(images, "y", None) if y is None else defect_types(y)


def required_labels(images: Any, y: ArrayLike | None) -> ArrayLike:
    """Labels `y`, or else those that an `ImageSet` brings, one for each image; or an error."""
    y = getattr(images, "y", None) if y is None else y
    if y is None:
        raise ValueError("Labels are needed: pass y, or images as an ImageSet with y.")
    check_same_length(images=images, y=y)
    return y


def is_defect_in_training(y: ArrayLike) -> NDArray[np.bool_]:
    """Read labels as `is_anomalous` does, but nothing except the number 1 as all good.

    A fold of good images holds that where defects are -1.
    """
    y = _as_labels(y)
    numbers = [label for label in y.tolist() if not isinstance(label, (str, bool))]
    if len(numbers) == len(y) and set(numbers) == {1}:
        return np.zeros(len(y), dtype=bool)
    return is_anomalous(y)


def _as_labels(y):
    # As objects, because numpy would silently turn numbers beside strings into strings.
    y = np.asarray(y) if hasattr(y, "dtype") else np.asarray(y, dtype=object)
    if y.ndim != 1:
        raise ValueError(f"y must be one-dimensional, got shape {y.shape}")
    if empty := [i for i, label in enumerate(y.tolist()) if _is_gap(label)]:
        raise ValueError(
            f"y has an empty label for image {empty[0]}, which says neither good nor a type of "
            "defect: leave images out of which nothing is known."
        )
    # Bytes, and strings of NumPy 2.
    return y.astype({"S": str, "T": object}.get(y.dtype.kind, y.dtype), copy=False)


def _is_gap(label):
    """Whether there is no label, as in an empty cell of a table."""
    text = str(label).strip()
    return not text or (not isinstance(label, str) and text in ("None", "nan", "<NA>"))


def _are_strings(y):
    return all(isinstance(label, str) for label in y)


def _from_strings(y):
    labels, place = np.unique(y.astype(str), return_inverse=True)
    spelled = [_spelled(label) for label in labels.tolist()]
    anomalous = np.array([word not in _GOOD for word in spelled])
    if anomalous.all() and not _DEFECT.issuperset(spelled):
        raise ValueError(
            f"y calls no image good, and has labels that are no known words: {_found(y)}. Good "
            f"images are labelled by one of {', '.join(GOOD_WORDS)}; others by one of "
            f"{', '.join(DEFECT_WORDS)}, or by the type of the defect if good ones are there too"
        )
    return anomalous[place.reshape(-1)]


def _from_numbers(y):
    if y.dtype == object:
        types = sorted({type(label).__name__ for label in y})
        are_numbers = all(isinstance(label, Number) for label in y)
        y = np.array(y.tolist())
        if y.dtype == object and are_numbers:  # of decimal, of fractions, or too large for 64 bits
            y = y.astype(np.float64)
        if y.dtype.kind not in "biuf":
            raise ValueError(
                f"y mixes labels of the types {types}; use strings or numbers, not both"
            )
        y = y if y.dtype == bool else y.astype(np.float64)
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
