"""Patch features of the networks of timm."""

from __future__ import annotations

import copy
import difflib
import functools
import json
import os
import re
import sys
from collections.abc import Sequence
from numbers import Integral
from typing import Any, Literal

from .._utils.files import file_digest
from ._backbone import PatchFeatures, check_layers, pixel_scaling
from ._cache import to_json
from ._modules import check_fit, find_path, module_checksum, read_state_dict
from ._parameters import Channels, Crop, Ignore, ImageSize, Memory, Precision, Window

# Where transformers of equal blocks are looked into, as DinoFeatures does it: shares of the depth.
_DEPTHS = (1 / 12, 4 / 12, 7 / 12, 10 / 12, 1)


class TimmFeatures(PatchFeatures):
    """Patch features of any network of timm that gives its intermediate outputs.

    Transformers (DINOv3, SigLIP, ...) and convolutional networks (ConvNeXt, ...) alike. The
    outputs of some layers are taken raw, without a final norm, scaled to the finest of their
    grids and joined. Where layers have grids of different sizes they are averaged over 3x3
    positions first, as in `ConvFeatures`; tokens of plain transformers are not, as in
    `DinoFeatures`. Needs timm: ``pip install "skstructcore[timm]"``.

    Parameters
    ----------
    model : str
        A name that `timm.list_models()` gives, "vit_small_patch16_dinov3" for instance.
    layers : sequence of int or None, default=None
        Positions among the layers of timm's `forward_intermediates`, counted from 0, or from
        -1 at the end: blocks of a transformer, stages of a convolutional network. None means
        the last stages of strides 8 and 16; of a transformer of 12 equal blocks those that
        `DinoFeatures` takes, (0, 3, 6, 9, 11), and of others the same shares of the depth.
    weights : "hub" or path, default=None
        "hub" has timm bring those that it knows, from the hub or its local cache. A path is a
        file of them, ``.safetensors`` or as `torch.save` writes tensors (.pth, .bin); other
        content is not loaded. There is no default: nothing is downloaded unasked.
    model_params : dict or None, default=None
        More arguments for `timm.create_model`: ``{"img_size": 448}`` for networks of a fixed
        size, for instance.
    image_size : int, (int, int), "native" or float, default=256
        As in `ConvFeatures`; of a transformer multiples of its patch size.
    crop, tile_size, tile_overlap, window, channels, ignore : see `ConvFeatures`
    mean, std : sequence of 3 floats or None, default=None
        The scaling of pixels between 0 and 1. None takes what timm says of the network.
    batch_size, device, dtype, n_jobs, memory, verbose : see `ConvFeatures`

    Attributes
    ----------
    grid_shape_, n_features_out_, input_size_, scale_, colours_, picture_ : see `ConvFeatures`
    window_, model_checksum_, model_source_ : see `ConvFeatures`

    See Also
    --------
    DinoFeatures : DINOv2 with its own way of interpolating positions.
    JoinedFeatures : Several networks on one grid.

    Examples
    --------
    >>> from skstructcore import TimmFeatures
    >>> TimmFeatures("convnext_tiny", weights="convnext_tiny.safetensors", image_size=320)
    TimmFeatures(image_size=320, model='convnext_tiny',
                 weights='convnext_tiny.safetensors')
    """

    _other_sizes = (
        ", or give model_params={'img_size': (height, width)}, by which networks of a fixed size "
        "are built for another one"
    )
    _parameter_constraints = {
        **PatchFeatures._parameter_constraints,
        "model": [str],
        "layers": [None, tuple, list],
        "weights": [str, os.PathLike, None],
        "model_params": [dict, None],
    }

    def __init__(
        self,
        model: str,
        layers: Sequence[int] | None = None,
        weights: Literal["hub"] | str | os.PathLike[str] | None = None,
        *,
        model_params: dict[str, Any] | None = None,
        image_size: ImageSize = 256,
        crop: Crop = False,
        tile_size: int | tuple[int, int] | None = None,
        tile_overlap: int = 0,
        window: Window = "auto",
        channels: Channels = None,
        ignore: Ignore = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        batch_size: int = 16,
        device: str = "auto",
        dtype: Precision = "auto",
        n_jobs: int | None = None,
        memory: Memory = None,
        verbose: int = 0,
    ) -> None:
        self._store_parameters(locals())

    @property
    def _side_step(self):
        """32, which suits nearly all networks, or a patch size that does not go into it, as 14."""
        named = re.search(r"patch(\d+)", self.model)
        side = (self.model_params or {}).get("patch_size", int(named[1]) if named else 32)
        return side if isinstance(side, Integral) and side > 0 and 32 % side else 32

    def _weights(self):
        file = self._file()
        checksum = module_checksum(self._hub_module()) if file is None else file_digest(file)
        return checksum, f"timm {self.model} {self.weights}"

    def _network_recipe(self):
        mean, std = pixel_scaling(self.mean, self.std)
        layers = self.layers
        if layers is not None:
            layers = check_layers(layers, lambda n: isinstance(n, Integral), "positions of layers")
        return {
            "model": self.model,
            "params": sorted(json.loads(self._params()).items()),
            "layers": layers and [int(n) for n in layers],
            "mean": None if self.mean is None else mean,
            "std": None if self.std is None else std,
        }

    def _load(self, device, dtype):
        from ._networks import TimmNetwork

        if (file := self._file()) is None:
            module = copy.deepcopy(self._hub_module())
        else:
            module = build(self.model, self.model_params or {})
            _give_weights(module, self.model, file)
        recipe = self._network_recipe()
        options = dict(mean=recipe["mean"], std=recipe["std"], device=device, dtype=dtype)
        return TimmNetwork(module, choose_layers(module, recipe["layers"]), **options)

    def _hub_module(self):
        return _from_hub(self.model, self._params())

    def _params(self):
        """`model_params` as JSON."""
        params = self.model_params or {}
        if {"pretrained", "checkpoint_path"} & set(params):
            raise ValueError(f"model_params={params!r} names weights: that is what weights is for.")
        try:
            return to_json(params)
        except (AttributeError, TypeError) as error:
            raise ValueError(
                "model_params must hold numbers, strings, lists and dicts by name, as a model file "
                f"can; got {params!r}."
            ) from error

    def _file(self):
        """The file of the weights; None if they are the hub's."""
        if self.weights is None:
            raise ValueError(
                f"weights must say where those of {self.model} are: a path (*.safetensors, *.pth) "
                'or "hub", from where timm then downloads them.'
            )
        return None if self.weights == "hub" else find_path(self.weights, "file")


@functools.lru_cache(2)
def _from_hub(name, params):
    """The network with these `params`, a JSON object."""
    return build(name, json.loads(params), pretrained=True)


def _import_timm():
    try:
        import timm
    # RuntimeError: a torchvision that was built for another torch, which timm imports.
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            'TimmFeatures needs timm: pip install "skstructcore[timm]". It imports torchvision, '
            f"whose build must fit that of torch. Here it says: {error}"
        ) from error
    return timm


def build(name, params, *, pretrained=False):
    """The network of this name in evaluation mode, without a head; for any size if it can."""
    timm = _import_timm()
    is_on_hub = pretrained and ":" in name  # "hf-hub:owner/name"
    if not is_on_hub and not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=5, cutoff=0.5)
        raise ValueError(
            f"model={name!r} is unknown to timm {timm.__version__}; "
            f"{'names like it are ' + ', '.join(near) if near else 'see timm.list_models()'}."
        )
    options = {"pretrained": pretrained, "num_classes": 0, **params}
    try:
        try:
            return timm.create_model(name, **{"dynamic_img_size": True, **options}).eval()
        except TypeError as error:  # only some transformers know it, and those need it
            if "dynamic_img_size" not in str(error):
                raise
            return timm.create_model(name, **options).eval()
    except Exception as error:
        if isinstance(error, TypeError) or (pretrained and "loading state_dict" in str(error)):
            raise ValueError(
                f"timm cannot build {name} with model_params={params}: {error}."
            ) from error
        if not pretrained:
            raise
        # Of many kinds: not cached, no network, no such weights.
        raise FileNotFoundError(
            f"timm could not bring the weights of {name} ({error}). Run once with access to the "
            "hub, copy its cache (HF_HOME) from a machine that has it, or give a file: "
            "weights='model.safetensors'."
        ) from error


def _give_weights(module, name, path):
    """Load a file into a network. ValueError unless all weights but those of a head fit."""
    state = read_state_dict(path)
    entry = _import_timm().model_entrypoint(name)
    convert = getattr(sys.modules[entry.__module__], "checkpoint_filter_fn", None)
    try:  # timm knows the names that the authors of a network gave to its parts
        state = convert(state, module) if convert else state
        missing, unknown = module.load_state_dict(state, strict=False)
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"{str(path)!r} does not fit the network {name}: {error}") from error
    heads = module.pretrained_cfg.get("classifier") or ()
    heads = tuple(f"{h}." for h in ((heads,) if isinstance(heads, str) else heads))
    # A mask token is for training only.
    unknown = [k for k in unknown if not k.startswith(heads) and not k.endswith("mask_token")]
    wrong = [f"{k} is missing" for k in missing] + [f"{k} is unknown" for k in unknown]
    check_fit(wrong, repr(str(path)), name)


def choose_layers(module, layers):
    """Positions of the layers, from 0: those asked for, or by default the usual ones."""
    if not hasattr(module, "forward_intermediates"):
        raise ValueError(
            f"{type(module).__name__} has no forward_intermediates in this release of timm: use "
            "ConvFeatures with the module itself (timm.create_model) and the names of its layers."
        )
    strides = [info["reduction"] for info in module.feature_info]
    n_layers = len(strides)
    if layers is not None:
        positions = [n % n_layers for n in layers if -n_layers <= n < n_layers]
        if len(set(positions)) < len(layers):
            raise ValueError(
                f"layers={layers!r}: the network has {n_layers}, counted from 0 (or from -1 at the "
                "end). Choose among these, each once."
            )
        return positions
    if len(set(strides)) == 1:
        return sorted({max(round(depth * n_layers) - 1, 0) for depth in _DEPTHS})
    last = [n_layers - 1 - strides[::-1].index(s) for s in (8, 16) if s in strides]
    return last or [n_layers - 1]
