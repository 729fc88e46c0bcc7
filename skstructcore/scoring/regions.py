"""Regions: where on its image a map is higher than good images are, one row a region."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from .._utils.validation import check_number
from .._utils.warning import renamed
from ..containers import AnomalyMaps
from ..images.masks import outline
from .calibration import route_of_images
from .describe import names_of
from .evidence import check_maps, iter_seen
from .places import Grid, connected
from .structcore import StructCoreScorer

if TYPE_CHECKING:
    from typing import Any

    from sklearn.pipeline import Pipeline

    from ..images.image_list import ImagesLike

__all__ = ["regions"]

_logger = logging.getLogger(__name__)

#: Columns of `regions`, and how they are stored where there is no region.
COLUMNS = {
    "image": object,
    "region": np.int64,
    "polygon": object,
    "area": np.float64,
    "n_patches": np.int64,
    "mean": np.float64,
    "peak": np.float64,
    "peak_row": np.float64,
    "peak_col": np.float64,
    "top": np.float64,
    "left": np.float64,
    "bottom": np.float64,
    "right": np.float64,
    "p_value": np.float64,
    "touches_border": bool,
    "too_small": bool,
    "route": object,
    "height": np.int64,
    "width": np.int64,
}


@renamed("level", "false_alarm_rate")
def regions(
    pipe: Pipeline | StructCoreScorer,
    X: ImagesLike | AnomalyMaps,
    *,
    false_alarm_rate: float | None = None,
    min_area: float = 0.0,
) -> pd.DataFrame:
    """Find the regions of images that are higher than good images are.

    A region is a set of connected patches (also at corners) whose distance is above the threshold
    of the base score: one that a share `false_alarm_rate` of good images exceeds anywhere. Whether
    the *image* is anomalous is decided by `predict`, which knows more than the height of maps: an
    image may be rejected without a region, and have one without being rejected.

    Parameters
    ----------
    pipe : Pipeline
        Fitted, as `make_structcore` builds it; its last step alone where `X` are maps.
    X : folder, sequence of paths, PIL images or arrays, ndarray, ImageSet, or AnomalyMaps
        Images, or their maps as ``pipe[:-1].transform(images)`` gives them.
    false_alarm_rate : float in (0, 1), default=None
        How many good images may have a region; None: that of the last step. A larger one shows
        fainter regions.
    min_area : float, default=0.0
        In pixels of the original. Smaller regions stay in the table, marked `too_small`: what a
        fixed minimum hides is missed for ever.

    Returns
    -------
    regions : DataFrame
        A row a region, by image and from the highest peak down:

        - ``image``: path of the image, or "image <position>"; ``region``: number in it, from 1;
        - ``polygon``: ndarray of shape (n, 2), x and y of the corners of its outline, along the
          edges of patches; ``area`` without holes, and ``n_patches``;
        - ``mean`` and ``peak``: of its distances; ``peak_row``, ``peak_col``: where that is;
        - ``top``, ``left``, ``bottom``, ``right``: its box;
        - ``p_value``: how often a good image has, somewhere, a distance as high as the peak;
        - ``touches_border``: whether it goes on beyond what the backbone saw;
        - ``too_small``: whether it is smaller than `min_area`;
        - ``route``: the product that the image was compared with; "all" without routes;
        - ``height``, ``width``: of the upright original.

        Places are in pixels of the upright original, or in patches where maps have no geometry.

    Raises
    ------
    TypeError
        If the last step is no StructCoreScorer.
    ValueError
        If a parameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import AnomalyMaps, StructCoreScorer, regions
    >>> rng = np.random.default_rng(0)
    >>> scorer = StructCoreScorer(false_alarm_rate=0.1).fit(rng.random((40, 8, 8)))
    >>> maps = 0.9 * rng.random((2, 8, 8))
    >>> maps[1, 2:4, 5:8] = 3
    >>> found = regions(scorer, AnomalyMaps(maps))
    >>> found[["image", "region", "area", "peak", "touches_border"]]
         image  region  area  peak  touches_border
    0  image 1       1   6.0   3.0            True
    >>> found["polygon"][0].tolist()
    [[5.0, 2.0], [8.0, 2.0], [8.0, 4.0], [5.0, 4.0]]
    """
    scorer = _checked_scorer(pipe, false_alarm_rate, min_area)
    if isinstance(X, AnomalyMaps):
        maps, names = X, [f"image {i}" for i in range(len(X))]
    elif pipe is scorer:
        raise TypeError("StructCoreScorer looks at maps: pass AnomalyMaps, or a whole pipeline.")
    else:
        maps, names = pipe[:-1].transform(X), names_of(pipe, X)
    maps = check_maps(scorer, maps, reset=False)
    by_image = find_regions(scorer, maps, names, false_alarm_rate)
    rows = [row for rows in by_image for row in rows]
    found = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    found["too_small"] = found["area"] < min_area
    if found["too_small"].any():
        _logger.info(
            "%d of %d regions are smaller than min_area=%g (column too_small)",
            found["too_small"].sum(),
            len(found),
            min_area,
        )
    return found


def _checked_scorer(pipe, false_alarm_rate, min_area):
    scorer = pipe[-1] if hasattr(pipe, "steps") else pipe
    if not isinstance(scorer, StructCoreScorer):
        raise TypeError(
            "regions needs a pipeline whose last step is a StructCoreScorer, got "
            f"{type(scorer).__name__}."
        )
    check_is_fitted(scorer)
    if false_alarm_rate is not None:
        check_number(false_alarm_rate, "false_alarm_rate", 0, 1)
    check_number(min_area, "min_area", 0, closed="left")
    return scorer


def find_regions(
    scorer: StructCoreScorer,
    maps: AnomalyMaps,
    names: list[str],
    false_alarm_rate: float | None = None,
) -> list[list[dict[str, Any]]]:
    """The rows of `regions`, a list an image."""
    decisions = {name: known.base_decision for name, known in scorer.calibrations_.items()}
    if false_alarm_rate is not None:
        decisions = {name: known.at(false_alarm_rate) for name, known in decisions.items()}
    routes = route_of_images(scorer.routes_, maps)
    return [
        [
            {"image": names[first + i], "region": number, **row, "route": routes[first + i]}
            for number, row in enumerate(_of_map(part, i, decisions[routes[first + i]]), start=1)
        ]
        for first, part in iter_seen(replace(maps, surprise=None), scorer.resolution)
        for i in range(len(part))
    ]


def _of_map(maps, i, decision):
    """What is known of the regions of one map, the highest first."""
    values = np.asarray(maps.values[i], dtype=np.float64)
    labels, boxes = connected(values > decision.threshold)
    grid = Grid.of(maps, i)
    height, width = values.shape if maps.geometry is None else maps.geometry.original_sizes[i]
    rows = []
    for number, box in enumerate(boxes, start=1):
        start, stop = ([getattr(part, end) for part in box] for end in ("start", "stop"))
        inside = labels[box] == number
        part = np.where(inside, values[box], -np.inf)
        peak = np.unravel_index(part.argmax(), part.shape)
        top, left, bottom, right = grid.corners([start, stop]).ravel()
        peak_row, peak_col = grid.middles(np.add(start, peak))
        rows.append(
            {
                "polygon": grid.corners(outline(inside)[:, ::-1] + start)[:, ::-1],
                "area": inside.sum() * grid.step[1] * grid.step[0],
                "n_patches": int(inside.sum()),
                "mean": part[inside].mean(),
                "peak": part.max(),
                "peak_row": peak_row,
                "peak_col": peak_col,
                "top": top,
                "left": left,
                "bottom": bottom,
                "right": right,
                "touches_border": 0 in start or bool((np.equal(stop, values.shape)).any()),
                "too_small": False,
                "height": int(height),
                "width": int(width),
            }
        )
    p_values = decision.p_values([row["peak"] for row in rows])
    rows = [{**row, "p_value": p_value} for row, p_value in zip(rows, p_values, strict=True)]
    return sorted(rows, key=lambda row: -row["peak"])
