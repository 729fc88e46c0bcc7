"""Weights that are not pickled: checksums, and a user's modules found again by them."""

import hashlib
import sys
from dataclasses import dataclass
from weakref import WeakKeyDictionary, WeakValueDictionary

from .._utils.files import file_digest as file_checksum  # noqa: F401 (of files of weights)

_built = WeakKeyDictionary()  # function -> module that it returned
_checksums = WeakKeyDictionary()  # module -> (state of its tensors, checksum)
_known = WeakValueDictionary()  # checksum -> module


@dataclass(frozen=True)
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
    if not callable(model):
        raise ValueError(
            "model must be 'efficientnet_lite0', '_lite1' or '_lite2', a torch.nn.Module or a "
            f"function that returns one; got {model!r}."
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
    """SHA-256 of the names, types and values of all parameters and buffers of a module."""
    tensors = sorted(module.state_dict().items())
    state = [(t.data_ptr(), -1 if t.is_inference() else t._version) for _, t in tensors]
    if _checksums.get(module, (None,))[0] != state:
        import torch

        digest = hashlib.sha256(type(module).__qualname__.encode())
        for name, tensor in tensors:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            values = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(values.view(torch.uint8).numpy())
        _checksums[module] = state, digest.hexdigest()
    return _checksums[module][1]


def without_module(model):
    """What a pickle holds of `model`: itself, or a stand-in for a module."""
    if not is_module(model):
        return model
    checksum = module_checksum(model)
    _known[checksum] = model
    return AbsentModule(checksum, f"module {type(model).__name__}")


def with_module(model):
    """The module that `model` stands in for, if this process knows it; else `model`."""
    return _known.get(model.checksum, model) if isinstance(model, AbsentModule) else model
