"""Anomaly maps: how far patches are from the memory bank, and how surprising that is."""

from .scorer import RoutedKNNScorer
from .surprise import DistanceExpectation, fit_expectation, join_expectations

__all__ = ["DistanceExpectation", "RoutedKNNScorer", "fit_expectation", "join_expectations"]
