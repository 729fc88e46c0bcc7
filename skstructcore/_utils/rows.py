"""Patch features that travel from step to step, one row an image: lazy ones, checks, batches."""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from sklearn.utils.validation import check_array, validate_data

from .computing import slices
from .typing import ArrayLike, NDArray

_FLOATS = [np.float32, np.float64]
# Patches that are searched, pooled or judged at a time.
_PATCHES_PER_BATCH = 2**14


class ContainerOutputMixin:
    """Opt out of scikit-learn's `set_output`, which `Pipeline` wants: maps are no tables."""

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**{**options, "auto_wrap_output_keys": None})

    def set_output(self, *, transform: str | None = None):
        """Do nothing: the output is no table, whatever `transform` says."""
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


class LazyRows(ABC):
    """What looks like a float32 array of one row an image, and is computed batch by batch."""

    shape: tuple[int, ...]
    waits_for_categories = False  # of the images, before it is known what is ignored in them

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def __getitem__(self, index: slice | Sequence[int] | NDArray[Any]) -> LazyRows: ...

    @abstractmethod
    def iter_batches(self) -> Iterator[NDArray[np.floating]]:
        """Yield arrays of some rows each, in order."""

    def showing(self, categories: ArrayLike | None) -> LazyRows:
        """The same rows, told which category each image shows."""
        return self

    def ignored_share(self) -> float:
        """Share of patches that are ignored, as some of the images tell."""
        return 0.0


def image_key(key: Any, name: str) -> Any:
    """What indexes images, without the ``...`` that scikit-learn adds; IndexError for more axes."""
    if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:
        key = key[0]
    if isinstance(key, tuple | bool | np.bool_ | None) or np.ndim(key) > 1:
        raise IndexError(f"{name} is indexed by image only, got {key!r}")
    return key if isinstance(key, slice) or np.ndim(key) else operator.index(key)


def iter_placed(
    X: LazyRows | NDArray[np.floating],
) -> Iterator[tuple[slice, NDArray[np.floating]]]:
    """Yield which rows, and an array of these: about 16,384 patches, or batches of lazy rows."""
    if isinstance(X, LazyRows):
        start = 0
        for batch in X.iter_batches():
            yield slice(start, start + len(batch)), batch
            start += len(batch)
        return
    batch_size = max(1, _PATCHES_PER_BATCH // math.prod(X.shape[1:-1]))
    for rows in slices(len(X), batch_size):
        yield rows, X[rows]


def check_features(estimator, X, *, reset):
    """Validate patch features, or a table of n images of one patch each, as `validate_data` does.

    Arrays are finite but for ignored patches, all of whose features are NaN. Values of lazy
    features are checked where they are computed.
    """
    if isinstance(X, LazyRows):
        if len(X) == 0:
            raise ValueError("X has no images: at least one is needed.")
    elif (X if hasattr(X, "ndim") else np.asarray(X)).ndim <= 2:  # a list has no `ndim`
        return validate_data(estimator, X, reset=reset, dtype=_FLOATS)
    else:
        options = {"allow_nd": True, "ensure_all_finite": "allow-nan", "input_name": "X"}
        X = check_array(X, dtype=_FLOATS, estimator=estimator, **options)
        if X.ndim != 4:
            raise ValueError(
                "X must be patch features (n_images, h, w, n_features) or a table "
                f"(n_samples, n_features), got an array of shape {X.shape}."
            )
        is_nan = np.isnan(X)
        if (is_nan.any(axis=-1) != is_nan.all(axis=-1)).any():
            raise ValueError(
                "Input X contains NaN: a patch is ignored if all of its features are NaN, but here "
                "some are and some are not. Check the backbone's weights and dtype."
            )
    # The number of features, as of an empty table that has as many.
    validate_data(estimator, np.empty((0, X.shape[-1])), reset=reset, skip_check_array=True)
    return X


def check_counted(ignored, places):
    """Raise ValueError if all patches of an image are `ignored`; `places` number the images."""
    nothing = places[np.flatnonzero(ignored.all(axis=(1, 2)))]
    if len(nothing):
        raise ValueError(f"Every patch of image {nothing[0]} is ignored: nothing is left to judge.")


def counted_rows(features):
    """Rows ``(m, d)`` of patches that are not ignored, and their places among all."""
    rows = features.reshape(-1, features.shape[-1])
    places = np.flatnonzero(~np.isnan(rows[:, 0]))
    return rows if len(places) == len(rows) else rows[places], places


def as_patch_grid(X):
    """Give a table ``(n, d)`` the shape ``(n, 1, 1, d)`` of one patch an image."""
    return X[:, np.newaxis, np.newaxis, :] if X.ndim == 2 else X


def materialize(
    X: LazyRows | ArrayLike, dtype: DTypeLike = np.float32, *, categories: ArrayLike | None = None
) -> NDArray[Any]:
    """Return features as one array; `categories` are needed where they say what is ignored."""
    if not isinstance(X, LazyRows):
        return as_patch_grid(np.asarray(X, dtype=dtype))
    X = X.showing(categories)
    values = np.empty(X.shape, dtype=dtype)
    for rows, batch in iter_placed(X):
        values[rows] = batch
    return values
