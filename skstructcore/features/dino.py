"""Patch features of DINOv2 vision transformers, and where their weights come from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .._utils.files import file_digest
from .._utils.versions import import_extra
from ..images.image_list import StrPath
from ._backbone import PatchFeatures, check_layers
from ._modules import check_fit, find_path, read_state_dict
from ._parameters import Channels, Crop, Ignore, ImageSize, Memory, Precision, Window

if TYPE_CHECKING:
    from ._networks import VitNetwork

_HEAD_WIDTH = 64  # of every published model
# What a config.json says about the computation; the rest must not change the checksum.
_ESSENTIAL = (
    "model_type hidden_size num_hidden_layers num_attention_heads mlp_ratio hidden_act "
    "layer_norm_eps image_size patch_size qkv_bias use_swiglu_ffn num_register_tokens"
).split()


class Architecture(NamedTuple):
    """What tells a published model from the others, and its name on the hub."""

    n_features: int  # of a patch
    n_blocks: int
    has_registers: bool
    hub_name: str

    def __str__(self) -> str:
        registers = "with registers" if self.has_registers else "without registers"
        return f"{self.n_features} features and {self.n_blocks} blocks, {registers}"


ARCHITECTURES = {
    f"dinov2_vit{letter}14{end}": Architecture(
        width, n_blocks, bool(end), f"facebook/dinov2-{registers}{size}"
    )
    for letter, width, n_blocks, size in (
        ("s", 384, 12, "small"),
        ("b", 768, 12, "base"),
        ("l", 1024, 24, "large"),
        ("g", 1536, 40, "giant"),
    )
    for end, registers in (("", ""), ("_reg", "with-registers-"))
}


class DinoFeatures(PatchFeatures):
    """Patch features of a frozen DINOv2 vision transformer.

    The outputs of some blocks are taken raw, without the final norm; class and register tokens
    are dropped; each token is scaled to length 1 per block; the blocks are joined. Needs
    transformers: ``pip install "skstructcore[dino]"``.

    Parameters
    ----------
    model : str or None, default="dinov2_vitb14"
        "dinov2_vits14", "dinov2_vitb14", "dinov2_vitl14" or "dinov2_vitg14", each also with
        "_reg" at its end (with registers); or a repository on the hub, "owner/name". With
        `weights` it is checked against them; None takes them as they are.
    layers : sequence of int, default=(1, 4, 7, 10, 12)
        Blocks whose outputs are taken, counted from 1. S and B have 12 blocks, L has 24 and g 40.
    weights : str, path-like or None, default=None
        None takes the model from the hub: from its local cache, else by download. A folder holds
        config.json and *.safetensors (or pytorch_model*.bin), as `save_pretrained` writes them.
        A file is an original checkpoint (.pth) of facebookresearch/dinov2. Nothing is loaded
        before `fit`.
    image_size : int, (int, int), "native" or float, default=392
        As in `ConvFeatures`; multiples of 14. 392 gives a grid of 28 x 28 patches. Position
        embeddings are interpolated to any grid.
    crop, tile_size, tile_overlap, window, channels, ignore : see `ConvFeatures`
    batch_size, device, dtype, n_jobs, memory, verbose : see `ConvFeatures`

    Attributes
    ----------
    grid_shape_, n_features_out_, input_size_, scale_, colours_, picture_ : see `ConvFeatures`
    window_, model_checksum_, model_source_ : see `ConvFeatures`

    See Also
    --------
    ConvFeatures : Features of a convolutional network, whose weights need no download.

    Notes
    -----
    A pickled estimator holds no weights. Where they have moved to, on another machine, is told
    by ``set_params(weights=...)``; their checksum must be the same.

    References
    ----------
    Oquab, M. et al. (2023). DINOv2: Learning robust visual features without supervision.
    Darcet, T. et al. (2023). Vision transformers need registers.

    Examples
    --------
    >>> from skstructcore import DinoFeatures
    >>> DinoFeatures("dinov2_vits14_reg", layers=(3, 6, 9, 12), image_size=(224, 448))
    DinoFeatures(image_size=(224, 448), layers=(3, 6, 9, 12),
                 model='dinov2_vits14_reg')
    """

    _side_step = 14
    _parameter_constraints = {
        **PatchFeatures._parameter_constraints,
        "model": [str, None],
        "layers": [tuple, list],
        "weights": [str, os.PathLike, None],
    }

    def __init__(
        self,
        model: str | None = "dinov2_vitb14",
        layers: Sequence[int] = (1, 4, 7, 10, 12),
        weights: StrPath | None = None,
        *,
        image_size: ImageSize = 392,
        crop: Crop = False,
        tile_size: int | tuple[int, int] | None = None,
        tile_overlap: int = 0,
        window: Window = "auto",
        channels: Channels = None,
        ignore: Ignore = None,
        batch_size: int = 16,
        device: str = "auto",
        dtype: Precision = "auto",
        n_jobs: int | None = None,
        memory: Memory = None,
        verbose: int = 0,
    ) -> None:
        self._store_parameters(locals())

    def _weights(self):
        weights = find_weights(self.model, self.weights)
        return weights.checksum(), weights.source

    @property
    def _shape_name(self):
        return f"shape-{self.model}" if self.model in ARCHITECTURES else "shape"

    def network(self) -> VitNetwork:
        """The loaded network; an error if it is not that of `model`, or lacks one of `layers`."""
        network = super().network()  # perhaps that of an estimator with another `model`
        config = network.config
        n_blocks, has_registers = config.num_hidden_layers, config.model_type != "dinov2"
        if needed := ARCHITECTURES.get(self.model):
            holds = Architecture(config.hidden_size, n_blocks, has_registers, needed.hub_name)
            if holds != needed:
                raise ValueError(
                    f"{self.model_source_} holds a model of {holds}; {self.model} has {needed}. "
                    "Change model or weights."
                )
        if max(network.blocks) > n_blocks:
            raise ValueError(f"layers={self.layers!r}: the model has the blocks 1 to {n_blocks}.")
        return network

    def _network_recipe(self):
        def is_number(n):
            return isinstance(n, Integral) and n >= 1

        blocks = check_layers(self.layers, is_number, "numbers of blocks, from 1 on")
        return {"layers": [int(n) for n in blocks]}

    def _load(self, device, dtype):
        from ._networks import VitNetwork

        transformer = load_weights(*find_weights(self.model, self.weights))
        return VitNetwork(transformer, **self._network_recipe(), device=device, dtype=dtype)


class Weights(NamedTuple):
    """Weights on this machine: a folder as `save_pretrained` writes it, or a checkpoint file."""

    path: Path
    source: str

    def checksum(self):
        """Digest of the weight files and of what the configuration says about the network."""
        if not self.path.is_dir():
            return file_digest(self.path)
        config = _read_config(self.path)
        parts = [file_digest(file) for file in _weight_files(self.path)]
        parts.append(json.dumps({key: config.get(key) for key in _ESSENTIAL}))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def find_weights(model, weights):
    """Where the weights are; downloads those of a hub model that are not in its cache."""
    if model is not None and model not in ARCHITECTURES and "/" not in model:
        raise ValueError(
            f"model={model!r} is unknown. It is one of {', '.join(ARCHITECTURES)}, the name of a "
            "repository on the hub ('owner/name'), or None with a path as weights."
        )
    if weights is None:
        if model is None:
            raise ValueError("model=None needs weights: a folder or a checkpoint file.")
        name = ARCHITECTURES[model].hub_name if model in ARCHITECTURES else model
        return Weights(_hub_folder(name), f"hub {name}")
    path = find_path(weights, "file or folder")
    if path.is_dir() and not (path / "config.json").is_file():
        raise FileNotFoundError(f"The weights folder {str(path)!r} has no config.json.")
    if path.is_dir() and not _weight_files(path):
        raise FileNotFoundError(
            f"The weights folder {str(path)!r} has no *.safetensors and no pytorch_model*.bin file."
        )
    return Weights(path, str(path))


def load_weights(path, source):
    """The transformers model of DINOv2 with these weights, float32, in evaluation mode."""
    transformers = import_extra("transformers", "dino", "DinoFeatures")
    is_folder = path.is_dir()
    config, state = (_read_config(path), None) if is_folder else _read_checkpoint(path)
    prefixes = {"dinov2": "Dinov2", "dinov2_with_registers": "Dinov2WithRegisters"}
    prefix = prefixes.get(config.get("model_type"))
    if prefix is None:
        raise ValueError(
            f"{source} holds a model of the type {config.get('model_type')!r}; it must be "
            f"{' or '.join(map(repr, prefixes))}."
        )
    place, options = str(path), {"local_files_only": True}
    if not is_folder:
        config = getattr(transformers, f"{prefix}Config")(**config)
        place, options = None, {"config": config, "state_dict": state}
    with _quiet(transformers):
        try:
            network, info = getattr(transformers, f"{prefix}Model").from_pretrained(
                place, output_loading_info=True, ignore_mismatched_sizes=True, **options
            )
        except Exception:
            for file in _weight_files(path):
                read_state_dict(file)  # an error that names the one that is damaged
            raise
    wrong = [f"{key} has another shape" for key, *_ in info["mismatched_keys"]]
    wrong += [f"{k} is missing" for k in info["missing_keys"] if not k.endswith("mask_token")]
    if not is_folder:
        wrong += [f"{key} is unknown" for key in info["unexpected_keys"]]
    check_fit(wrong, source, "a DINOv2 model")
    return network.float().eval()


@contextlib.contextmanager
def _quiet(transformers):
    """Keep transformers from printing progress and reports; errors are raised by us."""
    logging = transformers.utils.logging
    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()


def _read_config(folder):
    path = folder / "config.json"
    try:
        return dict(**json.loads(path.read_text()))
    except (TypeError, ValueError) as error:  # no JSON, or no object
        raise ValueError(f"{str(path)!r} is no configuration of a model ({error}).") from error


def _weight_files(folder):
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))


@lru_cache(16)
def _hub_folder(name):
    """Folder of a hub repository in the local cache; downloaded if it is not there."""
    import_extra("transformers", "dino", "DinoFeatures")
    from huggingface_hub import constants, snapshot_download

    ways = [{"local_files_only": True}, {"etag_timeout": 3}]
    if constants.HF_HUB_OFFLINE:
        ways.pop()
    for options, ending in product(ways, ("safetensors", "bin")):
        patterns = ["config.json", f"*.{ending}"]
        try:
            folder = Path(snapshot_download(name, allow_patterns=patterns, **options))
        except Exception as error:  # of many kinds: not cached, no network, no such repository
            reason = str(error)
            continue
        if (folder / "config.json").is_file() and _weight_files(folder):
            return folder
        reason = "the repository holds no weights"
    if constants.HF_HUB_OFFLINE:
        reason = "HF_HUB_OFFLINE is set"
    raise FileNotFoundError(
        f"The weights of {name} are not on this machine and cannot be downloaded ({reason}). "
        "There are three ways to get them: (1) run once with access to the hub, or copy its "
        "cache (HF_HOME) from a machine that has it; (2) weights=<folder> with config.json and "
        "model.safetensors of the repository; (3) weights=<file.pth>, the original checkpoint "
        "of facebookresearch/dinov2. ConvFeatures needs no download."
    )


_RENAMED = [
    (r"^(cls_token|mask_token|register_tokens)$", r"embeddings.\1"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.(?:\d+\.)?(\d+)\.", r"encoder.layer.\1."),  # training runs group the blocks
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
    (r"\.mlp\.w12\.", ".mlp.weights_in."),
    (r"\.mlp\.w3\.", ".mlp.weights_out."),
]


def _read_checkpoint(path):
    """Configuration and tensors, by the names of the hub, of an original checkpoint."""
    state = read_state_dict(path)
    needed = ("cls_token", "pos_embed", "patch_embed.proj.weight")
    absent = [key for key in needed if key not in state]
    if absent:
        raise ValueError(
            f"{str(path)!r} is no DINOv2 checkpoint of facebookresearch/dinov2: it lacks "
            f"{', '.join(absent)}; it has {', '.join(list(state)[:3])}, ... For a file of the hub "
            "pass the folder that holds it and config.json."
        )
    converted = {}
    for key, tensor in state.items():
        for pattern, replacement in _RENAMED:
            key = re.sub(pattern, replacement, key)
        if ".attn.qkv." in key:
            for part, values in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                converted[key.replace("attn.qkv", f"attention.attention.{part}")] = values
        else:
            converted[key] = tensor
    return _infer_config(converted), converted


def _infer_config(state):
    projection = state["embeddings.patch_embeddings.projection.weight"]
    width, _, _, patch_size = projection.shape
    n_positions = state["embeddings.position_embeddings"].shape[1] - 1
    blocks = [re.match(r"encoder\.layer\.(\d+)\.", key) for key in state]
    swiglu = "encoder.layer.0.mlp.weights_in.weight" in state
    hidden = state.get("encoder.layer.0.mlp.fc1.weight", projection).shape[0]
    config = {
        "model_type": "dinov2",
        "hidden_size": width,
        "num_hidden_layers": 1 + max((int(m[1]) for m in blocks if m), default=-1),
        "num_attention_heads": max(1, width // _HEAD_WIDTH),
        "mlp_ratio": 4 if swiglu else max(1, hidden // width),
        "patch_size": patch_size,
        "image_size": round(n_positions**0.5) * patch_size,
        "use_swiglu_ffn": swiglu,
    }
    if "embeddings.register_tokens" in state:
        config["model_type"] = "dinov2_with_registers"
        config["num_register_tokens"] = state["embeddings.register_tokens"].shape[1]
    return config
