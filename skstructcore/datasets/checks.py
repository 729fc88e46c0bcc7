"""Finding everything that is wrong with a data set at once."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..images.image_list import find_unreadable
from .masks import find_mask_problems

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..images.image_list import StrPath
    from .image_set import ImageSet


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


class Problems:
    """What is wrong with a data set, kept until all of it is known."""

    def __init__(self, *roots: StrPath) -> None:
        self.root = roots[0] if len(roots) == 1 else ", ".join(map(str, roots[:3]))
        self.found: list[str] = []

    def add(self, problem: str) -> None:
        self.found.append(problem)

    @contextmanager
    def listed(self, place: object) -> Iterator[None]:
        """Add any error: files of other programs may be wrong in any way."""
        try:
            yield
        except Exception as error:
            name = "" if type(error) is ValueError else f"{type(error).__name__}: "
            self.add(f"{place}: {name}{error}")

    def raise_any(self) -> None:
        """Raise one `DatasetError` of all, if there are any."""
        if self.found:
            raise DatasetError(self.root, self.found)

    def checked(self, images: ImageSet, decode: bool | None) -> ImageSet:
        """Return the images, or raise `DatasetError` with their problems and those before.

        Problems are unreadable images and masks, masks that are not of the size of their image, and
        anomalous images without a mask although others of their type have one. With `decode`,
        images are decoded to their end, which finds truncated files; without, only their headers
        are read. None leaves all images to a later check, which knows of pages and `max_pixels`.
        """
        if len(images) and decode is not None:
            unreadable = find_unreadable(images, decode=decode)
            self.found += [f"{images.name(i)}: {reason}" for i, _, reason in unreadable]
            self.found += find_mask_problems(images, {i for i, *_ in unreadable})
        elif not len(images) and not self.found:
            self.add("there are no images")
        self.raise_any()
        return images
