"""Rows of images from what people name: folders, files, patterns, lists and tables."""

from __future__ import annotations

import glob
import os
import re
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..images.files import images_among, split_page, tell_of_others
from ..images.image_list import as_images
from ..images.labels import GOOD, GOOD_WORDS, means_defect, means_good
from ..images.reading import ImageReadError
from ._folders import walk
from .checks import DatasetError, Problems
from .image_set import ImageRow
from .layouts import layout_or_none
from .tables import beside, read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Literal

    from ..images.files import StrPath
    from ..images.image_list import Pages

__all__ = ["find_rows"]


class _Asked(NamedTuple):
    """What is asked of every source."""

    good: str | None
    split: str
    by_folder: bool  # whether folders are categories
    pages: Pages | None
    max_pixels: int | None


def find_rows(
    sources: Sequence[StrPath],
    good: str | None = GOOD,
    split: Literal["train", "test"] = "train",
    categories: str | None = None,
    pages: Pages | None = None,
    views: Sequence[Any] | None = None,
    max_pixels: int | None = None,
) -> list[ImageRow]:
    """What `load_images` finds, a row an image in order; single files need not be there.

    An image that is named twice has one row. With ``good=None`` names of folders say nothing of
    the images in them.
    """
    asked = _Asked(good, split, categories == "folder", pages, max_pixels)
    rows = [row for source in sources for row in _rows_of(os.fspath(source), asked)]
    spelled: dict[str, str] = {}  # a.png, ./a.png and /line/a.png are one file: as it came first
    rows = [r._replace(file=spelled.setdefault(os.path.abspath(r.file), r.file)) for r in rows]
    if categories not in (None, "folder"):
        category_of = _category_reader(categories)
        rows = [row._replace(category=category_of(row.file)) for row in rows]
    if pages is not None or views is not None:
        rows = [shown for row in rows for shown in _pages_of(row, pages, views, max_pixels)]
    if good is not None:
        _check_beside_defects(rows)
    return _once(rows, sources)


def _check_beside_defects(rows):
    """An error if folders that say nothing are named together with one of defects, as by x/*."""
    defects = {row.label for row in rows if row.label and row.label in Path(row.folder).parts}
    defects = sorted(filter(means_defect, defects))
    # A file that is not there is a problem of its own.
    unknown = (row for row in rows if defects and row.label is None)
    unknown = sorted({row.folder for row in unknown if os.path.lexists(split_page(row.file)[0])})
    if unknown:
        raise DatasetError(
            os.path.commonpath(map(os.path.abspath, unknown)),
            [
                f"{folder}: good images or defects? It lies beside {defects[0]!r}; name the "
                "folders of good images alone, or the folder around all of them"
                for folder in unknown
            ],
        )


def _once(rows, sources):
    """A row a file, with what any of its rows knows; they must not contradict each other."""
    merged: dict[str, ImageRow] = {}
    problems = Problems(", ".join(map(str, sources[:3])))
    for row in rows:
        before = merged.setdefault(row.file, row)
        for what, old, new in zip(row._fields, before, row, strict=True):
            if old and new and old != new:
                problems.add(f"{row.file}: it is named twice, with {what} {old!r} and {new!r}")
        # An empty cell ("") takes nothing back that another row knows.
        merged[row.file] = row._make(
            new if new or old is None else old for old, new in zip(before, row, strict=True)
        )
    problems.raise_any()
    return list(merged.values())


def _pages_of(row, pages, views, max_pixels):
    """A row a page, and a view, of a file; one that cannot be read stays, which is said later."""
    try:
        images = as_images([row.file], pages=pages, views=views, max_pixels=max_pixels)
    except ImageReadError:
        return [row]
    parts = images.annotations.parts
    parts = [row.part] * len(images) if parts is None or row.part else parts.tolist()
    named = zip(images.items, parts, strict=True)
    return [row._replace(file=name, part=part) for name, part in named]


def _rows_of(source: str, asked: _Asked) -> list[ImageRow]:
    path = Path(source)
    if source.startswith("@"):
        lines = _lines(source[1:])
        return [row for line in lines for row in _rows_of(line, asked)]
    if path.is_dir():
        layout = layout_or_none(path)
        if layout is None:
            return _from_folder(path, asked)
        return list(_from_layout(layout, asked))
    if path.suffix.lower() == ".csv":
        return read_rows(path, asked.split, asked.pages, asked.max_pixels)
    is_page = os.path.isfile(split_page(source)[0])  # "tray.tif[2]" is no pattern
    if not is_page and not os.path.lexists(path) and glob.has_magic(source):
        return _from_pattern(path, asked)
    label = None if asked.good is None else _own_label(path.parent, asked.good)
    return [ImageRow(source, label)]


def _from_pattern(pattern, asked):
    matches = [Path(name) for name in sorted(glob.glob(str(pattern), recursive=True))]
    files = images_among([match for match in matches if not match.is_dir()])
    tell_of_others(matches, files)
    matches = files or [match for match in matches if match.is_dir()]
    if not matches:
        raise DatasetError(pattern, ["the pattern matches no image and no folder"])
    # Where there are files, a pattern like ** has met the folders on its way: they do not count.
    rows = [row for m in matches for row in _rows_of(str(m), asked._replace(good=None))]
    if asked.good is None or all(row.label for row in rows):
        return rows
    root = Path(*takewhile(lambda part: not glob.has_magic(part), pattern.parts))
    paths = [Path(row.file) for row in rows]
    parts = [path.relative_to(root).parts[:-1] for path in paths]
    labels = _labels(root, paths, parts, asked.good)
    return [r._replace(label=r.label or label) for r, label in zip(rows, labels, strict=True)]


def _lines(name: str, within: tuple[Path, ...] = ()) -> Iterator[str]:
    """What a list names, and the lists in it do."""
    path = Path(name)
    if path in within:
        raise DatasetError(name, ["the list names itself"])
    try:
        lines = path.read_text("utf-8-sig", errors="surrogateescape").splitlines()
    except OSError as error:
        raise DatasetError(name, [f"the list cannot be read: {error.strerror}"]) from error
    for line in map(str.strip, lines):
        if line.startswith("@"):
            yield from _lines(beside(path, line[1:]), (*within, path))
        elif line and not line.startswith("#"):
            yield beside(path, line)


def _from_layout(layout, asked):
    several = asked.by_folder or len(layout.categories) > 1
    for category in layout.categories:
        images = getattr(layout.load(category, check=None), asked.split)
        groups = [None] * len(images) if images.groups is None else images.groups.astype(str)
        shown = [category if several else None] * len(images)
        yield from map(ImageRow, images.paths, images.y, images.masks, groups, shown)


def _from_folder(root: Path, asked: _Asked) -> list[ImageRow]:
    files = walk(root)
    if not files:
        raise DatasetError(root, ["there are no images in it, however deep"])
    parts = [file.relative_to(root).parts[:-1] for file in files]
    categories = [None] * len(files)
    if asked.by_folder:
        loose = [str(file) for file, part in zip(files, parts, strict=True) if not part]
        if loose:
            why = (
                "is in no folder of a category; name the folder that holds those of all categories"
            )
            raise DatasetError(root, [f"{file}: it {why}" for file in loose])
        categories, parts = [part[0] for part in parts], [part[1:] for part in parts]
    labels = [None] * len(files)
    if asked.good is not None:
        labels = _labels(root, files, parts, asked.good)
    rows = zip(map(str, files), labels, categories, strict=True)
    return [ImageRow(file, label, category=category) for file, label, category in rows]


def _labels(root, files, parts, good):
    """What the names of folders say: good words, else types of defects; None: they say nothing."""
    places = [
        next((i for i, name in enumerate(part) if _is_good(name, good)), None) for part in parts
    ]
    defects = [next((p for p in part if means_defect(p)), None) for part in parts]
    if all(place is None for place in places):
        of_root = _own_label(root, good)
        if not any(defects) or of_root == GOOD:
            return [defect or of_root for defect in defects]
        names = sorted({part[0] for part in parts if part})[:5]
        raise DatasetError(
            root,
            [
                f"folders of defects ({', '.join(names)}), but none that is named {good!r} or "
                f"{', '.join(GOOD_WORDS[1:])}"
            ],
        )
    depth = min(place for place in places if place is not None)
    problems = [
        f"{file}: an image beside folders of images"
        for file, part in zip(files, parts, strict=True)
        if len(part) <= depth
    ]
    if problems:
        raise DatasetError(root, problems)
    return [
        defect or (part[depth] if place is None else GOOD)
        for place, defect, part in zip(places, defects, parts, strict=True)
    ]


def _own_label(folder, good):
    """What the name of a folder alone says of the images in it."""
    name = folder.resolve().name
    if _is_good(name, good):
        return GOOD
    return name if means_defect(name) else None


def _is_good(name, good):
    return name.lower() == good.lower() or means_good(name)


def _category_reader(categories):
    """What finds the category of a file: a table, or a regular expression with a group."""
    if categories.lower().endswith(".csv"):
        by_file = {os.path.realpath(row.file): row.category for row in read_rows(Path(categories))}
        return lambda file: by_file.get(os.path.realpath(file))
    try:
        pattern = re.compile(categories)
    except re.error as error:
        raise ValueError(f"categories={categories!r} is no regular expression: {error}") from error
    if pattern.groups != 1:
        raise ValueError(
            f"categories={categories!r} must be 'folder', a CSV file, or a regular expression with "
            "one group in parentheses, which is the category."
        )
    return lambda file: (pattern.search(Path(file).as_posix()) or {1: None})[1]
