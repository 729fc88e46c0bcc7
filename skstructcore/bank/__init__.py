"""The memory bank: which patches of normal images are kept."""

from .coreset_bank import CoresetBank

__all__ = ["CoresetBank"]
