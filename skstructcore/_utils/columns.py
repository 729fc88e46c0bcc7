"""Dataclasses of columns: a field has a row for each image or entry, unless it is `OF_WHOLE`."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

#: Metadata of a field that holds one value for all rows.
OF_WHOLE = {"of_whole": True}


def columns_of(table: Any) -> dict[str, Any]:
    """The columns of a dataclass that are known: arrays, or what can be indexed like them."""
    values = {f.name: getattr(table, f.name) for f in fields(table) if f.metadata != OF_WHOLE}
    return {name: column for name, column in values.items() if column is not None}


def take_rows(table: T, rows: Any) -> T:
    """Return the same dataclass with some rows of each column, by position, slice or mask."""
    return replace(table, **{name: column[rows] for name, column in columns_of(table).items()})


def join_rows(first: T, second: T) -> T:
    """Join the rows of two tables of one class; what is `OF_WHOLE` is that of the first."""
    ours, theirs = columns_of(first), columns_of(second)
    for name in ours.keys() ^ theirs.keys():
        raise ValueError(f"{name} is known of some of the rows only: it would be lost.")
    return replace(first, **{k: np.concatenate([ours[k], theirs[k]]) for k in ours})
