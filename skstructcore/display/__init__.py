"""Pictures, one Display class each: the data in attributes, ``plot`` draws.

They have scikit-learn's form: ``from_estimator`` runs the backbone where it has to;
``from_predictions`` takes its results instead. Both draw, into `ax_` of `figure_`, and return the
display, whose ``plot(ax=None)`` draws anew.
"""

from ._anomaly_map import AnomalyMapDisplay
from ._curves import OperatingPointDisplay, RegionOverlapDisplay
from ._model import BankDisplay, DependenceDisplay, DriftDisplay
from ._scores import DescriptorDisplay, RoutingDisplay, ScoreHistogramDisplay, ScoreShiftDisplay

__all__ = [
    "AnomalyMapDisplay",
    "BankDisplay",
    "DependenceDisplay",
    "DescriptorDisplay",
    "DriftDisplay",
    "OperatingPointDisplay",
    "RegionOverlapDisplay",
    "RoutingDisplay",
    "ScoreHistogramDisplay",
    "ScoreShiftDisplay",
]
