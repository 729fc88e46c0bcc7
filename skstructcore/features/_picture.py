"""What a network gets to see of images, and which patches of them do not count."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..images.geometry import Framing, Geometry
from ..images.ignoring import IgnoredRegion, as_region, find_foreground
from ..images.reading import ImageReadError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from ..images.ignoring import RegionLike
    from ..images.image_list import ImageList
    from ..images.intensity import Intensity

#: What `ignore` calls the plain background around a part.
BACKGROUND = "background"
# Pixels a patch, along each axis, in which the background is told from the part.
_FINENESS = 4


@dataclass(frozen=True, eq=False)
class Ignored:
    """The regions that a feature estimator was fitted with, by category; None: of all images.

    Features of ignored patches are NaN. So what is ignored travels with the features, lazy or not,
    and nothing can count it by mistake: what comes after either leaves it out or refuses it.
    """

    regions: dict[str | None, IgnoredRegion]

    @classmethod
    def of(
        cls, ignore: RegionLike | Mapping[str, RegionLike], sizes: NDArray[np.integer]
    ) -> Ignored:
        """Read what a user gives; `sizes` are heights and widths of the training images."""
        if not isinstance(ignore, Mapping):
            return cls({None: as_region(ignore, sizes)})
        if not ignore:
            raise ValueError("ignore is an empty dict. To ignore nothing, pass None.")
        return cls(
            {
                str(category): as_region(region, sizes, f"ignore[{category!r}]")
                for category, region in ignore.items()
            }
        )

    @property
    def by_category(self) -> bool:
        """Whether what is ignored in an image depends on its category."""
        return None not in self.regions

    def check(self, images: ImageList, geometry: Geometry, grid_shape: tuple[int, int]) -> None:
        """Raise ValueError if a region does not fit training images, or is all or none of one."""
        if self.by_category:
            return  # which image shows what is not known yet
        ignored = self.regions[None].patches(geometry, grid_shape, images)
        _check_not_all(ignored, images, "ignore")
        if not ignored.any():
            raise ValueError(
                "ignore covers less than half of every patch, so that no patch would be ignored: "
                "make the region larger, raise image_size, or pass None."
            )

    def mark(
        self,
        features: NDArray[np.floating],
        images: ImageList,
        geometry: Geometry,
        categories: Sequence[str] | None = None,
    ) -> None:
        """Turn the features ``(n, h, w, d)`` of ignored patches into NaN, in place.

        `categories`, one an image, are asked for where regions depend on them.
        """
        if not self.by_category:
            categories = [None] * len(images)
        for category, region in self.regions.items():
            rows = np.flatnonzero([shown == category for shown in categories])
            ignored = region.patches(geometry[rows], features.shape[1:3], images[rows])
            if self.by_category:
                _check_not_all(ignored, images[rows], f"ignore[{category!r}]")
            for row, patches in zip(rows, ignored, strict=True):
                features[row][patches] = np.nan


def _check_not_all(ignored, images, name):
    whole = np.flatnonzero(ignored.all(axis=(1, 2)))
    if len(whole):
        raise ImageReadError(
            f"{name} covers all that the backbone sees of image {images.place(whole[0])}, so that "
            "nothing is left to judge. Of a mask, what is not 0 is ignored."
        )


@dataclass(frozen=True, eq=False)
class Picture:
    """How the pixels of an image become what a network, or all tiles together, see.

    A feature estimator finds it in `fit`, and it stays.
    """

    framing: Framing
    intensity: Intensity
    tile: tuple[int, int] | None = None  # height and width of what the network gets at a time
    ignored: Ignored | None = None  # regions whose patches do not count
    no_background: bool = False  # whether those of the background do not count either

    def pixels(self, images: ImageList, i: int) -> NDArray[Any]:
        """Levels `(height, width, 3)` of one image."""
        return images.pixels(i, self.framing, self.intensity)

    def sliceable_pixels(self, images: ImageList, i: int) -> Any:
        """What gives the same levels by `[rows, columns]`; of large images it reads only these."""
        return images.sliceable_pixels(i, self.framing, self.intensity)

    def geometry(self, images: ImageList) -> Geometry:
        """Where what is seen lies on each image."""
        boxes = [images.box(i, self.framing) for i in range(len(images))]
        return Geometry(self.framing.size, images.sizes(), boxes)

    def mark_ignored(
        self,
        features: NDArray[np.float32],
        images: ImageList,
        categories: Sequence[str] | None = None,
        read: Sequence[NDArray[Any] | None] | None = None,
    ) -> None:
        """Turn the features `(n, h, w, d)` of patches that do not count into NaN, in place.

        Of what `read` has no `pixels`, they are read where they are needed.
        """
        ignored = self.ignored
        if ignored is not None and (categories is not None or not ignored.by_category):
            ignored.mark(features, images, self.geometry(images), categories)
        if self.no_background:
            for i, image in enumerate(features):
                pixels = None if read is None else read[i]
                if pixels is None:
                    pixels = self.pixels(images, i)
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


def digest_of(ignore: object) -> str | None:
    """Text that tells one `ignore` of a user from another; None where nothing is ignored.

    Examples
    --------
    >>> corner, other = [(0, 0), (1, 0), (1, 1)], [(0, 0), (1, 0), (0, 1)]
    >>> digest_of([corner]) == digest_of((corner,)), digest_of([corner]) == digest_of([other])
    (True, False)
    """
    if ignore is None:
        return None

    def plain(value):
        if isinstance(value, np.ndarray):
            content = hashlib.sha256(np.ascontiguousarray(value)).hexdigest()
            return [value.shape, value.dtype.str, content]
        return value.item() if isinstance(value, np.generic) else str(value)

    if isinstance(ignore, Mapping):
        ignore = sorted((str(category), region) for category, region in ignore.items())
    text = json.dumps(ignore, default=plain)
    return f"regions {hashlib.sha256(text.encode()).hexdigest()[:8]}"
