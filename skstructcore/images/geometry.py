"""Where the pixels that a backbone saw lie on the original images, and maps brought back there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._utils.validation import check_same_length

Size: TypeAlias = tuple[int, int]  # height and width
Box: TypeAlias = tuple[int, int, int, int]  # top, left, bottom and right
Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the backbone's input lies on each original image.

    Parameters
    ----------
    input_size : tuple of (int, int)
        Height and width of the input that the backbone saw, in pixels.
    original_sizes : ndarray of shape (n_images, 2), int64
        Height and width of each upright original image, in pixels.
    boxes : ndarray of shape (n_images, 4), float64
        The part of each original that was scaled to `input_size`: top, left, bottom,
        right, in pixels of the upright original. Without a crop it is the whole image.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore.images import Geometry
    >>> geometry = Geometry((224, 224), np.array([[100, 200], [80, 60]]),
    ...                     np.array([[0, 50, 100, 150], [0, 0, 80, 60.0]]))
    >>> len(geometry), geometry[1].original_sizes.tolist()
    (2, [[80, 60]])
    """

    input_size: Size
    original_sizes: NDArray[np.int64]
    boxes: NDArray[np.float64]

    def __post_init__(self):
        set_ = object.__setattr__  # the class is frozen
        set_(self, "input_size", tuple(int(side) for side in self.input_size))
        set_(self, "original_sizes", np.asarray(self.original_sizes, np.int64).reshape(-1, 2))
        set_(self, "boxes", np.asarray(self.boxes, np.float64).reshape(-1, 4))
        check_same_length(original_sizes=self.original_sizes, boxes=self.boxes)

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[Any]) -> Geometry:
        """Geometry of the images at `index`: an int, a slice, integers or a boolean mask."""
        return Geometry(self.input_size, self.original_sizes[index], self.boxes[index])

    def __repr__(self) -> str:
        return f"Geometry(n_images={len(self)}, input_size={self.input_size})"


_ELONGATED = 2.0  # the ratio of sides from which on an image keeps its shape
_ALIKE = 1.25  # ratio between the shapes of images that have one shape
_SHORTEST = 1 / 3  # of the square's side, for the shorter one: else small defects are lost


def input_size(image_size: Any, sizes: NDArray[np.integer], step: int) -> Size:
    """Height and width at which a network sees images, of these heights and widths `(n, 2)`.

    Two numbers are taken as they are. An int is the side of a square; images whose sides are all
    alike beyond 2 : 1 keep their shape, with as many pixels as the square, and a third of its side
    at least if they have so much. "native" is the size of the images, a float times it. What is
    found is a multiple of `step`.
    """
    if isinstance(image_size, (tuple, list)):
        return tuple(image_size)
    if isinstance(image_size, Integral):
        shapes = sizes[:, 0] / sizes[:, 1]
        is_strip = shapes.min() > _ELONGATED or shapes.max() < 1 / _ELONGATED
        if not is_strip or shapes.max() > _ALIKE * shapes.min():
            return int(image_size), int(image_size)
        root, shortest = np.sqrt(np.median(shapes)), np.median(sizes.min(axis=1))
        shorter = image_size / max(root, 1 / root)
        shorter = max(shorter, min(image_size * _SHORTEST, shortest))
        return _multiples((shorter * max(root**2, 1), shorter * max(root**-2, 1)), step)
    size = only_size(sizes, f"image_size={image_size!r}", "give image_size=(height, width)")
    return _multiples(size * (1.0 if image_size == "native" else image_size), step)


def only_size(sizes: NDArray[np.integer], what: str, instead: str) -> NDArray[np.integer]:
    """The one height and width that training images have; ValueError if there are several."""
    distinct = np.unique(sizes, axis=0)
    if len(distinct) > 1:
        (h, w), (other_h, other_w) = distinct[:2]
        raise ValueError(
            f"{what} needs training images of one size, but there are {h} x {w} and {other_h} x "
            f"{other_w} pixels: {instead}."
        )
    return distinct[0]


def _multiples(sides, step):
    return tuple(max(1, round(side / step)) * step for side in map(float, sides))


def as_corners(region: object, name: str = "crop") -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a region: four numbers, or corners (x, y) of a polygon."""
    numbers = np.asarray(region, dtype=object)
    corners = numbers.reshape(2, 2) if numbers.shape == (4,) else numbers
    if (
        corners.ndim != 2
        or corners.shape[1] != 2
        or len(corners) < 2
        or not all(isinstance(v, Real) and np.isfinite(v) and v >= 0 for v in corners.flat)
        or not (corners.min(axis=0) < corners.max(axis=0)).all()
        or (len(corners) == 2 and (corners[0] > corners[1]).any())
        or 1 < corners.max() < 2  # meant as shares
    ):
        raise ValueError(
            f"{name} must be {'True, False, a length, ' if name == 'crop' else ''}(left, top, "
            "right, bottom) or the corners (x, y) of a polygon, in pixels of the upright image or "
            f"from 0 to 1 as shares of it; got {region!r}."
        )
    corners = corners.astype(float)
    return (*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist())


def box_in_pixels(region: Sequence[float] | None, size: Size) -> Box:
    """Top, left, bottom and right, in whole pixels, of a region on an image of this size."""
    height, width = size
    if region is None:
        return 0, 0, height, width
    scale = np.array([width, height] * 2) if max(region) <= 1 else 1
    left, top, right, bottom = np.round(np.array(region) * scale).astype(int).tolist()
    return top, left, bottom, right


def check_within(box: Box, size: Size) -> None:
    """Raise ValueError unless a box is a part of an image of this size."""
    (top, left, bottom, right), (height, width) = box, size
    is_empty = top >= bottom or left >= right
    if is_empty or bottom > height or right > width:
        raise ValueError(
            f"the part from ({left}, {top}) to ({right}, {bottom}), x and y, "
            f"{'holds none of' if is_empty else 'is not within'} its {height} x {width} pixels; "
            "for images of several sizes give shares, from 0 to 1"
        )


@dataclass(frozen=True)
class Framing:
    """Which part of each upright image a backbone sees, and at which size (height and width).

    The `region`, left, top, right and bottom in pixels or, all up to 1, as shares, is taken for the
    whole. With `crop` only its centre is seen, after the shorter side was scaled to `resize`; None:
    to the smallest size that covers `size`.
    """

    size: Size
    resize: int | None = None
    crop: bool = False
    region: tuple[float, float, float, float] | None = None

    def box(self, image_size: Size, view: Box | None = None) -> tuple[float, float, float, float]:
        """Top, left, bottom and right of that part of an image, or of its box `view`."""
        y, x, bottom, right = view or (0, 0, *image_size)
        image_size = bottom - y, right - x
        top, left, bottom, right = part = box_in_pixels(self.region, image_size)
        check_within(part, image_size)
        y, x, image_size = y + top, x + left, (bottom - top, right - left)
        top, left, bottom, right = self._centre(image_size) if self.crop else (0, 0, *image_size)
        return float(top + y), float(left + x), float(bottom + y), float(right + x)

    def _centre(self, image_size):
        original, target = np.array(image_size), np.array(self.size)
        if self.resize is None:
            scaled = np.maximum(target, np.round(original * (target / original).max()))
        else:
            scaled = original * self.resize // original.min()
        if (scaled < target).any():
            raise ValueError(
                f"an image of {original[0]} x {original[1]} pixels, its shorter side scaled to "
                f"crop={self.resize}, is smaller than image_size={self.size}; raise crop or lower "
                "image_size"
            )
        corner = np.round((scaled - target) / 2)
        factor = original / scaled
        return *(corner * factor), *((corner + target) * factor)


def upsample_maps(maps: ArrayLike, size: Size, sigma: float = 0.0) -> NDArray[np.float32]:
    """Resize maps bilinearly and smooth them with a Gaussian: one matrix an axis does both.

    Pixel centres are aligned as in torch's ``interpolate(align_corners=False)``; the border
    value is repeated outside.

    Parameters
    ----------
    maps : ndarray of shape (n, h, w)
    size : tuple of int
        Height and width of the result, in pixels.
    sigma : float, default=0.0
        Standard deviation of the Gaussian, in pixels of the result; cut off at four sigmas.

    Returns
    -------
    pixels : ndarray of shape (n, *size), float32

    Examples
    --------
    >>> import numpy as np
    >>> upsample_maps(np.array([[[0.0, 1.0]]]), (1, 4))
    array([[[0.  , 0.25, 0.75, 1.  ]]], dtype=float32)
    """
    maps = np.asarray(maps, dtype=np.float32)
    rows = resize_matrix(maps.shape[1], size[0], sigma)
    columns = resize_matrix(maps.shape[2], size[1], sigma)
    return rows @ maps @ columns.T


def resize_matrix(n_in: int, n_out: int, sigma: float) -> NDArray[np.float32]:
    """What each pixel of an axis weighs in each new one, ``(n_out, n_in)``: linear, smoothed."""
    centres = np.clip((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0, n_in - 1)
    matrix = np.maximum(1 - np.abs(centres[:, np.newaxis] - np.arange(n_in)), 0)
    if sigma > 0:
        from scipy.ndimage import gaussian_filter1d  # slow to import

        matrix = gaussian_filter1d(matrix, sigma, axis=0, mode="nearest")
    return matrix.astype(np.float32)


def upsample_counted(
    maps: ArrayLike, ignored: Mask, size: Size, sigma: float = 0.0
) -> NDArray[np.float32]:
    """`upsample_maps` by what is not ignored alone; pixels of `ignored` patches are 0."""
    counted = (~ignored).astype(np.float32)
    shares = upsample_maps(counted, size, sigma)
    shares[~ignored.any(axis=(1, 2))] = 1  # to the bit as alone, where nothing tells of `ignored`
    pixels = upsample_maps(np.asarray(maps) * counted, size, sigma)
    out = ignored_pixels(ignored, size)
    return np.where(out, 0, pixels / np.where(out, 1, shares)).astype(np.float32)


def ignored_pixels(ignored: Mask, size: Size) -> Mask:
    """Pixels ``(n, *size)`` whose centre lies in an ignored patch, from patches ``(n, h, w)``."""
    rows, columns = (
        (2 * np.arange(pixels) + 1) * patches // (2 * pixels)
        for pixels, patches in zip(size, ignored.shape[1:], strict=True)
    )
    return ignored[:, rows[:, np.newaxis], columns]


def place_on_image(
    pixels: NDArray[np.floating], geometry: Geometry, index: int
) -> NDArray[np.float32]:
    """Bring a map at the backbone's input size back onto its own image.

    Parameters
    ----------
    pixels : ndarray of shape (H, W)
        One map, at the size that the backbone saw.
    geometry : Geometry
        Of the set of images that the map belongs to.
    index : int
        Which image of the set it is.

    Returns
    -------
    placed : ndarray of shape (height, width), float32
        At the size of the upright original. NaN where the backbone saw nothing (outside of
        a centre crop).
    """
    height, width = geometry.original_sizes[index].tolist()
    top, left, bottom, right = geometry.boxes[index]
    part = _whole_pixels(top, bottom, height), _whole_pixels(left, right, width)
    placed = np.full((height, width), np.nan, dtype=np.float32)
    placed[part] = upsample_maps(pixels[np.newaxis], placed[part].shape)[0]
    return placed


def _whole_pixels(start, stop, length):
    """The pixels between two places on an axis of some length; at least one."""
    first = min(math.floor(start + 0.5), length - 1)  # `round` brings halves to even numbers
    return slice(first, max(math.floor(stop + 0.5), first + 1))
