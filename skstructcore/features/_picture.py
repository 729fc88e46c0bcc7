"""What a network gets to see of images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..images.geometry import Framing, Geometry
from ..images.ignoring import find_foreground

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from ..images.image_list import ImageList
    from ..images.reading import Intensity
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
    framing : Framing
        Which part of an image the network, or all tiles together, see, and at which size.
    intensity : Intensity
        How the values of an image become levels.
    ignored : Ignored or None, default=None
        Regions whose patches do not count.
    no_background : bool, default=False
        Whether patches of the background do not count either.
    """

    framing: Framing
    intensity: Intensity
    ignored: Ignored | None = None
    no_background: bool = False
    _read: dict[int, NDArray[Any]] = field(default_factory=dict)

    def pixels(self, images: ImageList, i: int) -> NDArray[Any]:
        """Levels `(height, width, 3)` of one image, kept for `mark_ignored` if it looks at them."""
        pixels = images.pixels(i, self.framing, self.intensity)
        if self.no_background:
            self._read[images.positions[i]] = pixels
        return pixels

    def parts(self, images: ImageList, i: int) -> Any:
        """What gives the same levels by `[rows, columns]`; of large images it reads only these."""
        return images.parts_of_pixels(i, self.framing, self.intensity)

    def geometry(self, images: ImageList) -> Geometry:
        """Where what is seen lies on each image."""
        boxes = [images.box(i, self.framing) for i in range(len(images))]
        return Geometry(self.framing.size, images.sizes(), boxes)

    def mark_ignored(
        self,
        features: NDArray[np.float32],
        images: ImageList,
        categories: Sequence[str] | None = None,
    ) -> None:
        """Turn the features `(n, h, w, d)` of patches that do not count into NaN, in place."""
        ignored = self.ignored
        if ignored is not None and (categories is not None or not ignored.by_category):
            ignored.mark(features, images, self.geometry(images), categories)
        if self.no_background:
            for i, image in enumerate(features):
                pixels = self._read.pop(images.positions[i], None)
                if pixels is None:  # the features were in the cache, or are of tiles
                    pixels = images.pixels(i, self.framing, self.intensity)
                image[is_background(pixels, features.shape[1:3])] = np.nan


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
