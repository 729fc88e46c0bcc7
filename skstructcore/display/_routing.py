"""Which product each image was taken for, and how far it is from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..routing.grouping import UNKNOWN
from ._base import Display
from ._inputs import check_described, describe_images
from ._style import as_text, label_styles, legend_beside

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike
    from sklearn.pipeline import Pipeline
    from typing_extensions import Self

    from ..images.image_list import ImagesLike
    from ..scoring.structcore import StructCoreScorer


@dataclass(eq=False, repr=False)
class RoutingDisplay(Display):
    """Where images were sent, one row a product.

    Parameters
    ----------
    nearest_route : array-like of shape (n_images,) of str
        The product that each image was compared with.
    ratio : array-like of shape (n_images,)
        Its distance to the product, in units of the largest at which it is still taken for
        one: above 1 it is unknown.
    route_names : sequence of str
        All products, from top to bottom.
    labels : array-like of shape (n_images,) of str, default=None
        What the images really show, drawn as colours and marks; None: all alike.

    Examples
    --------
    >>> from skstructcore.display import RoutingDisplay
    >>> display = RoutingDisplay(["nut", "nut"], [0.8, 4.0], ["nut", "bolt"], ["nut", "pin"])
    >>> [label.get_text() for label in display.plot().ax_.get_yticklabels()]
    ['nut', 'bolt']
    """

    nearest_route: ArrayLike
    ratio: ArrayLike
    route_names: Sequence[str]
    labels: ArrayLike | None = None

    @classmethod
    def from_estimator(
        cls,
        pipe: Pipeline,
        images: ImagesLike,
        labels: ArrayLike | None = None,
        *,
        ax: Axes | None = None,
    ) -> Self:
        """Send images through a fitted pipeline, and draw; the backbone runs.

        Parameters
        ----------
        pipe : Pipeline
            Fitted with routes, as `make_structcore` builds it.
        images : folder, sequence of paths, PIL images or arrays, or ndarray
        labels : array-like of shape (n_images,) of str, default=None
        ax : matplotlib.axes.Axes, default=None
            See `plot`.

        Returns
        -------
        display : RoutingDisplay
        """
        return cls.from_predictions(describe_images(pipe, images), pipe[-1], labels, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        described: pd.DataFrame,
        scorer: StructCoreScorer,
        labels: ArrayLike | None = None,
        *,
        ax: Axes | None = None,
    ) -> Self:
        """Draw what is known already.

        Parameters
        ----------
        described : DataFrame
            From ``scorer.describe``.
        scorer : StructCoreScorer
            Fitted on maps with routes.
        labels : array-like of shape (n_images,) of str, default=None
        ax : matplotlib.axes.Axes, default=None
            See `plot`.

        Returns
        -------
        display : RoutingDisplay

        Raises
        ------
        ValueError
            If there are no routes.
        """
        if not scorer.is_routed_:
            raise ValueError(
                "The pipeline has no routes: fit it with bank__categories= (or set "
                "bank__n_routes) and knn__routing='auto'."
            )
        limits = {
            name: route.tail.critical_distance(scorer.unknown_level)
            for name, route in scorer.routes_.items()
        }
        check_described(described, "nearest_route", "route_distance")
        nearest = described["nearest_route"].to_numpy()
        known = np.array([limits[name] for name in nearest])
        ratio = described["route_distance"].to_numpy() / known
        return cls(nearest, ratio, list(limits), labels).plot(ax)

    @property
    def _size(self):
        return 8, 1.5 + 0.5 * len(self.route_names)

    def _draw(self, ax):
        """Draw a mark an image."""
        rows = {name: row for row, name in enumerate(self.route_names)}
        nearest = np.asarray(self.nearest_route)
        labels = np.full(len(nearest), "images") if self.labels is None else self.labels
        labels = np.asarray(labels).astype(str)
        # Marks of one row are spread, by a fixed seed, so that each call draws the same picture.
        shift = np.random.default_rng(0).uniform(-0.3, 0.3, len(nearest))
        heights = np.array([rows[name] for name in nearest]) + shift
        for label, style in label_styles(labels).items():
            mine = labels == label
            if mine.any():
                ratio = np.asarray(self.ratio)[mine]
                ax.plot(ratio, heights[mine], ls="", label=as_text(label), alpha=0.6, ms=5, **style)
        ax.axvline(1, color="0.3", ls="--", lw=1)
        ax.annotate(
            f" {UNKNOWN} →", (1, 1), xycoords=("data", "axes fraction"), va="bottom", fontsize=9
        )
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter("{x:g}")
        ax.set_yticks(range(len(rows)), map(as_text, rows))
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xlabel("distance to the product / largest distance of a known image")
        ax.set_ylabel("taken for")
        if self.labels is not None:
            legend_beside(ax, title="shows")
