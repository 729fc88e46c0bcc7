"""Pictures, one Display class each: the data in attributes, ``plot`` draws."""

from ._cases import CasesDisplay
from ._routing import RoutingDisplay

__all__ = ["CasesDisplay", "RoutingDisplay"]
