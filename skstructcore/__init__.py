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
    from .inference.map_files import save_maps as save_maps
    from .knn.scorer import RoutedKNNScorer as RoutedKNNScorer
    from .lifecycle.audit import audit as audit
    from .lifecycle.drift import DriftMonitor as DriftMonitor
    from .lifecycle.operating_points import operating_points as operating_points
    from .lifecycle.recalibrate import recalibrate as recalibrate
    from .lifecycle.update import add_category as add_category
    from .lifecycle.update import forget as forget
    from .lifecycle.update import remove_category as remove_category
    from .lifecycle.update import update as update
    from .model_files.persistence import info as info
    from .model_files.persistence import load as load
    from .model_files.persistence import save as save
    from .model_files.persistence import trusted_types as trusted_types
    from .pipeline import estimate_memory as estimate_memory
    from .pipeline import estimate_time as estimate_time
    from .pipeline import make_structcore as make_structcore
    from .pipeline.describe import describe as describe
    from .pipeline.describe import describe_parts as describe_parts
    from .pipeline.describe import regions as regions
    from .projection import RandomProjection as RandomProjection
    from .scoring.structcore import StructCoreScorer as StructCoreScorer
    from .serving.export import export_onnx as export_onnx
    from .serving.exported import ExportedModel as ExportedModel
    from .serving.exported import verify_export as verify_export
    from .serving.latency import warm_up as warm_up

from ._version import __version__ as __version__

# Modules and the public names that they define. Resolved on first use, so that importing
# the package loads neither torch nor numba.
_DEFINED_IN = {
    "bank.coreset_bank": "CoresetBank",
    "containers": "AnomalyMaps MemoryBank Patches",
    "features.conv": "ConvFeatures",
    "features.dino": "DinoFeatures",
    "features.joined": "JoinedFeatures",
    "features.timm_features": "TimmFeatures",
    "knn.scorer": "RoutedKNNScorer",
    "inference.map_files": "save_maps",
    "lifecycle.audit": "audit",
    "lifecycle.drift": "DriftMonitor",
    "lifecycle.operating_points": "operating_points",
    "lifecycle.recalibrate": "recalibrate",
    "lifecycle.update": "add_category forget remove_category update",
    "model_files.persistence": "info load save trusted_types",
    "pipeline": "estimate_memory estimate_time make_structcore",
    "pipeline.describe": "describe describe_parts regions",
    "projection": "RandomProjection",
    "scoring.structcore": "StructCoreScorer",
    "serving.export": "export_onnx",
    "serving.exported": "ExportedModel verify_export",
    "serving.latency": "warm_up",
}
_PUBLIC = {name: module for module, names in _DEFINED_IN.items() for name in names.split()}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
