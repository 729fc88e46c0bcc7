"""Image anomaly detection without training, as scikit-learn estimators."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bank.coreset_bank import CoresetBank as CoresetBank
    from .containers import AnomalyMaps as AnomalyMaps
    from .containers import MemoryBank as MemoryBank
    from .containers import Patches as Patches
    from .features.conv import ConvFeatures as ConvFeatures
    from .features.dino import DinoFeatures as DinoFeatures
    from .features.joined import JoinedFeatures as JoinedFeatures
    from .features.timm_features import TimmFeatures as TimmFeatures
    from .knn.scorer import RoutedKNNScorer as RoutedKNNScorer
    from .lifecycle.audit import audit as audit
    from .lifecycle.categories import add_category as add_category
    from .lifecycle.categories import remove_category as remove_category
    from .lifecycle.drift import DriftMonitor as DriftMonitor
    from .lifecycle.operating_points import operating_points as operating_points
    from .lifecycle.recalibrate import recalibrate as recalibrate
    from .lifecycle.update import forget as forget
    from .lifecycle.update import update as update
    from .model_files.persistence import info as info
    from .model_files.persistence import load as load
    from .model_files.persistence import save as save
    from .model_files.persistence import trusted_types as trusted_types
    from .pipeline import estimate_memory as estimate_memory
    from .pipeline import estimate_time as estimate_time
    from .pipeline import make_structcore as make_structcore
    from .projection import RandomProjection as RandomProjection
    from .scoring.describe import describe as describe
    from .scoring.map_files import save_maps as save_maps
    from .scoring.parts import describe_parts as describe_parts
    from .scoring.regions import regions as regions
    from .scoring.structcore import StructCoreScorer as StructCoreScorer
    from .serving.export import export_onnx as export_onnx
    from .serving.exported import ExportedModel as ExportedModel
    from .serving.exported import verify_export as verify_export
    from .serving.latency import warm_up as warm_up

from ._version import __version__ as __version__

# Public name -> module that defines it. Resolved on first use, so that importing
# the package loads neither torch nor numba.
_PUBLIC = {
    "AnomalyMaps": "containers",
    "ConvFeatures": "features.conv",
    "CoresetBank": "bank.coreset_bank",
    "DinoFeatures": "features.dino",
    "DriftMonitor": "lifecycle.drift",
    "ExportedModel": "serving.exported",
    "JoinedFeatures": "features.joined",
    "MemoryBank": "containers",
    "Patches": "containers",
    "RandomProjection": "projection",
    "RoutedKNNScorer": "knn.scorer",
    "StructCoreScorer": "scoring.structcore",
    "TimmFeatures": "features.timm_features",
    "add_category": "lifecycle.categories",
    "audit": "lifecycle.audit",
    "describe": "scoring.describe",
    "describe_parts": "scoring.parts",
    "estimate_memory": "pipeline",
    "estimate_time": "pipeline",
    "export_onnx": "serving.export",
    "forget": "lifecycle.update",
    "info": "model_files.persistence",
    "load": "model_files.persistence",
    "make_structcore": "pipeline",
    "operating_points": "lifecycle.operating_points",
    "recalibrate": "lifecycle.recalibrate",
    "regions": "scoring.regions",
    "remove_category": "lifecycle.categories",
    "save": "model_files.persistence",
    "save_maps": "scoring.map_files",
    "trusted_types": "model_files.persistence",
    "update": "lifecycle.update",
    "verify_export": "serving.exported",
    "warm_up": "serving.latency",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
