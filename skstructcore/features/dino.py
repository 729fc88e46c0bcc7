"""Patch features of DINOv2 vision transformers."""

from __future__ import annotations

import os
from numbers import Integral
from typing import TYPE_CHECKING

from ._backbone import PatchFeatures
from ._dino_weights import find_weights, load_weights

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    import joblib

    from ..images.ignoring import RegionLike
    from ..images.image_list import StrPath


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
    image_size : int or (int, int), default=392
        Height and width, in pixels, that the network sees; multiples of 14. 392 gives a grid of
        28 x 28 patches. Position embeddings are interpolated to any grid.
    resize : int or None, default=None
        With `crop`: the length that the shorter side is scaled to before the crop. None means
        the smallest that covers `image_size`.
    crop : bool, default=False
        False scales the whole image to `image_size`, which changes the aspect ratio of images
        of another shape. True keeps the aspect ratio and cuts out the centre: **defects outside
        of it, at the border, are not seen**. The StructCore paper uses `resize=448, crop=True`.
    tile_size : int or (int, int) or None, default=None
        Height and width, in pixels of the scaled image, of tiles that the network sees one by
        one; None: the image as a whole. For images too large for that, see ``docs/pictures.md``:
        `image_size` may then be as large as the camera's, and the grid stays one.
    tile_overlap : int, default=0
        Pixels that neighbouring tiles share at least; their features are blended there. All
        these sizes are multiples of the patch size.
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
        Whether each block's tokens are scaled to length 1.
    batch_size : int, default=16
        Images (with `tile_size`: tiles) in a batch. On the CPU the features do not depend on it.
    device : str, default="auto"
        A torch device; "auto" takes a GPU if there is one.
    dtype : {"auto", "float32", "float16", "bfloat16"}, default="auto"
        The precision of the computation; features are float32 always. "auto" is float32 on the
        CPU and bfloat16 (if it has it, else float16) on a CUDA device.
    compile : bool, default=False
        Whether to use `torch.compile`: some seconds more at the start, less for each image.
    n_jobs : int or None, default=None
        Threads that read images and, on the CPU, run the network. None means as many as torch
        would use.
    memory : str, path-like, joblib.Memory or None, default=None
        Folder where the features of each image are kept, found by the image's content, the
        weights and the parameters, so that a parameter sweep runs the network once an image.
        The default settings take 12 MB an image.
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
        Digest of the weight files. Other weights, at a later use, are an error.
    model_source_ : str
        Where the weights came from.

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

    _parameter_constraints = {
        **PatchFeatures._parameter_constraints,
        "compile": ["boolean"],
        "model": [str, None],
        "layers": [tuple, list],
        "weights": [str, os.PathLike, None],
    }

    def __init__(
        self,
        model: str | None = "dinov2_vitb14",
        layers: Sequence[int] = (1, 4, 7, 10, 12),
        weights: StrPath | None = None,
        image_size: int | tuple[int, int] = 392,
        batch_size: int = 16,
        device: str = "auto",
        memory: StrPath | joblib.Memory | None = None,
        verbose: int = 0,
        *,
        resize: int | None = None,
        crop: bool = False,
        tile_size: int | tuple[int, int] | None = None,
        tile_overlap: int = 0,
        window: Literal["auto"] | tuple[float, float] = "auto",
        channels: Sequence[int] | Sequence[Sequence[float]] | None = None,
        ignore: RegionLike | dict[str, RegionLike] | None = None,
        foreground: Literal["auto"] | None = None,
        normalize: bool = True,
        dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto",
        compile: bool = False,
        n_jobs: int | None = None,
    ) -> None:
        self.model = model
        self.layers = layers
        self.weights = weights
        self.image_size = image_size
        self.batch_size = batch_size
        self.device = device
        self.memory = memory
        self.verbose = verbose
        self.resize = resize
        self.crop = crop
        self.tile_size = tile_size
        self.tile_overlap = tile_overlap
        self.window = window
        self.channels = channels
        self.ignore = ignore
        self.foreground = foreground
        self.normalize = normalize
        self.dtype = dtype
        self.compile = compile
        self.n_jobs = n_jobs

    def _found(self):
        return find_weights(self.model, self.weights)

    def _checksum(self):
        return self._found().checksum()

    def _source(self):
        return self._found().source

    def _identity(self):
        return self.compile

    def _recipe(self):
        return {"layers": self._blocks()}

    def _load(self, device, dtype):
        from ._vit import VitNetwork

        blocks = self._blocks()
        transformer = load_weights(self._found(), self.model)
        n_blocks = transformer.config.num_hidden_layers
        if max(blocks) > n_blocks:
            raise ValueError(
                f"layers={self.layers!r}: the model has the blocks 1 to {n_blocks}, there is no "
                f"block {max(blocks)}."
            )
        return VitNetwork(
            transformer,
            blocks,
            normalize=self.normalize,
            device=device,
            dtype=dtype,
            compile=self.compile,
        )

    def _blocks(self):
        blocks = list(self.layers)
        numbers = [n for n in blocks if isinstance(n, Integral) and n >= 1]
        if not blocks or len(numbers) < len(blocks) or len(set(blocks)) < len(blocks):
            raise ValueError(
                f"layers must be numbers of blocks, from 1 on, each once; got {self.layers!r}."
            )
        return [int(n) for n in blocks]
