"""What a network gets to see of images, and which patches of them do not count."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from numbers import Integral

import numpy as np
from PIL import Image

from .._utils.warning import warn_user
from ..images.geometry import Framing, Geometry, as_corners, input_size
from ..images.ignoring import IgnoredRegion, as_region, find_foreground
from ..images.intensity import Intensity
from ..images.reading import ImageReadError

_logger = logging.getLogger(__name__)

#: What `ignore` calls the plain background around a part.
BACKGROUND = "background"
# Pixels a patch, along each axis, in which the background is told from the part.
_FINENESS = 4


@dataclass(frozen=True, eq=False)
class Picture:
    """How the pixels of an image become what a network, or all tiles together, see.

    A feature estimator finds it in `fit`, and it stays. Features of ignored patches are NaN, so
    that no later step can count them by mistake.
    """

    framing: Framing
    intensity: Intensity
    tile: tuple[int, int] | None = None  # height and width of what the network gets at a time
    # Regions whose patches do not count, by category; of all images by None.
    ignored: dict[str | None, IgnoredRegion] | None = None
    no_background: bool = False  # whether those of the background do not count either

    @property
    def network_size(self):
        """Height and width of what the network gets at a time."""
        return self.tile or self.framing.size

    def recipe(self, tile_overlap):
        """All that the features of an image depend on, but what is ignored, as JSON can write it.

        Defaults are left out, so that caches of earlier releases stay valid.
        """
        framing, intensity, tile = self.framing, self.intensity, self.tile
        recipe = {
            "scaling": (framing.size, framing.resize, framing.crop),
            "region": framing.region,
            "intensity": astuple(intensity) if intensity != Intensity() else None,
            "tiles": tile and (*tile, int(tile_overlap)),
        }
        return {name: value for name, value in recipe.items() if value is not None}

    def pixels(self, images, i):
        """Levels `(height, width, 3)` of one image."""
        return images.pixels(i, self.framing, self.intensity)

    def sliceable_pixels(self, images, i):
        """What gives the same levels by `[rows, columns]`; of large images it reads only these."""
        return images.sliceable_pixels(i, self.framing, self.intensity)

    def geometry(self, images):
        """Where what is seen lies on each image."""
        boxes = [images.box(i, self.framing) for i in range(len(images))]
        return Geometry(self.framing.size, images.sizes(), boxes)

    @property
    def by_category(self):
        """Whether what is ignored in an image depends on its category."""
        return self.ignored is not None and None not in self.ignored

    def check_ignored(self, images, grid_shape, categories=None):
        """Raise ValueError if a region does not fit images, or covers all of one, or no patch.

        Regions by category are checked once the categories are known.
        """
        for name, rows, ignored in self._checked_patches(images, grid_shape, categories):
            if len(rows) and not ignored.any():
                raise ValueError(
                    f"{name} covers less than half of every patch, so that no patch would be "
                    "ignored: make the region larger, raise image_size, or pass None."
                )

    def mark_ignored(self, features, images, categories=None, backgrounds=None):
        """Turn the features `(n, h, w, d)` of patches that do not count into NaN, in place.

        Where regions depend on the categories of the images, they wait for these. `backgrounds`
        are the patches of each that are background; None: the images are read for them.
        """
        grid_shape = features.shape[1:3]
        for _, rows, ignored in self._checked_patches(images, grid_shape, categories):
            for row, patches in zip(rows, ignored, strict=True):
                features[row][patches] = np.nan
        if self.no_background:
            if backgrounds is None:
                pixels = (self.pixels(images, i) for i in range(len(images)))
                backgrounds = (is_background(image, grid_shape) for image in pixels)
            for image, background in zip(features, backgrounds, strict=True):
                image[background] = np.nan

    def _checked_patches(self, images, grid_shape, categories):
        """Yield for each region its name, the rows of its images, and which patches it ignores.

        ImageReadError if that is all that is seen of an image.
        """
        if self.ignored is None or (self.by_category and categories is None):
            return
        geometry = self.geometry(images)
        for category, region in self.ignored.items():
            name, rows = "ignore", np.arange(len(images))
            if category is not None:
                name = f"ignore[{category!r}]"
                rows = np.flatnonzero(np.asarray(categories) == category)
            ignored = region.patches(geometry[rows], grid_shape, images[rows])
            whole = rows[ignored.all(axis=(1, 2))]
            if len(whole):
                raise ImageReadError(
                    f"{name} covers all that the backbone sees of image {images.place(whole[0])}, "
                    "so that nothing is left to judge. Of a mask, what is not 0 is ignored."
                )
            yield name, rows, ignored


def find_picture(images, asked, step):
    """The picture of training images that an estimator `asked` for, and how they are scaled."""
    framing, scale = find_framing(images, asked.image_size, asked.crop, step)
    tile = find_tile(framing.size, asked.tile_size, asked.tile_overlap)
    intensity = training_intensity(images, asked.window, asked.channels)
    no_background, regions = split_background(asked.ignore)
    ignored = find_ignored(regions, images.sizes())
    picture = Picture(framing, intensity, tile, ignored, no_background)
    picture.geometry(images)  # an error where an image holds no such crop
    return picture, scale


def find_ignored(ignore, sizes):
    """The regions that a user gives, by category; those of all images by None."""
    if ignore is None:
        return None
    if not isinstance(ignore, Mapping):
        return {None: as_region(ignore, sizes)}
    if not ignore:
        raise ValueError("ignore is an empty dict. To ignore nothing, pass None.")
    for category, region in ignore.items():
        if split_background(region)[0]:
            raise ValueError(
                f"ignore[{category!r}] holds 'background', which is looked for in all images "
                "alike: pass ignore='background', or regions for these categories."
            )
    return {str(c): as_region(part, sizes, f"ignore[{c!r}]") for c, part in ignore.items()}


def split_background(ignore):
    """Whether the background is ignored, and what else is."""
    parts = ignore if isinstance(ignore, list | tuple) else [ignore]
    others = [part for part in parts if not (isinstance(part, str) and part == BACKGROUND)]
    return (False, ignore) if len(others) == len(parts) else (True, others or None)


def is_background(pixels, grid_shape):
    """Which patches show nothing of the part, see `find_foreground`; levels from 0 to 255."""
    height, width = grid_shape
    if pixels.dtype != np.uint8:
        pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    size = _FINENESS * width, _FINENESS * height
    small = Image.fromarray(pixels).resize(size, Image.Resampling.BOX)
    part = find_foreground(np.asarray(small))
    return ~part.reshape(height, _FINENESS, width, _FINENESS).any(axis=(1, 3))


def digest_of(ignore):
    """Text that tells one `ignore` of a user from another; None where nothing is ignored."""
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


def asked_framing(image_size, crop):
    """What `image_size` and `crop` ask for; the size may be a rule, which needs images."""
    is_rule = isinstance(image_size, str | float)
    size = image_size if is_rule else _two_sides(image_size, "image_size")
    if isinstance(crop, bool | np.bool_):
        return Framing(size, crop=bool(crop))
    if isinstance(crop, Integral):
        return Framing(size, int(crop), crop=True)
    return Framing(size, region=as_corners(crop))


def find_framing(images, image_size, crop, step):
    """What images are seen of, and by how much heights and widths are scaled (None: cropped)."""
    asked = asked_framing(image_size, crop)
    if asked.crop:
        if not isinstance(asked.size, tuple):
            raise ValueError(f"image_size={asked.size!r} and crop={crop!r} exclude each other.")
        return asked, None
    whole = Framing((1, 1), region=asked.region)
    boxes = np.array([images.box(i, whole) for i in range(len(images))])
    sizes = (boxes[:, 2:] - boxes[:, :2]).astype(np.int64)
    size = input_size(image_size if isinstance(image_size, Integral) else asked.size, sizes, step)
    height, width = np.median(sizes, axis=0)
    scale = size[0] / height, size[1] / width
    stretch = max(scale) / min(scale)
    _logger.log(
        logging.WARNING if stretch > 2 else logging.INFO,
        "Images of %d x %d pixels are seen at %d x %d: heights times %.3g, widths times %.3g%s",
        *(height, width, *size, *scale),
        "; image_size=(height, width) or 'native' keeps their shape" if stretch > 2 else "",
    )
    return replace(asked, size=size), scale


def find_tile(size, tile_size, overlap):
    """Height and width of the tiles of images of this size; None if they are seen whole."""
    if tile_size is None:
        if overlap:
            raise ValueError(
                f"tile_overlap={overlap} has an effect with tile_size only: without "
                "it the network sees each image as a whole."
            )
        return None
    # No tile is larger than the image, along each axis.
    tile = tuple(map(min, _two_sides(tile_size, "tile_size"), size))
    cut = [of_tile for side, of_tile in zip(size, tile, strict=True) if of_tile < side]
    if overlap >= min(cut, default=np.inf):
        raise ValueError(f"tile_overlap={overlap} must be smaller than tile_size={min(cut)}.")
    return tile


def _two_sides(size, name):
    sides = (size, size) if isinstance(size, Integral) else tuple(size)
    are_lengths = [isinstance(n, Integral) and not isinstance(n, bool) and n > 0 for n in sides]
    if len(sides) != 2 or not all(are_lengths):
        raise ValueError(
            f"{name} must be a positive integer or two, (height, width); got {size!r}."
        )
    return int(sides[0]), int(sides[1])


def training_intensity(images, window, channels):
    """The intensity that all images of a model are seen through.

    With the `window` "auto", deep training images are decoded: it is that of the bit depth that
    holds all of their values, or None if no image is deep.
    """
    given = Intensity.of(window, channels)
    deep = [i for i in range(len(images)) if images.check(i, given) != "levels"]
    if given.window is not None or not deep:
        return given
    with ThreadPoolExecutor() as pool:
        return replace(given, window=max(pool.map(images.bit_depth_window, deep)))


def mean_colours(picture, images):
    """Mean red, green and blue of up to eight images, an array of shape (n, 3)."""
    if picture.tile and not picture.framing.crop:  # what is too large to be seen as a whole
        picture = replace(picture, framing=replace(picture.framing, size=(64, 64)))
    colours = []
    for i in np.unique(np.linspace(0, len(images) - 1, 8).astype(int)):
        # What cannot be read is named where its features are computed.
        with contextlib.suppress(OSError, ValueError):
            colours.append(picture.pixels(images, i).mean(axis=(0, 1)))
    return np.array(colours)


def warn_if_swapped(images, colours):
    """Warn if one of the first arrays fits the training images much better with blue first."""
    if not len(colours):
        return
    centre = colours.mean(axis=0)
    spread = np.linalg.norm(colours - centre, axis=1).max() + 5
    for i in range(len(images))[:4]:
        try:
            image = images.array(i)
        except ImageReadError:  # which is said where its features are computed
            continue
        if image is None or image.dtype != np.uint8 or image.shape[2:] != (3,):
            continue
        colour = image[::8, ::8].mean(axis=(0, 1))
        straight, swapped = np.linalg.norm([colour - centre, colour[::-1] - centre], axis=1)
        if straight > 3 * spread and swapped < straight / 3:
            warn_user(
                "The colours of these arrays fit the training images much better with red and "
                "blue exchanged. OpenCV gives blue first: pass image[..., ::-1], or fit with "
                "channels='bgr'."
            )
            return
