"""Images in any form as one list of images that are read when asked for."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .._utils.columns import take_rows
from .._utils.copies import with_attributes
from .._utils.files import StrPath
from .._utils.validation import check_number
from .decoding import check_array, pages_of
from .files import list_images, name_view, split_name
from .geometry import Framing, as_corners, box_in_pixels
from .intensity import Intensity, bit_depth_window
from .raster import SliceablePixels
from .reading import (
    ImageReadError,
    check_whole,
    image_of,
    is_native,
    native_pixels,
    read,
    reading,
    reason_of,
    scaled_pixels,
)


class _HasPaths(Protocol):
    @property
    def paths(self) -> Sequence[Any]: ...


Pages: TypeAlias = Literal["all", "parts", "first"]
_Image = StrPath | Image.Image | NDArray[Any]
#: What `as_images` takes.
ImagesLike: TypeAlias = "StrPath | ImageList | _HasPaths | Sequence[_Image] | NDArray[Any]"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Annotations:
    """What is known of some images: each field has one entry an image, or is None.

    Parameters
    ----------
    labels, groups, categories, parts, splits : ndarray of shape (n_images,), default=None
        The labels `y` and the columns of a `skstructcore.datasets.ImageSet`, which see.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore.images import Annotations
    >>> Annotations(groups=np.array(["part 1", "part 1", "part 2"]))[1:].groups.tolist()
    ['part 1', 'part 2']
    """

    labels: NDArray[Any] | None = None
    groups: NDArray[Any] | None = None
    categories: NDArray[Any] | None = None
    parts: NDArray[Any] | None = None
    splits: NDArray[Any] | None = None

    def __getitem__(self, rows: slice | Sequence[int] | NDArray[Any]) -> Annotations:
        """What is known of the images at `rows`: a slice, integers or a boolean mask."""
        return take_rows(self, rows)


class Unreadable(NamedTuple):
    """One entry of the report of `find_unreadable`."""

    position: int
    name: str
    reason: str


def as_images(
    X: ImagesLike,
    *,
    pages: Pages | None = None,
    views: Sequence[Any] | None = None,
    max_pixels: int | None = None,
) -> ImageList:
    """Bring images in any supported form into one.

    Parameters
    ----------
    X : str, path-like, ImageList, object with `paths`, sequence or ndarray
        A folder; a sequence of paths, PIL images or arrays of different sizes, `(h, w)` or
        `(h, w, n_channels)`; or one array `(n, h, w)` or `(n, h, w, n_channels)`. One channel
        is grey, three are RGB, four of uint8 are RGB and alpha. For others, and other types than
        uint8, see `window` and `channels` of feature estimators. A table (DataFrame) of one
        column is that column. Of an `ImageSet`, labels, groups and categories come along.
    pages : {"all", "parts", "first"}, default=None
        What becomes of files that hold several images (pages of a TIFF, frames of an animation).
        "all" makes a row of each, named ``"tray.tif[2]"``, counted from 0; "parts" too, and the
        pages of a file are views of one part; "first" takes the first. None: an error.
    views : sequence of (left, top, right, bottom) or of corners (x, y) of polygons, default=None
        Several places of each file, which are views of one part: a row each, at full resolution,
        named ``"board.png[200x100+30+40]"`` (width, height, left, top). Pixels of the upright
        image, or, all up to 1, shares of it; of a polygon the box. Maps stay in coordinates of
        the whole image.
    max_pixels : int, default=None
        Files with more pixels are refused, as a small one can be made to fill the memory. None:
        what Pillow refuses, 179 million.

    Returns
    -------
    images : ImageList
        The images in the order of the input; no file has been opened, unless pages are asked for.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> tray = Path(tempfile.mkdtemp(), "tray.tif")
    >>> frames = [Image.new("L", (32, 32), level) for level in (10, 20, 30)]
    >>> frames[0].save(tray, save_all=True, append_images=frames[1:])
    >>> images = as_images([tray], pages="all")
    >>> [Path(name).name for name in images.file_names()]
    ['tray.tif[0]', 'tray.tif[1]', 'tray.tif[2]']
    """
    images = X if isinstance(X, ImageList) else _as_list(X)
    max_pixels = getattr(X, "max_pixels", None) if max_pixels is None else max_pixels
    if max_pixels != images.max_pixels:
        check_number(max_pixels, "max_pixels", 1, closed="left", type=Integral)
        images = with_attributes(images, max_pixels=max_pixels)
    images = images if pages is None else _with_pages(images, pages)
    return images if views is None else _with_views(images, views)


def _with_pages(images, pages):
    if pages not in ("all", "parts", "first"):
        raise ValueError(f"pages must be 'all', 'parts', 'first' or None, got {pages!r}.")
    names, files = [], []
    for i, item in enumerate(images.items):
        path, page, *_ = split_name(item) if isinstance(item, str) else (images.positions[i], 0)
        numbers = (0,)
        if page is None:
            with reading(f"image {images.place(i)}"):
                numbers = pages_of(path)
        chosen = numbers[:1] if pages == "first" else numbers
        is_paged = len(numbers) > 1
        names.append([f"{path}[{k}]{item[len(path) :]}" for k in chosen] if is_paged else [item])
        files.append(path)
    return _with_rows(images, names, files if pages == "parts" else None)


def _with_views(images, views):
    boxes = [as_corners(view, "a view") for view in views]
    if not boxes or not all(isinstance(item, str) for item in images.items):
        raise ValueError(
            "views are places of files, at least one; of an array pass its parts, "
            "image[top:bottom, left:right]."
        )
    if taken := [item for item in images.items if split_name(item).view is not None]:
        raise ValueError(f"views are places of whole images, but {taken[0]!r} is a view already.")
    # A view beyond its image is named here, and fails when it is read.
    names = [
        [name_view(name, box_in_pixels(box, images.size(i))) for box in boxes]
        for i, name in enumerate(images.items)
    ]
    return _with_rows(images, names, images.items)


def _with_rows(images, names, parts):
    """A row for each of the names that `names` lists for each image, and what they are views of."""
    counts = list(map(len, names))
    rows = images[np.repeat(np.arange(len(images)), counts)]
    rows.items = list(itertools.chain(*names))
    if parts is not None and rows.annotations.parts is None:
        parts = np.repeat(np.array(parts, dtype=str), counts)
        rows.annotations = replace(rows.annotations, parts=parts)
    return rows


def _as_list(X):
    if isinstance(X, (str, os.PathLike)):
        return ImageList(list_images(X))
    annotations = None
    if getattr(X, "ndim", 1) == 2 and hasattr(X, "iloc") and X.shape[1] == 1:
        X = X.iloc[:, 0]
    if hasattr(X, "paths"):
        X, annotations = X.paths, getattr(X, "annotations", None)
    _check_list(X)
    items = [_as_item(item, f"Image {i}") for i, item in enumerate(X)]
    return ImageList(items, annotations=annotations)


def _check_list(X):
    """Raise ValueError if something can be no list of images."""
    if isinstance(X, Image.Image):
        raise ValueError("One PIL image was given where a list is needed: pass [image].")
    name = type(X).__name__
    if isinstance(X, Set | Mapping):
        raise ValueError(f"Images must come in an order, and a {name} has none: pass a list.")
    if not hasattr(X, "__len__") or isinstance(X, bytes):
        raise ValueError(f"Images must be a folder, a sequence or an array, not {name}.")
    if hasattr(X, "columns"):
        raise ValueError(f"Pass one column of images, not a table with columns {list(X)[:5]}.")
    if not isinstance(X, np.ndarray) and getattr(X, "ndim", 1) != 1:
        raise ValueError(
            f"Images must be NumPy arrays, not a {type(X).__module__}.{name}: pass "
            "np.asarray(images), with channels last."
        )
    kind, shape = (X.dtype.kind, X.shape) if isinstance(X, np.ndarray) else ("O", None)
    # U, S, and T of NumPy 2 are strings.
    if kind in "UST" and len(shape) != 1:
        raise ValueError(f"An array of names has one axis, an image each; got shape {shape}.")
    if kind not in "OUST" and len(shape) not in (3, 4):
        raise ValueError(
            f"An array of images has the shape (n, h, w) or (n, h, w, 3), got {shape}."
        )
    if not len(X):
        raise ValueError("The list of images is empty: at least one image is needed.")
    if kind not in "OUST" and len(shape) == 3 and shape[-1] in (3, 4):
        raise ValueError(
            f"An array of shape {shape} looks like one colour image: pass it in a list, [image]."
        )


def _as_item(item, name):
    if isinstance(item, (str, os.PathLike)):
        return str(os.fspath(item))  # NumPy's strings too: `repr`, in messages, is that of a name
    if isinstance(item, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array: fill it, and see `ignore`.")
    if isinstance(item, np.ndarray):
        check_array(item, name)
    elif not isinstance(item, Image.Image):
        raise ValueError(
            f"{name} is of type {type(item).__name__}; expected a path, a PIL image or a uint8 "
            "array."
        )
    return item


class ImageList:
    """Images that are read one at a time, when asked for; `as_images` makes them.

    `items` are names, PIL images or arrays; `positions` those in the list that the user gave.
    """

    intensity: Intensity | None = None
    max_pixels: int | None = None

    def __init__(
        self,
        items: Sequence[str | Image.Image | NDArray[Any]],
        positions: Sequence[int] | None = None,
        annotations: Annotations | None = None,
    ) -> None:
        self.items = items
        self.positions = range(len(items)) if positions is None else positions
        self.annotations = Annotations() if annotations is None else annotations

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[Any]) -> ImageList:
        """The images at `index` (an int, a slice, integers or a mask), as an ImageList."""
        rows = np.atleast_1d(np.arange(len(self))[index]).tolist()
        items, positions = ([column[i] for i in rows] for column in (self.items, self.positions))
        annotations = self.annotations[rows]
        return with_attributes(self, items=items, positions=positions, annotations=annotations)

    def seen_through(self, intensity: Intensity | None) -> ImageList:
        """The same images, for people to look at as a model sees them; None: each by itself."""
        return with_attributes(self, intensity=intensity)

    def file_names(self, first: int = 0) -> list[str]:
        """What tables call each image: its path, or "image <position>", counted from `first`."""
        return [
            item if isinstance(item, str) else f"image {first + position}"
            for item, position in zip(self.items, self.positions, strict=True)
        ]

    def name(self, i: int) -> str:
        """How messages call image `i`: its path, or what it is."""
        item = self.items[i]
        return repr(item) if isinstance(item, str) else f"<{type(item).__name__}>"

    def place(self, i: int) -> str:
        """Name and position of image `i`, for messages about one of many."""
        return f"{self.name(i)} (position {self.positions[i]} in the list)"

    def read(self, i: int) -> Image.Image:
        """Image `i` as an upright PIL image in mode RGB, for people to look at."""
        return self._guard(i, read, self.intensity)

    def array(self, i: int) -> NDArray[Any] | None:
        """Image `i` if it is an array or a file of NumPy, as it is; else None."""
        return self._guard(i, lambda image: image.array)

    def check(self, i: int, intensity: Intensity) -> str:
        """The `PixelType.values` of image `i`; an error if the intensity cannot take them."""
        pixel_type = self._guard(i, lambda image: image.pixel_type)
        with reading(f"image {self.place(i)}"):
            intensity.check(pixel_type)
        return pixel_type.values

    def bit_depth_window(self, i: int) -> tuple[float, float]:
        """The window of the bit depth that deep image `i` uses; see `bit_depth_window`."""
        return self._guard(i, lambda image: bit_depth_window(*image.extremes()))

    def size(self, i: int) -> tuple[int, int]:
        """Height and width of upright image `i`; of a file only the header is read."""
        return self._guard(i, lambda image: image.size)

    def digest(self, i: int) -> str:
        """Hexadecimal digest of the content of image `i`, independent of its file name."""
        return self._guard(i, lambda image: image.digest())

    def pixels(
        self,
        i: int,
        framing: Framing,
        intensity: Intensity = Intensity(),  # noqa: B008 -- it cannot be changed
    ) -> NDArray[np.uint8] | NDArray[np.float32]:
        """Image `i` as a backbone sees it, levels `(*framing.size, 3)`: uint8, or float32 if deep.

        It is logged if a deep image is next to black because its values are those of 8 bits.
        """
        levels = self._guard(i, scaled_pixels, framing, intensity)
        low, high = intensity.window or (0, 0)
        if (
            high >= 1023
            and low + levels.max() * (high - low) / 255 <= 255
            and self.check(i, intensity) == "integers"
        ):
            _logger.warning(
                "Image %s has no value above 255: seen through the window from %g to %g it is "
                "next to black. If it holds 8 bits in a deeper file, convert it to 8 bits",
                *(self.place(i), low, high),
            )
        return levels

    def sliceable_pixels(
        self, i: int, framing: Framing, intensity: Intensity
    ) -> NDArray[np.uint8] | NDArray[np.float32] | SliceablePixels:
        """What gives the levels of `pixels` by ``[rows, columns]``, two slices.

        A large image that is seen in its own size is read where they ask, if its format allows it.
        """
        if not self._guard(i, is_native, framing):
            return self.pixels(i, framing, intensity)
        return SliceablePixels(partial(self._guard, i, native_pixels, framing, intensity))

    def box(self, i: int, framing: Framing) -> tuple[float, float, float, float]:
        """Top, left, bottom and right of the part of image `i` that is seen."""
        return self._guard(i, lambda image: framing.box(image.size, image.view))

    def sizes(self) -> NDArray[np.int64]:
        """Heights and widths of all upright images, an int64 array of shape (n, 2)."""
        if len(self) == 1:  # as on a line, where starting threads takes longer than the work
            return np.array([self.size(0)], dtype=np.int64)
        with ThreadPoolExecutor(4) as pool:  # waits for the disk, mostly
            sizes = list(pool.map(self.size, range(len(self))))
        return np.array(sizes, dtype=np.int64).reshape(-1, 2)

    def _guard(self, i, function, *args):
        with reading(f"image {self.place(i)}"):
            image = image_of(self.items[i], self.max_pixels)
            try:
                return function(image, *args)
            except (NameError, TypeError, AttributeError) as error:
                check_whole(image)  # an error of its own if the image is damaged
                fault = error
        raise fault  # of the program


def find_unreadable(X: ImagesLike, *, decode: bool = True) -> list[Unreadable]:
    """Check images and report all that cannot be read, without raising at the first one.

    Parameters
    ----------
    X : anything that `as_images` takes
    decode : bool, default=True
        Whether to decode each image to its end, which finds truncated files, or its header only.

    Returns
    -------
    report : list of Unreadable
        Position, name and reason of each unreadable image, in order; empty if all is well.
    """
    images = as_images(X)

    def reason(i):
        try:
            images._guard(i, check_whole if decode else lambda image: None)
        except ImageReadError as error:
            return reason_of(error.__cause__)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        reasons = pool.map(reason, range(len(images)))
        rows = enumerate(zip(images.file_names(), reasons, strict=True))
        return [Unreadable(i, name, why) for i, (name, why) in rows if why]
