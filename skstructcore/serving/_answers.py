"""What a service answers: images of a request are read, judged, and put into words of JSON."""

import base64
import contextlib
import io
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

from fastapi import HTTPException
from PIL import ImageDraw
from pydantic import BaseModel

from ..images.image_list import as_images
from ..images.reading import ImageReadError
from ..inference.scores import score_batch
from ..scoring.regions import find_regions

_ANY = 10**18  # pixels: the limit is looked at here


class Region(BaseModel):
    """A place that is higher than good images are, in pixels of the upright image."""

    top: float
    left: float
    bottom: float
    right: float
    peak_row: float
    peak_col: float
    area: float
    p_value: float


class ImageAnswer(BaseModel):
    """What was decided about an image; of one that cannot be read there is the error alone."""

    name: str
    decision: Literal["anomalous", "good", "unreadable"]
    score: float | None = None
    p_value: float | None = None
    route: str | None = None
    decided_by: str | None = None
    regions: list[Region] = []
    error: str | None = None


class Answer(BaseModel):
    """What was decided, and by which model."""

    model: str
    threshold: float
    images: list[ImageAnswer]
    alarms: list[str]


def judge(
    loaded: Any, contents: list[bytes], names: list[str], max_pixels: int, max_images: int
) -> tuple[Answer, list[tuple[str, ImageAnswer, str | None]]]:
    """The answer, and what the page shows of each image: time, decision, thumbnail."""
    with tempfile.TemporaryDirectory(prefix="skstructcore-") as folder:
        paths, names = _received(contents, names, folder)
        if len(paths) > max_images:
            raise HTTPException(413, f"{len(paths)} images, and {max_images} may come at once.")
        images = as_images(paths, max_pixels=_ANY)
        for i, name in enumerate(names):
            with contextlib.suppress(ImageReadError):
                if images.size(i)[0] * images.size(i)[1] > max_pixels:
                    raise HTTPException(413, f"{name!r} has more than {max_pixels} pixels.")
        table, regions = score_batch(loaded.pipe, images, _regions_of)
        rows = table.to_dict("records")
        judged = [*map(_answered, rows, regions, paths, names)]
        known = table["error"].isna()
        if not known.any():
            raise ImageReadError(judged[0].error)
        alarms = loaded.monitor.update(table[known].astype({"is_anomalous": bool}))
        when = time.strftime("%H:%M:%S")
        shown = [
            (when, one, None if one.error else _thumbnail(images.read(i), one))
            for i, one in enumerate(judged)
        ]
    threshold = -float(loaded.pipe[-1].offset_)
    alarms = [str(alarm) for alarm in alarms]
    answer = Answer(model=loaded.version, threshold=threshold, images=judged, alarms=alarms)
    return answer, shown


def _received(contents, names, folder):
    """Path and name of each image; a file of several pages is as many.

    They are written as files, because these are read in full depth, and by whatever can read them.
    """
    paths = [os.path.join(folder, str(i)) for i in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        Path(path).write_bytes(content)
    files, pages = as_images(paths, max_pixels=_ANY), []
    for i in range(len(paths)):
        numbers = (0,)
        with contextlib.suppress(ImageReadError):  # to be told with the others
            numbers = files.pages(i)
        pages += [(i, f"[{number}]" if len(numbers) > 1 else "") for number in numbers]
    return ([f"{all_[i]}{page}" for i, page in pages] for all_ in (paths, names))


def _regions_of(scorer, images, maps):
    return find_regions(scorer, maps, images.file_names())


def _answered(row, regions, path, name):
    if row["error"] is not None:
        error = row["error"].replace(repr(path), repr(name))
        return ImageAnswer(name=name, decision="unreadable", error=error)
    return ImageAnswer(
        name=name,
        decision="anomalous" if row["is_anomalous"] else "good",
        score=row["anomaly_score"],
        p_value=row["p_value"],
        route=str(row["route"]),
        decided_by=row["decided_by"],
        regions=[{key: region[key] for key in Region.model_fields} for region in regions],
    )


def _thumbnail(image, judged, side=160):
    scale = side / max(image.size)
    small = image.resize([max(1, round(length * scale)) for length in image.size])
    draw = ImageDraw.Draw(small)
    for r in judged.regions:
        draw.rectangle([scale * x for x in (r.left, r.top, r.right, r.bottom)], None, "red", 2)
    file = io.BytesIO()
    small.save(file, "JPEG")
    return base64.b64encode(file.getvalue()).decode()
