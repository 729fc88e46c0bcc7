"""Networks of timm: built, given their weights, and run from pixels to patch features."""

import difflib
import inspect
import sys

import torch

from ._modules import check_fit, read_state_dict
from ._networks import Network, average_3x3, join_maps

# Where transformers of equal blocks are looked into, as DinoFeatures does it: shares of the depth.
_DEPTHS = (1 / 12, 4 / 12, 7 / 12, 10 / 12, 1)


def import_timm():
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
    timm = import_timm()
    if not pretrained and not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=5, cutoff=0.5)
        raise ValueError(
            f"model={name!r} is unknown to timm {timm.__version__}; "
            f"{'names like it are ' + ', '.join(near) if near else 'see timm.list_models()'}."
        )
    options = {"pretrained": pretrained, "num_classes": 0, **params}
    try:
        return timm.create_model(name, **{"dynamic_img_size": True, **options}).eval()
    except TypeError as error:  # only some transformers know it, and those need it
        if "dynamic_img_size" not in str(error):
            raise
        return timm.create_model(name, **options).eval()


def give_weights(module, name, path):
    """Load a file into a network. ValueError unless all weights but those of a head fit."""
    state = read_state_dict(path)
    entry = import_timm().model_entrypoint(name)
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


def is_plain(module):
    """Whether all blocks of a network give one grid, as those of a plain transformer do."""
    return len({info["reduction"] for info in module.feature_info}) == 1


def choose_layers(module, layers):
    """Positions of the layers, from 0: those asked for, or by default the usual ones."""
    n_layers = len(module.feature_info)
    if layers is None:
        if is_plain(module):
            return sorted({max(round(depth * n_layers) - 1, 0) for depth in _DEPTHS})
        strides = [info["reduction"] for info in module.feature_info]
        last = [len(strides) - 1 - strides[::-1].index(s) for s in (8, 16) if s in strides]
        return last or [n_layers - 1]
    wrong = [n for n in layers if not -n_layers <= n < n_layers]
    if wrong:
        raise ValueError(
            f"layers={layers!r}: the network has {n_layers}, counted from 0 (or from -1 at the "
            f"end); there is no {wrong[0]}."
        )
    return [n % n_layers for n in layers]


class TimmNetwork(Network):
    """The outputs of some layers of a network of timm, as one grid of patch features.

    For `layers` see `choose_layers`; `mean` and `std` are by default what timm says of the weights.
    """

    def __init__(self, module, layers, *, mean, std, device, dtype):
        if not hasattr(module, "forward_intermediates"):
            raise ValueError(
                f"{type(module).__name__} has no forward_intermediates in this release of timm: "
                "use ConvFeatures with the module itself and the names of its layers."
            )
        config = module.pretrained_cfg
        super().__init__(mean or config["mean"], std or config["std"], device, dtype)
        height, width = config.get("input_size", (3, "?", "?"))[1:]
        self.advice = (
            f": it was trained on {height} x {width}, and networks of a fixed size take "
            "model_params={'img_size': ...}"
        )
        self.layers = choose_layers(module, layers)
        self.module = module.to(device, dtype)
        self._order = sorted(set(self.layers))  # timm gives them from front to back
        self._plain = is_plain(module)
        options = {"output_fmt": "NCHW", "intermediates_only": True, "stop_early": True}
        accepted = inspect.signature(module.forward_intermediates).parameters
        self._options = {key: value for key, value in options.items() if key in accepted}

    def __call__(self, pixels):
        x = self.scaled(pixels)
        maps = self.module.forward_intermediates(x, indices=self._order, **self._options)
        wrong = [m for m in maps if not isinstance(m, torch.Tensor) or m.ndim != 4]
        if wrong:
            raise ValueError(f"{type(self.module).__name__} gives no maps for its layers.")
        maps = {n: m.float() for n, m in zip(self._order, maps, strict=True)}
        maps = [maps[n] if self._plain else average_3x3(maps[n]) for n in self.layers]
        return join_maps(maps)
