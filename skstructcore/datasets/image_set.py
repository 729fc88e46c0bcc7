"""Images with what is known about them, as one set."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._utils.copies import with_attributes
from .._utils.validation import check_per_image
from ..images.image_list import Annotations, StrPath, as_images
from ..images.labels import GOOD, defect_types
from ..images.masks import mask_of


def _of_annotations(name):
    return property(operator.attrgetter(f"annotations.{name}"))


class ImageSet:
    """Images with labels, masks, groups, categories and splits that index like an array.

    It holds paths (or arrays) and reads no image. scikit-learn's splitters, `cross_validate` and
    `GridSearchCV` cut it, and everything that belongs to the images is cut with them.

    Parameters
    ----------
    paths : sequence of n str, path-like or ndarray
        The images: files, or uint8 arrays of shape (h, w) or (h, w, 3).
    y : array-like of shape (n,), default=None
        Labels: "good" (or "normal", "OK", ...), or the type of the defect. Numbers (see
        `skstructcore.images.labels`) become "good" and "anomalous". None: all good.
    masks : sequence of n str, path-like, ndarray or None, default=None
        Where the defect is: a file or an array of the size of the image, non-zero = defect (see
        `skstructcore.images.read_mask`), or an object whose method ``read`` gives such an array.
    groups : array-like of shape (n,), default=None
        Which images show the same part, and so must not be on both sides of a split.
    categories : array-like of shape (n,), default=None
        Which product each image shows.
    splits : array-like of shape (n,), default=None
        "train" or "test" where the data set has a split of its own.
    parts : array-like of shape (n,), default=None
        The part that each image is a view of, see `skstructcore.describe_parts`.
    max_pixels : see `skstructcore.images.as_images`

    Attributes
    ----------
    paths, masks : list of n
    y : ndarray of shape (n,), dtype object
    groups, categories, splits, parts : ndarray of shape (n,) or None
    annotations : Annotations
        All of these but paths and masks.
    shape : tuple (n,)

    Raises
    ------
    ValueError
        If something has not one entry an image, or labels may be read in two ways.

    Examples
    --------
    >>> from skstructcore.datasets import ImageSet
    >>> images = ImageSet(["a.png", "b.png", "c.png"], ["good", "good", "crack"])
    >>> images[1]
    'b.png'
    >>> images[[0, 2]]
    ImageSet(n_images=2, good=1, anomalous=1)
    >>> images[images.y != "good"].paths
    ['c.png']
    """

    y = _of_annotations("labels")
    groups = _of_annotations("groups")
    categories = _of_annotations("categories")
    splits = _of_annotations("splits")
    parts = _of_annotations("parts")

    def __init__(
        self,
        paths: Sequence[StrPath | NDArray[Any]] | NDArray[Any],
        y: ArrayLike | None = None,
        *,
        masks: Sequence[StrPath | NDArray[Any] | None] | NDArray[Any] | None = None,
        groups: ArrayLike | None = None,
        categories: ArrayLike | None = None,
        splits: ArrayLike | None = None,
        parts: ArrayLike | None = None,
        max_pixels: int | None = None,
    ) -> None:
        if isinstance(paths, (str, os.PathLike)):
            raise ValueError(f"paths must be a list of images, not {paths!r}: see list_images.")
        paths = list(paths)  # which may be a generator
        strange = [p for p in paths if not isinstance(p, (str, os.PathLike, np.ndarray))]
        if strange:
            raise TypeError(
                f"paths must hold files and arrays, not {strange[0]!r}: see np.asarray(image)."
            )
        self.paths = [p if isinstance(p, np.ndarray) else os.fspath(p) for p in paths]
        n_images = len(self.paths)
        y = check_per_image([GOOD] * n_images if y is None else y, n_images, "y")
        labels = defect_types(y) if n_images else y.astype(object)
        masks = [None] * n_images if masks is None else masks
        self.masks = [os.fspath(m) if isinstance(m, os.PathLike) else m for m in masks]
        if len(self.masks) != n_images:
            raise ValueError(f"masks has {len(self.masks)} entries for {n_images} images.")
        self.max_pixels = max_pixels
        columns = {"groups": groups, "categories": categories, "splits": splits, "parts": parts}
        for name, values in columns.items():
            columns[name] = None if values is None else check_per_image(values, n_images, name)
        self.annotations = Annotations(labels, **columns)

    @property
    def shape(self) -> tuple[int]:
        return (len(self.paths),)

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[str | NDArray[Any]]:
        return iter(self.paths)

    @overload
    def __getitem__(self, key: int) -> str | NDArray[Any]: ...

    @overload
    def __getitem__(self, key: slice | Sequence[int] | NDArray[Any]) -> ImageSet: ...

    def __getitem__(self, key: Any) -> str | NDArray[Any] | ImageSet:
        index = np.arange(len(self))[key]  # which may be `X[key, ...]`, as scikit-learn writes it
        if index.ndim == 0:
            return self.paths[index]
        if index.ndim > 1:
            raise IndexError(f"an ImageSet has one axis, got the index {key!r}")
        paths, masks = ([column[i] for i in index] for column in (self.paths, self.masks))
        return with_attributes(self, paths=paths, masks=masks, annotations=self.annotations[index])

    def __repr__(self) -> str:
        good = int(np.sum(self.y == GOOD))
        return f"ImageSet(n_images={len(self)}, good={good}, anomalous={len(self) - good})"

    def name(self, i: int) -> str:
        """How messages call image i: its path, or its position."""
        path = self.paths[i]
        return path if isinstance(path, str) else f"image {i}"

    def load_mask(self, i: int) -> NDArray[np.bool_] | None:
        """Read where the upright image i is anomalous: an array of shape (h, w), dtype bool.

        Without a mask: all False if the image is good, else None. ValueError if the mask cannot be
        read or is not of the size of the image.
        """
        shape = as_images([self.paths[i]], max_pixels=self.max_pixels).size(0)
        mask = self.masks[i]
        if mask is None:
            return np.zeros(shape, dtype=bool) if self.y[i] == GOOD else None
        name = mask if isinstance(mask, str) else f"mask of {self.name(i)}"
        mask = mask_of(mask, self.name(i), self.max_pixels)
        if mask.shape != tuple(shape):
            raise ValueError(f"{name}: the mask has {mask.shape} pixels, its image {tuple(shape)}")
        return mask

    @property
    def train(self) -> ImageSet:
        """The images of the split "train"."""
        return self._of_split("train")

    @property
    def test(self) -> ImageSet:
        """The images of the split "test"."""
        return self._of_split("test")

    def _of_split(self, name):
        if self.splits is None:
            raise AttributeError(f"this ImageSet has no splits, so no {name!r} part")
        return self[self.splits == name]
