"""What a network gets to see of images, and which of their patches count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..images.geometry import Geometry
from ._ignored import is_background

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from ..images.image_list import ImageList
    from ..images.reading import Intensity
    from ._ignored import Ignored


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
