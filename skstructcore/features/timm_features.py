"""Patch features of the networks of timm."""

from __future__ import annotations

import copy
import functools
import json
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

from .._utils.files import file_digest
from ._backbone import PatchFeatures, pixel_scaling
from ._modules import module_checksum

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import Any, Literal

    from ._backbone import Channels, Crop, Ignore, ImageSize, Memory, Precision, Window


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
        Height and width, in pixels, that the network sees; of a transformer multiples of its
        patch size.
        %(size)s
    %(picture)s
    mean, std : sequence of 3 floats or None, default=None
        The scaling of pixels between 0 and 1. None takes what timm says of the network.
    %(computation)s
    %(run)s

    Attributes
    ----------
    %(fitted)s

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

    _side_step = 32
    _parameter_constraints = {
        **PatchFeatures._parameter_constraints,
        "model": [str],
        "layers": [None, tuple, list],
        "model_params": [dict, None],
        "mean": [None, tuple, list],
        "std": [None, tuple, list],
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

    def _weights_checksum(self):
        file = self._file()
        return module_checksum(self._hub_module()) if file is None else file_digest(str(file))

    def _weights_name(self):
        return f"timm {self.model} {self.weights}"

    def _network_recipe(self):
        pixel_scaling(self.mean, self.std)  # an error if they are none
        return {
            "model": self.model,
            "params": sorted((self.model_params or {}).items()),
            "layers": self._positions(),
            "mean": self.mean,
            "std": self.std,
        }

    def _load(self, device, dtype):
        from ._timm import TimmNetwork, build, give_weights

        if (file := self._file()) is None:
            module = copy.deepcopy(self._hub_module())
        else:
            module = build(self.model, self.model_params or {})
            give_weights(module, self.model, file)
        options = dict(mean=self.mean, std=self.std, device=device, dtype=dtype)
        return TimmNetwork(module, self._positions(), **options)

    def _hub_module(self):
        return _from_hub(self.model, json.dumps(self.model_params or {}, sort_keys=True))

    def _file(self):
        """The file of the weights; None if they are the hub's."""
        if self.weights is None:
            raise ValueError(
                f"weights must say where those of {self.model} are: a path (*.safetensors, *.pth) "
                'or "hub", from where timm then downloads them.'
            )
        if self.weights == "hub":
            return None
        path = Path(self.weights)
        if not path.is_file():
            raise FileNotFoundError(
                f"weights={str(path)!r}: there is no such file. "
                "If they have moved since the fit: load(path, weights=...), in commands --weights."
            )
        return path

    def _positions(self):
        if self.layers is None:
            return None
        layers = [int(n) for n in self.layers if isinstance(n, Integral)]
        if not layers or len(layers) < len(self.layers) or len(set(layers)) < len(layers):
            raise ValueError(f"layers must be positions of layers, each once; got {self.layers!r}.")
        return layers


@functools.lru_cache(1)
def _from_hub(name, params):
    """The network with these `params`, a JSON object."""
    from ._timm import build, import_timm

    import_timm()
    try:
        return build(name, json.loads(params), pretrained=True)
    except Exception as error:  # of many kinds: not cached, no network, no such weights
        raise FileNotFoundError(
            f"timm could not bring the weights of {name} ({error}). Run once with access to the "
            "hub, copy its cache (HF_HOME) from a machine that has it, or give a file: "
            "weights='model.safetensors'."
        ) from error
