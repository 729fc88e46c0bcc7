"""Image anomaly detection without training, as scikit-learn estimators."""

import importlib

__version__ = "0.1.0"

# Public name -> module that defines it. Resolved on first use, so that importing
# the package loads neither torch nor numba.
_PUBLIC = {
    "AnomalyMaps": "containers",
    "ConvFeatures": "features.conv",
    "CoresetBank": "bank",
    "DinoFeatures": "features.dino",
    "MemoryBank": "containers",
    "Patches": "containers",
    "RandomProjection": "projection",
    "RoutedKNNScorer": "knn",
    "StructCoreScorer": "structcore",
    "add_category": "products",
    "make_structcore": "pipeline",
    "remove_category": "products",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *__all__])
