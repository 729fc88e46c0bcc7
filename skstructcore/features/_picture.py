"""What decides over the features of images: what a network sees of them, and the recipe."""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..images.geometry import Geometry
from ..images.ignoring import find_foreground
from ..images.reading import Intensity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Literal

    from numpy.typing import NDArray

    from ..images.image_list import ImageList
    from ._ignored import Ignored

#: What `ignore` calls the plain background around a part.
BACKGROUND = "background"
# Pixels a patch, along each axis, in which the background is told from the part.
_FINENESS = 4


@dataclass(frozen=True, eq=False)
class Picture:
    """How the pixels of an image become what a network sees.

    Parameters
    ----------
    size : tuple of (int, int)
        Height and width that the network, or all tiles together, see.
    resize : int or None
    crop : bool
        Whether the centre is cut out, and the length of the shorter side before.
    intensity : Intensity
        How the values of an image become levels.
    ignored : Ignored or None, default=None
        Regions whose patches do not count.
    no_background : bool, default=False
        Whether patches of the background do not count either.
    region : tuple of 4 floats or None, default=None
        Left, top, right and bottom of the part of each image that is looked at.
    """

    size: tuple[int, int]
    resize: int | None
    crop: bool
    intensity: Intensity
    ignored: Ignored | None = None
    no_background: bool = False
    region: tuple[float, float, float, float] | None = None

    @property
    def scaling(self) -> tuple[Any, ...]:
        return self.size, self.resize, self.crop

    def pixels(self, images: ImageList, i: int) -> NDArray[Any]:
        """Levels `(height, width, 3)` of one image."""
        return images.pixels(i, *self.scaling, self.intensity, self.region)

    def geometry(self, images: ImageList) -> Geometry:
        boxes = [images.box(i, *self.scaling, self.region) for i in range(len(images))]
        return Geometry(self.size, images.sizes(), boxes)

    def mark_ignored(self, features: NDArray[np.float32], images: ImageList) -> None:
        """Turn the features `(n, h, w, d)` of patches that do not count into NaN, in place."""
        grid_shape = features.shape[1:3]
        if self.ignored is not None:
            patches = self.ignored.patches(images, self.geometry(images), grid_shape)
            if patches is not None:
                features[patches] = np.nan
        if self.no_background:
            for i, image in enumerate(features):
                image[is_background(self.pixels(images, i), grid_shape)] = np.nan


@dataclass(frozen=True, eq=False)
class Recipe:
    """The recipe of one feature estimator.

    Parameters
    ----------
    estimator : str
        Name of its class.
    weights : str
        Checksum of the weights.
    dtype : str
        Precision of the computation.
    network : mapping
        Parameters of the network, as JSON can write them.
    computation : mapping
        What makes the features of this machine differ by rounding.
    picture : Picture
    tiles : tuple of int or None
        Height, width and overlap of the tiles.
    window : "auto" or sequence of 2 floats
        As it was given; `picture` holds what it came to.
    image_size : "native", float, int or sequence of 2 int
        As it was given; `picture` holds what it came to.
    ignore_digest : str or None
        Digest of `ignore` as it was given.
    """

    estimator: str
    weights: str
    dtype: str
    network: Mapping[str, Any]
    computation: Mapping[str, Any]
    picture: Picture
    tiles: tuple[int, ...] | None
    window: Literal["auto"] | Sequence[float]
    image_size: Any
    ignore_digest: str | None

    def for_cache(self) -> dict[str, Any]:
        """What the features of one image on disk depend on; ignored patches are marked later."""
        return {
            "weights": self.weights,
            "scaling": self.picture.scaling,
            "dtype": self.dtype,
            **({"region": region} if (region := self.picture.region) else {}),
            **self.computation,
            **self._of_the_method(),
        }

    def for_fit(self) -> dict[str, Any]:
        """What must be the same after `fit`: all but the weights and where it is computed.

        Weights are compared when the network is loaded, with a message of their own.
        """
        window = None if isinstance(self.window, str) else [float(end) for end in self.window]
        recipe = {
            **self._of_the_method(),
            **{"image_size": self.image_size, "window": window, "ignore": self.ignore_digest},
            "crop": self.picture.region or self.picture.resize or self.picture.crop,
        }
        return json.loads(json.dumps(recipe))  # tuples and lists become the same

    def _of_the_method(self):
        intensity = self.picture.intensity
        return {
            "estimator": self.estimator,
            # The usual case has no entry, so that what is cached of it stays valid.
            **({"intensity": astuple(intensity)} if intensity != Intensity() else {}),
            **self.network,
            **({"tiles": self.tiles} if self.tiles else {}),
        }


def split_background(ignore: object) -> tuple[bool, object]:
    """Whether the background is ignored, and what else is.

    Examples
    --------
    >>> corner = [(0, 0), (1, 0), (1, 1)]
    >>> split_background("background"), split_background([corner, "background"])
    ((True, None), (True, [[(0, 0), (1, 0), (1, 1)]]))
    """
    if isinstance(ignore, str):
        return ignore == BACKGROUND, None if ignore == BACKGROUND else ignore
    if not isinstance(ignore, list | tuple):
        return False, ignore
    others = [part for part in ignore if not (isinstance(part, str) and part == BACKGROUND)]
    return len(others) < len(ignore), others or (None if ignore else ignore)


def is_background(pixels: NDArray[np.uint8], grid_shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Which patches show nothing of the part, see `find_foreground`; levels from 0 to 255."""
    height, width = grid_shape
    pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    small = Image.fromarray(pixels).resize(
        (_FINENESS * width, _FINENESS * height), Image.Resampling.BOX
    )
    part = find_foreground(np.asarray(small))
    return ~part.reshape(height, _FINENESS, width, _FINENESS).any(axis=(1, 3))
