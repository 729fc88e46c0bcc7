"""Score the images of a report batch by batch, and keep what its page needs of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .._utils.computing import progress_bar
from .._utils.files import escape_name
from ..display._anomaly_map import base_thresholds
from ..features.view import view_of
from ..images.image_list import ImageReadError, as_images
from .pictures import encode_mask, image_uri, reduce_map

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray
    from sklearn.pipeline import Pipeline

    from ..images.image_list import ImagesLike


@dataclass
class Entry:
    """What is known about one image of a report.

    Attributes
    ----------
    name : str
    file : str or None
        Its path, if it is a file.
    digest : str or None
        Of its content.
    error, note : str or None
        Why it cannot be read or judged, and what else is wrong with it.
    picture, detail : str or None
        A thumbnail, and a larger picture if it is asked for.
    size : tuple of (int, int) or None
        Height and width of the original.
    heat : ndarray or None
        Its map, divided by the threshold of the base score.
    box : tuple of 4 floats or None
        Where the map lies, in pixels of the original: top, left, bottom, right.
    mask : dict or None
    """

    name: str
    file: str | None
    digest: str | None = None
    error: str | None = None
    note: str | None = None
    picture: str | None = None
    detail: str | None = None
    size: tuple[int, int] | None = None
    heat: NDArray[np.float32] | None = None
    box: tuple[float, ...] | None = None
    mask: dict[str, Any] | None = None


def collect(
    pipe: Pipeline,
    images: ImagesLike,
    *,
    sides: tuple[int, int | None],
    batch_size: int,
    verbose: int = 0,
) -> tuple[list[Entry], pd.DataFrame]:
    """Score images and make their small pictures; a file that cannot be read stops nothing.

    Parameters
    ----------
    sides : tuple of (int, int or None)
        Longer side of the thumbnails, and of the larger pictures, in pixels.
    batch_size : int
        Images that are scored at a time.

    Returns
    -------
    entries : list of Entry
    described : DataFrame
        From `describe`, with ``base_ratio``: the base score divided by its threshold. The index
        holds the positions of the images that could be judged.
    """
    listed = as_images(images).seen_through(view_of(pipe))
    entries = [
        Entry(escape_name(item), item) if isinstance(item, str) else Entry(f"image {i}", None)
        for i, item in enumerate(listed.items)
    ]
    tables = []
    bar = progress_bar(verbose=verbose, total=len(listed), desc="report", unit="image")
    with bar as progress:
        for start in range(0, len(listed), batch_size):
            batch = range(start, min(start + batch_size, len(listed)))
            shown = [i for i in batch if _show(entries[i], listed, i, sides)]
            if shown:
                try:
                    tables.append(_score(pipe, listed[shown], entries, shown))
                except ImageReadError:  # one that people can see, and this model cannot judge
                    tables += _score_each(pipe, listed, entries, shown)
            progress.update(len(batch))
    if not tables:
        raise ValueError(
            f"None of the {len(listed)} images can be read. The first: {entries[0].error}"
        )
    described = pd.concat(tables)
    if hasattr(images, "load_mask"):
        for i in described.index:
            _add_mask(entries[i], images, i)
    return entries, described


def _show(entry, images, i, sides):
    """Make the pictures of an image; False if it cannot be read."""
    try:
        picture = images.read(i)
        entry.picture = image_uri(picture, sides[0])
        entry.detail = image_uri(picture, sides[1], quality=85) if sides[1] else None
        entry.digest, entry.size = images.digest(i), picture.size[::-1]
    except ImageReadError as error:
        entry.error = escape_name(str(error))
    return entry.error is None


def _score_each(pipe, images, entries, positions):
    """The tables of images one by one, without those that cannot be judged."""
    tables = []
    for i in positions:
        try:
            tables.append(_score(pipe, images[[i]], entries, [i]))
        except ImageReadError as error:
            entries[i].error = escape_name(str(error))
    return tables


def _score(pipe, images, entries, positions):
    """Describe images that can be read, and keep their maps in the entries of their positions."""
    maps = pipe[:-1].transform(images)
    described = pipe[-1].describe(maps)
    limits = base_thresholds(described, pipe[-1])
    limits = np.where(limits > 0, limits, 1.0)
    for k, entry in enumerate(entries[i] for i in positions):
        entry.heat = reduce_map(np.asarray(maps.values[k]) / limits[k])
        entry.box = (0.0, 0.0, *map(float, entry.size))
        if maps.geometry is not None:
            entry.box = tuple(maps.geometry.boxes[k].tolist())
    ratio = described["base"].to_numpy() / limits
    return described.set_axis(positions).assign(base_ratio=ratio)


def _add_mask(entry, images, i):
    try:
        mask = images.load_mask(i)
    except (ValueError, OSError) as error:
        # The page is about decisions: it mentions a wrong mask, and is written all the same.
        entry.note = escape_name(str(error))
        return
    if mask is not None:
        entry.mask = encode_mask(mask)
