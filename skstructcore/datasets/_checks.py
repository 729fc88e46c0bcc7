"""Finding everything that is wrong with a data set at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from ..images.image_list import ImageReadError, as_images, find_unreadable
from ..images.labels import GOOD
from ..images.masks import read_mask

if TYPE_CHECKING:
    from ..images.image_list import StrPath
    from ._image_set import ImageSet


class DatasetError(ValueError):
    """A data set on disk has problems; the message and `problems` list all of them.

    Parameters
    ----------
    root : str or path-like
        The folder of the data set.
    problems : list of str
        One for each file that something is wrong with.
    """

    def __init__(self, root: StrPath, problems: list[str]) -> None:
        self.root = root
        self.problems = problems
        super().__init__(
            f"{len(problems)} problem(s) in {str(root)!r}:\n"
            + "\n".join(f"- {p}" for p in problems)
        )

    def __reduce__(self):
        return type(self), (self.root, self.problems)


def find_problems(images: ImageSet, *, decode: bool = True) -> list[str]:
    """Check the files of an image set, without stopping at the first problem.

    Parameters
    ----------
    images : ImageSet
    decode : bool, default=True
        Whether images are decoded to their end, which finds truncated files, or only their
        headers are read. Masks are always decoded.

    Returns
    -------
    problems : list of str
        Unreadable images and masks, masks that are not of the size of their image, and
        anomalous images without a mask although others of their type have one.
    """
    unreadable = find_unreadable(images, decode=decode)
    problems = [f"{images.name(i)}: {reason}" for i, _, reason in unreadable]
    broken = {i for i, *_ in unreadable}
    without = np.array([mask is None for mask in images.masks])
    for key in dict.fromkeys(zip(_categories(images), images.y, strict=True)):
        members = np.array([k == key for k in zip(_categories(images), images.y, strict=True)])
        if key[1] != GOOD and not without[members].all():
            missing = np.flatnonzero(members & without)
            problems += [
                f"{images.name(i)}: no mask, but others of {key[1]!r} have" for i in missing
            ]
    with_mask = [i for i in np.flatnonzero(~without) if i not in broken]
    with ThreadPoolExecutor() as pool:
        return problems + [p for p in pool.map(lambda i: _wrong_mask(images, i), with_mask) if p]


def _categories(images):
    return [None] * len(images) if images.categories is None else images.categories


def _wrong_mask(images, i):
    mask = images.masks[i]
    try:
        shape = (read_mask(mask) if isinstance(mask, str) else mask).shape
    except ImageReadError as error:
        return str(error)
    size = tuple(as_images([images.paths[i]]).size(0))
    if shape == size:
        return None
    name = mask if isinstance(mask, str) else f"mask of image {i}"
    return f"{name}: the mask has {shape} pixels, its image {size}"
