"""Images as people name them: folders, files, patterns, lists and tables, in any mixture."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from ..images.files import split_page
from ..images.labels import GOOD
from ..images.masks import InvertedMask
from ._folders import masks_of
from ._rows import find_rows
from .checks import DatasetError, Problems
from .image_set import as_image_set

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal

    from ..images.image_list import Pages, StrPath
    from .image_set import ImageRow, ImageSet

__all__ = ["load_images"]

_logger = logging.getLogger(__name__)


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
    masks : str or path-like, default=None
        A folder with a folder of masks for each type of defect, ``<type>/<stem>.png`` or
        ``<type>/<stem>_mask.png``. None: masks of a table or of a data set only.
    inverted_masks : bool, default=False
        Whether 0 marks the defect in the masks of the folder `masks`; those of tables stay.
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
    if inverted_masks and masks is None:
        raise ValueError("inverted_masks=True is about the masks in the folder masks=: name it")
    rows = find_rows(sources, good, split, categories, pages, views, max_pixels)
    if masks is not None:
        rows = _with_masks(rows, Path(masks), inverted_masks)
    return load_rows(rows, sources, groups, max_pixels, check)


def load_rows(
    rows: Sequence[ImageRow],
    sources: Sequence[StrPath],
    groups: Literal["folder"] | None = "folder",
    max_pixels: int | None = None,
    check: bool = True,
) -> ImageSet:
    """What `load_images` makes of the rows that were found in `sources`."""
    if not rows:
        raise ValueError("no images are named")
    if groups == "folder":
        rows = _with_lots(rows)
    problems = Problems(", ".join(map(str, sources[:3])))
    return problems.checked(as_image_set(rows, max_pixels), check)


def _with_masks(rows, folder, inverted):
    """The rows of defects with their masks in a folder, where they have none."""
    if not folder.is_dir():
        raise DatasetError(folder, ["masks= is no folder"])
    files = [Path(split_page(row.file)[0]) for row in rows]
    mask_of, problems = {}, Problems(folder)
    for defect in dict.fromkeys(row.label for row in rows if row.label not in (None, "", GOOD)):
        shown = [file for file, row in zip(files, rows, strict=True) if row.label == defect]
        shown = list(dict.fromkeys(shown))
        found = masks_of(shown, folder / defect, problems)
        mask_of.update(zip(shown, found, strict=True))
    problems.raise_any()
    if inverted:
        mask_of = {file: mask and InvertedMask(str(mask)) for file, mask in mask_of.items()}
    masks = [row.mask or mask_of.get(file) for file, row in zip(files, rows, strict=True)]
    return [row._replace(mask=mask) for row, mask in zip(rows, masks, strict=True)]


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
