"""Where the pixels that a backbone saw lie on the original images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the backbone's input lies on each original image.

    Parameters
    ----------
    input_size : tuple of (int, int)
        Height and width of the input that the backbone saw, in pixels.
    original_sizes : ndarray of shape (n_images, 2), int64
        Height and width of each upright original image, in pixels.
    boxes : ndarray of shape (n_images, 4), float64
        The part of each original that was scaled to `input_size`: top, left, bottom,
        right, in pixels of the upright original. Without a crop it is the whole image.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore.images import Geometry
    >>> geometry = Geometry((224, 224), np.array([[100, 200], [80, 60]]),
    ...                     np.array([[0, 50, 100, 150], [0, 0, 80, 60.0]]))
    >>> len(geometry), geometry[1].original_sizes.tolist()
    (2, [[80, 60]])
    """

    input_size: tuple[int, int]
    original_sizes: NDArray[np.int64]
    boxes: NDArray[np.float64]

    def __post_init__(self):
        set_ = object.__setattr__  # the class is frozen
        set_(self, "input_size", tuple(int(side) for side in self.input_size))
        set_(self, "original_sizes", np.asarray(self.original_sizes, np.int64).reshape(-1, 2))
        set_(self, "boxes", np.asarray(self.boxes, np.float64).reshape(-1, 4))
        if len(self.original_sizes) != len(self.boxes):
            raise ValueError(
                f"original_sizes has {len(self.original_sizes)} rows and boxes {len(self.boxes)}: "
                "each image needs one of both."
            )

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[Any]) -> Geometry:
        """Geometry of the images at `index`: an int, a slice, integers or a boolean mask."""
        rows = np.atleast_1d(np.arange(len(self))[index])
        return Geometry(self.input_size, self.original_sizes[rows], self.boxes[rows])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Geometry):
            return NotImplemented
        return (
            self.input_size == other.input_size
            and np.array_equal(self.original_sizes, other.original_sizes)
            and np.array_equal(self.boxes, other.boxes)
        )

    def __repr__(self) -> str:
        return f"Geometry(n_images={len(self)}, input_size={self.input_size})"
