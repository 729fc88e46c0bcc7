"""People's verdicts on images, as a report exports them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .._utils.files import unescape_name
from ..images.image_list import ImageReadError, as_images
from ..images.labels import DEFECT_WORDS, GOOD, GOOD_WORDS, means_defect, means_good
from ._checks import DatasetError
from ._folders import beside, read_table
from ._image_set import ImageSet

if TYPE_CHECKING:
    from ..images.image_list import Pages, StrPath

__all__ = ["VERDICT_COLUMNS", "load_verdicts"]

#: Columns of the file; others are ignored.
VERDICT_COLUMNS = ("file", "digest", "verdict", "decision", "p_value", "route", "time")

#: The verdict of somebody who cannot tell: such images are left out.
UNSURE = "unsure"

_WORDS = (UNSURE, *DEFECT_WORDS, *GOOD_WORDS)


def load_verdicts(
    path: StrPath, *, pages: Pages | None = None, max_pixels: int | None = None
) -> ImageSet:
    """Read the verdicts that people gave in a report, as labelled images.

    Parameters
    ----------
    path : str or path-like
        CSV file with the columns ``file``, ``digest`` (of the content, may be empty), ``verdict``
        ("good", "defect" or "unsure", or other words of `skstructcore.images.labels`),
        ``decision``, ``p_value``, ``route`` and ``time``. Relative names start where the file is,
        or else where you are.
    pages, max_pixels : see `skstructcore.images.as_images`
        How the images are read when they are checked; the set has a row a file.

    Returns
    -------
    images : ImageSet
        The images that people are sure of, labelled "good" or "defect". Those of which they are
        unsure are left out. Where an image has several rows the last one counts.

    Raises
    ------
    DatasetError
        If the file is none of verdicts, or images are missing, or have changed since the report
        was written; it lists all of them.

    Examples
    --------
    >>> from skstructcore.datasets import load_verdicts
    >>> images = load_verdicts("verdicts.csv")  # doctest: +SKIP
    >>> images[images.y == "good"].paths        # doctest: +SKIP
    ['line/0012.png', 'line/0015.png']
    """
    path = Path(path)
    verdicts, problems = {}, []
    for number, row in enumerate(read_table(path, ("file", "verdict")), start=2):
        verdict, name = row["verdict"].strip().lower(), unescape_name(row["file"])
        is_good = means_good(verdict)
        if not (is_good or means_defect(verdict) or verdict == UNSURE):
            problems.append(
                f"{path}, line {number}: the verdict {verdict!r} is none of {', '.join(_WORDS)}"
            )
        elif not name.strip():
            problems.append(f"{path}, line {number}: it names no file")
        else:
            label = GOOD if is_good else None if verdict == UNSURE else "defect"
            verdicts[beside(path, name)] = label, row.get("digest")
    sure = {file: entry for file, entry in verdicts.items() if entry[0] is not None}
    for file, (_, digest) in sure.items():
        try:
            image = as_images([file], pages=pages, max_pixels=max_pixels)
            image.size(0)  # is there, and is an image
            if digest and image.items == [file] and image.digest(0) != digest:
                problems.append(f"{file}: it has changed since the report was written")
        except ImageReadError as error:
            problems.append(str(error))
    if problems:
        raise DatasetError(path, problems)
    return ImageSet(list(sure), [label for label, _ in sure.values()], max_pixels=max_pixels)
