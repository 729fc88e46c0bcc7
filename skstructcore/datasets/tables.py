"""Tables of images: CSV files with a row an image, and the rows that all sources come to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .._utils.files import unescape_name
from ..images.labels import GOOD, GOOD_WORDS, defect_types, means_defect, means_good
from ._checks import DatasetError
from ._folders import beside, read_table
from .verdicts import UNSURE, load_verdicts

if TYPE_CHECKING:
    from typing import Literal

    from ..images.image_list import Pages

__all__ = ["COLUMNS", "ImageRow", "read_rows"]

#: What a column of a table may be called, by what is in it; in any case.
COLUMNS = {
    "file": ("file", "path", "image", "filename", "file_name", "image_path", "filepath"),
    "label": ("label", "verdict", "class", "defect_type", "y"),
    "mask": ("mask", "mask_path"),
    "group": ("group", "lot"),
    "category": ("category", "product", "object"),
    "part": ("part",),
    "split": ("split",),
}
#: Labels of tables that are numbers, as `y` may hold them.
_NUMBERS = {"0": 0, "0.0": 0, "1": 1, "1.0": 1, "-1": -1, "-1.0": -1, "false": 0, "true": 1}


class ImageRow(NamedTuple):
    """One image, and what its place or its row in a table says of it; None: nothing.

    A label of "" is an empty cell of a table.
    """

    file: str
    label: str | None = None
    mask: str | None = None
    group: str | None = None
    category: str | None = None
    part: str | None = None

    @property
    def folder(self) -> str:
        """The folder that the image is in."""
        return str(Path(self.file).parent)


def read_rows(
    path: Path,
    split: Literal["train", "test"] | None = None,
    pages: Pages | None = None,
    max_pixels: int | None = None,
) -> list[ImageRow]:
    """The rows of a CSV file with a column file and, maybe, others of `COLUMNS`."""
    rows = read_table(path, ())
    given = rows[0] if rows else ()
    columns = {
        what: next((name for name in names if name in given), None)
        for what, names in COLUMNS.items()
    }
    if columns["file"] is None:
        raise DatasetError(path, [f"no rows, or no column {' or '.join(COLUMNS['file'])}"])
    others = any(columns[what] for what in columns if what not in ("file", "label"))
    if "file" in given and "verdict" in given and not others:  # digests are checked
        images = load_verdicts(path, pages=pages, max_pixels=max_pixels)
        return list(map(ImageRow, images.paths, images.y))
    read = []
    for row in rows:
        cells = {what: row[name].strip() or None for what, name in columns.items() if name}
        if cells["file"] is None or (cells.get("label") or "").lower() == UNSURE:
            continue
        if columns["label"]:
            cells["label"] = cells["label"] or ""
        for what in ("file", "mask"):
            if cells.get(what):
                cells[what] = beside(path, unescape_name(cells[what]))
        read.append(((cells.pop("split", None) or "").lower() or None, ImageRow(**cells)))
    labels = _read_labels(path, [row.label for _, row in read if row.label])
    unknown = {of_split for of_split, _ in read} - {"train", "test", None}
    if unknown:
        raise DatasetError(path, [f"a split is 'train' or 'test', not {sorted(unknown)}"])
    return [
        row._replace(label=labels.get(row.label, row.label))
        for of_split, row in read
        if None in (of_split, split) or of_split == split
    ]


def _read_labels(path, labels):
    """What each label of a table means: "good" or the type of a defect."""
    numbers = [_NUMBERS.get(label.lower()) for label in labels]
    if labels and None not in numbers:
        return dict(zip(labels, defect_types(numbers), strict=True))
    if labels and not any(map(means_good, labels)) and not all(map(means_defect, labels)):
        words = ", ".join(GOOD_WORDS)
        raise DatasetError(path, [f"none of the labels {set(labels)} is a word for good: {words}"])
    return {label: GOOD for label in labels if means_good(label)}
