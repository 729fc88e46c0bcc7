"""Where on its image a map is higher than good images are: regions of connected patches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from ..containers import AnomalyMaps
from ..images.masks import outline
from .evidence import iter_seen
from .routes import Routes

_PLACES = ("peak_row", "peak_col", "top", "left", "bottom", "right")
#: Columns of `skstructcore.regions`, and how they are stored where there is no region.
COLUMNS = (
    {"image": object, "region": np.int64, "polygon": object, "area": np.float64}
    | {"n_patches": np.int64}
    | dict.fromkeys(("mean", "peak", *_PLACES, "p_value"), np.float64)
    | {"touches_border": bool, "too_small": bool, "route": object}
    | {"height": np.int64, "width": np.int64}
)


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


def each_map(maps: AnomalyMaps, resolution: str) -> Iterator[tuple[AnomalyMaps, int]]:
    """Each map as the descriptors see it: some maps, and its position in these."""
    for _, some in iter_seen(replace(maps, surprise=None), resolution):
        yield from ((some, i) for i in range(len(some)))


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
    names = [*_PLACES[:2], *(f"region_{side}" for side in _PLACES[2:])]
    n_counted = values.size if maps.ignored is None else (~maps.ignored[i]).sum()
    places = dict(zip(names, [*grid.middles(peak), *box], strict=True))
    return places | {"area_over": over.sum() / n_counted}


def find_regions(
    maps: AnomalyMaps, names: list[str], routes: Routes, resolution: str
) -> list[list[dict[str, Any]]]:
    """The rows of `regions`, a list an image."""
    decisions = {name: route.calibration.base_decision for name, route in routes.items()}
    of_images = zip(each_map(maps, resolution), names, routes.route_of(maps), strict=True)
    return [
        [
            {"image": name, "region": number, **row, "route": route}
            for number, row in enumerate(_of_map(some, i, decisions[route]), start=1)
        ]
        for (some, i), name, route in of_images
    ]


def _of_map(maps, i, decision):
    """What is known of the regions of one map, the highest first."""
    values = np.asarray(maps.values[i], dtype=np.float64)
    labels, boxes = connected(values > decision.threshold)
    grid = Grid.of(maps, i)
    height, width = values.shape if maps.geometry is None else maps.geometry.original_sizes[i]
    numbers, rows = np.arange(1, len(boxes) + 1), []
    p_values = decision.p_values(ndimage.maximum(values, labels, numbers)).tolist()
    for number, box, p_value in zip(numbers, boxes, p_values, strict=True):
        start, stop = ([getattr(axis, end) for axis in box] for end in ("start", "stop"))
        inside = labels[box] == number
        region = np.where(inside, values[box], -np.inf)
        peak = np.unravel_index(region.argmax(), region.shape)
        places = [*grid.middles(np.add(start, peak)), *grid.corners([start, stop]).ravel()]
        rows.append(
            {
                "polygon": grid.corners(outline(inside)[:, ::-1] + start)[:, ::-1],
                "area": inside.sum() * grid.step[1] * grid.step[0],
                "n_patches": int(inside.sum()),
                "mean": region[inside].mean(),
                "peak": region.max(),
                **dict(zip(_PLACES, places, strict=True)),
                "p_value": p_value,
                "touches_border": 0 in start or bool((np.equal(stop, values.shape)).any()),
                "too_small": False,
                "height": int(height),
                "width": int(width),
            }
        )
    return sorted(rows, key=lambda row: -row["peak"])
