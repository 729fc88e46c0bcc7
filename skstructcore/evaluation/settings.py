"""All that can change the results of a pipeline, as texts that can be stored and compared.

They do not show the code of an estimator of one's own, nor what a function calls by name.
"""

from __future__ import annotations

import json
from functools import partial
from types import CodeType, FunctionType

import joblib
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from .._version import __version__
from ..features._backbone import PatchFeatures
from ..features._modules import instructions, is_module, module_checksum

_WITHOUT_EFFECT = ("batch_size", "memory", "n_jobs", "verbose")  # of our own estimators


def settings_of(pipe: Pipeline) -> dict[str, str]:
    """Texts of the version and of all that can change a result, by parameter."""
    settings = {"skstructcore": __version__}
    for step_name, step in pipe.steps:
        content = _stand_in(step) if isinstance(step, BaseEstimator) else {"class": step}
        for key, value in content.items():
            name = f"{step_name}__{key}"
            items = [*value.items()] if isinstance(value, dict) else value
            try:
                settings[name] = json.dumps(items, default=_stand_in)
            except Exception as error:  # of pickle, and of values of one's own
                raise ValueError(
                    f"{name} cannot be compared with that of stored results ({error}): pass what "
                    "can be pickled, and no functions that refer to each other."
                ) from error
    return settings


def _stand_in(value):
    """A stand-in for a value that JSON cannot write, by content alone: all processes agree."""
    if isinstance(value, BaseEstimator):
        params, cls = value.get_params(deep=False), type(value)
        if cls.__module__.startswith("skstructcore."):
            params = {key: params[key] for key in params if key not in _WITHOUT_EFFECT}
        if isinstance(value, PatchFeatures):  # wherever they are
            params["weights"] = value._weights()[0]
        return {"class": f"{cls.__module__}.{cls.__qualname__}", **params}
    if is_module(value):
        return module_checksum(value)
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        cells = [cell for cell in cells if cell is not value]  # it may call itself
        return [value.__code__, value.__defaults__, value.__kwdefaults__, cells]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, CodeType | frozenset | set):  # no source: lambdas of one line share it
        return instructions(value)
    return f"{type(value).__name__} {joblib.hash(value)}"
