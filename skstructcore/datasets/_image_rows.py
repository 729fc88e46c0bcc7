"""Images one by one: what a place on disk or a row of a table says of each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..images.labels import GOOD
from ._checks import DatasetError
from ._image_set import ImageSet

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class ImageRow(NamedTuple):
    """One image, and what its place or its row in a table says of it; None: nothing.

    A label of "" is an empty cell of a table.
    """

    file: str
    label: str | None = None
    mask: Any = None
    group: str | None = None
    category: str | None = None
    part: str | None = None
    split: str | None = None

    @property
    def folder(self) -> str:
        """The folder that the image is in."""
        return str(Path(self.file).parent)


def as_image_set(rows: Sequence[ImageRow], max_pixels: int | None = None) -> ImageSet:
    """The images of some rows, with what is known of them; without a label they are good."""
    given = {what for row in rows for what, cell in row._asdict().items() if cell is not None}
    without = [f"{row.file}: its label is an empty cell" for row in rows if row.label == ""]
    if "category" in given:
        without += [f"{row.file}: it has no category" for row in rows if row.category is None]
    if without:
        raise DatasetError("images", without)
    # An image without a group or part is one by itself.
    return ImageSet(
        [row.file for row in rows],
        [row.label or GOOD for row in rows],
        masks=[row.mask for row in rows],
        groups=[row.group or row.file for row in rows] if "group" in given else None,
        categories=[row.category for row in rows] if "category" in given else None,
        splits=[row.split for row in rows] if "split" in given else None,
        parts=[row.part or row.file for row in rows] if "part" in given else None,
        max_pixels=max_pixels,
    )
