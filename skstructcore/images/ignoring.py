"""Parts of images that do not count: regions that a user gives, and the background."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from .._utils.files import StrPath
from .geometry import Geometry, Mask, Size, only_size
from .image_list import ImageList
from .masks import fill_polygons, read_mask
from .reading import ImageReadError

#: A mask (file or array) or polygons.
RegionLike: TypeAlias = StrPath | NDArray[Any] | Sequence[ArrayLike]

# A patch is ignored if at least this share of its area is; a half may be less by rounding.
_SHARE = 0.5 - 1e-4


@dataclass(frozen=True, eq=False)
class IgnoredRegion:
    """One region: a mask of images of one size, or polygons, x and y as shares of their sides."""

    mask: Mask | None = None
    polygons: tuple[NDArray[np.float64], ...] | None = None

    def patches(self, geometry: Geometry, grid_shape: Size, images: ImageList) -> Mask:
        """Which patches ``(n, *grid_shape)`` are ignored: those with at least half in the region.

        An image, named by `images`, that a mask does not fit is an `ImageReadError`: others can be
        judged all the same.
        """
        ignored, shares = np.empty((len(geometry), *grid_shape), dtype=bool), {}
        sizes = map(tuple, geometry.original_sizes.tolist())
        for i, (size, box) in enumerate(zip(sizes, geometry.boxes, strict=True)):
            seen = (*size, *box)  # many images are alike in that
            if seen not in shares:
                mask = self.mask
                if mask is None:
                    mask = fill_polygons([p * size[::-1] for p in self.polygons], size)
                elif mask.shape != size:
                    raise ImageReadError(
                        f"image {images.place(i)} has {size[0]} x {size[1]} pixels, but ignore is "
                        f"a region of images of {mask.shape[0]} x {mask.shape[1]}. For images of "
                        "several sizes give polygons whose coordinates are shares of width and "
                        "height, from 0 to 1."
                    )
                shares[seen] = shares_of_patches(mask, box, grid_shape)
            ignored[i] = shares[seen] >= _SHARE
        return ignored


def shares_of_patches(mask: Mask, box: Sequence[float], grid_shape: Size) -> NDArray[np.float32]:
    """Which share of each patch a mask of an upright original covers; `box` is what is seen."""
    top, left, bottom, right = box
    rows = _overlaps(top, bottom, grid_shape[0], mask.shape[0])
    columns = _overlaps(left, right, grid_shape[1], mask.shape[1])
    return rows @ mask.astype(np.float32) @ columns.T


def _overlaps(start, stop, n_cells, n_pixels):
    """Share of each cell between start and stop that lies in each pixel, along one axis."""
    edges = np.linspace(start, stop, n_cells + 1)[:, np.newaxis]
    pixels = np.arange(n_pixels)
    overlap = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    return (np.maximum(overlap, 0) * n_cells / (stop - start)).astype(np.float32)


def as_region(
    ignore: RegionLike, sizes: NDArray[np.integer] | None, name: str = "ignore"
) -> IgnoredRegion:
    """Bring a mask or polygons, as `ignore` of a feature estimator takes them, into one form.

    `sizes` are heights and widths of the training images; `name` is for messages.
    """
    if isinstance(ignore, (str, os.PathLike)):
        mask, name = read_mask(ignore), f"{name} ({os.fspath(ignore)!r})"
    elif isinstance(ignore, np.ndarray):
        if ignore.ndim != 2 or ignore.dtype.kind not in "biu":
            raise ValueError(
                f"{name} is an array of {ignore.dtype} of shape {ignore.shape}; a mask is an array "
                "(height, width) of booleans or integers. Polygons are given in a list."
            )
        mask = ignore != 0
    else:
        polygons = _as_polygons(ignore, name)
        if all((0 <= p).all() and (p <= 1).all() for p in polygons):
            return IgnoredRegion(polygons=polygons)
        instead = "give coordinates as shares of width and height, from 0 to 1"
        size = only_size(sizes, f"{name} with polygons in pixels", instead)
        mask = fill_polygons(polygons, tuple(size))
    if not mask.any():
        raise ValueError(
            f"{name} is empty: no pixel of the image lies in it. To ignore nothing, pass None."
        )
    return IgnoredRegion(mask=mask)


def _as_polygons(ignore, name):
    try:
        polygons = tuple(np.asarray(polygon, dtype=np.float64) for polygon in ignore)
    except (TypeError, ValueError):
        polygons = ()
    if not polygons or any(p.ndim != 2 or p.shape[1] != 2 or len(p) < 3 for p in polygons):
        raise ValueError(
            f"{name} must be a mask (a file, or an array of the size of the image), or a list of "
            f"polygons, each with x and y of three corners or more; got {ignore!r}."
        )
    if not all(np.isfinite(p).all() for p in polygons):
        raise ValueError(f"{name} holds a polygon with a corner that is not finite.")
    if 1 < (largest := max(p.max() for p in polygons)) < 2:
        raise ValueError(f"{name} has a corner at {largest:g}, and shares end at 1.")
    return polygons


_FRAME = 0.02  # share of the shorter side that is taken for background, all around
_NOISE = 12.0  # grey levels that the sensor may add to the differences within the background


def find_foreground(pixels: NDArray[np.uint8]) -> Mask:
    """Where the part is, ``(h, w)``, on a plain background that surrounds it; uint8 ``(h, w, 3)``.

    The background has the median colour of the outermost pixels; what differs from it clearly more
    than they do among themselves is the part, without holes and specks. If that is less than 1 %,
    the whole image counts as part, so that nothing is missed.
    """
    width = max(1, round(_FRAME * min(pixels.shape[:2])))
    frame = np.ones(pixels.shape[:2], dtype=bool)
    frame[width:-width, width:-width] = False
    colour = np.median(pixels[frame], axis=0)
    distance = np.linalg.norm(pixels - colour, axis=2)
    # The median: parts that reach the border must not raise it.
    limit = _NOISE + 3 * np.median(distance[frame])
    part = ndimage.binary_opening(distance > limit, np.ones((3, 3)))
    part = ndimage.binary_fill_holes(part)
    return part if part.mean() >= 0.01 else np.ones_like(part)
