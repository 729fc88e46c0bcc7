"""Where the patches of a map lie on the original image, and which of them are connected."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ..containers import AnomalyMaps


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
    """Number the connected patches of a map, also at corners, and find the box of each region.

    Labels are 0 where `over` is False, else the number of the region, from 1. Boxes are slices of
    rows and columns.
    """
    labels, _ = ndimage.label(over, structure=np.ones((3, 3)))
    return labels, ndimage.find_objects(labels)


def peak_and_box(maps: AnomalyMaps, i: int, threshold: float) -> dict[str, float]:
    """Peak of a map, and the box of the region around it that is over the threshold.

    These are the columns of `StructCoreScorer.describe` that say where.
    """
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
