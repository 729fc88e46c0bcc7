"""Images as people name them: folders, files, patterns, lists and tables, in any mixture."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby, takewhile
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..images.files import images_among, split_name, tell_of_others
from ..images.image_list import Pages, StrPath, as_images
from ..images.labels import GOOD, means_defect
from ..images.masks import InvertedMask
from ..images.reading import ImageReadError
from .folders import MASK_FOLDERS, folder_labels, walk
from .image_set import ImageSet
from .loaders import find_masks, layout_or_none
from .rows import DatasetError, ImageRow, Problems, as_image_set
from .tables import read_rows, read_text, resolve_name

_logger = logging.getLogger(__name__)


class SourceOptions(NamedTuple):
    """How sources are read, see `load_images`; ``good=None``: names of folders are no labels."""

    good: str | None = GOOD
    split: Literal["train", "test"] = "train"
    categories: str | None = None
    pages: Pages | None = None
    views: Sequence[Any] | None = None
    max_pixels: int | None = None


def load_images(
    *sources: StrPath,
    good: str = GOOD,
    categories: str | None = None,
    groups: Literal["folder"] | None = "folder",
    split: Literal["train", "test"] = "train",
    pages: Pages | None = None,
    views: Sequence[Any] | None = None,
    max_pixels: int | None = None,
    masks: StrPath | None = None,
    inverted_masks: bool = False,
    check: bool | None = True,
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
          group (or lot), part, category (or product) and split.

        Relative names start where the list or table is, or else where you are.
    good : str, default="good"
        Name of the folders of good images, beside `GOOD_WORDS` ("good", "OK", "normal", ...).
        Where a source has such folders, those beside them are types of defects. Where it has
        none, its images are good, unless its own name is a word for defect ("NG", "bad").
        If one source is named as a defect (``x/NG``), name the others as good (``x/OK``).
    categories : str, default=None
        What tells products apart: "folder", the folders directly in each source; a CSV file with
        the columns file and category; or a regular expression with a group, which is searched for
        in each path: ``r"/(bolt|nut)_"``. None: the column category, or the data set's own.
    groups : {"folder"} or None, default="folder"
        Whether folders are groups (lots, shifts, days), where the good images of a product lie in
        several. A column group and groups of a data set go before.
    split : {"train", "test"}, default="train"
        What is taken of a data set, and of a table with a column split.
    pages, views, max_pixels : see `skstructcore.images.as_images`
        All pages and views of a file share its label and mask.
    masks : str or path-like, default=None
        A folder of masks, ``<type>/<stem>.png`` or ``<type>/<stem>_mask.png``. None: masks of a
        table or of a data set only.
    inverted_masks : bool, default=False
        Whether 0 marks the defect in the masks of the folder `masks`; those of tables stay.
    check : bool or None, default=True
        Whether to decode all images, to find the damaged ones, see `load_mvtec_ad`.

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
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    if groups not in ("folder", None):
        raise ValueError(f"groups must be 'folder' or None, got {groups!r}")
    if inverted_masks and masks is None:
        raise ValueError("inverted_masks=True is about the masks in the folder masks=: name it")
    rows = find_rows(sources, SourceOptions(good, split, categories, pages, views, max_pixels))
    if masks is not None:
        rows = _with_masks(rows, Path(masks), inverted_masks)
    return load_rows(rows, sources, groups, max_pixels, check)


def load_rows(
    rows: Sequence[ImageRow],
    sources: Sequence[StrPath],
    groups: Literal["folder"] | None = "folder",
    max_pixels: int | None = None,
    check: bool | None = True,
) -> ImageSet:
    """What `load_images` makes of the rows that were found in `sources`."""
    if not rows:
        raise ValueError("no images are named")
    if groups == "folder":
        rows = _with_lots(rows)
    return as_image_set(rows, Problems(*sources), check, max_pixels)


def _with_masks(rows, folder, inverted):
    """The rows of defects with their masks in a folder, where they have none."""
    if not folder.is_dir():
        raise DatasetError(folder, ["masks= is no folder"])
    files = [Path(split_name(row.file).path) for row in rows]  # that of each page and view
    files_of, problems = defaultdict(dict), Problems(folder)
    for row, file in zip(rows, files, strict=True):
        if row.label not in (None, "", GOOD):
            files_of[row.label][file] = None  # a set in order
    mask_of = find_masks(files_of, folder, problems)
    if files_of and not mask_of:
        problems.append(f"no folder of masks is named like a type ({', '.join(sorted(files_of))})")
    problems.raise_any()
    if inverted:
        mask_of = {file: mask and InvertedMask(str(mask)) for file, mask in mask_of.items()}
    pairs = zip(rows, files, strict=True)
    return [row._replace(mask=row.mask or mask_of.get(file)) for row, file in pairs]


def _with_lots(rows):
    """The rows with the folder as group, where the good images of a category are in several."""
    folders = {}  # category -> number of good images of each folder
    for row in rows:
        if (row.label or GOOD) == GOOD:
            folders.setdefault(row.category, Counter())[row.folder] += 1
    several = {category for category, counts in folders.items() if len(counts) > 1}
    if any(row.group for row in rows) or not several:
        return rows
    lots = [f"{Path(name).name} ({n})" for counts in folders.values() for name, n in counts.items()]
    _logger.info("Each folder is taken as a group: %s", ", ".join(lots))
    return [row._replace(group=row.folder) if row.category in several else row for row in rows]


def find_rows(sources: Sequence[StrPath], options: SourceOptions) -> list[ImageRow]:
    """What `load_images` finds, a row an image in order; single files need not be there."""
    rows = [row for source in sources for row in _rows_of(os.fspath(source), options)]
    spelled = {}  # a.png, ./a.png and /line/a.png are one file: as it came first
    rows = [r._replace(file=spelled.setdefault(os.path.abspath(r.file), r.file)) for r in rows]
    if options.categories not in (None, "folder"):
        category_of = _category_reader(options.categories)
        rows = [row._replace(category=category_of(row.file)) for row in rows]
    if options.categories is not None and rows and all(row.category is None for row in rows):
        why = f"categories={options.categories!r} says nothing of any of the {len(rows)} images"
        raise DatasetError(", ".join(map(str, sources)), [why])
    if options.pages is not None or options.views is not None:
        rows = [page for row in rows for page in _pages_of(row, options)]
    if options.good is not None:
        _check_beside_defects(rows)
    return _once(rows, sources)


def _check_beside_defects(rows):
    """An error if folders that say nothing are named together with one of defects, as by x/*."""
    named = [row for row in rows if row.label and row.label in Path(row.folder).parts]
    defect_of = {row.category: row.label for row in named if means_defect(row.label)}
    unsaid = [row for row in rows if row.label is None and row.category in defect_of]
    # A file that is not there is a problem of its own.
    unsaid = [row for row in unsaid if os.path.lexists(split_name(row.file).path)]
    unknown = {row.folder: defect_of[row.category] for row in unsaid}
    if unknown:
        root = os.path.commonpath(map(os.path.abspath, unknown))
        why = (
            "{}: good images or defects? It lies beside {!r}; name the folders of good images "
            "alone, or the folder around all of them"
        )
        raise DatasetError(root, [why.format(*item) for item in sorted(unknown.items())])


def _once(rows, sources):
    """A row a file, with what any of its rows knows; they must not contradict each other."""
    merged, problems = {}, Problems(*sources)
    for row in rows:
        before = merged.setdefault(row.file, row)
        for column, old, new in zip(row._fields, before, row, strict=True):
            if old and new and old != new:
                problems.append(f"{row.file}: it is named twice, with {column} {old!r} and {new!r}")
        # An empty cell ("") takes nothing back that another row knows.
        merged[row.file] = row._make(
            new if new or old is None else old for old, new in zip(before, row, strict=True)
        )
    problems.raise_any()
    return list(merged.values())


def _pages_of(row, options):
    """A row a page, and a view, of a file; one that cannot be read stays, which is said later."""
    given = {"pages": options.pages, "views": options.views, "max_pixels": options.max_pixels}
    try:
        images = as_images([row.file], **given)
    except ImageReadError:
        return [row]
    parts = images.annotations.parts
    parts = [row.part] * len(images) if parts is None or row.part else parts.tolist()
    named = zip(images.items, parts, strict=True)
    return [row._replace(file=name, part=part) for name, part in named]


def _rows_of(source: str, options: SourceOptions) -> list[ImageRow]:
    path = Path(source)
    if source.startswith("@"):
        lines = [line for line in _lines(source[1:]) if not line.startswith("@")]
        return [row for line in lines for row in _rows_of(line, options)]
    if path.is_dir():
        layout = layout_or_none(path)
        return _from_folder(path, options) if layout is None else _from_layout(layout, options)
    if path.suffix.lower() == ".csv":
        return read_rows(path, options.split, options.pages, options.max_pixels)
    is_page = os.path.isfile(split_name(source).path)  # "tray.tif[2]" is no pattern
    if not is_page and not os.path.lexists(path) and glob.has_magic(source):
        return _from_pattern(path, options)
    return [ImageRow(source, *folder_labels(path.parent, [path], options.good))]


def texts_of(source: str) -> list[str]:
    """The list or table that a source is, if it is one, and what is named in a list."""
    lines = _lines(source[1:]) if source.startswith("@") else ()
    return [name.removeprefix("@") for name in (source, *lines)]


def _from_pattern(pattern, options):
    root = Path(*takewhile(lambda part: not glob.has_magic(part), pattern.parts))
    matches = [Path(name) for name in sorted(glob.glob(str(pattern), recursive=True))]
    masks = MASK_FOLDERS.difference(map(str.lower, pattern.parts))  # but those that it names
    matches = [m for m in matches if masks.isdisjoint(map(str.lower, m.relative_to(root).parts))]
    files = images_among([match for match in matches if not match.is_dir()])
    tell_of_others(matches, files)
    # Where there are files, ** has met the folders on its way: they do not count.
    if not files or "**" not in pattern.parts:
        files += [match for match in matches if match.is_dir()]
    rows = [row for f in sorted(files) for row in _rows_of(str(f), options._replace(good=None))]
    if not rows:
        raise DatasetError(pattern, ["the pattern matches no image and no folder"])
    unsaid = [row.file for row in rows if not row.label]
    labels = folder_labels(root, [Path(file) for file in unsaid], options.good)
    label_of = dict(zip(unsaid, labels, strict=True))
    return [row._replace(label=row.label or label_of[row.file]) for row in rows]


def _lines(name: str, within: tuple[Path, ...] = ()) -> Iterator[str]:
    """What a list names: lists in it, as ``@name``, and then what these name."""
    path = Path(name)
    if path in within:
        raise DatasetError(name, ["the list names itself"])
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(name, [f"the list cannot be read: {reason}"]) from error
    for line in map(str.strip, lines):
        if line.startswith("@"):
            nested = resolve_name(path, line[1:])
            yield f"@{nested}"
            yield from _lines(nested, (*within, path))
        elif line and not line.startswith("#"):
            yield resolve_name(path, line)


def _from_layout(layout, options):
    several = options.categories == "folder" or len(layout.categories) > 1
    rows, read = [], set()
    for category in layout.categories:
        both = layout.load(category, good=options.good or GOOD, check=None)
        read.update(map(os.path.realpath, both.paths))
        images = getattr(both, options.split)
        groups = [None] * len(images) if images.groups is None else images.groups.astype(str)
        category_of = [category if several else None] * len(images)
        rows += map(ImageRow, images.paths, images.y, images.masks, groups, category_of)
    others = [file for file in walk(layout.root) if os.path.realpath(file) not in read]
    if others:
        folders = {*layout.categories.values()} - {None} or {"train", "test"}
        _logger.warning(
            "%r is laid out as a data set (of %s): %d images elsewhere in it are not read, %r for "
            "one. Name the folders of images instead to take all.",
            *(str(layout.root), ", ".join(sorted(folders)), len(others), str(others[0])),
        )
    return rows


def _from_folder(root, options):
    files = walk(root)
    if not files:
        raise DatasetError(root, ["there are no images in it, however deep"])
    notes = [file.with_suffix(suffix) for file in files for suffix in (".json", ".xml")]
    notes = [str(note) for note in notes if note.exists()]
    if notes:
        _logger.warning(
            "%d annotations are not read (%r, ...): see load_annotated", len(notes), notes[0]
        )
    if options.categories != "folder":
        return list(map(ImageRow, map(str, files), folder_labels(root, files, options.good)))
    why = "it is in no folder of a category; name the folder that holds those of all categories"
    loose = [f"{file}: {why}" for file in files if file.parent == root]
    if loose:
        raise DatasetError(root, loose)
    rows = []
    for name, here in groupby(files, lambda file: file.relative_to(root).parts[0]):
        here = [*here]
        # Product by product: the folders of one say nothing of those of another.
        labels = folder_labels(root / name, here, options.good)
        rows += map(partial(ImageRow, category=name), map(str, here), labels)
    return rows


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
