"""Finding everything that is wrong with a data set at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..images.image_list import find_unreadable
from .masks import find_mask_problems

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


def checked(root: StrPath, images: ImageSet, problems: list[str], decode: bool | None) -> ImageSet:
    """Return the images, or raise `DatasetError` with these and all other problems.

    Others are unreadable images and masks, masks that are not of the size of their image, and
    anomalous images without a mask although others of their type have one. With `decode`, images
    are decoded to their end, which finds truncated files; without, only their headers are read.
    None leaves all images to a later check, which knows of pages and of `max_pixels`.
    """
    if len(images) and decode is not None:
        unreadable = find_unreadable(images, decode=decode)
        problems = problems + [f"{images.name(i)}: {reason}" for i, _, reason in unreadable]
        problems += find_mask_problems(images, {i for i, *_ in unreadable})
    elif not len(images) and not problems:
        problems = ["there are no images"]
    if problems:
        raise DatasetError(root, problems)
    return images
