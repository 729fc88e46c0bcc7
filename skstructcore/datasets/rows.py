"""Images row by row: what each source says of them, what is wrong, and the image set they make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..images.image_list import StrPath, find_unreadable
from ..images.labels import GOOD
from .image_set import ImageSet
from .masks import review_masks


class ImageRow(NamedTuple):
    """One image: a field is None where nothing is said; a label is "" where a table is empty."""

    file: str
    label: str | None = None
    mask: Any = None
    group: str | None = None
    category: str | None = None
    part: str | None = None
    split: str | None = None

    @property
    def folder(self) -> str:
        return str(Path(self.file).parent)


class DatasetError(ValueError):
    """The data set in the folder `root` has `problems`, a list of str; the message lists all."""

    def __init__(self, root: StrPath, problems: list[str]) -> None:
        super().__init__(root, problems)  # from which a pickle makes it again
        self.root, self.problems = root, problems

    def __str__(self) -> str:
        heading = f"{len(self.problems)} problem(s) in {str(self.root)!r}:"
        return "\n".join([heading, *(f"- {problem}" for problem in self.problems)])


class Problems(list[str]):
    """What is wrong with a data set, kept until all of it is known."""

    def __init__(self, *roots: StrPath) -> None:
        super().__init__()
        self.root = roots[0] if len(roots) == 1 else ", ".join(map(str, roots[:3]))

    @contextmanager
    def listed(self, place: object) -> Iterator[None]:
        """Add any error: files of other programs may be wrong in any way."""
        try:
            yield
        except Exception as error:
            name = "" if type(error) is ValueError else f"{type(error).__name__}: "
            self.append(f"{place}: {name}{error}")

    def raise_any(self) -> None:
        """Raise one `DatasetError` of all, if there are any."""
        if self:
            raise DatasetError(self.root, [*self])


def as_image_set(
    rows: Sequence[ImageRow],
    problems: Problems,
    check: bool | None = True,
    max_pixels: int | None = None,
) -> ImageSet:
    """The images of some rows, good without a label; or an error that lists all problems.

    With `check`, images are decoded to their end; with False, their headers are read; with None
    neither: the model checks them when it reads them.
    """
    given = {column for row in rows for column, cell in row._asdict().items() if cell is not None}
    for row in rows:
        if row.label == "":
            problems.append(f"{row.file}: its label is an empty cell")
        if "category" in given and row.category is None:
            problems.append(f"{row.file}: it has no category")
    # An image without a group or part is one by itself.
    images = ImageSet(
        [row.file for row in rows],
        [row.label or GOOD for row in rows],
        masks=[row.mask for row in rows],
        groups=[row.group or row.file for row in rows] if "group" in given else None,
        categories=[row.category or "" for row in rows] if "category" in given else None,
        splits=[row.split for row in rows] if "split" in given else None,
        parts=[row.part or row.file for row in rows] if "part" in given else None,
        max_pixels=max_pixels,
    )
    if not rows and not problems:
        problems.append("there are no images")
    if rows and check is not None:
        unreadable = find_unreadable(images, decode=check)
        problems += [f"{images.name(i)}: {reason}" for i, _, reason in unreadable]
        problems += review_masks(images, {i for i, *_ in unreadable})
    problems.raise_any()
    return images
