"""Put a report together: score, count, and fill the page."""

from __future__ import annotations

import hashlib
import json
import os
import re
from datetime import datetime, timezone
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._utils.files import atomic_file, check_writable, escape_name
from .._utils.pages import fill_page
from .._utils.validation import check_number, check_same_length
from .._version import __version__
from ..display.style import map_limits
from ..images.files import split_page
from ..images.image_list import as_images
from ..images.labels import labels_of
from ..scoring.describe import check_takes_images
from ..scoring.parts import check_fitted_with_parts, decide_parts
from ..scoring.table import routes_of, z_columns
from .collect import collect
from .pictures import map_uri, outline
from .shift import draw_shift
from .summary import facts, operating_points
from .words import headline, reasons, term_in_words

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from sklearn.pipeline import Pipeline

    from ..images.image_list import ImagesLike, StrPath

# A block of the page holds the pictures of so many images. It is read when one is shown.
_BLOCK = 50
# More images get smaller pictures: 2,000 colour photographs stay below 20 MB.
_MANY = 1000


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
        Longer side of the pictures in the page, in pixels; the size of the file follows it. None:
        256, and 192 for more than 1,000 images.
    detail : int, default=None
        Longer side of a second picture of each image, for a closer look when it is opened; images
        that are smaller keep all their pixels. None: the small one alone. Who zooms in sees the
        file itself, while it lies where the page was written.
    max_images : int or None, default=5000
        More are refused before anything is computed, as browsers grow slow. None: no limit.
    batch_size : int, default=64
        Images that are scored at a time.
    verbose : int, default=0
        Whether to show a progress bar.

    Returns
    -------
    path : Path
        Of the file.

    Raises
    ------
    ValueError
        If there are no images, too many, or none that can be read; if `parts` are given to a
        pipeline that was fitted without; or if it does not fit this version of skstructcore.
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
    _check_pipeline(pipe)
    numbers = {"batch_size": batch_size}
    optional = {"max_images": max_images, "detail": detail, "thumbnail": thumbnail}
    numbers |= {name: value for name, value in optional.items() if value is not None}
    for name, value in numbers.items():
        check_number(value, name, 1, closed="left", kind=Integral)
    load_mask = getattr(images, "load_mask", None)
    listed = as_images(images)
    n_images = len(listed)
    if max_images is not None and n_images > max_images:
        raise ValueError(
            f"{n_images} images are more than max_images={max_images}: no browser shows so many "
            "well. Score them first (skstructcore.inference.score_images), and report those "
            "that matter, with the smallest p-values for instance; or raise max_images."
        )
    if thumbnail is None:
        thumbnail = 256 if n_images <= _MANY else 192
    types = labels_of(images, y)
    check_same_length(images=range(n_images), y=types, parts=parts)
    if parts is not None:
        check_fitted_with_parts(pipe[-1])
    try:
        options = {"sides": (thumbnail, detail), "batch_size": batch_size, "verbose": verbose}
        collected = collect(pipe, listed, load_mask=load_mask, **options)
        content = _content(pipe, *collected, types, parts, title, path.parent)
        page = fill_page(__package__, **content)
    except AttributeError as error:
        fitted_with = getattr(pipe[-1], "version_", "a version that it does not tell")
        if fitted_with == __version__:
            raise  # no old pipeline, but a fault of this package
        raise ValueError(
            f"The pipeline was fitted with another version of skstructcore ({fitted_with}), which "
            f"does not fit this one ({__version__}): {error}. Fit it again, or write the report "
            "with the version it was fitted with."
        ) from error
    with atomic_file(path) as file:
        file.write(page.encode(errors="backslashreplace"))  # labels may come from names of folders
    return path


def _check_pipeline(pipe):
    check_is_fitted(pipe)
    names = getattr(pipe, "named_steps", {})
    if "bank" not in names or not hasattr(pipe[-1], "describe"):
        raise ValueError(
            "A report needs a pipeline as make_structcore builds it: a step 'bank', and "
            f"StructCoreScorer as the last one; got {list(names) or type(pipe).__name__}."
        )
    check_takes_images(pipe, "report")


def _content(pipe, entries, described, types, part_names, title, folder):
    """All that the template needs; `data` and `blocks` are read by the page's script."""
    scorer = pipe[-1]
    known = described.index.to_numpy()
    known_types = None if types is None else types[known].astype(str)
    parts = names = None
    if part_names is not None:
        names = np.asarray(part_names, dtype=object).astype(str)[known]
        parts = decide_parts(scorer, described.assign(file=names), names)
    points = operating_points(described, scorer, known_types, parts)
    fitted = next(k for k, point in enumerate(points) if point["is_fitted"])
    images = _images(entries, described, scorer, types, points, folder)
    if parts is not None:
        rows = _parts(parts, points)
        for i, name in zip(known, names, strict=True):
            images[i]["part"] = rows[name]
    limits = map_limits([entries[i].heat for i in known], 1.0)
    pictures = [_picture(entry, limits) for entry in entries]
    thresholds = (
        1.0 if scorer.is_routed_ else float(scorer.calibration_.base_decision.threshold),
        -float(scorer.offset_),
    )
    flags = {
        "labelled": types is not None,
        "by_part": parts is not None,
        "routed": scorer.is_routed_,
    }
    terms = [name.removeprefix("z_") for name in z_columns(scorer)]
    # Verdicts on these files are kept under this name, also if the report is written again.
    content = _json([[entry.name, entry.digest] for entry in entries])
    data = {
        "id": hashlib.sha256(content.encode()).hexdigest()[:16],
        "images": images,
        "terms": [{"name": name, "words": term_in_words(name)} for name in terms],
        **flags,
        "fitted": fitted,
        "threshold": thresholds[1],
        "blockSize": _BLOCK,
    }
    blocks = range(0, len(pictures), _BLOCK)
    return {
        "title": title,
        "created": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "facts": facts(pipe),
        "points": points,
        "fitted": fitted,
        "shift": draw_shift(described, thresholds, known_types),
        "n_images": len(images),
        "n_known": len(described),
        **flags,
        "types": [] if types is None else sorted(set(types.astype(str))),
        "routes": sorted({*map(escape_name, described["route"])}),
        "limits": [f"{limit:.3g}" for limit in limits],
        "bar": map_uri(np.linspace(*limits, 256)[np.newaxis], *limits),
        "bar_threshold": f"{256 * (1 - limits[0]) / (limits[1] - limits[0]):.0f}",
        "data": _json(data),
        "blocks": [_json(pictures[start : start + _BLOCK]) for start in blocks],
    }


def _images(entries, described, scorer, types, points, folder):
    """What the page knows of each image, apart from pictures."""
    images = [
        {
            "file": entry.name,
            "name": name,
            "digest": entry.digest,
            "type": None if types is None else str(types[i]),
            "error": entry.error,
            "note": entry.note,
            "size": entry.size,
            **_link(entry.file, folder),
        }
        for i, (entry, name) in enumerate(zip(entries, _short_names(entries), strict=True))
    ]
    columns = z_columns(scorer)
    smallest = {name: decision.smallest_rate for name, decision in scorer.decisions_.items()}
    smallest = routes_of(described).map(smallest)
    decided = _by_rate([point["rejected"] for point in points])
    for row, i, least, at in zip(
        described.to_dict("records"), described.index, smallest, decided, strict=True
    ):
        images[i] |= {
            "p": row["p_value"],
            "score": row["anomaly_score"],
            "at": at,
            "route": escape_name(row["route"]),
            "z": [row[column] for column in columns],
            "short": headline(row, least, entries[i].size),
            "why": reasons(row, least, row["base_ratio"]),
            "peak": [row["peak_row"], row["peak_col"]],
        }
    return images


def _parts(table, points):
    """What the page knows of each part, by its name."""
    decided = _by_rate([point["rejected_parts"] for point in points])
    return {
        row["part"]: {
            "name": row["part"],
            "views": "one view" if row["n_views"] == 1 else f"{row['n_views']} views",
            "p": row["p_value"],
            "score": row["anomaly_score"],
            "at": at,
        }
        for row, at in zip(table.to_dict("records"), decided, strict=True)
    }


def _by_rate(rejected):
    """For each image or part a digit a rate: 1 where it is rejected."""
    return ["".join(map(str, row)) for row in np.array(rejected).T.astype(int)]


def _picture(entry, limits):
    if entry.heat is None:
        return {"image": entry.picture}
    picture = {
        "image": entry.picture,
        "map": map_uri(entry.heat, *limits),
        "box": entry.box,
        "region": outline(entry.heat > 1, entry.box),
        "truth": entry.truth,
    }
    return picture if entry.detail is None else {**picture, "full": entry.detail}


def _short_names(entries):
    """Names of files without folders; with the last one where files of several share a name."""
    paths = [re.split(r"[\\/]", entry.name) for entry in entries]
    n_last = 2 if len({path[-1] for path in paths}) < len(paths) else 1
    return ["/".join(path[-n_last:]) for path in paths]


def _link(file, folder):
    """Where a file is, seen from the page, and whether an image is all of it."""
    if file is None:
        return {"href": None}
    path = split_page(file)[0]
    try:
        href = quote(Path(os.path.relpath(path, folder)).as_posix(), errors="surrogateescape")
    except ValueError:  # on another drive of Windows
        href = Path(os.path.abspath(path)).as_uri()
    return {"href": href, "whole": path == file}


def _json(value):
    """JSON that may stand in a script element: nothing in it can end that element."""
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
