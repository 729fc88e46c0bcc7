"""Dataclasses of columns: each field has a row an image, or an entry, but for some of the whole."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")


#: Metadata of a field that has no rows, because it is of all of them.
OF_WHOLE = {"of_whole": True}


def take_rows(columns: T, rows: Any) -> T:
    """Return the same dataclass with some rows of each column, by position, slice or mask.

    Columns are arrays, or what can be indexed like them, or None.
    """
    values = {name: getattr(columns, name) for name in _names(columns)}
    return replace(columns, **{k: v[rows] for k, v in values.items() if v is not None})


def join_rows(first: T, second: T) -> T:
    """Return the rows of two of one dataclass after each other.

    What is of the whole is taken from the first. A column that neither knows is None; ValueError
    for one that only one of them knows.
    """
    joined = {}
    for name in _names(first):
        known = [v for v in (getattr(first, name), getattr(second, name)) if v is not None]
        if len(known) == 1:
            raise ValueError(f"{name} is known of a part of the rows only: it would be lost.")
        joined[name] = np.concatenate(known) if known else None
    return replace(first, **joined)


def _names(columns):
    return [part.name for part in fields(columns) if "of_whole" not in part.metadata]
