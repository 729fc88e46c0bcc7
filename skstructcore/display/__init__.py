"""Pictures, one Display class each: the data in attributes, ``plot`` draws."""

from ._cases import CasesDisplay

__all__ = ["CasesDisplay"]
