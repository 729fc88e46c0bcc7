"""Patches that do not count, in regions that a user gives.

Their features are NaN. So they travel with the features, lazy or not, and nothing can count them
by mistake: what comes after either leaves them out or refuses them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..images.ignoring import IgnoredRegion, as_region
from ..images.reading import ImageReadError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ..images.geometry import Geometry
    from ..images.ignoring import RegionLike
    from ..images.image_list import ImageList


@dataclass(frozen=True, eq=False)
class Ignored:
    """The regions that a feature estimator was fitted with.

    Parameters
    ----------
    regions : dict of str to IgnoredRegion
        By category; ``{None: region}`` is one for all images.
    """

    regions: dict[str | None, IgnoredRegion]

    @classmethod
    def of(cls, ignore: RegionLike | Mapping[str, RegionLike], geometry: Geometry) -> Ignored:
        """Read what a user gives; `geometry` is that of the training images."""
        sizes = geometry.original_sizes
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
