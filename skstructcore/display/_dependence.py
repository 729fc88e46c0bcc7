"""Which training images explain each other: dependence along the sequence."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..bank.dependence import MIN_FOR_SEQUENCE
from ..pipeline.steps import fitted_steps
from ._base import Display
from .style import BLUE, GREY, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike
    from sklearn.pipeline import Pipeline
    from typing_extensions import Self


@dataclass(eq=False, repr=False)
class DependenceDisplay(Display):
    """How much more often than by chance training images explain each other, by lag.

    Parameters
    ----------
    lags : array-like of shape (n_lags,)
        Distances in the sequence of the training images; of a range of lags, the smallest.
    ratio : array-like of shape (n_lags,)
        How many patches have their nearest bank entry in an image at this lag, divided by what
        the shares of the entries let expect: 1 where images are independent.
    limit : float or array-like of shape (n_lags,), default=None
        What the ratio would not exceed by chance.
    block_length : int, default=None
        Consecutive images that count as one block, a lot for instance.

    Examples
    --------
    >>> from skstructcore.display import DependenceDisplay
    >>> display = DependenceDisplay([1, 2, 4, 8], [5.2, 3.7, 1.4, 1.0], limit=1.2).plot()
    >>> display.ax_.get_ylabel()
    'explained / expected by chance'
    """

    _size = (6.4, 4)

    lags: ArrayLike
    ratio: ArrayLike
    _: KW_ONLY
    limit: ArrayLike | None = None
    block_length: int | None = None

    def __post_init__(self) -> None:
        self._as_arrays("lags", "ratio")

    @classmethod
    def from_estimator(
        cls, pipe: Pipeline, *, route: str | None = None, ax: Axes | None = None
    ) -> Self:
        """Draw what a fitted pipeline has found in its training images.

        Parameters
        ----------
        pipe : Pipeline
            Fitted, as `make_structcore` builds it, without groups of your own.
        route : str, default=None
            One of ``pipe["bank"].dependence_``; None: the only one.
        ax : Axes, default=None
            See `plot`.
        """
        by_route = fitted_steps(pipe)[0].dependence_
        if by_route is None:
            raise ValueError(
                "The bank did not look for dependence, as it was fitted with groups, with "
                "groups=None or with a table: fit it on images, with bank__groups='auto'."
            )
        if not by_route:
            raise ValueError(
                f"No route has {MIN_FOR_SEQUENCE} training images whose patches were kept, of "
                "which dependence can be told: add images (or raise bank__max_memory, where the "
                "bank was selected from a stream)."
            )
        route = next(iter(by_route)) if route is None and len(by_route) == 1 else route
        if route not in by_route:
            names = ", ".join(map(repr, by_route))
            raise ValueError(f"route must be one of {names}, got {route!r}.")
        found = by_route[route]
        block = found.block_length if found.block_length > 1 else None
        return cls(found.lags, found.ratio, limit=found.limit, block_length=block).plot(ax)

    def _draw(self, ax):
        ax.axhline(1, color=GREY, ls="--", lw=1, label="independent images")
        ax.plot(self.lags, self.ratio, "o-", ms=4, color=BLUE, label="training images")
        if self.limit is not None:
            limit = np.broadcast_to(np.asarray(self.limit, np.float64), self.ratio.shape)
            ax.plot(self.lags, limit, ":", color=GREY, label="by chance at most")
        if self.block_length is not None:
            ax.axvspan(
                self.lags[0],
                self.block_length,
                color=ORANGE,
                alpha=0.12,
                lw=0,
                hatch="//",
                label=f"blocks of {self.block_length}",
            )
        ax.set_xscale("log", base=2)
        doubled = 2 ** np.arange(int(np.log2(max(self.lags.max(), 1))) + 1)
        ax.set_xticks(doubled, [str(lag) for lag in doubled])
        ax.set_xticks([], minor=True)
        ax.set_ylim(bottom=0)
        ax.set_xlabel("lag in the sequence of training images")
        ax.set_ylabel("explained / expected by chance")
        ax.legend(frameon=False)
