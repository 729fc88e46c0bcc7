"""Patch features of the networks of timm."""

from __future__ import annotations

import copy
import functools
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

from .._utils.files import file_digest
from ._backbone import PatchFeatures, check_pixel_scaling
from ._modules import module_checksum

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import Any, Literal

    import joblib

    from ..images.ignoring import RegionLike
    from ..images.image_list import StrPath

_HUB = "hub"


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
    image_size : int or (int, int), default=256
        Height and width, in pixels, that the network sees; of a transformer multiples of its
        patch size.
    resize : int or None, default=None
        With `crop`: the length that the shorter side is scaled to before the crop. None means
        the smallest that covers `image_size`.
    crop : bool, default=False
        False scales the whole image to `image_size`, which changes the aspect ratio of images
        of another shape. True keeps the aspect ratio and cuts out the centre: **defects outside
        of it, at the border, are not seen**.
    tile_size : int or (int, int) or None, default=None
        Height and width, in pixels of the scaled image, of tiles that the network sees one by
        one; None: the image as a whole. For images too large for that, see ``docs/pictures.md``:
        `image_size` may then be as large as the camera's, and the grid stays one.
    tile_overlap : int, default=0
        Pixels that neighbouring tiles share at least; their features are blended there. All
        these sizes are multiples of the finest stride.
    window : "auto" or (float, float), default="auto"
        Which values of images with more than 8 bits become black and white. "auto" finds in the
        training images which bit depth they use (8, 10, 12, 14 or 16), and keeps it as
        `window_`. Floating-point images need the numbers: (0, 1), for instance. Images of 8
        bits are taken as they are.
    channels : sequence of 3 int, or of 3 rows of floats, or None, default=None
        Which channels are red, green and blue, counted from 0, or the weights of all channels
        for each of them. None takes one channel as grey and three as RGB; other numbers of
        channels need it.
    ignore : mask, polygons, dict or None, default=None
        Where images are never looked at: a mask of the size of the upright originals (a file or
        an array; what is not 0 is ignored); a list of polygons, each with x and y of its corners
        in pixels of the original or, for images of several sizes, all from 0 to 1 as shares of
        width and height; or a dict of category to one of these. A patch is ignored if at least
        half of it is. Stored in `fit`; see ``docs/pictures.md``.
    foreground : "auto" or None, default=None
        "auto" ignores the plain background that surrounds a part, found in each image by the
        colour of its border. **What is missing at the outline of a part looks like background.**
    normalize : bool, default=True
        Whether each layer's feature vectors are scaled to length 1.
    mean, std : sequence of 3 floats or None, default=None
        The scaling of pixels between 0 and 1. None takes what timm says of the network.
    batch_size : int, default=16
        Images (with `tile_size`: tiles) in a batch. On the CPU the features do not depend on it.
    device : str, default="auto"
        A torch device; "auto" takes a GPU if there is one.
    dtype : {"auto", "float32", "float16", "bfloat16"}, default="auto"
        The precision of the computation; features are float32 always. "auto" is float32 on the
        CPU and bfloat16 (if it has it, else float16) on a CUDA device.
    n_jobs : int or None, default=None
        Threads that read images and, on the CPU, run the network. None means as many as torch
        would use.
    memory : str, path-like, joblib.Memory or None, default=None
        Folder where the features of each image are kept, found by the image's content, the
        weights and the parameters, so that a parameter sweep runs the network once an image.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    grid_shape_ : tuple of (int, int)
        Height and width of the patch grid.
    n_features_out_ : int
        Features of each patch.
    window_ : tuple of (float, float) or None
        What `window` came to; None if it is "auto" and all training images have 8 bits.
    model_checksum_ : str
        Digest of the weights. Other weights, at a later use, are an error.
    model_source_ : str
        Where the weights came from.

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

    _parameter_constraints = {
        **PatchFeatures._parameter_constraints,
        "model": [str],
        "layers": [None, tuple, list],
        "weights": "no_validation",
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
        image_size: int | tuple[int, int] = 256,
        resize: int | None = None,
        crop: bool = False,
        tile_size: int | tuple[int, int] | None = None,
        tile_overlap: int = 0,
        window: Literal["auto"] | tuple[float, float] = "auto",
        channels: Sequence[int] | Sequence[Sequence[float]] | None = None,
        ignore: RegionLike | dict[str, RegionLike] | None = None,
        foreground: Literal["auto"] | None = None,
        normalize: bool = True,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        batch_size: int = 16,
        device: str = "auto",
        dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto",
        n_jobs: int | None = None,
        memory: StrPath | joblib.Memory | None = None,
        verbose: int = 0,
    ) -> None:
        self.model = model
        self.layers = layers
        self.weights = weights
        self.model_params = model_params
        self.image_size = image_size
        self.resize = resize
        self.crop = crop
        self.tile_size = tile_size
        self.tile_overlap = tile_overlap
        self.window = window
        self.channels = channels
        self.ignore = ignore
        self.foreground = foreground
        self.normalize = normalize
        self.mean = mean
        self.std = std
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype
        self.n_jobs = n_jobs
        self.memory = memory
        self.verbose = verbose

    def _checksum(self):
        if self._file() is None:
            return module_checksum(_from_hub(self.model, self._params()))
        return file_digest(str(self._file()))

    def _source(self):
        return f"timm {self.model} {self.weights}"

    def _identity(self):
        return None

    def _recipe(self):
        mean = (0, 0, 0) if self.mean is None else self.mean
        check_pixel_scaling(mean, (1, 1, 1) if self.std is None else self.std)
        return {
            "model": self.model,
            "params": self._params(),
            "layers": self._positions(),
            "mean": self.mean,
            "std": self.std,
        }

    def _load(self, device, dtype):
        from ._timm import TimmNetwork, build, give_weights

        if (file := self._file()) is None:
            module = copy.deepcopy(_from_hub(self.model, self._params()))
        else:
            module = build(self.model, dict(self._params()))
            give_weights(module, self.model, file)
        return TimmNetwork(
            module,
            self._positions(),
            mean=self.mean,
            std=self.std,
            normalize=self.normalize,
            device=device,
            dtype=dtype,
        )

    def _file(self):
        """The file of the weights; None if they are the hub's."""
        if self.weights is None:
            raise ValueError(
                f"weights must say where those of {self.model} are: a path (*.safetensors, *.pth) "
                'or "hub", from where timm then downloads them.'
            )
        if self.weights == _HUB:
            return None
        path = Path(self.weights)
        if not path.is_file():
            raise FileNotFoundError(f"weights={str(path)!r}: there is no such file.")
        return path

    def _params(self):
        return tuple(sorted((self.model_params or {}).items()))

    def _positions(self):
        if self.layers is None:
            return None
        layers = [int(n) for n in self.layers if isinstance(n, Integral)]
        if not layers or len(layers) < len(self.layers) or len(set(layers)) < len(layers):
            raise ValueError(f"layers must be positions of layers, each once; got {self.layers!r}.")
        return layers


@functools.lru_cache(1)
def _from_hub(name, params):
    from ._timm import build, import_timm

    import_timm()
    try:
        return build(name, dict(params), pretrained=True)
    except Exception as error:  # of many kinds: not cached, no network, no such weights
        raise FileNotFoundError(
            f"timm could not bring the weights of {name} ({error}). Run once with access to the "
            "hub, copy its cache (HF_HOME) from a machine that has it, or give a file: "
            "weights='model.safetensors'."
        ) from error
