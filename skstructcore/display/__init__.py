"""Pictures, one Display class each: the data in attributes, ``plot`` draws.

They have scikit-learn's form: ``from_estimator`` takes the data from a fitted pipeline; where the
backbone runs for that, ``from_predictions`` takes what is known already. Both draw, into `ax_` of
`figure_`, and return the display, whose ``plot(ax=None)`` draws anew.
"""

from ._anomaly_map import AnomalyMapDisplay
from ._bank import BankDisplay, DependenceDisplay
from ._drift import DriftDisplay
from ._operating_point import OperatingPointDisplay
from ._region_overlap import RegionOverlapDisplay
from ._routing import RoutingDisplay
from ._scores import DescriptorDisplay, ScoreHistogramDisplay, ScoreShiftDisplay

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
