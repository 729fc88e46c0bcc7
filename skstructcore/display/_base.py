"""What all displays share: the data in fields, one way to draw them, one way to show them."""

from __future__ import annotations

import base64
from abc import abstractmethod
from io import BytesIO
from typing import TYPE_CHECKING

from ._inputs import check_same_length, describe_images, labels_of
from ._style import new_figure

if TYPE_CHECKING:
    from typing import Any

    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray
    from sklearn.pipeline import Pipeline
    from typing_extensions import Self

    from ..images.image_list import ImagesLike
    from ..scoring.structcore import StructCoreScorer


class Display:
    """A dataclass whose fields are data that `plot` draws; notebooks show it.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure
        What was drawn last.
    """

    _size = (6.4, 4.4)  # inches, of a figure of its own

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the data.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            None: a figure of its own.

        Returns
        -------
        self : object
        """
        self._draw(self._begin(ax, self._size))
        return self

    def _begin(self, ax, size):
        self.ax_ = new_figure(size).add_subplot() if ax is None else ax
        self.figure_ = self.ax_.figure
        return self.ax_

    @abstractmethod
    def _draw(self, ax: Axes) -> None:
        """Draw into the axes."""

    def _repr_html_(self) -> str | None:
        figure = getattr(self, "figure_", None) or self.plot().figure_
        if figure.canvas.manager is not None:
            return None  # pyplot shows it already
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=90)
        text = base64.b64encode(buffer.getvalue()).decode()
        return f'<img alt="{type(self).__name__}" src="data:image/png;base64,{text}">'


class ScoredDisplay(Display):
    """A display of what `describe` says of images; a subclass has `_of`."""

    @classmethod
    def from_estimator(
        cls, pipe: Pipeline, images: ImagesLike, y: ArrayLike | None = None, **options: Any
    ) -> Self:
        """Score images with a fitted pipeline, and draw; the backbone runs.

        Parameters
        ----------
        pipe : Pipeline
            As `make_structcore` builds it.
        images : folder, sequence of paths, PIL images or arrays, or ImageSet
        y : array-like of shape (n_images,), default=None
            Labels; None: those of the `ImageSet`.
        **options
            Of `from_predictions`.

        Returns
        -------
        display : object
        """
        labels = labels_of(images, y)
        return cls.from_predictions(describe_images(pipe, images), pipe[-1], labels, **options)

    @classmethod
    def from_predictions(
        cls,
        described: pd.DataFrame,
        scorer: StructCoreScorer,
        y: ArrayLike | None = None,
        *,
        ax: Axes | None = None,
    ) -> Self:
        """Draw scores that are known already.

        Parameters
        ----------
        described : DataFrame
            From ``scorer.describe``.
        scorer : StructCoreScorer
        y : array-like of shape (n_images,), default=None
            Labels.
        ax : matplotlib.axes.Axes, default=None
            See `plot`.

        Returns
        -------
        display : object
        """
        check_same_length(described=described, y=y)
        return cls._of(described, scorer, labels_of(None, y)).plot(ax)

    @classmethod
    @abstractmethod
    def _of(
        cls, described: pd.DataFrame, scorer: StructCoreScorer, labels: NDArray | None
    ) -> ScoredDisplay:
        """The display of a table; `labels` say what each image is."""
