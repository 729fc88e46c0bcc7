"""Patches that do not count, in regions that a user gives.

Their features are NaN. So they travel with the features, lazy or not, and nothing can count them
by mistake: what comes after either leaves them out or refuses them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..images.ignoring import IgnoredRegion, as_region

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

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
        """Whether it depends on the category of an image what is ignored."""
        return None not in self.regions

    def check(self, images: ImageList, geometry: Geometry, grid_shape: tuple[int, int]) -> None:
        """Raise ValueError if a region does not fit training images, or is all or none of one."""
        ignored = self.patches(images, geometry, grid_shape)
        if ignored is None:
            return  # which image shows what is not known yet
        whole = np.flatnonzero(ignored.all(axis=(1, 2)))
        if len(whole):
            raise ValueError(
                f"ignore covers all that the backbone sees of {names_in_list(images)[whole[0]]}, "
                "so that nothing is left to judge. Of a mask, what is not 0 is ignored."
            )
        if not ignored.any():
            raise ValueError(
                "ignore covers less than half of every patch, so that no patch would be ignored: "
                "make the region larger, raise image_size, or pass None."
            )

    def patches(
        self, images: ImageList, geometry: Geometry, grid_shape: tuple[int, int]
    ) -> NDArray[np.bool_] | None:
        """Which patches ``(n, *grid_shape)`` of any category are ignored; None if that differs."""
        if self.by_category:
            return None
        names = names_in_list(images)
        return self.regions[None].patches(geometry, grid_shape, names)


def names_in_list(images: ImageList) -> NDArray[Any]:
    """What messages call the images of a list: name and position."""
    positions = enumerate(images.positions)
    names = [f"image {images.name(i)} (position {p} in the list)" for i, p in positions]
    return np.array(names, dtype=object)


@dataclass(frozen=True, eq=False)
class IgnoredByCategory:
    """What is ignored in some images once it is known which category each shows.

    Parameters
    ----------
    regions : dict of str to IgnoredRegion
    geometry : Geometry of n images
    grid_shape : tuple of (int, int)
    names : ndarray of n str
        What messages call the images.
    """

    regions: dict[str, IgnoredRegion]
    geometry: Geometry
    grid_shape: tuple[int, int]
    names: NDArray[Any]

    def __getitem__(self, rows: slice | Sequence[int] | NDArray[Any]) -> IgnoredByCategory:
        return replace(self, geometry=self.geometry[rows], names=self.names[rows])

    def mark(
        self,
        features: NDArray[np.floating],
        rows: NDArray[np.integer],
        categories: Sequence[str],
    ) -> NDArray[np.floating]:
        """Turn ignored patches of images, each of its category, into NaN, in place."""
        for category in np.unique(categories):
            region = self.regions.get(str(category))
            if region is None:
                continue
            mine = np.flatnonzero(np.asarray(categories) == category)
            part = self[rows[mine]]
            ignored = region.patches(part.geometry, self.grid_shape, part.names)
            if ignored.all(axis=(1, 2)).any():
                raise ValueError(
                    f"ignore[{str(category)!r}] covers all that the backbone sees of "
                    f"{part.names[int(np.argmax(ignored.all(axis=(1, 2))))]}, so that nothing is "
                    "left to judge. Of a mask, what is not 0 is ignored."
                )
            for image, out in zip(mine, ignored, strict=True):
                features[image][out] = np.nan
        return features


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
