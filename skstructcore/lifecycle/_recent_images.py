"""The last images of a route, to say what of them has moved: a descriptor, a place of the maps."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

# With fewer images before the change, the calibration images stand for what was normal.
_MIN_BEFORE = 20


class RecentImages:
    """Descriptors and maps of the last images; of all before, their sums.

    Parameters
    ----------
    window : int
        How many images are kept.
    """

    def __init__(self, window: int) -> None:
        self.rows = deque(maxlen=window)  # of each image its position, descriptors and map
        self.before = [0, 0.0, 0.0]  # of older images: number, sum, sum of squares
        self.columns, self.grid = [], None

    def add(
        self,
        image: int,
        columns: Sequence[str],
        z: NDArray[np.float64],
        anomaly_map: NDArray[np.floating] | None,
    ) -> None:
        """Take in the standardised descriptors, named by `columns`, and the map of an image."""
        if len(columns) == 0:
            return
        row, grid = z, None
        if anomaly_map is not None:
            row, grid = np.concatenate([z, anomaly_map.ravel()]), anomaly_map.shape
        if (list(columns), grid) != (self.columns, self.grid):  # maps come, or no longer come
            self.columns, self.grid = list(columns), grid
            self.rows.clear()
            self.before = [0, 0.0, 0.0]
        if len(self.rows) == self.rows.maxlen:
            old = self.rows[0][1]
            n, total, squares = self.before
            self.before = [n + 1, total + old, squares + old**2]
        self.rows.append((image, row))

    def shift_since(self, first: int) -> dict[str, Any]:
        """Which descriptor, and which place, has moved most since an image, see `DriftAlarm`."""
        after = np.array([row for image, row in self.rows if image >= first])
        if len(after) == 0:
            return {}
        earlier = np.array([row for image, row in self.rows if image < first])
        n, total, squares = self.before
        n += len(earlier)
        n_z, n_after = len(self.columns), len(after)
        location, variance = np.zeros(after.shape[1]), np.ones(after.shape[1])
        knows_before = n >= _MIN_BEFORE
        if knows_before:
            location = (total + earlier.sum(axis=0)) / n
            variance = (squares + (earlier**2).sum(axis=0)) / n - location**2
            variance = np.maximum(variance, 1e-12) * (1 + n_after / n)
        shift = (after.mean(axis=0) - location) / np.sqrt(variance / n_after)
        largest = int(np.abs(shift[:n_z]).argmax())
        moved = {"descriptor": self.columns[largest], "shift": float(shift[largest])}
        if self.grid not in (None, (1, 1)) and knows_before:
            row, column = np.unravel_index(np.abs(shift[n_z:]).argmax(), self.grid)
            height, width = self.grid
            moved["place"] = (float((row + 0.5) / height), float((column + 0.5) / width))
        return moved

    def to_dict(self) -> dict[str, Any]:
        """Return the state, as plain lists and numbers."""
        return {
            "columns": self.columns,
            "grid": None if self.grid is None else list(self.grid),
            "before": [np.asarray(part).tolist() for part in self.before],
            "rows": [[image, row.tolist()] for image, row in self.rows],
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take up what `to_dict` returned."""
        self.columns = list(state["columns"])
        self.grid = None if state["grid"] is None else tuple(state["grid"])
        n, total, squares = state["before"]
        self.before = [n, np.array(total), np.array(squares)]
        self.rows.clear()
        self.rows.extend((image, np.array(row)) for image, row in state["rows"])
