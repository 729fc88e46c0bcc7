"""Score the images of a report batch by batch, and keep what its page needs of each."""

from __future__ import annotations

from dataclasses import dataclass, field
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

    from sklearn.pipeline import Pipeline

    from ..images.image_list import ImageList, ImagesLike


@dataclass
class Collected:
    """What is known about the images of a report.

    Attributes
    ----------
    names, digests, errors, notes : list of n str or None
        How each is called, the digest of its content, why it cannot be read, and what else is
        wrong with it.
    files : list of n str or None
        Paths, of images that are files.
    uris, details : list of n str or None
        Thumbnails, and larger pictures where they are asked for.
    sizes : list of n tuple of (int, int) or None
        Height and width of the originals.
    maps : list of n ndarray or None
        Maps, divided by the threshold of the base score.
    boxes : list of n tuple of 4 floats or None
        Where the map lies, in pixels of the original: top, left, bottom, right.
    masks : list of n dict or None
    parts : DataFrame
        From `describe`, with ``base_ratio``: the base score divided by its threshold. The index
        holds the positions of the images that could be read.
    """

    names: list[str]
    files: list[str | None] = field(default_factory=list)
    digests: list[str | None] = field(default_factory=list)
    errors: list[str | None] = field(default_factory=list)
    notes: list[str | None] = field(default_factory=list)
    uris: list[str | None] = field(default_factory=list)
    details: list[str | None] = field(default_factory=list)
    sizes: list[tuple[int, int] | None] = field(default_factory=list)
    maps: list[Any] = field(default_factory=list)
    boxes: list[Any] = field(default_factory=list)
    masks: list[Any] = field(default_factory=list)
    parts: pd.DataFrame = field(default_factory=pd.DataFrame)

    def _append(self, **values):
        for name, entries in vars(self).items():
            if name not in ("names", "files", "parts"):
                entries.append(values.get(name))


def collect(
    pipe: Pipeline,
    images: ImagesLike,
    *,
    sides: tuple[int, int | None],
    batch_size: int,
    verbose: int = 0,
) -> Collected:
    """Score images and make their small pictures; a file that cannot be read stops nothing.

    Parameters
    ----------
    sides : tuple of (int, int or None)
        Longer side of the thumbnails, and of the larger pictures, in pixels.
    batch_size : int
        Images that are scored at a time.
    """
    listed = as_images(images).seen_through(view_of(pipe))
    collected = Collected(
        [
            escape_name(item) if isinstance(item, str) else f"image {i}"
            for i, item in enumerate(listed.items)
        ],
        [item if isinstance(item, str) else None for item in listed.items],
    )
    tables = []
    starts = range(0, len(listed), batch_size)
    bar = progress_bar(verbose=verbose, total=len(listed), desc="report", unit="image")
    with bar as progress:
        for start in starts:
            batch = listed[start : start + batch_size]
            for positions, parts, maps in _score(pipe, batch, start, collected, sides):
                limits = base_thresholds(parts, pipe[-1])
                limits = np.where(limits > 0, limits, 1.0)
                tables.append(
                    parts.set_axis(positions).assign(base_ratio=parts["base"].to_numpy() / limits)
                )
                _place(collected, positions, maps, limits)
            progress.update(len(batch))
    if not tables:
        raise ValueError(
            f"None of the {len(listed)} images can be read. The first: {collected.errors[0]}"
        )
    collected.parts = pd.concat(tables)
    if hasattr(images, "load_mask"):
        for i in collected.parts.index:
            _add_mask(collected, images, i)
    return collected


def _score(pipe, batch, start, collected, sides):
    """Yield positions, descriptions and maps of the images of a batch that can be read."""
    readable = []
    for i in range(len(batch)):
        try:
            picture = batch.read(i)
            uri = image_uri(picture, sides[0])
            full = sides[1] and image_uri(picture, sides[1], quality=85)
            digest = batch.digest(i)
        except ImageReadError as error:
            collected._append(errors=escape_name(str(error)))
            continue
        collected._append(uris=uri, details=full, digests=digest, sizes=picture.size[::-1])
        readable.append(i)
    if not readable:
        return
    kept: ImageList = batch if len(readable) == len(batch) else batch[readable]
    maps = pipe[:-1].transform(kept)
    yield [start + i for i in readable], pipe[-1].describe(maps), maps


def _place(collected, positions, maps, limits):
    for k, i in enumerate(positions):
        height, width = collected.sizes[i]
        box = (0.0, 0.0, float(height), float(width))
        if maps.geometry is not None:
            box = tuple(maps.geometry.boxes[k].tolist())
        collected.maps[i] = reduce_map(np.asarray(maps.values[k]) / limits[k])
        collected.boxes[i] = box


def _add_mask(collected, images, i):
    try:
        mask = images.load_mask(i)
    except (ValueError, OSError) as error:
        # The page is about decisions: it mentions a wrong mask, and is written all the same.
        collected.notes[i] = escape_name(str(error))
        return
    if mask is not None:
        collected.masks[i] = encode_mask(mask)
