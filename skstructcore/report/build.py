"""Put a report together: score images, count, and fill the page."""

from __future__ import annotations

import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from numbers import Integral
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline

from .._utils.computing import progress_bar
from .._utils.files import atomic_file, check_writable, escape_name
from .._utils.pages import fill_page
from .._utils.validation import check_labels, check_number, check_same_length
from .._utils.versions import import_extra
from ..display import ScoreShiftDisplay
from ..display.style import map_limits
from ..images.files import split_name
from ..images.image_list import ImageReadError, ImagesLike, StrPath, as_images
from ..images.labels import GOOD, labels_of
from ..inference.scores import score_batch
from ..pipeline.steps import check_takes_images, fitted_steps, intensity_of
from ..scoring.conformal import ROUNDING
from ..scoring.decision import percent
from ..scoring.evidence import iter_seen
from ..scoring.parts import check_fitted_with_parts, decide_parts
from ..scoring.table import base_thresholds, rates_with, rejections, routes_of, z_columns
from .pictures import draw_shift, image_uri, map_uri, outline, reduced
from .words import facts, headline, reasons, term_in_words

_BLOCK = 50  # images whose pictures the page reads together, when one of them is shown
_MANY = 1000  # more images get smaller pictures: 2,000 colour photographs stay below 20 MB
_MAP_SIDE, _MASK_SIDE = 64, 128  # finer ones are reduced, as their cells cost space in the page


def report(
    pipe: Pipeline,
    images: ImagesLike,
    path: StrPath,
    *,
    y: ArrayLike | None = None,
    parts: ArrayLike | None = None,
    title: str = "Inspection report",
    thumbnail: int | None = None,
    detail: int | None = None,
    max_images: int | None = 5000,
    batch_size: int = 64,
    verbose: int = 0,
) -> Path:
    """Write what a fitted pipeline makes of images as one HTML file.

    The file holds everything and asks nothing of any network: what was fitted on what, what each
    false-alarm rate would reject, base against whole scores, and a gallery in which each image
    opens to its map, region and reasons. People's verdicts on images are exported as CSV, which
    `skstructcore.datasets.load_verdicts` reads.

    Parameters
    ----------
    pipe : Pipeline
        Fitted, as `make_structcore` builds it.
    images : folder, sequence of paths, PIL images or arrays, or ImageSet
        An `ImageSet` brings labels and masks. Files that cannot be read are listed with the
        reason.
    path : str or path-like
        The file; one that is there is replaced.
    y : array-like of shape (n_images,), default=None
        What the images show; None: the labels of the `ImageSet`, else unknown.
    parts : array-like of shape (n_images,), default=None
        The part that each image is a view of. Parts are decided as a whole, as `describe_parts`
        does; the pipeline must have been fitted with ``bank__parts=``.
    title : str, default="Inspection report"
    thumbnail : int, default=None
        Longer side of the pictures in the page, in pixels. None: 256, and 192 for more than 1,000
        images.
    detail : int, default=None
        Longer side of a second picture of each image, for a closer look while the file itself
        cannot be reached; smaller images keep all their pixels. None: the small one alone.
    max_images : int or None, default=5000
        More are refused before anything is computed, as browsers grow slow. None: no limit.
    batch_size : int, default=64
        Images that are scored at a time.
    verbose : int, default=0
        Whether to show a progress bar.

    Returns
    -------
    path : Path

    Raises
    ------
    ValueError
        If there are no images, too many, or none that can be read; or if `parts` are given to a
        pipeline that was fitted without.
    OSError
        If `path` cannot be written; this is checked first.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from skstructcore import make_structcore
    >>> from skstructcore.report import report
    >>> photos = np.random.default_rng(0).integers(0, 256, (9, 64, 64), dtype=np.uint8)
    >>> pipe = make_structcore("efficientnet_lite0", features__image_size=64, bank__ratio=0.1)
    >>> pipe = pipe.fit(photos[:6])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = report(pipe, photos[6:], f"{folder}/report.html").read_text()
    >>> page[:15]
    '<!doctype html>'
    """
    path = check_writable(path)
    import_extra("jinja2", "report", "A page")  # an error before the work
    fitted_steps(pipe)
    check_takes_images(pipe, "report")
    check_number(batch_size, "batch_size", 1, closed="left", type=Integral)
    for name, value in {"max_images": max_images, "detail": detail, "thumbnail": thumbnail}.items():
        if value is not None:
            check_number(value, name, 1, closed="left", type=Integral)
    listed = as_images(images).seen_through(intensity_of(pipe))
    n_images = len(listed)
    if max_images is not None and n_images > max_images:
        raise ValueError(
            f"{n_images} images are more than max_images={max_images}: no browser shows so many "
            "well. Score them first (skstructcore.inference.score_images), and report those "
            "that matter, with the smallest p-values for instance; or raise max_images."
        )
    types = labels_of(images, y)
    check_same_length(images=range(n_images), y=types, parts=parts)
    if parts is not None:
        parts = check_labels(parts, n_images, "parts").astype(str)
        check_fitted_with_parts(pipe[-1])
    sides = thumbnail or (256 if n_images <= _MANY else 192), detail
    records, pictures, tables = [], [], []
    bar = progress_bar(verbose=verbose, total=n_images, desc="report", unit="image")
    with bar as progress, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, n_images, batch_size):
            batch = range(start, min(start + batch_size, n_images))
            for record, picture in pool.map(lambda i: _opened(listed, i, sides), batch):
                records.append({**record, **_link(listed.items[len(records)], path.parent)})
                pictures.append(picture)
            if readable := [i for i in batch if records[i]["error"] is None]:
                tables.append(_scored(pipe, listed, readable, records))
            progress.update(len(batch))
    described = pd.concat(tables) if tables else pd.DataFrame()
    if described.empty:
        first = records[0]["error"]
        raise ValueError(f"None of the {n_images} images can be read. The first: {first}")
    if hasattr(images, "load_mask"):
        _add_masks(images, described.index, records, pictures)
    _add_names(records, types)
    content = _content(pipe, records, pictures, described, types, parts)
    page = fill_page(__package__, title=title, **content)
    with atomic_file(path) as file:
        file.write(page.encode(errors="backslashreplace"))  # labels may come from names of folders
    return path


def _opened(images, i, sides):
    """What is known of an image when it was read, and its pictures."""
    item = images.items[i]
    file = escape_name(item) if isinstance(item, str) else f"image {i}"
    record = {"file": file, "note": None, "digest": None, "size": None, "error": None}
    try:
        image = images.read(i)
        record |= {"digest": images.digest(i), "size": image.size[::-1]}
    except ImageReadError as error:
        return {**record, "error": escape_name(str(error))}, {"image": None}
    pictures = {"image": image_uri(image, sides[0]), "truth": None}
    if sides[1]:
        pictures["full"] = image_uri(image, sides[1], quality=85)
    return record, pictures


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


def _scored(pipe, images, positions, records):
    """Rows of the images that the model can judge; the records of others say why it cannot.

    They hold ``base_ratio``, the base score divided by its threshold, ``heat``, the map divided by
    it, and its ``box`` on the original (top, left, bottom, right), None for all of it.
    """
    table, maps = score_batch(pipe, images[positions], _small_maps)
    table = table.set_axis(positions)
    for i, error in table["error"].dropna().items():
        records[i]["error"] = escape_name(error)
    table = table[table["error"].isna()]
    limits = base_thresholds(table, pipe[-1])
    maps = [one for one in maps if one is not None]
    heats = [heat / limit for (heat, _), limit in zip(maps, limits, strict=True)]
    return table.drop(columns=["file", "error"]).assign(
        is_anomalous=table["is_anomalous"].astype(bool),
        heat=pd.Series(heats, table.index, dtype=object),
        box=[box for _, box in maps],
        base_ratio=table["base"] / limits,
    )


def _small_maps(scorer, images, maps):
    """The reduced map of each image, and its box."""
    boxes = [None] * len(maps) if maps.geometry is None else map(tuple, maps.geometry.boxes)
    seen = [h for _, some in iter_seen(maps, scorer.resolution) for h in some.values]
    return [(reduced(h.astype(np.float32), _MAP_SIDE), b) for h, b in zip(seen, boxes, strict=True)]


def _add_masks(images, positions, records, pictures):
    for i in positions:
        try:
            mask = images.load_mask(i)
        except (ValueError, OSError) as error:
            # The page is about decisions: it mentions a wrong mask, and is written all the same.
            records[i]["note"] = escape_name(str(error))
            continue
        if mask is not None and mask.any():
            box = (0, 0, *records[i]["size"])
            pictures[i]["truth"] = outline(reduced(mask, _MASK_SIDE), box)


def _add_names(records, types):
    """Types, and names without folders; with the last one where files of several share a name."""
    names = [re.split(r"[\\/]", record["file"]) for record in records]
    n_last = 2 if len({name[-1] for name in names}) < len(names) else 1
    for i, (record, name) in enumerate(zip(records, names, strict=True)):
        record |= {"name": "/".join(name[-n_last:]), "type": None if types is None else types[i]}


def _content(pipe, records, pictures, described, types, parts):
    """What the template shows; the page's script reads `data` and `blocks` too."""
    scorer, readable = pipe[-1], described.index.to_numpy()
    fitted = scorer.calibration_.decision.asked_rate
    rates = rates_with(fitted)
    rejected = rejections(described, scorer, rates)
    low, high = map_limits(described["heat"], 1.0)
    _add_judgements(records, pictures, described, scorer, rejected, (low, high))
    rejected_parts = None
    if parts is not None:
        rejected_parts = _add_parts(records, described, parts[readable], scorer, rates)
    known_types = None if types is None else types[readable]
    shift = ScoreShiftDisplay.of(described, scorer, known_types)
    # The name under which verdicts on these files are kept, whenever a report is written.
    files = as_json([[record["file"], record["digest"]] for record in records])
    terms = [name.removeprefix("z_") for name in z_columns(scorer)]
    data = {
        "id": hashlib.sha256(files.encode()).hexdigest()[:16],
        "images": records,
        "terms": [{"name": name, "words": term_in_words(name)} for name in terms],
        "labelled": types is not None,
        "by_part": parts is not None,
        "routed": scorer.routes_.is_routed,
        "fitted": rates.index(fitted),
        "threshold": shift.threshold,
        "blockSize": _BLOCK,
    }
    return {
        "created": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "facts": facts(pipe),
        "points": _points(scorer, rates, rejected, known_types, rejected_parts),
        "n_rejected": rejected[data["fitted"]].sum(),
        "n_known": len(readable),
        "shift": draw_shift(shift, readable),
        "types": [] if types is None else sorted(set(types)),
        "routes": sorted({*map(escape_name, described["route"])}),
        "limits": [f"{low:.3g}", f"{high:.3g}"],
        "bar": map_uri(np.linspace(low, high, 256)[np.newaxis], low, high),
        "bar_threshold": f"{256 * (1 - low) / (high - low):.0f}",
        "data": data,
        "blocks": [pictures[i : i + _BLOCK] for i in range(0, len(pictures), _BLOCK)],
        "as_json": as_json,
        "percent": percent,
    }


def _add_judgements(records, pictures, described, scorer, rejected, limits):
    """What is decided about images, and why, and their maps in colours between `limits`."""
    columns = z_columns(scorer)
    smallest = {name: decision.smallest_rate for name, decision in scorer.routes_.decisions.items()}
    smallest = routes_of(described).map(smallest)
    rows = described.index, described.to_dict("records"), smallest, _by_rate(rejected)
    for i, row, least, at in zip(*rows, strict=True):
        heat, box = row["heat"], row["box"] or (0, 0, *records[i]["size"])
        pictures[i] |= {"map": map_uri(heat, *limits), "box": box, "region": outline(heat > 1, box)}
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


def _add_parts(records, described, parts, scorer, rates):
    """What is decided about the part that each image shows; returns who is rejected by rate."""
    table = decide_parts(scorer, described.assign(file=parts), parts)
    rejected, decided = rejections(table, scorer, rates), {}
    for row, at in zip(table.to_dict("records"), _by_rate(rejected), strict=True):
        views = "one view" if row["n_views"] == 1 else f"{row['n_views']} views"
        judged = {"p": row["p_value"], "score": row["anomaly_score"], "at": at}
        decided[row["part"]] = {"name": row["part"], "views": views, **judged}
    for i, name in zip(described.index, parts, strict=True):
        records[i]["part"] = decided[name]
    return rejected


def _points(scorer, rates, rejected, types, rejected_parts):
    """Count who is rejected at each rate: images of these types, and parts; a row a rate."""
    members = {"images are rejected": np.ones(rejected.shape[1], bool)}
    if types is not None:
        members |= {"good ones": types == GOOD, "defects are found": types != GOOD}
    smallest, points = scorer.routes_.smallest_rate, []
    for k, rate in enumerate(rates):
        counts = [f"{(rejected[k] & mine).sum()} of {mine.sum()}" for mine in members.values()]
        said = [f"{count} {ending}" for count, ending in zip(counts, members, strict=True)]
        if rejected_parts is not None:
            said.insert(0, f"{rejected_parts[k].sum()} of {rejected_parts.shape[1]} parts")
        sentence, note = f"{'; '.join(said)}.", ""
        if rate + ROUNDING < smallest:
            note = f"as at {percent(smallest)}, the smallest that can be guaranteed"
        points.append({"rate": rate, "counts": counts, "sentence": sentence, "note": note})
    return points


def _by_rate(rejected):
    """For each image or part a digit a rate: 1 where it is rejected."""
    return ["".join(map(str, row)) for row in rejected.T.astype(int)]


def as_json(value: Any) -> str:
    """JSON that may stand in a script element; numbers are as short as need be, NaN is null.

    Examples
    --------
    >>> as_json({"</script>": float("nan"), "p": 0.123456789})
    '{"\\\\u003c/script>":null,"p":0.123457}'
    """
    text = json.dumps(value, default=lambda number: number.item())
    short = json.loads(
        text,
        parse_float=lambda digits: float(f"{float(digits):.6g}"),
        parse_constant=lambda _: None,
    )
    return json.dumps(short, separators=(",", ":")).replace("<", "\\u003c")
