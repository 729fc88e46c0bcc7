"""What the displays of scored images share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._inputs import describe_images, kinds_of
from ._style import Picture

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from sklearn.pipeline import Pipeline
    from typing_extensions import Self

    from ..images.image_list import ImagesLike


class ScoredPicture(Picture):
    """A display of what `describe` says of images; a subclass has `from_predictions`."""

    @classmethod
    def from_estimator(cls, pipe: Pipeline, images: ImagesLike, y: ArrayLike | None = None) -> Self:
        """Score images with a fitted pipeline; the backbone runs.

        Parameters
        ----------
        pipe : Pipeline
            As `make_structcore` builds it.
        images : folder, sequence of paths, PIL images or arrays, or ImageSet
        y : array-like of shape (n_images,), default=None
            Labels; None: those of the `ImageSet`.

        Returns
        -------
        display : this class
        """
        return cls.from_predictions(describe_images(pipe, images), pipe[-1], kinds_of(images, y))
