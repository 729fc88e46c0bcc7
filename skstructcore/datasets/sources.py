"""Images as people name them: folders, files, patterns, lists and tables, in any mixture."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections import Counter
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .._utils.files import unescape_name
from ..images.files import images_among, split_page, split_view, tell_of_others
from ..images.image_list import as_images
from ..images.labels import GOOD, GOOD_WORDS, defect_types, means_defect, means_good
from ._checks import DatasetError, checked
from ._folders import beside, read_table
from ._image_set import ImageSet
from .layouts import layout_or_none
from .verdicts import UNSURE, load_verdicts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Literal

    from ..images.image_list import Pages, StrPath

__all__ = ["Named", "find_named", "load_images"]

_logger = logging.getLogger(__name__)

#: Beside the files that `skstructcore.save_maps` writes, which may lie among the images.
_OWN_NOTE = "scale.json"
_MASK_FOLDERS = frozenset("ground_truth groundtruth gt mask masks".split())
#: Labels of tables that are numbers, as `y` may hold them.
_NUMBERS = {"0": 0, "0.0": 0, "1": 1, "1.0": 1, "-1": -1, "-1.0": -1, "false": 0, "true": 1}
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


class Named(NamedTuple):
    """One image that was named, and what its place or its row says of it; None: nothing.

    A label of "" is an empty cell of a table.
    """

    file: str
    label: str | None = None
    mask: str | None = None
    group: str | None = None
    category: str | None = None
    folder: str = ""
    part: str | None = None


def load_images(
    *sources: StrPath,
    good: str = GOOD,
    categories: str | None = None,
    groups: Literal["folder"] | None = "folder",
    split: Literal["train", "test"] = "train",
    pages: Pages | None = None,
    views: Sequence[Any] | None = None,
    max_pixels: int | None = None,
    check: bool = True,
) -> ImageSet:
    """Take images from wherever they are: folders, files, patterns, lists and tables.

    Parameters
    ----------
    *sources : str or path-like
        In any mixture:

        - a folder: all images in it, however deep. Folders of masks are left out;
        - a folder in the layout of a data set (`find_layout`): its images of `split`;
        - a file, or a pattern such as ``"line?/good/**/*.png"``;
        - ``"@files.txt"``: a list of such sources, one a line;
        - a CSV file with a column file (or path, image, filename) and, if you like, label, mask,
          group (or lot), part, category (or product) and split. Relative names start where the
          table is, or else where you are.
    good : str, default="good"
        Name of the folders of good images, beside `GOOD_WORDS` ("good", "OK", "normal", ...).
        Where a source has such folders, its other folders are types of defects. Where it has
        none, all of its images are good, unless its own name is a word for defect ("NG", "bad").
        Beside a source of such a name, others must be named by a word for good.
    categories : str, default=None
        What tells products apart: "folder", the folders directly in each source; a CSV file with
        the columns file and category; or a regular expression with a group, which is searched for
        in each path: ``r"/(bolt|nut)_"``. None: the column category, or the data set's own.
    groups : {"folder"} or None, default="folder"
        Whether the images of one folder are a group (a lot, a shift, a day), where the good images
        of a product lie in several folders. A column group and groups of a data set go before.
    split : {"train", "test"}, default="train"
        What is taken of a data set, and of a table with a column split.
    pages : {"all", "parts", "first"}, default=None
    views : sequence of boxes or polygons, default=None
    max_pixels : int, default=None
        What becomes of files of several images, of several places in each, and of very large
        files: see `skstructcore.images.as_images`. A mask and a label are those of all of them.
    check : bool, default=True
        Whether to decode all images, to find the damaged ones; False reads their headers only.

    Returns
    -------
    images : ImageSet
        An image that is named twice is there once, with all that is known of it.

    Raises
    ------
    DatasetError
        If a source holds no images, files are unreadable, places contradict each other, or
        cells of a column label are empty.

    Examples
    --------
    >>> from skstructcore.datasets import load_images
    >>> images = load_images("line3/good", "line4/good", "@more.txt")  # doctest: +SKIP
    >>> pipe.fit(images)                                               # doctest: +SKIP
    """
    rows = find_named(sources, good, split, categories, pages, views)
    _check_beside_defects(rows)
    return load_named(rows, sources, groups, max_pixels, check)


def load_named(
    rows: Sequence[Named],
    sources: Sequence[StrPath],
    groups: Literal["folder"] | None = "folder",
    max_pixels: int | None = None,
    check: bool = True,
) -> ImageSet:
    """What `load_images` makes of the rows that were found in `sources`."""
    rows = _once(rows)
    if not rows:
        raise ValueError("no images are named")
    if groups == "folder":
        rows = _with_lots(rows)
    images = as_image_set(rows, max_pixels)
    return checked(", ".join(map(str, sources[:3])), images, [], check)


def _once(rows: Sequence[Named]) -> list[Named]:
    """A row a file, with what any of its rows knows; they must not contradict each other."""
    found: dict[str, Named] = {}
    problems = []
    for row in rows:
        before = found.setdefault(row.file, row)
        for what, old, new in zip(Named._fields, before, row, strict=True):
            if None not in (old, new) and old != new and what != "folder":
                problems.append(f"{row.file}: it is named twice, with {what} {old!r} and {new!r}")
        known = {what: value for what, value in row._asdict().items() if value is not None}
        found[row.file] = before._replace(**known)
    if problems:
        raise DatasetError("images", problems)
    return list(found.values())


def as_image_set(rows: Sequence[Named], max_pixels: int | None = None) -> ImageSet:
    """The images of some rows, with what is known of them; without a label they are good."""
    has = {field: any(getattr(row, field) is not None for row in rows) for field in Named._fields}
    without = [f"{row.file}: its label is an empty cell" for row in rows if row.label == ""]
    if has["category"]:
        without += [f"{row.file}: it has no category" for row in rows if row.category is None]
    if without:
        raise DatasetError("images", without)
    return ImageSet(
        [row.file for row in rows],
        [row.label or GOOD for row in rows],
        masks=[row.mask for row in rows],
        groups=[row.group or row.file for row in rows] if has["group"] else None,
        categories=[row.category for row in rows] if has["category"] else None,
        parts=[row.part or row.file for row in rows] if has["part"] else None,
        max_pixels=max_pixels,
    )


def find_named(
    sources: Sequence[StrPath],
    good: str | None = GOOD,
    split: Literal["train", "test"] = "train",
    categories: str | None = None,
    pages: Pages | None = None,
    views: Sequence[Any] | None = None,
) -> list[Named]:
    """What `load_images` finds, a row an image in order; single files need not be there.

    With ``good=None`` names of folders say nothing of the images in them.
    """
    rows = []
    for source in sources:
        rows += _rows_of(os.fspath(source), good, split, categories == "folder")
    if categories not in (None, "folder"):
        category_of = _category_reader(categories)
        rows = [row._replace(category=category_of(row.file)) for row in rows]
    return rows if pages is None and views is None else _with_pages(rows, pages, views)


def _check_beside_defects(rows):
    """An error if folders that say nothing are named together with one of defects, as by x/*."""
    defects = {row.label for row in rows if row.label and row.label in Path(row.folder).parts}
    defects = sorted(filter(means_defect, defects))
    unknown = sorted({row.folder for row in rows if row.label is None})
    if defects and unknown:
        raise DatasetError(
            os.path.commonpath(map(os.path.abspath, unknown)),
            [
                f"{folder}: good images or defects? It lies beside {defects[0]!r}; name the "
                "folders of good images alone, or the folder around all of them"
                for folder in unknown
            ],
        )


def _with_pages(rows, pages, views):
    """A row a page, and a view, of a file; what cannot be read is said later."""
    expanded = []
    for row in rows:
        try:
            names = as_images([row.file], pages=pages, views=views).items
        except OSError:
            names = [row.file]
        for name in names:
            part = row.part
            if part is None and (views or pages == "parts"):
                part = split_page(name)[0] if pages == "parts" else split_view(name)[0]
            expanded.append(row._replace(file=name, part=part))
    return expanded


def _rows_of(source: str, good, split, by_folder) -> list[Named]:
    path = Path(source)
    if source.startswith("@"):
        lines = _lines(source[1:])
        return [row for line in lines for row in _rows_of(line, good, split, by_folder)]
    if path.is_dir():
        layout = layout_or_none(path)
        if layout is None:
            return _from_folder(path, good, by_folder)
        return list(_from_layout(layout, split, by_folder))
    if path.suffix.lower() == ".csv":
        return _from_table(path, split)
    is_page = os.path.isfile(split_page(source)[0])  # "tray.tif[2]" is no pattern
    if not is_page and not os.path.lexists(path) and glob.has_magic(source):
        return _from_pattern(path, good, split, by_folder)
    label = None if good is None else _own_label(path.parent, good)
    return [Named(source, label, folder=str(path.parent))]


def _from_pattern(pattern, good, split, by_folder):
    matches = [Path(name) for name in sorted(glob.glob(str(pattern), recursive=True))]
    files = images_among([match for match in matches if not match.is_dir()])
    tell_of_others(matches, files)
    matches = files or [match for match in matches if match.is_dir()]
    if not matches:
        raise DatasetError(pattern, ["the pattern matches no image and no folder"])
    # Where there are files, a pattern like ** has met the folders on its way: they do not count.
    rows = [row for m in matches for row in _rows_of(str(m), None, split, by_folder)]
    if good is None or all(row.label for row in rows):
        return rows
    root = Path(*takewhile(lambda part: not glob.has_magic(part), pattern.parts))
    paths = [Path(row.file) for row in rows]
    parts = [path.relative_to(root).parts[:-1] for path in paths]
    labels = _labels(root, paths, parts, good)
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


def _from_layout(layout, split, by_folder):
    several = by_folder or len(layout.categories) > 1
    for category in layout.categories:
        images = getattr(layout.load(category, check=False), split)
        for i, file in enumerate(images.paths):
            group = None if images.groups is None else str(images.groups[i])
            own = category if several else None
            yield Named(file, str(images.y[i]), images.masks[i], group, own, str(Path(file).parent))


def _from_table(path, split=None):
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
        images = load_verdicts(path)
        return [
            Named(f, y, folder=str(Path(f).parent)) for f, y in zip(images, images.y, strict=True)
        ]
    found = []
    for row in rows:
        cells = {what: row[name].strip() or None for what, name in columns.items() if name}
        if cells["file"] is None or (cells.get("label") or "").lower() == UNSURE:
            continue
        if columns["label"]:
            cells["label"] = cells["label"] or ""
        for what in ("file", "mask"):
            if cells.get(what):
                cells[what] = beside(path, unescape_name(cells[what]))
        own = cells.pop("split", None)
        found.append((own, Named(**cells, folder=str(Path(cells["file"]).parent))))
    labels = _read_labels(path, [row.label for _, row in found if row.label])
    unknown = {own for own, _ in found} - {"train", "test", None}
    if unknown:
        raise DatasetError(path, [f"a split is 'train' or 'test', not {sorted(unknown)}"])
    return [
        row._replace(label=labels.get(row.label, row.label))
        for own, row in found
        if None in (own, split) or own == split
    ]


def _read_labels(path, labels):
    """What each label of a table means: "good" or the type of a defect."""
    numbers = [_NUMBERS.get(label.lower()) for label in labels]
    if labels and None not in numbers:
        return dict(zip(labels, defect_types(numbers), strict=True))
    if labels and not any(map(means_good, labels)) and not all(map(means_defect, labels)):
        known = ", ".join(GOOD_WORDS)
        raise DatasetError(path, [f"none of the labels {set(labels)} is a word for good: {known}"])
    return {label: GOOD for label in labels if means_good(label)}


def _from_folder(root: Path, good, by_folder) -> list[Named]:
    files = walk(root)
    if not files:
        raise DatasetError(root, ["there are no images in it, however deep"])
    parts = [file.relative_to(root).parts[:-1] for file in files]
    categories = [None] * len(files)
    if by_folder:
        loose = [str(file) for file, part in zip(files, parts, strict=True) if not part]
        if loose:
            raise DatasetError(root, [f"{file}: an image beside the categories" for file in loose])
        categories, parts = [part[0] for part in parts], [part[1:] for part in parts]
    labels = [None] * len(files) if good is None else _labels(root, files, parts, good)
    return [
        Named(str(file), label, None, None, category, str(file.parent))
        for file, label, category in zip(files, labels, categories, strict=True)
    ]


def _labels(root, files, parts, good):
    """What the names of folders say: good words, else types of defects; None: they say nothing."""
    places = [
        next((i for i, p in enumerate(part) if p.lower() == good.lower() or means_good(p)), None)
        for part in parts
    ]
    defects = [next((p for p in part if means_defect(p)), None) for part in parts]
    if all(place is None for place in places):
        own = _own_label(root, good)
        if not any(defects) or own == GOOD:
            return [defect or own for defect in defects]
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
    if name.lower() == good.lower() or means_good(name):
        return GOOD
    return name if means_defect(name) else None


def walk(root: Path, tell: bool = True) -> list[Path]:
    """Images in a folder, however deep, sorted; links are followed, each folder once."""
    seen, files, images = set(), [], []
    for folder, inside, names in os.walk(root, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:
            inside.clear()
            continue
        seen.add(place)
        if _OWN_NOTE in names:
            inside.clear()
            _logger.info("Left out the maps in %r", folder)
            continue
        masks = [name for name in inside if name.lower() in _MASK_FOLDERS]
        if masks:
            _logger.info("Left out the masks in %r: %s", folder, ", ".join(masks))
        inside[:] = sorted(n for n in inside if n not in masks and not n.startswith("."))
        here = [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
        found = images_among(here)
        stems = {file.stem for file in found}
        notes = [f for f in here if f.suffix.lower() in (".json", ".xml") and f.stem in stems]
        if notes and tell:
            _logger.warning(
                "%d annotations in %r are not read (%s, ...): see load_annotated",
                *(len(notes), folder, notes[0].name),
            )
        files += here
        images += found
    tell_of_others(files, images)
    return images


def _category_reader(categories):
    """What finds the category of a file: a table, or a regular expression with a group."""
    if categories.lower().endswith(".csv"):
        known = {os.path.realpath(row.file): row.category for row in _from_table(Path(categories))}
        return lambda file: known.get(os.path.realpath(file))
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


def _with_lots(rows):
    """The rows with the folder as group, where the good images of a category are in several."""
    folders = {}
    for row in rows:
        if (row.label or GOOD) == GOOD:
            folders.setdefault(row.category, Counter())[row.folder] += 1
    if any(row.group for row in rows) or all(len(found) < 2 for found in folders.values()):
        return rows
    lots = [f"{Path(name).name} ({n})" for found in folders.values() for name, n in found.items()]
    _logger.info("Each folder is taken as a group: %s", ", ".join(lots))
    several = {category for category, found in folders.items() if len(found) > 1}
    return [row._replace(group=row.folder) if row.category in several else row for row in rows]
