"""Put a report together: score, count, and fill the page."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime, timezone
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._utils.files import atomic_file, check_writable
from .._utils.pages import fill_page
from .._utils.validation import check_number
from .._version import __version__
from ..display._descriptor import part_columns
from ..display._inputs import check_same_length, labels_of, smallest_rates
from ..display._style import map_limits
from ..images.files import split_page
from ..images.image_list import as_images
from ..images.labels import GOOD
from ..routing.grouping import UNKNOWN
from ..scoring.describe import check_takes_images
from ..scoring.parts import check_fitted_with_parts, decide_parts
from .collect import collect
from .pictures import encode_map
from .summary import facts, operating_points
from .words import headline, part_in_words, reasons

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
    false-alarm rate would reject, base against hybrid scores, and a gallery in which each image
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
    n_images = len(as_images(images))
    if max_images is not None and n_images > max_images:
        raise ValueError(
            f"{n_images} images are more than max_images={max_images}: no browser shows so many "
            "well. Score them first (skstructcore.inference.score_images), and report those "
            "that matter, with the smallest p-values for instance; or raise max_images."
        )
    if thumbnail is None:
        thumbnail = 256 if n_images <= _MANY else 192
    kinds = labels_of(images, y)
    check_same_length(images=range(n_images), y=kinds, parts=parts)
    if parts is not None:
        check_fitted_with_parts(pipe[-1])
    try:
        collected = collect(
            pipe, images, sides=(thumbnail, detail), batch_size=batch_size, verbose=verbose
        )
        content = _content(pipe, *collected, kinds, parts, title, path.parent)
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


def _content(pipe, entries, described, kinds, part_names, title, folder):
    """All that the template needs; `data` and `blocks` are read by the page's script."""
    scorer = pipe[-1]
    known = described.index.to_numpy()
    decided_parts = _decide_parts(scorer, described, part_names)
    known_kinds = None if kinds is None else kinds[known]
    least = smallest_rates(scorer, described)
    limits = map_limits([entries[i].heat for i in known], 1.0)
    columns = part_columns(scorer)
    images = [
        {
            "file": entry.name,
            "digest": entry.digest,
            "kind": None if kinds is None else str(kinds[i]),
            "error": entry.error,
            "note": entry.note,
            "size": entry.size,
            "href": _link(entry.file, folder),
        }
        for i, entry in enumerate(entries)
    ]
    for k, (i, row) in enumerate(zip(known, described.to_dict("records"), strict=True)):
        images[i] |= {
            "p": row["p_value"],
            "least": float(least[k]),
            "score": row["anomaly_score"],
            "base": row["base_ratio" if scorer.is_routed_ else "base"],
            "rejected": bool(row["is_anomalous"]),
            "unknown": row["route"] == UNKNOWN,
            "route": row["route"],
            "decided": row["decided_by"],
            "z": [row[column] for column in columns],
            "short": headline(row, float(least[k]), entries[i].size),
            "why": reasons(row, float(least[k]), row["base_ratio"]),
            "peak": [row["peak_row"], row["peak_col"]],
            **({} if decided_parts is None else {"part": decided_parts[k]}),
        }
    pictures = [
        {
            "image": entry.picture,
            **({} if entry.detail is None else {"full": entry.detail}),
            "map": None if entry.heat is None else encode_map(entry.heat, *limits),
            "box": entry.box,
            "mask": entry.mask,
        }
        for entry in entries
    ]
    base_threshold = 1.0 if scorer.is_routed_ else scorer.calibration_.base_decision.threshold
    flags = {
        "labelled": kinds is not None,
        "by_part": part_names is not None,
        "routed": scorer.is_routed_,
    }
    created = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"
    data = {
        "id": hashlib.sha256(_json([created, images]).encode()).hexdigest()[:16],
        "created": created,
        "images": images,
        "parts": [
            {"name": name.removeprefix("z_"), "words": part_in_words(name.removeprefix("z_"))}
            for name in columns
        ],
        **flags,
        "asked": scorer.calibration_.decision.asked_rate,
        "threshold": -float(scorer.offset_),
        "baseThreshold": float(base_threshold),
        "limits": list(limits),
        "blockSize": _BLOCK,
    }
    return {
        "title": title,
        "created": created,
        "facts": facts(pipe),
        "points": operating_points(described, scorer, known_kinds),
        "n_images": len(images),
        "n_known": len(described),
        "n_rejected": int(described["is_anomalous"].sum()),
        "n_unreadable": len(images) - len(described),
        "n_good": None if known_kinds is None else int((known_kinds == GOOD).sum()),
        **flags,
        "kinds": [] if kinds is None else sorted({str(kind) for kind in kinds}),
        "routes": sorted(set(described["route"])),
        "data": _json(data),
        "blocks": [
            _json(pictures[start : start + _BLOCK]) for start in range(0, len(pictures), _BLOCK)
        ],
    }


def _decide_parts(scorer, described, names):
    """For each image that could be read, what was decided about its part; None without parts."""
    if names is None:
        return None
    names = np.asarray(names, dtype=object).astype(str)[described.index]
    table = decide_parts(scorer, described.assign(file=names), names)
    columns = {
        "part": "name", "n_views": "views", "anomaly_score": "score",
        "p_value": "p", "is_anomalous": "rejected",
    }  # fmt: skip
    rows = table[[*columns]].rename(columns=columns).to_dict("records")
    least = scorer.part_decision_.smallest_rate
    by_name = {row["name"]: {**row, "least": least} for row in rows}
    return [by_name[name] for name in names]


def _link(file, folder):
    """Where a file is, seen from the page; None for images that are no files."""
    if file is None:
        return None
    try:
        file = split_page(file)[0]
        return quote(Path(os.path.relpath(file, folder)).as_posix(), errors="surrogateescape")
    except ValueError:  # on another drive of Windows
        return Path(os.path.abspath(file)).as_uri()


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
