"""Score the images of a report batch by batch, and keep what its page needs of each."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .._utils.computing import progress_bar
from .._utils.files import escape_name
from ..features.intensity import intensity_of
from ..images.image_list import ImageReadError
from ..inference.scores import score_batch
from ..scoring.evidence import iter_seen
from ..scoring.table import base_thresholds
from .pictures import image_uri, outline, reduce_map, reduce_mask

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from sklearn.pipeline import Pipeline

    from ..images.image_list import ImageList


@dataclass
class Entry:
    """What is known about one image of a report."""

    name: str
    file: str | None  # its path, if it is a file
    digest: str | None = None  # of its content
    error: str | None = None  # why it cannot be read or judged
    note: str | None = None  # what else is wrong with it
    picture: str | None = None  # a thumbnail
    detail: str | None = None  # a larger one, if it is asked for
    size: tuple[int, int] | None = None  # height and width of the original
    heat: NDArray[np.float32] | None = None  # its map, divided by the threshold of the base score
    box: tuple[float, ...] | None = None  # of the map on the original: top, left, bottom, right
    truth: dict[str, str] | None = None  # path around its mask, see `outline`


def collect(
    pipe: Pipeline,
    images: ImageList,
    *,
    load_mask: Callable[[int], NDArray[np.bool_] | None] | None,
    sides: tuple[int, int | None],
    batch_size: int,
    verbose: int = 0,
) -> tuple[list[Entry], pd.DataFrame]:
    """Score images and make their small pictures; a file that cannot be read stops nothing.

    `sides` are the longer sides of thumbnails and of larger pictures, `batch_size` images are
    scored at a time. The table is that of `describe`, with ``base_ratio``, the base score divided
    by its threshold; its index holds the positions of the images that could be judged.
    """
    images = images.seen_through(intensity_of(pipe))
    entries = [
        Entry(escape_name(item), item) if isinstance(item, str) else Entry(f"image {i}", None)
        for i, item in enumerate(images.items)
    ]
    tables = []
    bar = progress_bar(verbose=verbose, total=len(images), desc="report", unit="image")
    with bar as progress, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(images), batch_size):
            batch = range(start, min(start + batch_size, len(images)))
            can_be_read = pool.map(lambda i: _show(entries[i], images, i, sides), batch)
            shown = [i for i, can in zip(batch, can_be_read, strict=True) if can]
            if shown:
                tables.append(_score(pipe, images, entries, shown))
            progress.update(len(batch))
    described = pd.concat(tables) if tables else pd.DataFrame()
    if described.empty:
        raise ValueError(
            f"None of the {len(images)} images can be read. The first: {entries[0].error}"
        )
    if load_mask is not None:
        for i in described.index:
            _add_mask(entries[i], load_mask, i)
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


def _score(pipe, images, entries, positions):
    """Describe images that can be seen; keep the map of each, or why the model cannot judge it."""
    table = score_batch(pipe, images[positions], also=_small_maps).set_axis(positions)
    for i, error in table["error"].dropna().items():
        entries[i].error = escape_name(error)
    described = table[table["error"].isna()]
    if described.empty:  # then it has no columns of scores
        return pd.DataFrame()
    described = described.astype({"is_anomalous": bool})
    limits = base_thresholds(described, pipe[-1])
    for (i, (heat, box)), limit in zip(described["also"].items(), limits, strict=True):
        entries[i].heat = heat / limit
        entries[i].box = (0.0, 0.0, *map(float, entries[i].size)) if box is None else box
    ratio = described["base"].to_numpy() / limits
    return described.drop(columns=["file", "error", "also"]).assign(base_ratio=ratio)


def _small_maps(scorer, images, maps):
    """The reduced map of each image, and its box on the original."""
    boxes = [None] * len(maps) if maps.geometry is None else map(tuple, maps.geometry.boxes)
    seen = [reduce_map(h) for _, some in iter_seen(maps, scorer.resolution) for h in some.values]
    return list(zip(seen, boxes, strict=True))


def _add_mask(entry, load_mask, i):
    try:
        mask = load_mask(i)
    except (ValueError, OSError) as error:
        # The page is about decisions: it mentions a wrong mask, and is written all the same.
        entry.note = escape_name(str(error))
        return
    if mask is not None and mask.any():
        entry.truth = outline(reduce_mask(mask), (0, 0, *entry.size))
