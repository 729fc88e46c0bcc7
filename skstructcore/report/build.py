"""Put a report together: score, count, and fill the page."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np

from .._utils.files import atomic_file, check_writable, escape_name
from .._utils.pages import fill_page
from .._utils.validation import check_labels, check_number, check_same_length
from ..display import ScoreShiftDisplay
from ..display.style import map_limits
from ..images.image_list import as_images
from ..images.labels import labels_of
from ..pipeline.steps import check_takes_images, fitted_steps
from ..scoring.decision import percent
from ..scoring.parts import check_fitted_with_parts, decide_parts
from ..scoring.table import FALSE_ALARM_RATES, rejections, z_columns
from .collect import add_judgements, add_maps, as_json, collect, part_records
from .pictures import draw_shift, map_uri
from .words import facts, points_in_words, term_in_words

if TYPE_CHECKING:
    from pathlib import Path

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
    fitted_steps(pipe)
    check_takes_images(pipe, "report")
    numbers = {"batch_size": batch_size}
    optional = {"max_images": max_images, "detail": detail, "thumbnail": thumbnail}
    numbers |= {name: value for name, value in optional.items() if value is not None}
    for name, value in numbers.items():
        check_number(value, name, 1, closed="left", kind=Integral)
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
        parts = check_labels(parts, n_images, "parts").astype(str)
        check_fitted_with_parts(pipe[-1])
    records, pictures, described = collect(
        pipe,
        listed,
        path.parent,
        load_mask=getattr(images, "load_mask", None),
        sides=(thumbnail, detail),
        batch_size=batch_size,
        verbose=verbose,
    )
    types = None if types is None else types.astype(str)
    content = _content(pipe, records, pictures, described, types, parts)
    page = fill_page(__package__, title=title, **content)
    with atomic_file(path) as file:
        file.write(page.encode(errors="backslashreplace"))  # labels may come from names of folders
    return path


def _content(pipe, records, pictures, described, types, parts):
    """What the template shows; the page's script reads `data` and `blocks` too."""
    scorer, known = pipe[-1], described.index.to_numpy()
    asked = scorer.calibration_.decision.asked_rate
    rates = sorted([asked, *(rate for rate in FALSE_ALARM_RATES if not np.isclose(rate, asked))])
    rejected, rejected_parts = rejections(described, scorer, rates), None
    for i, record in enumerate(records):
        record["type"] = None if types is None else types[i]
    add_judgements(records, described, scorer, rejected)
    if parts is not None:
        table = decide_parts(scorer, described.assign(file=parts[known]), parts[known])
        rejected_parts = rejections(table, scorer, rates)
        by_name = part_records(table, rejected_parts)
        for i in known:
            records[i]["part"] = by_name[parts[i]]
    low, high = map_limits(described["heat"], 1.0)
    add_maps(pictures, described, (low, high))
    known_types = None if types is None else types[known]
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
        "fitted": rates.index(asked),
        "threshold": shift.threshold,
        "blockSize": _BLOCK,
    }
    return {
        "created": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "facts": facts(pipe),
        "points": points_in_words(rates, rejected, known_types, rejected_parts),
        "n_rejected": rejected[data["fitted"]].sum(),
        "n_known": len(known),
        "shift": draw_shift(shift, known),
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
