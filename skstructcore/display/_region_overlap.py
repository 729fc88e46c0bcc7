"""How much of each defect the map covers, at every rate of false pixels."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import auc

from .._utils.validation import check_number
from ..datasets.masks import judged_pixels
from ..metrics import curve_until, pro_curve
from ._base import Display
from .style import BLUE, GREY, line_style, percent_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike
    from sklearn.pipeline import Pipeline
    from typing_extensions import Self

    from ..datasets import ImageSet

_CURVE = "per-region overlap"  # marks our lines among those of the axes


@dataclass(eq=False, repr=False)
class RegionOverlapDisplay(Display):
    """The per-region-overlap curve of anomaly maps, whose area is the AUPRO.

    Parameters
    ----------
    false_positive_rate, overlap : array-like of shape (n_points,)
        From `skstructcore.metrics.pro_curve`.
    max_fpr : float in (0, 1], default=0.3
        Where the area ends.
    name : str, default=None
        What the curve is of.

    Attributes
    ----------
    aupro : float
        Area under the curve up to `max_fpr`, divided by it.
    line_ : matplotlib.lines.Line2D

    Examples
    --------
    >>> from skstructcore.display import RegionOverlapDisplay
    >>> mask, heat = [[1, 1, 0, 0]], [[9, 3, 4, 1]]
    >>> display = RegionOverlapDisplay.from_predictions([mask], [heat], max_fpr=1.0)
    >>> display.overlap.tolist(), display.aupro
    ([0.0, 0.0, 0.5, 0.5, 1.0, 1.0], 0.75)
    """

    _size = (5.6, 4.4)
    _arrays = ("false_positive_rate", "overlap")

    false_positive_rate: ArrayLike
    overlap: ArrayLike
    _: KW_ONLY
    max_fpr: float = 0.3
    name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self.max_fpr, "max_fpr", 0, 1, closed="right")
        self._area = curve_until(self.false_positive_rate, self.overlap, self.max_fpr)
        self.aupro = float(auc(*self._area) / self.max_fpr)

    @classmethod
    def from_estimator(
        cls,
        pipe: Pipeline,
        images: ImageSet,
        *,
        max_fpr: float = 0.3,
        name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Compute the pixel maps of images with masks, and draw; the backbone runs.

        Parameters
        ----------
        pipe : Pipeline
            As `make_structcore` builds it.
        images : ImageSet
            With masks; defects without one are left out.
        max_fpr, name, ax
            See the class and `plot`.
        """
        maps = pipe[:-1].transform(images)
        pixels = pipe[-1].transform(maps)
        masks, pixels, ignored = judged_pixels(images, pixels, maps.geometry, maps.ignored)
        options = {"max_fpr": max_fpr, "name": name, "ax": ax}
        return cls.from_predictions(masks, pixels, ignored=ignored, **options)

    @classmethod
    def from_predictions(
        cls,
        masks: Sequence[ArrayLike],
        anomaly_maps: Sequence[ArrayLike],
        *,
        ignored: Sequence[ArrayLike] | None = None,
        max_fpr: float = 0.3,
        name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw maps that are known already.

        Parameters
        ----------
        masks, anomaly_maps, ignored : sequence of n array-like of shape (h, w)
            See `skstructcore.metrics.aupro_score`.
        max_fpr, name, ax
            See the class and `plot`.
        """
        curve = pro_curve(masks, anomaly_maps, ignored=ignored)
        return cls(*curve, max_fpr=max_fpr, name=name).plot(ax)

    def _draw(self, ax):
        n_curves = sum(line.get_gid() == _CURVE for line in ax.lines)
        label = f"AUPRO {100 * self.aupro:.1f} %"
        label = f"{self.name}: {label}" if self.name else label
        curve = self.false_positive_rate, self.overlap
        (self.line_,) = ax.plot(*curve, label=label, gid=_CURVE, **line_style(n_curves))
        if n_curves == 0:
            ax.fill_between(*self._area, color=BLUE, alpha=0.15, lw=0)
            ax.axvline(self.max_fpr, color=GREY, ls="--", lw=1)
            ax.annotate(
                " end of the area", (self.max_fpr, 0.5), fontsize=8, color=GREY, va="center"
            )
        for axis in (ax.xaxis, ax.yaxis):
            percent_axis(axis, np.linspace(0, 1, 6))
        ax.set(xlim=(0, 1), xlabel="normal pixels over the threshold")
        ax.set(ylim=(0, 1.02), ylabel="share of a defect over the threshold (mean)")
        ax.legend(loc="lower right")
