"""The parameters that feature estimators have alike: their types, constraints and documentation."""

import os
from collections.abc import Sequence
from numbers import Integral
from typing import Any, Literal, TypeAlias

import joblib
import numpy as np
from sklearn.utils._param_validation import HasMethods, Interval, RealNotInt, StrOptions

from .._utils.files import StrPath
from ..images.ignoring import RegionLike

ImageSize: TypeAlias = int | float | Literal["native"] | tuple[int, int]
Crop: TypeAlias = bool | int | Sequence[Any]
Window: TypeAlias = Literal["auto"] | tuple[float, float]
Channels: TypeAlias = Sequence[int] | Sequence[Sequence[float]] | Literal["bgr"] | None
Ignore: TypeAlias = RegionLike | dict[str, RegionLike] | None
Precision: TypeAlias = Literal["auto", "float32", "float16", "bfloat16"]
Memory: TypeAlias = StrPath | joblib.Memory | None

_POSITIVE = Interval(Integral, 1, None, closed="left")
_SHARE = Interval(RealNotInt, 0, 1, closed="right")
# What is seen of an image, and so decides over its features; `ignore` takes some of them away.
DECIDING = ("image_size", "crop", "tile_size", "tile_overlap", "window", "channels")
CONSTRAINTS = {
    "image_size": [_POSITIVE, _SHARE, StrOptions({"native"}), tuple, list],
    "tile_size": [_POSITIVE, tuple, list, None],
    "tile_overlap": [Interval(Integral, 0, None, closed="left")],
    "ignore": [str, os.PathLike, np.ndarray, list, tuple, dict, None],
    "crop": ["boolean", _POSITIVE, tuple, list, np.ndarray],
    "mean": [None, tuple, list],
    "std": [None, tuple, list],
    "batch_size": [_POSITIVE],
    "device": [str],
    "dtype": [StrOptions({"auto", "float32", "float16", "bfloat16"})],
    "n_jobs": [None, Interval(Integral, None, -1, closed="right"), _POSITIVE],
    "memory": [None, str, os.PathLike, HasMethods("cache")],
    "verbose": ["verbose"],
}

# What docstrings say at a line ``%(name)s``.
SHARED = {
    "size": '''\
An int is the side of a square. Images longer than 2 : 1, all of one shape, keep that shape and
are seen at as many pixels as the square has; a shorter side of less than a third of the int is
raised to that, but not above its own length. "native" is the size of the images, which must all
have the same, and a float (0.5) times it.
''',
    "picture": '''\
crop : bool, int, (left, top, right, bottom) or corners (x, y) of a polygon, default=False
    The part of each image that is looked at. False: the whole image, scaled to `image_size`; two
    numbers change the aspect ratio of images of another shape. A box, or the box of a polygon,
    in pixels of the upright original or, all up to 1, as shares of it, is scaled alike. True
    keeps the aspect ratio and cuts out the centre, as much as covers `image_size`; an int is the
    length that the shorter side is scaled to before. **Defects outside are not seen.** Maps,
    regions and files stay in coordinates of the whole image.
tile_size : int or (int, int) or None, default=None
    Height and width, in pixels of the scaled image, of tiles that the network sees one by one;
    None: the image as a whole. For large images, see ``docs/pictures.md``: `image_size` may
    then be as large as the camera's, and the grid stays one.
tile_overlap : int, default=0
    Pixels that neighbouring tiles share at least; their features are blended there. All these
    sizes are multiples of the pixels from one patch to the next.
window : "auto" or (float, float), default="auto"
    Which values of images with more than 8 bits become black and white. "auto" finds in the
    training images which bit depth they use (8, 10, 12, 14 or 16). Floating-point images need
    the numbers: (0, 1), for instance. Images of 8 bits are taken as they are.
channels : sequence of 3 int, or of 3 rows of floats, "bgr" or None, default=None
    Which channels are red, green and blue, counted from 0, or the weights of all channels for
    each of them. None takes one channel as grey and three as RGB; other numbers of channels need
    it. "bgr" is for arrays of OpenCV, also in .npy files; other files are RGB.
ignore : mask, polygons, dict, "background" or None, default=None
    Where images are never looked at: a mask of the size of the upright originals (a file or an
    array; what is not 0 is ignored); a list of polygons, each with x and y of its corners in
    pixels of the original or, for images of several sizes, all from 0 to 1 as shares of width
    and height; or a dict of category to such regions. A patch is ignored if at least half of it
    is. Stored in `fit`; see ``docs/pictures.md``. "background", alone or in the list of polygons,
    ignores the plain background that surrounds a part, found in each image by the colour of its
    border. **What is missing at the outline of a part looks like background.**
''',
    "computation": '''\
batch_size : int, default=16
    Images (with `tile_size`: tiles) in a batch. On the CPU the features do not depend on it.
device : str, default="auto"
    A torch device; "auto" takes a GPU if there is one.
dtype : {"auto", "float32", "float16", "bfloat16"}, default="auto"
    The precision of the computation; features are float32 always. "auto" is float32 on the
    CPU and bfloat16 (if it has it, else float16) on a CUDA device.
''',
    "run": '''\
n_jobs : int or None, default=None
    Threads that read images and, on the CPU, run the network. None: as many as torch would use.
memory : str, path-like, joblib.Memory or None, default=None
    Folder where the features of each image are kept, found by the image's content, the weights
    and the parameters, so that a sweep runs the network once an image. It takes 4 bytes a feature
    and patch: 0.6 MB an image by default with `ConvFeatures`, 12 MB with `DinoFeatures`.
verbose : int, default=0
    Whether to show a progress bar.
''',
    "fitted": '''\
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
''',
}  # fmt: skip
