"""Where on its image a map is higher than good images are: regions of connected patches."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage

from ..images.masks import outline
from .evidence import iter_seen

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    from ..containers import AnomalyMaps
    from .structcore import StructCoreScorer

#: Columns of `skstructcore.regions`, and how they are stored where there is no region.
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


class Grid(NamedTuple):
    """The patches of one map on its original; each is a place where maps have no geometry."""

    origin: NDArray[np.float64]  # (2,): row and column of the upper left corner
    step: NDArray[np.float64]  # (2,): height and width of a patch
    half: float  # of a patch, from its corner to its middle

    @classmethod
    def of(cls, maps: AnomalyMaps, i: int) -> Grid:
        if maps.geometry is None:
            return cls(np.zeros(2), np.ones(2), 0.0)
        top_left, bottom_right = np.split(maps.geometry.boxes[i], 2)
        return cls(top_left, (bottom_right - top_left) / maps.shape[1:], 0.5)

    def corners(self, patches: ArrayLike) -> NDArray[np.float64]:
        """Row and column of the upper left corners of patches ``(..., 2)``."""
        return self.origin + np.asarray(patches) * self.step

    def middles(self, patches: ArrayLike) -> NDArray[np.float64]:
        """Row and column of the middles of patches ``(..., 2)``."""
        return self.corners(np.asarray(patches) + self.half)


def connected(over: NDArray[np.bool_]) -> tuple[NDArray[np.int32], list[tuple[slice, slice]]]:
    """Number the connected patches of a map from 1, also at corners; boxes of them as slices."""
    labels, _ = ndimage.label(over, structure=np.ones((3, 3)))
    return labels, ndimage.find_objects(labels)


def peak_and_box(maps: AnomalyMaps, i: int, threshold: float) -> dict[str, float]:
    """Where `describe` says that a map is highest: peak, and box of the region around it."""
    values = np.asarray(maps.values[i], dtype=np.float64)
    grid, over = Grid.of(maps, i), values > threshold
    peak, box = np.unravel_index(values.argmax(), values.shape), np.full(4, np.nan)
    if over.any():
        labels, boxes = connected(over)
        rows, cols = boxes[labels[peak] - 1]
        box = grid.corners([(rows.start, cols.start), (rows.stop, cols.stop)]).ravel()
    places = [*grid.middles(peak), *box]
    names = "peak_row peak_col region_top region_left region_bottom region_right".split()
    n_counted = values.size if maps.ignored is None else (~maps.ignored[i]).sum()
    return dict(zip(names, places, strict=True)) | {"area_over": over.sum() / n_counted}


def find_regions(
    scorer: StructCoreScorer,
    maps: AnomalyMaps,
    names: list[str],
    false_alarm_rate: float | None = None,
) -> list[list[dict[str, Any]]]:
    """The rows of `regions`, a list an image."""
    known = scorer.routes_ if false_alarm_rate is None else scorer.routes_.at(false_alarm_rate)
    decisions = {name: route.calibration.base_decision for name, route in known.items()}
    routes = known.route_of(maps)
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
