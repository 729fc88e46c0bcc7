"""Score the images of a report batch by batch; what the page's script reads of each of them."""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
import pandas as pd

from .._utils.computing import progress_bar
from .._utils.files import escape_name
from ..images.files import split_name
from ..images.image_list import ImageReadError
from ..inference.scores import score_batch
from ..pipeline.steps import intensity_of
from ..scoring.evidence import iter_seen
from ..scoring.table import base_thresholds, routes_of, z_columns
from .pictures import image_uri, map_uri, outline, reduced
from .words import headline, reasons

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray
    from sklearn.pipeline import Pipeline

    from ..images.image_list import ImageList
    from ..scoring.structcore import StructCoreScorer

    Records = list[dict[str, Any]]

_MAP_SIDE, _MASK_SIDE = 64, 128  # finer ones are reduced, as their cells cost space in the page


def collect(
    pipe: Pipeline,
    images: ImageList,
    folder: Path,
    *,
    load_mask: Callable[[int], NDArray[np.bool_] | None] | None,
    sides: tuple[int, int | None],
    batch_size: int,
    verbose: int = 0,
) -> tuple[Records, Records, pd.DataFrame]:
    """Score images, and make their small pictures; a file that cannot be read stops nothing.

    `sides` are the longer sides of thumbnails and of larger pictures, `batch_size` images are
    scored at a time, and the page will lie in `folder`. Returns what is known of each image before
    it is judged, its pictures, and the table of `describe`. The index of this holds the positions
    of the images that could be judged. It also has ``heat``, the map divided by the threshold of
    the base score, the ``box`` of the map on the original (top, left, bottom, right), and
    ``base_ratio``, the base score divided by its threshold.
    """
    images = images.seen_through(intensity_of(pipe))
    records, pictures, tables = [], [], []
    bar = progress_bar(verbose=verbose, total=len(images), desc="report", unit="image")
    with bar as progress, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(images), batch_size):
            batch = range(start, min(start + batch_size, len(images)))
            for record, picture in pool.map(lambda i: _opened(images, i, sides), batch):
                records.append({**record, **_link(images.items[len(records)], folder)})
                pictures.append(picture)
            if shown := [i for i in batch if records[i]["error"] is None]:
                tables.append(_scored(pipe, images, shown, records))
            progress.update(len(batch))
    described = pd.concat(tables) if tables else pd.DataFrame()
    if described.empty:
        raise ValueError(
            f"None of the {len(images)} images can be read. The first: {records[0]['error']}"
        )
    # Names without folders; with the last one where files of several share a name.
    names = [re.split(r"[\\/]", record["file"]) for record in records]
    n_last = 2 if len({name[-1] for name in names}) < len(names) else 1
    for record, name in zip(records, names, strict=True):
        record["name"] = "/".join(name[-n_last:])
    for i in described.index if load_mask else ():
        try:
            mask = load_mask(i)
        except (ValueError, OSError) as error:
            # The page is about decisions: it mentions a wrong mask, and is written all the same.
            records[i]["note"] = escape_name(str(error))
            continue
        if mask is not None and mask.any():
            box = (0, 0, *records[i]["size"])
            pictures[i]["truth"] = outline(reduced(mask, _MASK_SIDE), box)
    return records, pictures, described


def _opened(images, i, sides):
    """What is known of an image when it was read, and its pictures."""
    item = images.items[i]
    record = {"file": escape_name(item) if isinstance(item, str) else f"image {i}", "note": None}
    try:
        image = images.read(i)
        found = {"digest": images.digest(i), "size": image.size[::-1], "error": None}
    except ImageReadError as error:
        found = {"digest": None, "size": None, "error": escape_name(str(error))}
        return {**record, **found}, {"image": None}
    pictures = {"image": image_uri(image, sides[0]), "truth": None}
    if sides[1]:
        pictures["full"] = image_uri(image, sides[1], quality=85)
    return {**record, **found}, pictures


def _scored(pipe, images, positions, records):
    """The rows of the images that the model can judge; the record of others says why it cannot."""
    table, maps = score_batch(pipe, images[positions], _small_maps)
    table = table.set_axis(positions)
    for i, error in table["error"].dropna().items():
        records[i]["error"] = escape_name(error)
    table = table[table["error"].isna()]
    limits = base_thresholds(table, pipe[-1])
    maps = [one for one in maps if one is not None]
    heats = [heat / limit for (heat, _), limit in zip(maps, limits, strict=True)]
    whole = [(0.0, 0.0, *map(float, records[i]["size"])) for i in table.index]
    return table.drop(columns=["file", "error"]).assign(
        is_anomalous=table["is_anomalous"].astype(bool),
        heat=pd.Series(heats, table.index, dtype=object),
        box=[box or one for (_, box), one in zip(maps, whole, strict=True)],
        base_ratio=table["base"] / limits,
    )


def _small_maps(scorer, images, maps):
    """The reduced map of each image, and its box on the original, None for all of it."""
    boxes = [None] * len(maps) if maps.geometry is None else map(tuple, maps.geometry.boxes)
    seen = [h for _, some in iter_seen(maps, scorer.resolution) for h in some.values]
    return [(reduced(h.astype(np.float32), _MAP_SIDE), b) for h, b in zip(seen, boxes, strict=True)]


def _link(item, folder):
    """Where a file is, seen from the page, and whether an image is all of it."""
    if not isinstance(item, str):
        return {"href": None}
    path = split_name(item).path
    try:
        href = quote(Path(os.path.relpath(path, folder)).as_posix(), errors="surrogateescape")
    except ValueError:  # on another drive of Windows
        href = Path(os.path.abspath(path)).as_uri()
    return {"href": href, "whole": path == item}


def add_judgements(
    records: Records, described: pd.DataFrame, scorer: StructCoreScorer, rejected: NDArray[np.bool_]
) -> None:
    """Add to the records of images what is decided, and why; `rejected` has a row a rate."""
    columns = z_columns(scorer)
    smallest = {name: decision.smallest_rate for name, decision in scorer.routes_.decisions.items()}
    smallest = routes_of(described).map(smallest)
    rows = described.to_dict("records"), described.index, smallest, _by_rate(rejected)
    for row, i, least, at in zip(*rows, strict=True):
        records[i] |= {
            "p": row["p_value"],
            "score": row["anomaly_score"],
            "at": at,
            "route": escape_name(row["route"]),
            "z": [row[column] for column in columns],
            "short": headline(row, least, records[i]["size"]),
            "why": reasons(row, least),
            "peak": [row["peak_row"], row["peak_col"]],
        }


def add_maps(pictures: Records, described: pd.DataFrame, limits: tuple[float, float]) -> None:
    """Add to the pictures of images their maps in colours, and what is over the threshold."""
    for i, heat, box in zip(described.index, described["heat"], described["box"], strict=True):
        region = outline(heat > 1, box)
        pictures[i] |= {"map": map_uri(heat, *limits), "box": box, "region": region}


def part_records(table: pd.DataFrame, rejected: NDArray[np.bool_]) -> dict[str, dict[str, Any]]:
    """A record a part, by its name; of the table of `decide_parts`."""
    return {
        row["part"]: {
            "name": row["part"],
            "views": "one view" if row["n_views"] == 1 else f"{row['n_views']} views",
            "p": row["p_value"],
            "score": row["anomaly_score"],
            "at": at,
        }
        for row, at in zip(table.to_dict("records"), _by_rate(rejected), strict=True)
    }


def _by_rate(rejected):
    """For each image or part a digit a rate: 1 where it is rejected."""
    return ["".join(map(str, row)) for row in rejected.T.astype(int)]


def as_json(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it can end that element.

    Examples
    --------
    >>> as_json({"</script>": float("nan"), "p": 0.123456789})
    '{"\\\\u003c/script>":null,"p":0.123457}'
    """
    text = json.dumps(_finite(value), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _finite(value):
    """The same with numbers as short as they need to be, and None for what is no number."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
