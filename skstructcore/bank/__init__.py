"""The memory bank: which patches of normal images are kept."""

from .build import build_bank, materialize
from .coreset_bank import CoresetBank

__all__ = ["CoresetBank", "build_bank", "materialize"]
