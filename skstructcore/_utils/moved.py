"""Modules that have moved, under their old names: for imports and for pickles of older releases."""

import importlib
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

#: Old name -> new name, both within the package.
MOVED = {
    "calibration": "scoring.calibration",
    "categories": "evaluation.categories",
    "coreset": "neighbors.coreset",
    "descriptors": "scoring.descriptors",
    "label_free": "model_selection.label_free",
    "labels": "images.labels",
    "maps": "images.resampling",
    "painted": "lifecycle.painted",
    "parallel": "evaluation.parallel",
    "products": "lifecycle.products",
    "route_calibration": "scoring.routed",
    "route_profile": "routing.profile",
    "scorers": "model_selection.scorers",
    "streaming": "neighbors.streaming",
    "structcore": "scoring.structcore",
    "surprise": "knn.surprise",
}
_PACKAGE = __name__.partition(".")[0]


class _MovedModules(MetaPathFinder, Loader):
    def find_spec(self, fullname, path=None, target=None):
        package, _, name = fullname.partition(".")
        return ModuleSpec(fullname, self) if package == _PACKAGE and name in MOVED else None

    def exec_module(self, module):
        old = module.__name__
        new = f"{_PACKAGE}.{MOVED[old.partition('.')[2]]}"
        warnings.warn(f"{old} has moved to {new}.", DeprecationWarning, stacklevel=2)
        sys.modules[old] = importlib.import_module(new)


def redirect_moved_modules() -> None:
    """Let old names of modules be imported; asked last, so that no module is ever hidden."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())
