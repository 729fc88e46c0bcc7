"""What happens to a fitted pipeline after its fit."""

from .audit import audit
from .drift import DriftAlarm, DriftMonitor
from .operating_points import operating_points
from .recalibrate import Recalibration, recalibrate
from .update import add_category, forget, remove_category, update

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
