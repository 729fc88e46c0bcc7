"""Copies of objects that differ in some attributes."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

T = TypeVar("T")


def with_attributes(original: T, /, **attributes: Any) -> T:
    """A copy of an object, of an estimator for instance, with other attributes."""
    changed = copy.copy(original)
    vars(changed).update(attributes)
    return changed
