"""Tables of images: CSV files with a row an image."""

from __future__ import annotations

import csv
import glob
import io
import os
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from .._utils.files import check_regular, unescape_name
from ..images.files import split_name
from ..images.image_list import ImageReadError, Pages, StrPath, as_images
from ..images.labels import DEFECT_WORDS, GOOD, GOOD_WORDS, defect_types, means_defect, means_good
from .image_set import ImageSet
from .rows import DatasetError, ImageRow, Problems, as_image_set

#: What a column of a table may be called, by what is in it; in any case.
_COLUMNS = {
    "file": ("file", "path", "image", "filename", "file_name", "image_path", "filepath"),
    "label": ("label", "verdict", "class", "defect_type", "y"),
    "mask": ("mask", "mask_path"),
    "group": ("group", "lot"),
    "category": ("category", "product", "object"),
    "part": ("part",),
    "split": ("split",),
    "digest": ("digest",),
}
#: The verdict of somebody who cannot tell: such images are left out.
_UNSURE = "unsure"
#: Labels of tables that are numbers, as `y` may hold them.
_NUMBERS = {"0": 0, "0.0": 0, "1": 1, "1.0": 1, "-1": -1, "-1.0": -1, "false": 0, "true": 1}


def read_text(path: Path) -> str:
    """The text of a table or list: UTF-8, with names of any bytes, or UTF-16 as Windows writes."""
    content = path.read_bytes()
    is_utf16 = content.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf16 else "utf-8-sig", "surrogateescape")


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV file that has to have some columns, whose names are brought to lower case.

    Columns are parted by commas, semicolons or tabs.
    """
    try:
        check_regular(path)
        file = io.StringIO(read_text(path), newline="")
        delimiter = max(",;\t", key=file.readline().count)
        file.seek(0)
        reader = csv.DictReader(file, restval="", delimiter=delimiter)
        rows, names = list(reader), reader.fieldnames or []
    except (OSError, UnicodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(path.parent, [f"{path}: {reason}"]) from error
    lower = [name.strip().lower() for name in names]
    for name, times in Counter(lower).items():
        if times > 1 and any(name in words for words in _COLUMNS.values()):
            raise DatasetError(path.parent, [f"{path}: {times} columns are called {name!r}"])
    if missing := [column for column in columns if column not in lower]:
        raise DatasetError(path.parent, [f"{path}: no column {', '.join(missing)}"])
    return [{key: row[name] for key, name in zip(lower, names, strict=True)} for row in rows]


def resolve_name(table: Path, name: str) -> str:
    """A name as a table or list means it: from where that is, or else from where one is."""
    for spelled in (name, name.replace("\\", "/")):  # of a table that Windows wrote
        place = str(table.parent / spelled)
        if os.path.lexists(split_name(place).path):
            return place
    if glob.has_magic(split_name(name).path):  # the [1] of a page is no pattern
        return str(Path(glob.escape(str(table.parent)), name))
    return name


def read_rows(
    path: Path,
    split: Literal["train", "test"] | None = None,
    pages: Pages | None = None,
    max_pixels: int | None = None,
    *,
    required: Sequence[str] = (),
) -> list[ImageRow]:
    """The rows of a CSV file with a column file and, maybe, others of `_COLUMNS`.

    Images with a digest must not have changed. Of several verdicts on an image the last one counts.
    """
    table = read_table(path, required)
    header = table[0] if table else ()
    named = {column: [n for n in names if n in header] for column, names in _COLUMNS.items()}
    # What is required goes before: a table of verdicts may have the labels of before beside them.
    columns = {k: max(names, key=required.__contains__) for k, names in named.items() if names}
    if "file" not in columns:
        wanted, found = " or ".join(_COLUMNS["file"]), ", ".join(map(repr, header))
        raise DatasetError(path, [f"no rows, or no column {wanted}; found {found or 'nothing'}"])
    read, problems = [], Problems(path)  # rows, and digests that their images should have
    for number, line in enumerate(table, start=2):
        cells = {column: line[name].strip() or None for column, name in columns.items()}
        with problems.listed(f"{path}, line {number}"):
            if any(cells.values()):
                digest = cells.pop("digest", None)
                read.append((_row_of(cells, path, split), digest))
    is_verdict = columns.get("label") == "verdict"
    labels = [row.label for row, _ in read if (row.label or _UNSURE).lower() != _UNSURE]
    with problems.listed(path):
        meaning = _read_labels(path, labels, is_verdict, problems)
    if is_verdict:
        read = list({os.path.abspath(row.file): (row, digest) for row, digest in read}.values())
    read = [(row, digest) for row, digest in read if (row.label or "").lower() != _UNSURE]
    _check_digests(read, pages, max_pixels, problems)
    problems.raise_any()
    return [
        row._replace(label=meaning.get(row.label, row.label), split=None)
        for row, _ in read
        if split in (None, row.split)
    ]


def _row_of(cells, table, split):
    """The row that a line of a table means."""
    if cells["file"] is None:
        raise ValueError("it names no file")
    if "label" in cells:
        cells["label"] = cells["label"] or ""
    for column in ("file", "mask"):
        if cells.get(column):
            cells[column] = resolve_name(table, unescape_name(cells[column]))
    cells["split"] = (cells.get("split") or "").lower() or split
    if cells["split"] not in (None, "train", "test"):
        raise ValueError(f"a split is 'train' or 'test', not {cells['split']!r}")
    return ImageRow(**cells)


def _check_digests(read, pages, max_pixels, problems):
    for file, digest in dict.fromkeys((row.file, digest) for row, digest in read if digest):
        try:
            images = as_images([file], pages=pages, max_pixels=max_pixels)
            if len(images) == 1 and images.digest(0) != digest:
                problems.append(f"{file}: it has changed since the report was written")
        except ImageReadError as error:
            problems.append(str(error))


def _read_labels(path, labels, is_verdict, problems):
    """What each label of a table means: "good", or of verdicts "defect"; others mean themselves."""
    good = [label for label in labels if means_good(label)]
    types = [label for label in labels if not (means_good(label) or means_defect(label))]
    if is_verdict:
        words = ", ".join((_UNSURE, *DEFECT_WORDS, *GOOD_WORDS))
        for label in types:
            problems.append(f"{path}: the verdict {label!r} is none of {words}")
        return dict.fromkeys(labels, "defect") | dict.fromkeys(good, GOOD)
    numbers = [_NUMBERS.get(label.lower()) for label in labels]
    if labels and None not in numbers:
        return dict(zip(labels, defect_types(numbers), strict=True))
    if zeros := sorted({label for label in labels if _NUMBERS.get(label.lower()) == 0}):
        problems.append(
            f"{path}: the label {zeros[0]!r} means good beside other numbers, not words"
        )
    if types and not good:
        words = ", ".join(GOOD_WORDS)
        problems.append(f"none of the labels {sorted(set(labels))} is a word for good: {words}")
    return dict.fromkeys(good, GOOD)


def load_verdicts(path: StrPath, *, max_pixels: int | None = None) -> ImageSet:
    """Read the verdicts that people gave in a report, as labelled images.

    Parameters
    ----------
    path : str or path-like
        CSV file with the columns ``file``, ``digest`` (of the content, may be empty) and
        ``verdict`` ("good", "defect" or "unsure", or other words of `skstructcore.images.labels`).
        Relative names start where the file is, or else where you are.
    max_pixels : see `skstructcore.images.as_images`

    Returns
    -------
    images : ImageSet
        The images that people are sure of, labelled "good" or "defect", each by its last row.

    Raises
    ------
    DatasetError
        If the file is none of verdicts, or images are missing or have changed since.
    """
    path = Path(path)
    rows = read_rows(path, max_pixels=max_pixels, required=("file", "verdict"))
    return as_image_set(rows, Problems(path), False, max_pixels) if rows else ImageSet([])
