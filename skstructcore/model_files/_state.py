"""Fitted estimators as a tree of text and numbered arrays, and back.

What can be kept is a closed list: the estimators and dataclasses of this package, scikit-learn's
`Pipeline`, arrays of numbers and of strings, strings, numbers, None, and lists, tuples, dicts and
tables of them. Everything else is refused by name, when it is written and when it is read, so that
a file cannot make a program run what it was not meant to run. (skops reads arrays of 500 MB in six
times the time and twice the memory, see ``docs/reliability.md``.)
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
from numbers import Integral, Real
from pathlib import PurePath

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from ..features._backbone import PatchFeatures
from ._model_file import NUMBER_TYPES, can_hold

_PACKAGE = __name__.partition(".")[0]
_CLASS = re.compile(r"(_?[a-z]\w*(?:\._?[a-z]\w*)*):(_?[A-Za-z]\w*)")
_TEXT = re.compile(r"object|U\d+")
_TYPES = {"int": Integral, "float": Real, "str": str, "dict": dict, "tuple": tuple}
_TYPES |= {"NDArray": np.ndarray, "None": type(None)}
PIPELINE = "sklearn.pipeline:Pipeline"


class Writer:
    """Turns objects into nodes that JSON can write; collects their arrays and types."""

    def __init__(self):
        self.arrays, self.types = {}, set()
        self._seen = {}  # id -> (node, object): what is shared stays shared

    def node(self, value, place):
        """Node of a value; `place` says in messages where it was found."""
        if value is None or type(value) in (bool, int, float):
            return value
        if isinstance(value, str | PurePath):
            return str(value)
        if isinstance(value, np.generic):
            if not can_hold(value.dtype):
                raise _not_held(value, place)
            return {"scalar": [value.dtype.name, self.node(value.item(), place)]}
        if type(value) is list:
            return [self.node(item, f"{place}[{i}]") for i, item in enumerate(value)]
        if type(value) is tuple:
            return {"tuple": self.node(list(value), place)}
        if type(value) is dict:
            return {"dict": [[self.node(k, place), self.node(v, f"{place}[{k!r}]")]
                             for k, v in value.items()]}  # fmt: skip
        if type(value) is pd.DataFrame:
            dtypes = value.dtypes.astype(str).to_dict()
            table = [value.to_dict("list"), dtypes, value.index.tolist(), str(value.index.dtype)]
            return {"table": self.node(table, place)}
        if id(value) in self._seen:
            return self._seen[id(value)][0]
        if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
            node = self._array(value, place)
            self._seen[id(value)] = node, value
            return node
        number = len(self._seen)
        self._seen[id(value)] = {"same": number}, value  # before its parts, which are numbered on
        name = f"{type(value).__module__}:{type(value).__qualname__}".removeprefix(f"{_PACKAGE}.")
        state = _state_of(value, place)
        self.types.add(name)
        state = {key: self.node(item, f"{place}.{key}") for key, item in state.items()}
        return {"new": name, "number": number, "state": state}

    def _array(self, value, place):
        if value.dtype.kind == "U" or (
            value.dtype == object and all(type(item) is str for item in value.ravel())
        ):
            text = "object" if value.dtype == object else value.dtype.str[1:]
            return {"strings": [*map(str, value.ravel())], "shape": [*value.shape], "type": text}
        if not can_hold(value.dtype):
            raise _not_held(value, place)
        # A product may sum in another order for another layout: it is kept.
        turned = value.ndim > 1 and value.flags.f_contiguous and not value.flags.c_contiguous
        name = f"{len(self.arrays)}:{place}"
        self.arrays[name] = np.asarray(value.T if turned else value, order="C")
        return {"array": name, "turned": True} if turned else {"array": name}


class Reader:
    """Turns nodes back into objects; raises ValueError for anything that it does not know."""

    def __init__(self, arrays):
        self._arrays, self._objects = arrays, {}

    def value(self, node):
        match node:
            case None | bool() | int() | float() | str():
                return node
            case list():
                return [self.value(item) for item in node]
            case {"tuple": items}:
                return tuple(self.value(items))
            case {"dict": items}:
                return {self.value(key): self.value(value) for key, value in items}
            case {"table": table}:
                columns, dtypes, rows, dtype = self.value(table)
                return pd.DataFrame(columns, pd.Index(rows, dtype=dtype)).astype(dtypes)
            case {"scalar": [dtype, value]} if dtype in NUMBER_TYPES:
                return np.dtype(dtype).type(self.value(value))
            case {"array": name}:
                return self._arrays[name].T if node.get("turned") else self._arrays[name]
            case {"strings": items, "shape": shape, "type": dtype} if _TEXT.fullmatch(dtype):
                return np.array(items, dtype=dtype).reshape(shape)
            case {"same": number}:
                return self._objects[number]
            case {"new": name, "number": number, "state": state}:
                new = _build(name, {key: self.value(item) for key, item in state.items()})
                self._objects[number] = new
                return new
        raise ValueError(f"it holds an entry of an unknown type, {sorted(node)[:3]}")


def _state_of(value, place):
    """All that a class is built from again."""
    cls = type(value)
    if cls is Pipeline:
        return _without_cache(cls, value.get_params(deep=False))
    is_ours = cls.__module__.split(".")[0] == _PACKAGE
    if is_ours and dataclasses.is_dataclass(cls):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(cls)}
    if is_ours and isinstance(value, BaseEstimator):
        return _without_cache(cls, value.__getstate__())
    raise _not_held(value, place)


def _without_cache(cls, state):
    """State without `memory`: where features are kept is a matter of the machine.

    A file from elsewhere must not name a folder that is read from, and written to.
    """
    return {**state, "memory": None} if issubclass(cls, Pipeline | PatchFeatures) else state


def _build(name, state):
    """Make an object of a class of this package from its state."""
    if name == PIPELINE:
        return Pipeline(**_without_cache(Pipeline, state))
    match = _CLASS.fullmatch(name)
    if match is None:
        raise ValueError(f"it holds a {name}, which is no class of {_PACKAGE}")
    try:
        cls = getattr(importlib.import_module(f"{_PACKAGE}.{match[1]}"), match[2])
        is_ours = cls.__module__.startswith(f"{_PACKAGE}.") and inspect.isclass(cls)
    except (ImportError, AttributeError):
        is_ours = False
    is_dataclass = is_ours and dataclasses.is_dataclass(cls)
    if not (is_dataclass or (is_ours and issubclass(cls, BaseEstimator))):
        raise ValueError(f"it holds a {name}, which this release of {_PACKAGE} does not have")
    # Parameters that a file of before lacks get their defaults.
    parameters = inspect.signature(cls).parameters
    learned = {key for key in state if key.strip("_") != key and not key.startswith("__")}
    allowed = {*parameters, *(key for key in learned if not (is_dataclass or hasattr(cls, key)))}
    if unknown := sorted(state.keys() - allowed):
        raise ValueError(f"its {cls.__name__} has {unknown[0]!r}, which this release has not")
    _check_annotated(cls, state)
    if is_dataclass:
        return cls(**state)
    new = cls.__new__(cls)
    absent = {key: parameters[key].default for key in parameters.keys() - state.keys()}
    new.__setstate__(_without_cache(cls, {**absent, **state}))
    new._validate_params()
    return new


def _check_annotated(cls, state):
    """Refuse a state without what a class annotates, or with another type of it."""
    for base in (base for base in cls.__mro__ if base.__module__.startswith(f"{_PACKAGE}.")):
        names = {**vars(sys.modules[base.__module__]), **_TYPES}
        for key, text in inspect.get_annotations(base).items():
            if key not in state and not hasattr(cls, key):
                raise ValueError(f"its {cls.__name__} lacks {key!r}, which this release needs")
            # As text, because some of the names are known to type checkers alone.
            words = re.sub(r"\[[^][]*\]", "", str(text)).split(" | ")
            types = [names.get(word.partition("[")[0]) for word in words]
            is_checked = key in state and all(map(inspect.isclass, types))
            if is_checked and not isinstance(state[key], tuple(types)):
                given = type(state[key]).__name__
                raise ValueError(f"its {cls.__name__} has a {given} as {key!r}, not {text}")


def _not_held(value, place):
    cls = type(value)
    name = f"{cls.__module__}.{cls.__qualname__}"
    if isinstance(value, np.ndarray):
        name += f" of {value.dtype}"
    elif callable(value) and hasattr(value, "__qualname__"):
        name += f" ({value.__module__}.{value.__qualname__})"
    return TypeError(
        f"{place} is a {name}, which a model file does not hold: it holds estimators of "
        f"{_PACKAGE}, numbers and text, and no code. Use joblib.dump for this pipeline, and load "
        "its file only where you trust it."
    )
