"""Objects whose fields have one row an image, or an entry: some of the rows, and two in one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")


def take_rows(parts: T, rows: Any, *, but: tuple[str, ...] = ()) -> T:
    """Return the same dataclass with some rows of each field, by position, slice or mask.

    Parameters
    ----------
    parts : dataclass
        Its fields are arrays, or what can be indexed like them, or None.
    rows : int array, bool array or slice
    but : tuple of str
        Fields that have no rows.
    """
    fields = {k: v for k, v in vars(parts).items() if k not in but and v is not None}
    return replace(parts, **{name: values[rows] for name, values in fields.items()})


def join_rows(first: T, second: T, *, but: tuple[str, ...] = ()) -> T:
    """Return the rows of two of one dataclass after each other.

    A field that one of them does not know (None) is lost; those in `but` are of the first.
    """
    joined = {}
    for name in vars(first).keys() - set(but):
        both = getattr(first, name), getattr(second, name)
        joined[name] = None if any(values is None for values in both) else np.concatenate(both)
    return replace(first, **joined)
