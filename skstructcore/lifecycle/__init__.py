"""What happens to a fitted pipeline after its fit."""

from .audit import audit
from .categories import add_category, remove_category
from .drift import DriftAlarm, DriftMonitor
from .operating_points import operating_points
from .recalibrate import Recalibration, recalibrate
from .update import forget, update

__all__ = [
    "DriftAlarm",
    "DriftMonitor",
    "Recalibration",
    "add_category",
    "audit",
    "forget",
    "operating_points",
    "recalibrate",
    "remove_category",
    "update",
]
