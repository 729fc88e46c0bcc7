"""What is known of images beside their pixels; it travels with them to the memory bank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Annotations:
    """What is known of some images: each part has one entry an image, or is None.

    Parameters
    ----------
    labels : ndarray of shape (n_images,), default=None
        What each image is, see `skstructcore.images.labels`.
    groups : ndarray of shape (n_images,), default=None
        The part, shot or series that each image shows.
    categories : ndarray of shape (n_images,), default=None
        The product that each image shows.
    parts : ndarray of shape (n_images,), default=None
        The part that each image is a view of, where several views are decided together.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore.images import Annotations
    >>> Annotations(groups=np.array(["part 1", "part 1", "part 2"]))[1:].groups.tolist()
    ['part 1', 'part 2']
    """

    labels: NDArray[Any] | None = None
    groups: NDArray[Any] | None = None
    categories: NDArray[Any] | None = None
    parts: NDArray[Any] | None = None

    def __getitem__(self, rows: slice | Sequence[int] | NDArray[Any]) -> Annotations:
        """What is known of the images at `rows`: a slice, integers or a boolean mask."""
        return Annotations(
            **{name: None if part is None else part[rows] for name, part in vars(self).items()}
        )

    @classmethod
    def of(cls, images: object) -> Annotations:
        """Take up what an object like `ImageSet` says of its images (`y`, `groups`, ...)."""
        parts = (getattr(images, name, None) for name in ("y", "groups", "categories", "parts"))
        return cls(*(None if part is None else np.asarray(part) for part in parts))
