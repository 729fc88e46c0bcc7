"""Patch features of DINOv2 vision transformers."""

from __future__ import annotations

import os
from numbers import Integral
from typing import TYPE_CHECKING

from ._backbone import PatchFeatures
from ._dino_weights import find_weights, load_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..images.image_list import StrPath
    from ._backbone import Channels, Crop, Ignore, ImageSize, Memory, Precision, Window


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
        Height and width, in pixels, that the network sees; multiples of 14. 392 gives a grid of
        28 x 28 patches. Position embeddings are interpolated to any grid.
        %(size)s
    %(picture)s
    %(computation)s
    %(run)s

    Attributes
    ----------
    %(fitted)s

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

    @property
    def _identity(self):
        return self.model  # so that weights are compared with each model that is asked for

    def _weights_checksum(self):
        return find_weights(self.model, self.weights).checksum()

    def _weights_name(self):
        return find_weights(self.model, self.weights).source

    def _network_recipe(self):
        return {"layers": self._blocks()}

    def _load(self, device, dtype):
        from ._networks import VitNetwork

        blocks = self._blocks()
        transformer = load_weights(find_weights(self.model, self.weights), self.model)
        n_blocks = transformer.config.num_hidden_layers
        if max(blocks) > n_blocks:
            raise ValueError(
                f"layers={self.layers!r}: the model has the blocks 1 to {n_blocks}, there is no "
                f"block {max(blocks)}."
            )
        return VitNetwork(transformer, blocks, device=device, dtype=dtype)

    def _blocks(self):
        blocks = list(self.layers)
        numbers = [n for n in blocks if isinstance(n, Integral) and n >= 1]
        if not blocks or len(numbers) < len(blocks) or len(set(blocks)) < len(blocks):
            raise ValueError(
                f"layers must be numbers of blocks, from 1 on, each once; got {self.layers!r}."
            )
        return [int(n) for n in blocks]
