"""Anomaly maps: how far patches are from the memory bank, and how surprising that is."""

from .scorer import RoutedKNNScorer

__all__ = ["RoutedKNNScorer"]
