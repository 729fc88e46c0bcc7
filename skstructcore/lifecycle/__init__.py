"""What happens to a fitted pipeline after its fit."""

from .audit import audit
from .drift import DriftAlarm, DriftMonitor
from .operating_points import operating_points
from .painted import learn_from_painted_defects
from .persistence import ModelFileError, info, load, save, trusted_types
from .products import add_category, remove_category
from .recalibrate import Recalibration, recalibrate
from .update import forget, update

__all__ = [
    "DriftAlarm",
    "DriftMonitor",
    "ModelFileError",
    "Recalibration",
    "add_category",
    "audit",
    "forget",
    "info",
    "learn_from_painted_defects",
    "load",
    "operating_points",
    "recalibrate",
    "remove_category",
    "save",
    "trusted_types",
    "update",
]
