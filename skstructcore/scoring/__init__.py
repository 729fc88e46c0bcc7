"""From anomaly maps to calibrated image scores and decisions."""

from .structcore import StructCoreScorer

__all__ = ["StructCoreScorer"]
