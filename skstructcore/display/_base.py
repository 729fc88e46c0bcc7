"""What all displays share: the data in fields, one way to draw them, one way to show them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from .._utils.pages import base64_of
from .._utils.typing import ArrayLike, Self
from .._utils.validation import check_same_length
from ..images.image_list import ImagesLike
from ..images.labels import labels_of
from ..pipeline.describe import describe
from ..pipeline.steps import fitted_steps, listed
from ..scoring.structcore import StructCoreScorer
from .style import Axes, drawing, new_figure


class Display:
    """A dataclass whose fields are data that `plot` draws, into ``ax_`` of ``figure_``."""

    _size = (6.4, 4.4)  # inches, of a figure of its own
    _arrays = ()  # fields of one length, which become arrays; None and tables stay
    _finite = ()  # fields that hold finite numbers
    _labels_of = staticmethod(labels_of)  # of images, or as given: what `labels` holds

    def __post_init__(self) -> None:
        check_same_length(**{name: getattr(self, name) for name in self._arrays})
        for name in self._arrays:
            values = getattr(self, name)
            if name == "labels":
                values = self._labels_of(None, values)
            if values is not None and not isinstance(values, pd.DataFrame):
                setattr(self, name, np.asarray(values))
        for name in self._finite:
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} must be finite numbers: leave out what has none.")
        if not len(getattr(self, self._arrays[0])):
            raise ValueError(f"There is nothing to draw: {self._arrays[0]} is empty.")

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the data, and return the display.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            None: a figure of its own.
        """
        self._draw(self._begin(ax, self._size))
        return self

    def _begin(self, ax, size):
        self.ax_ = new_figure(size).add_subplot() if ax is None else ax
        self.figure_ = self.ax_.figure.figure  # the whole one, of a subfigure too
        return self.ax_

    def _repr_html_(self) -> str | None:
        figure = getattr(self, "figure_", None) or self.plot().figure_
        if figure.canvas.manager is not None:
            return None  # pyplot shows it already
        text = base64_of(figure.savefig, "png", dpi=90)
        return f'<img alt="{type(self).__name__}" src="data:image/png;base64,{text}">'


class ScoredDisplay(Display):
    """A display of what `describe` says of images.

    A subclass has ``of(described, scorer, labels)``, which returns one that is not drawn yet. It
    may have `_check`, with the same options, for what can be refused before images are scored.
    """

    @staticmethod
    def _check(scorer, n_images, labels):
        """Raise an error, before images are scored, if they cannot be drawn."""

    @classmethod
    def from_estimator(
        cls,
        pipe: Pipeline,
        images: ImagesLike,
        y: ArrayLike | None = None,
        *,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Score images with a fitted pipeline, and draw; the backbone runs.

        Parameters
        ----------
        pipe : Pipeline
            As `make_structcore` builds it.
        images : folder, sequence of paths, PIL images or arrays, or ImageSet
        y : array-like of shape (n_images,), default=None
            What the images show; None: what the `ImageSet` says.
        ax : Axes, default=None
            See `plot`.
        **options
            What the class's own `from_estimator` lists; most take none.
        """
        drawing()
        labels = cls._labels_of(images, y)  # errors before the work
        scorer, images = fitted_steps(pipe)[-1], listed(pipe, images)
        check_same_length(images=images, y=labels)
        cls._check(scorer, len(images), labels, **options)
        return cls.of(describe(pipe, images), scorer, labels, **options).plot(ax)

    @classmethod
    def from_predictions(
        cls,
        described: pd.DataFrame,
        scorer: StructCoreScorer,
        y: ArrayLike | None = None,
        *,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Draw scores that are known already.

        Parameters
        ----------
        described : DataFrame
            From ``scorer.describe``.
        scorer : StructCoreScorer
        y, ax, **options
            See `from_estimator`.
        """
        check_same_length(described=described, y=y)
        labels = cls._labels_of(None, y)
        cls._check(scorer, len(described), labels, **options)
        return cls.of(described, scorer, labels, **options).plot(ax)


def check_described(described: pd.DataFrame, *columns: str) -> None:
    """Raise ValueError unless a table is what `describe` returns, with no gap in its columns."""
    missing = [name for name in columns if name not in getattr(described, "columns", ())]
    if missing:
        raise ValueError(f"described must be what describe returns: there is no {missing[0]!r}.")
    missing = np.argwhere(described[list(columns)].isna())
    if len(missing):
        image, column = missing[0]
        raise ValueError(
            f"Image {image} of the table has no score ({columns[column]} is missing): leave out "
            "what could not be judged."
        )
