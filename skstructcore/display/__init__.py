"""Pictures, one Display class each: the data in attributes, ``plot`` draws.

They have scikit-learn's form: ``from_estimator`` computes the data with a fitted pipeline,
``from_predictions`` takes what is known already, ``plot(ax=None)`` draws into `ax_`.
"""

import warnings

from ._anomaly_map import AnomalyMapDisplay
from ._bank import BankDisplay
from ._calibration import CalibrationDisplay
from ._dependence import DependenceDisplay
from ._descriptor import DescriptorDisplay
from ._drift import DriftDisplay
from ._operating_point import OperatingPointDisplay
from ._region_overlap import RegionOverlapDisplay
from ._report import report
from ._routing import RoutingDisplay
from ._score_histogram import ScoreHistogramDisplay
from ._score_shift import ScoreShiftDisplay

__all__ = [
    "AnomalyMapDisplay",
    "BankDisplay",
    "CalibrationDisplay",
    "DependenceDisplay",
    "DescriptorDisplay",
    "DriftDisplay",
    "OperatingPointDisplay",
    "RegionOverlapDisplay",
    "RoutingDisplay",
    "ScoreHistogramDisplay",
    "ScoreShiftDisplay",
    "report",
]


def __getattr__(name: str) -> object:
    if name == "CasesDisplay":
        warnings.warn(
            "CasesDisplay is AnomalyMapDisplay now, with from_evaluation.",
            DeprecationWarning,
            stacklevel=2,
        )
        return AnomalyMapDisplay
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
