"""Weights, which no pickle holds: how they are read, checksums, and modules found by these."""

import argparse
import dataclasses
import dis
import functools
import hashlib
import inspect
import sys
from collections.abc import Hashable
from numbers import Number
from pathlib import Path
from types import CellType, CodeType, SimpleNamespace
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np

_built = WeakKeyDictionary()  # function -> module that it returned
_checksums = WeakKeyDictionary()  # module -> (state of its tensors, checksum)
_pickled = WeakValueDictionary()  # checksum -> module
# Settings also where a method sets them; so are functions.
_KEPT = bool | float | str | tuple | None


@dataclasses.dataclass(frozen=True)
class AbsentModule:
    """Stands in a pickle for a module that was given as `model`."""

    checksum: str
    source: str


def is_module(model):
    """Whether `model` is a torch module; imports nothing."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def as_module(model):
    """The module that `model` is or, if it is a function, returns."""
    if is_module(model):
        return model
    if isinstance(model, AbsentModule):
        raise ValueError(
            f"This estimator was pickled with a {model.source} as model, and a pickle holds no "
            "weights. Bring the module back by set_params(model=module); its weights must have "
            f"the checksum {model.checksum[:12]}... (For several processes pass a function that "
            "returns the module: each process calls it.)"
        )
    if not callable(model) or not isinstance(model, Hashable):
        raise ValueError(
            "model must be 'efficientnet_lite0', '_lite1' or '_lite2', a torch.nn.Module or a "
            f"function that returns one (an object must be hashable); got {model!r}."
        )
    if model not in _built:
        module = model()
        if not is_module(module):
            raise ValueError(
                f"The function given as model, {model!r}, must return a torch.nn.Module; it "
                f"returned {type(module).__name__}."
            )
        _built[model] = module
    return _built[model]


def module_checksum(module):
    """SHA-256 of what a module computes: its structure, its code, its tensors and attributes.

    The structure is torch's representation, the code that of the methods of all classes but
    torch's own. Attributes that do not begin with "_" count if they are numbers, texts, switches,
    tensors, arrays, functions, tuples, lists and dicts without tensors, dataclasses or namespaces.
    Of what a method sets later, only switches, floats, texts, tuples and functions count: the rest
    may be counters, or results of the last pass. Hooks, other objects, what a class or a module
    holds, and functions that are called there, do not count.

    The values of tensors are summed up once, and again only after a change that torch counts,
    or one that reaches the first or the last value of a tensor past torch (by ``.data``).
    """
    structure, tensors = _structure(module)
    tensors |= {**dict(module.named_buffers()), **module.state_dict(keep_vars=True)}
    tensors = sorted(tensors.items())
    state = structure, [_version_of(tensor) for _, tensor in tensors]
    if _checksums.get(module, (None,))[0] != state:
        import torch

        digest = hashlib.sha256(structure.encode())
        for name, tensor in tensors:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            values = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(values.view(torch.uint8).numpy())
        _checksums[module] = state, digest.hexdigest()
    return _checksums[module][1]


def _version_of(tensor):
    """What changes with the values of a tensor, found without reading all of them."""
    values = tensor.detach()
    if values.is_inference():  # torch counts no versions of these
        return values.data_ptr(), repr(values.double().sum().item())
    ends = [values[(place,) * values.ndim].item() for place in (0, -1)] if values.numel() else []
    return values.data_ptr(), tensor._version, repr(ends)  # as text, NaN equals itself


def _structure(module):
    """Text of the classes, settings and code of a module and its parts, and their plain tensors."""
    import torch

    parts = dict(module.named_modules())
    set_later = set().union(*(_set_later(cls) for cls in set(map(type, parts.values()))))
    lines, tensors, codes = [repr(module)], {}, {}
    for name, part in parts.items():
        cls = type(part)
        lines.append(f"{name} {cls.__qualname__}")
        codes |= dict.fromkeys(code for _, code in _methods(cls))
        # Of torch's: by its representation, or it has but the one setting that changes no value.
        is_told = cls.__module__.startswith("torch.") and (
            cls.extra_repr is not torch.nn.Module.extra_repr or "inplace" in vars(part)
        )
        for key, value in sorted(vars(part).items()):
            if key.startswith("_") or key == "training":
                continue
            may_be_result = key in set_later and not isinstance(value, _KEPT)
            if (may_be_result or is_told) and not _is_function(value):
                continue
            if isinstance(value, torch.Tensor):
                tensors[f"{name}.{key} plain"] = value
            elif (text := _plain(value)) is not None:
                lines.append(f"{key} {text}")
    return "\n".join([*lines, *map(_source, codes)]), tensors


@functools.lru_cache(1024)
def _methods(cls):
    """Names and code of the methods of a class and its bases, but for torch's own."""
    bases = [b for b in cls.__mro__ if b.__module__.split(".")[0] not in ("torch", "builtins")]
    return [(name, _code(part)) for b in bases for name, part in vars(b).items() if callable(part)]


def _code(function):
    return getattr(inspect.unwrap(function), "__code__", None)


@functools.lru_cache(1024)
def _set_later(cls):
    """Names of the attributes that methods of a class set, but for its constructor."""
    codes = [code for name, code in _methods(cls) if name != "__init__" and code is not None]
    steps = (step for code in codes for step in dis.get_instructions(code))
    return {step.argval for step in steps if step.opname == "STORE_ATTR"}


def _is_function(value):
    return inspect.isroutine(value) or isinstance(value, type | functools.partial)


def _plain(value, around=()):
    """Text of an attribute; None if it is no setting, or a list or dict that is still empty."""
    if isinstance(value, str | Number | np.generic | None):
        return repr(value)
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    if isinstance(value, tuple) and " at 0x" not in repr(value):  # no address of an object
        return repr(value)
    if id(value) in around:
        return "what it is part of"
    texts = [_plain(part, (*around, id(value))) for part in _parts(value)]
    if not texts or isinstance(value, list | dict):
        return None if None in texts or not texts else repr(texts)
    return f"{type(value).__qualname__} {texts}"


def _parts(value):
    """What the text of an attribute is made of, none if it is no setting."""
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, dict):
        return [part for pair in value.items() for part in pair]
    if isinstance(value, functools.partial):
        return [value.func, value.args, *value.keywords.items()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f.name, getattr(value, f.name, None)) for f in dataclasses.fields(value)]
    if isinstance(value, SimpleNamespace | argparse.Namespace):
        return sorted(vars(value).items())
    if not _is_function(value):
        return []
    function = inspect.unwrap(value)
    code, module = _code(function), getattr(function, "__module__", None) or ""
    source = module if code is None or module.split(".")[0] == "torch" else _source(code)
    names = ("__qualname__", "__defaults__", "__kwdefaults__")
    cells = getattr(function, "__closure__", None) or ()
    filled = [cell.cell_contents for cell in cells if cell != CellType()]
    return [source, *(getattr(function, name, None) for name in names), *filled]


@functools.lru_cache(1024)
def _source(code):
    """The lines of a function; where they do not tell it, its instructions, of this Python."""
    try:
        source = inspect.getsource(code)
    except (OSError, TypeError):
        return "" if code is None else instructions(code)
    is_one_of_several = code.co_name == "<lambda>" and source.count("lambda") > 1  # of a line
    return instructions(code) if is_one_of_several else source


def instructions(code):
    """Text of a code object, or of one of its constants, without addresses."""
    if isinstance(code, frozenset | set):  # in an order that differs between processes
        return repr(sorted(map(repr, code)))
    if not isinstance(code, CodeType):
        return repr(code)
    return f"{code.co_code.hex()} {code.co_names} {[*map(instructions, code.co_consts)]}"


def stand_in(model):
    """Checksum and name of the module that `model` is or returns; of an absent one itself."""
    if isinstance(model, AbsentModule):
        return model
    module = as_module(model)
    return AbsentModule(module_checksum(module), f"module {type(module).__name__}")


def without_module(model):
    """What a pickle holds of `model`: itself, or a stand-in for a module."""
    if not is_module(model):
        return model
    absent = stand_in(model)
    _pickled[absent.checksum] = model
    return absent


def with_module(model):
    """The module that `model` stands in for, if this process knows it; else `model`."""
    return _pickled.get(model.checksum, model) if isinstance(model, AbsentModule) else model


def find_path(weights, what):
    """The path that a user gave as `weights`: a "file", or else a "file or folder"."""
    path = Path(weights)
    if not (path.is_file() if what == "file" else path.exists()):
        raise FileNotFoundError(
            f"weights={str(weights)!r}: there is no such {what}. "
            "If they have moved since the fit: load(path, weights=...), in commands --weights."
        )
    return path


def read_state_dict(path):
    """The tensors of a file, *.safetensors or as torch.save writes it; no code is run.

    Of the checkpoint of a training run, those of the network alone.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"weights={str(path)!r} cannot be read as a checkpoint: as *.safetensors, or as a "
            f"file of torch.save that holds tensors only ({error})."
        ) from error
    for key in ("teacher", "model", "state_dict"):  # as training runs write it
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError(f"weights={str(path)!r} holds no state dict (names and tensors).")
    state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    backbone = {k: tensor for k, tensor in state.items() if k.startswith("backbone.")}
    return {k.removeprefix("backbone."): tensor for k, tensor in (backbone or state).items()}


def check_fit(wrong, source, network):
    """Raise ValueError if something is wrong with the names and shapes of tensors."""
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(
            f"{source} does not hold the weights of {network}: "
            f"{'; '.join(sorted(wrong)[:5])}{more}."
        )
