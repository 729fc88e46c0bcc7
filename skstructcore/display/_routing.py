"""Which route each image was sent to, and how far it is from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..routing import UNKNOWN
from ._base import ScoredDisplay, check_described
from .style import as_text, label_styles, legend_beside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike


@dataclass(eq=False, repr=False)
class RoutingDisplay(ScoredDisplay):
    """Where images were sent, one row a route.

    Parameters
    ----------
    nearest_route : array-like of shape (n_images,) of str
        The route that each image was compared with.
    ratio : array-like of shape (n_images,)
        Its distance to the route, in units of the largest that a known image may have: above 1
        it is unknown.
    route_names : sequence of str
        All routes, from top to bottom.
    labels : array-like of shape (n_images,) of str, default=None
        Their categories, drawn as colours and marks; None: all alike.

    Examples
    --------
    >>> from skstructcore.display import RoutingDisplay
    >>> display = RoutingDisplay(["nut", "nut"], [0.8, 4.0], ["nut", "bolt"], ["nut", "pin"])
    >>> [label.get_text() for label in display.plot().ax_.get_yticklabels()]
    ['nut', 'bolt']
    """

    _arrays = ("nearest_route", "ratio", "labels")

    nearest_route: ArrayLike
    ratio: ArrayLike
    route_names: Sequence[str]
    labels: ArrayLike | None = None

    @staticmethod
    def _labels_of(images, y):
        return getattr(images, "categories", None) if y is None else y

    @classmethod
    def of(cls, described, scorer, labels):
        if not scorer.routes_.is_routed:
            raise ValueError(
                "The pipeline has no routes: fit it with bank__categories= (or set "
                "bank__n_routes) and knn__routing='auto'."
            )
        limits = {
            name: route.tail.critical_distance(scorer.unknown_level)
            for name, route in scorer.routes_.items()
        }
        check_described(described, "nearest_route", "route_distance")
        ratio = described["route_distance"] / described["nearest_route"].map(limits)
        return cls(described["nearest_route"], ratio, list(limits), labels)

    @property
    def _size(self):
        return 8, 1.5 + 0.5 * len(self.route_names)

    def _draw(self, ax):
        rows = list(self.route_names)
        n_images = len(self.ratio)
        labels = np.full(n_images, "images") if self.labels is None else self.labels.astype(str)
        # Marks of one row are spread, by a fixed seed, so that each call draws the same picture.
        shift = np.random.default_rng(0).uniform(-0.3, 0.3, n_images)
        heights = np.array([rows.index(name) for name in self.nearest_route]) + shift
        for label, style in label_styles(labels).items():
            places = self.ratio[labels == label], heights[labels == label]
            ax.plot(*places, ls="", label=as_text(label), alpha=0.6, ms=5, **style)
        ax.axvline(1, color="0.3", ls="--", lw=1)
        ax.annotate(
            f" {UNKNOWN} →", (1, 1), xycoords=("data", "axes fraction"), va="bottom", fontsize=9
        )
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter("{x:g}")
        ax.set_yticks(range(len(rows)), map(as_text, rows))
        ax.set_ylim(len(rows) - 0.5, -0.5)
        xlabel = "distance to the route / largest distance of a known image"
        ax.set(xlabel=xlabel, ylabel="sent to")
        if self.labels is not None:
            legend_beside(ax, title="category")
