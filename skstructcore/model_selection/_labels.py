"""Labels that come with images, or beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sklearn.utils.validation import _num_samples

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ..images.image_list import ImagesLike


def labels_of(X: ImagesLike | ArrayLike, y: ArrayLike | None) -> ArrayLike:
    """`y`, or without it `X.y`: one label for each image."""
    y = getattr(X, "y", None) if y is None else y
    if y is None:
        raise ValueError("Labels are needed: pass y, or images as an ImageSet with y.")
    if _num_samples(X) != len(y):
        raise ValueError(f"There are {_num_samples(X)} images, but {len(y)} labels.")
    return y
