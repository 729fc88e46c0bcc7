"""Put a report together: score images, count, and fill the page."""

from __future__ import annotations

import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from numbers import Integral
from pathlib import Path, PurePath
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
from ..images.intensity import Intensity
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
# All that the page's script gets of an image, in words and numbers and in pictures; null where it
# is not known: of images that cannot be judged, or without labels, masks, parts, `detail`.
_WORDS = (
    *("file", "name", "href", "digest", "size", "type"),
    "whole",  # whether a browser shows its file as the page shows it
    *("error", "note"),  # why it, or its mask, is not read
    *("p", "score", "at", "part", "route", "z"),  # at: a digit for each rate; 1: rejected
    *("short", "why", "peak"),  # in a phrase, in sentences; [row, column] of the farthest patch
)
_ROWS = ["peak_row", "region_top", "region_bottom"]  # of the table of `describe`
_COLUMNS = ["peak_col", "region_left", "region_right"]
_PICTURES = ("image", "full", "truth", "map", "box", "region")  # the map lies on a box


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
    """Write what a fitted pipeline makes of images as one HTML file, and return its path.

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
        does; the pipeline must have been fitted with ``bank__parts=``. None: what the `ImageSet`
        says, if it was.
    title : str, default="Inspection report"
        Heading of the page.
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
        Above 0: show a progress bar.

    Raises
    ------
    ValueError
        If there are no images, too many, or none that can be read.
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
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = report(pipe.fit(photos[:6]), photos[6:], f"{folder}/report.html")
    ...     path.read_text()[:15]
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
    types = None if types is None else np.array([*map(escape_name, types)])
    check_same_length(images=range(n_images), y=types, parts=parts)
    if parts is None and pipe[-1].part_decision_ is not None:
        parts = listed.annotations.parts
    if parts is not None:
        parts = check_labels(parts, n_images, "parts").astype(str)
        check_fitted_with_parts(pipe[-1])
    sides = thumbnail or (256 if n_images <= _MANY else 192), detail
    load_mask = getattr(images, "load_mask", lambda i: None)
    opened, tables = [], []
    bar = progress_bar(verbose=verbose, total=n_images, desc="report", unit="image")
    with bar as progress, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, n_images, batch_size):
            batch = range(start, min(start + batch_size, n_images))
            opened += pool.map(lambda i: _opened(listed, i, load_mask, path.parent, sides), batch)
            if readable := [i for i in batch if "error" not in opened[i]]:
                table, maps = score_batch(pipe, listed[readable], _small_maps)
                maps = pd.DataFrame([one or {} for one in maps])
                tables.append(table.join(maps).set_axis(readable))
            progress.update(len(batch))
    described = pd.concat(tables) if tables else pd.DataFrame(columns=["error"])
    for i, error in described["error"].dropna().items():
        opened[i]["error"] = escape_name(error)
    described = described[described["error"].isna()]
    if described.empty:
        first = opened[0]["error"]
        raise ValueError(f"None of the {n_images} images can be read. The first: {first}")
    content = _content(pipe, opened, described, types, parts)
    page = fill_page(__package__, title=title, **content)
    with atomic_file(path) as file:
        file.write(page.encode(errors="backslashreplace"))  # labels may come from names of folders
    return path


def _opened(images, i, load_mask, folder, sides):
    """What there is of an image before it is judged; `folder` is that of the page."""
    item = images.items[i]
    opened = {"file": f"image {i}", "path": PurePath(f"image {i}")}
    if isinstance(item, str):
        place = split_name(item).path
        opened = {"file": escape_name(item), "path": PurePath(item), "href": _link(place, folder)}
    try:
        image = images.read(i)
        opened |= {"digest": images.digest(i), "size": image.size[::-1]}
        is_plain = images.intensity is None and images.check(i, Intensity()) == "levels"
        opened["whole"] = is_plain and isinstance(item, str) and place == item
    except ImageReadError as error:
        return {**opened, "error": escape_name(str(error))}
    opened["image"] = image_uri(image, sides[0])
    if sides[1]:
        opened["full"] = image_uri(image, sides[1], quality=85)
    try:
        mask = load_mask(i)
    except (ValueError, OSError) as error:
        # The page is about decisions: it mentions a wrong mask, and is written all the same.
        return {**opened, "note": escape_name(str(error))}
    if mask is not None and mask.any():
        opened["truth"] = outline(reduced(mask, _MASK_SIDE), (0, 0, *opened["size"]))
    return opened


def _link(path, folder):
    try:
        return quote(Path(os.path.relpath(path, folder)).as_posix(), errors="surrogateescape")
    except ValueError:  # on another drive of Windows
        return Path(os.path.abspath(path)).as_uri()


def _small_maps(scorer, images, maps):
    """The reduced map of each image, its box on the original, and the unit of its places."""
    if maps.geometry is None:  # of a backbone that does not say where its patches lie: on all of it
        boxes = [(0, 0, *images.size(i)) for i in range(len(images))]
        units = [np.divide(box[2:], maps.shape[1:]) for box in boxes]
    else:
        boxes, units = map(tuple, maps.geometry.boxes), [None] * len(maps)
    seen = [heat for _, some in iter_seen(maps, scorer.resolution) for heat in some.values]
    seen = [reduced(heat.astype(np.float32), _MAP_SIDE) for heat in seen]
    rows = zip(seen, boxes, units, strict=True)
    return [{"heat": heat, "box": box, "unit": unit} for heat, box, unit in rows]


def _content(pipe, opened, described, types, parts):
    """What the template shows; the page's script reads `data` and `blocks` too."""
    scorer, readable = pipe[-1], described.index.to_numpy()
    asked_rate = scorer.calibration_.decision.asked_rate
    rates = rates_with(asked_rate)
    rejected = rejections(described, scorer, rates)
    limits = base_thresholds(described, scorer)
    heats = [heat / limit for heat, limit in zip(described["heat"], limits, strict=True)]
    ratios, at = described["base"] / limits, _by_rate(rejected)
    described = described.assign(heat=heats, base_ratio=ratios, at=at, of_part=None)
    if described["unit"].notna().all():
        units = np.array(described["unit"].tolist())
        described[["peak_row", "peak_col"]] += 0.5  # the middle of the patch
        described[_ROWS] *= units[:, :1]
        described[_COLUMNS] *= units[:, 1:]
    low, high = map_limits(heats, 1.0)
    rejected_parts, of_parts = None, ""
    if parts is not None:
        rejected_parts, described["of_part"] = _by_part(scorer, described, parts, rates)
        n_parts, n_judged = len(np.unique(parts)), rejected_parts.shape[1]
        of_parts = f" of {n_parts} parts"
        of_parts += f" ({n_parts - n_judged} cannot be judged)" * (n_judged < n_parts)
    known_types = None if types is None else types[readable]
    shift = ScoreShiftDisplay.of(described, scorer, known_types)
    entries = _entries(opened, described, scorer, types, (low, high))
    words = [{key: entry.get(key) for key in _WORDS} for entry in entries]
    pictures = [{key: entry.get(key) for key in _PICTURES} for entry in entries]
    terms = [name.removeprefix("z_") for name in z_columns(scorer)]
    data = {
        "images": words,
        "terms": [{"name": name, "words": term_in_words(name)} for name in terms],
        "labelled": types is not None,
        "by_part": parts is not None,
        "routed": scorer.routes_.is_routed,
        "fitted": rates.index(asked_rate),
        "threshold": shift.threshold,
        "blockSize": _BLOCK,
    }
    return {
        "created": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "facts": facts(pipe),
        "points": _points(scorer, rates, rejected, known_types, rejected_parts, of_parts),
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


def _entries(opened, described, scorer, types, limits):
    """All that is known of each image, by the names in `_WORDS` and `_PICTURES`."""
    # Names without folders; with the last one where files of several share a name.
    n_last = 2 if len({one["path"].name for one in opened}) < len(opened) else 1
    names = [escape_name(PurePath(*one["path"].parts[-n_last:]).as_posix()) for one in opened]
    smallest = {name: decision.smallest_rate for name, decision in scorer.routes_.decisions.items()}
    rows = described.assign(least=routes_of(described).map(smallest)).to_dict("index")
    entries = []
    for i, (one, name) in enumerate(zip(opened, names, strict=True)):
        type_of = None if types is None else types[i]
        entries.append({**one, "name": name, "type": type_of})
        if i in rows:
            row, heat, box = rows[i], rows[i]["heat"], rows[i]["box"]
            entries[i] |= {
                "p": row["p_value"],
                "score": row["anomaly_score"],
                "at": row["at"],
                "part": row["of_part"],
                "route": escape_name(row["route"]),
                "z": [row[column] for column in z_columns(scorer)],
                "short": headline(row, row["least"], one["size"]),
                "why": reasons(row, row["least"]),
                "peak": [row["peak_row"], row["peak_col"]],
                "map": map_uri(heat, *limits),
                "box": box,
                "region": outline(heat > 1, box),
            }
    return entries


def _by_part(scorer, described, parts, rates):
    """Which parts are rejected, by rate, and for each image described its part."""
    given, parts = Counter(parts.tolist()), parts[described.index]
    table = decide_parts(scorer, described, parts)
    rejected, judged = rejections(table, scorer, rates), {}
    for row, at in zip(table.to_dict("records"), _by_rate(rejected), strict=True):
        n_views, n_given = row["n_views"], given[row["part"]]
        views = "one view" if n_views == 1 else f"{n_views} views"
        if n_views < n_given:
            views = f"{n_views} of {n_given} views"
        numbers = {"p": row["p_value"], "score": row["anomaly_score"], "at": at}
        judged[row["part"]] = {"name": row["part"], "views": views, **numbers}
    return rejected, [judged[part] for part in parts]


def _points(scorer, rates, rejected, types, rejected_parts, of_parts):
    """Count what is rejected, one row for each rate: images of these types, and parts."""
    members = {"images are rejected": np.ones(rejected.shape[1], bool)}
    if types is not None:
        members |= {"good ones": types == GOOD, "defects are found": types != GOOD}
    smallest, points = scorer.routes_.smallest_rate, []
    for k, rate in enumerate(rates):
        counts = [f"{(rejected[k] & mine).sum()} of {mine.sum()}" for mine in members.values()]
        said = [f"{count} {ending}" for count, ending in zip(counts, members, strict=True)]
        if rejected_parts is not None:
            said.insert(0, f"{rejected_parts[k].sum()}{of_parts}")
        sentence, note = f"{'; '.join(said)}.", ""
        if rate + ROUNDING < smallest:
            note = f"as at {percent(smallest)}, the smallest that can be guaranteed"
        points.append({"rate": rate, "counts": counts, "sentence": sentence, "note": note})
    return points


def _by_rate(rejected):
    """For each image or part one digit for each rate: 1 where it is rejected."""
    return ["".join(map(str, row)) for row in rejected.T.astype(int)]


def as_json(value: Any) -> str:
    """JSON that may stand in a script element; numbers are as short as need be, NaN is null.

    Examples
    --------
    >>> as_json({"</script>": float("nan"), "p": 0.123456789})
    '{"\\\\u003c/script>":null,"p":0.123457}'
    """
    text = json.dumps(value, default=lambda number: number.item())
    options = {"parse_float": lambda digits: float(f"{float(digits):.6g}")}
    short = json.loads(text, parse_constant=lambda _: None, **options)
    return json.dumps(short, separators=(",", ":")).replace("<", "\\u003c")
