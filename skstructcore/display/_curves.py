"""What is found of defects by the rate of good images, or of good pixels, that it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import auc
from sklearn.pipeline import Pipeline

from .._utils.typing import ArrayLike, Self
from .._utils.validation import check_labels, check_number
from ..datasets import ImageSet
from ..datasets.masks import check_masks, judged_pixels
from ..images.image_list import ImagesLike
from ..images.labels import GOOD
from ..metrics import curve_until, pro_curve
from ..pipeline.steps import fitted_steps
from ..scoring.conformal import ROUNDING
from ..scoring.table import FALSE_ALARM_RATES, rejections, share_interval
from ._base import Display, ScoredDisplay, check_described
from .style import BLUE, GREEN, GREY, ORANGE, Axes, drawing, line_style, percent_axis

_NO_GOOD = "No good image is among them: false alarms cannot be counted."


@dataclass(eq=False, repr=False)
class OperatingPointDisplay(ScoredDisplay):
    """Good images rejected, and defects found, at every false-alarm rate that one may ask for.

    Parameters
    ----------
    false_alarm_rate : array-like of shape (n_rates,)
        The rates that are asked for, above 0.
    found : array-like of shape (n_rates,), default=None
        Share of the defects that is found at each.
    false_alarms : array-like of shape (n_rates,), default=None
        Share of unseen good images that is rejected.
    smallest_found : array-like of shape (n_rates,), default=None
        Size from which on painted defects are found, as a share of the shorter side of the image;
        NaN where none is.
    asked_rate : float, default=None
        The rate that the pipeline was fitted with, marked by a line.
    n_good : int, default=None
        Number of the good images that false alarms were counted among; None: it is not known.
    n_independent : int, default=None
        How many of them are independent (groups); None: all. It sets the width of the band.
    smallest_rate : float, default=0.0
        The smallest rate that the training images can guarantee; below it, that rate is what
        counts.

    Attributes
    ----------
    false_alarms_low, false_alarms_high : ndarray of shape (n_rates,), or None
        95 % interval of each share of false alarms (Clopper and Pearson): from `n_good`, or from
        the table; else None.

    Examples
    --------
    >>> from skstructcore.display import OperatingPointDisplay
    >>> display = OperatingPointDisplay([0.05, 0.1], [0.4, 0.8], [0.0, 0.15], n_good=20)
    >>> display.table()
       false_alarm_rate  found  false_alarms
    0              0.05    0.4          0.00
    1              0.10    0.8          0.15
    >>> display.false_alarms_high.round(3)
    array([0.168, 0.379])
    """

    _size = (6.6, 4.4)
    _arrays = ("false_alarm_rate", "found", "false_alarms", "smallest_found")

    false_alarm_rate: ArrayLike
    found: ArrayLike | None = None
    false_alarms: ArrayLike | None = None
    smallest_found: ArrayLike | None = None
    asked_rate: float | None = None
    _: KW_ONLY
    n_good: int | None = None
    n_independent: int | None = None
    smallest_rate: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_rates(self.false_alarm_rate)
        in_order = self.table().sort_values("false_alarm_rate", kind="stable")
        for name in in_order:  # lines go from rate to rate
            setattr(self, name, in_order[name].to_numpy())
        for name in ("found", "false_alarms"):
            shares = getattr(self, name)
            if shares is not None and not ((shares >= 0) & (shares <= 1)).all():
                raise ValueError(f"{name} must be shares between 0 and 1, got {shares.tolist()}.")
        self.false_alarms_low = self.false_alarms_high = None
        if self.n_good is not None:
            if self.n_good < 1 or self.false_alarms is None:
                missing = "n_good without false_alarms: give both, or none."
                raise ValueError(_NO_GOOD if self.n_good < 1 else missing)
            n = self.n_good if self.n_independent is None else self.n_independent
            self.false_alarms_low, self.false_alarms_high = share_interval(self.false_alarms, n)

    @classmethod
    def from_estimator(
        cls,
        pipe: Pipeline,
        images: ImagesLike,
        y: ArrayLike | None = None,
        *,
        false_alarm_rates: Sequence[float] = FALSE_ALARM_RATES,
        groups: ArrayLike | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Score images with a fitted pipeline, and draw; the backbone runs.

        Parameters
        ----------
        pipe, images, y, ax
            See `ScoreShiftDisplay.from_estimator`. Without labels all images are good.
        false_alarm_rates : sequence of float in (0, 1)
            From 0.1 % to 30 % by default.
        groups : array-like of shape (n_images,), default=None
            Images of one group are alike and count as one in the band. None: what the `ImageSet`
            says, else each is its own.
        """
        groups = getattr(images, "groups", None) if groups is None else groups
        options = {"false_alarm_rates": false_alarm_rates, "groups": groups}
        return super().from_estimator(pipe, images, y, ax=ax, **options)

    @staticmethod
    def _check(scorer, n_images, labels, *, false_alarm_rates=FALSE_ALARM_RATES, groups=None):
        _check_rates(np.asarray(false_alarm_rates, dtype=np.float64))
        if groups is not None:
            check_labels(groups, n_images, "groups")
        if labels is not None and GOOD not in labels:
            raise ValueError(_NO_GOOD)

    @classmethod
    def of(cls, described, scorer, labels, *, false_alarm_rates=FALSE_ALARM_RATES, groups=None):
        check_described(described, "anomaly_score", "route")
        rates = np.asarray(false_alarm_rates, dtype=np.float64)
        good = np.ones(len(described), dtype=bool) if labels is None else labels == GOOD
        rejected = rejections(described, scorer, rates)
        return cls(
            rates,
            None if good.all() else rejected[:, ~good].mean(axis=1),
            rejected[:, good].sum(axis=1) / max(good.sum(), 1),
            asked_rate=scorer.calibration_.decision.asked_rate,
            n_good=int(good.sum()),
            n_independent=None if groups is None else len(np.unique(np.asarray(groups)[good])),
            smallest_rate=scorer.routes_.smallest_rate,
        )

    @classmethod
    def from_table(
        cls, table: pd.DataFrame, *, asked_rate: float | None = None, ax: Axes | None = None
    ) -> Self:
        """Draw the table of `skstructcore.lifecycle.operating_points`.

        Parameters
        ----------
        table : DataFrame
            Made with images: what is found of painted defects stands for what is found, unless
            defects were among the images.
        asked_rate, ax
            See the class and `plot`.
        """
        rates = table["false_alarm_rate"]
        possible = table.get("rate", rates)  # larger where images are too few
        smallest = possible[possible > rates + ROUNDING].max()
        # What is found is the same in the rows of all routes.
        table = table.drop_duplicates("false_alarm_rate").sort_values("false_alarm_rate")
        shares = table.get("found", table.get("painted_found"))
        if shares is None:
            raise ValueError("The table has no column found: call operating_points with images.")
        optional = (table.get(name) for name in ("false_alarms", "smallest_found"))
        numbers = table["false_alarm_rate"], shares, *optional, asked_rate
        display = cls(*numbers, smallest_rate=float(np.nan_to_num(smallest)))
        for name in {"false_alarms_low", "false_alarms_high"}.intersection(table):
            setattr(display, name, table[name].to_numpy())
        return display.plot(ax)

    def table(self) -> pd.DataFrame:
        """Return the numbers of the picture, a row a rate."""
        columns = {name: getattr(self, name) for name in self._arrays}
        return pd.DataFrame({key: value for key, value in columns.items() if value is not None})

    def _draw(self, ax):
        rates = self.false_alarm_rate
        if self.found is not None:
            ax.plot(rates, self.found, "o-", color=ORANGE, label="defects found")
        if self.false_alarms is not None:
            ax.plot(rates, self.false_alarms, "s--", color=BLUE, label="good images rejected")
        if self.false_alarms_low is not None:
            is_grouped = self.n_independent not in (None, self.n_good)
            among = f" ({self.n_good} images" + f", {self.n_independent} groups" * is_grouped + ")"
            label = "95 % interval" + (among if self.n_good else "")
            band = {"color": BLUE, "alpha": 0.18, "lw": 0, "label": label}
            ax.fill_between(rates, self.false_alarms_low, self.false_alarms_high, **band)
        if self.smallest_found is not None:
            label = "smallest painted defect found, of the shorter side"
            ax.plot(rates, self.smallest_found, "D-.", color=GREEN, label=label)
        ax.plot(rates, np.maximum(rates, self.smallest_rate), ":", color=GREY, label="asked for")
        ax.set_xscale("log")
        percent_axis(ax.xaxis, rates)
        ax.tick_params(axis="x", rotation=45)
        ticks, most = np.linspace(0, 1, 6), 1.02
        if self.found is None:  # small shares need room
            shares = () if self.false_alarms is None else self.false_alarms
            most = max(2 * rates.max(), 1.05 * np.max(shares, initial=0))
            ticks = [0, 0.01, 0.05, 0.1, 0.2, 0.5, 1]
            ax.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))
        percent_axis(ax.yaxis, [tick for tick in ticks if tick <= most])
        ax.set_ylim(0 if self.found is None else -0.02, most)
        ax.grid(alpha=0.25)
        if self.asked_rate is not None:
            ax.axvline(self.asked_rate, color="black", lw=1, ls="-.", label="as fitted")
        ax.set(xlabel="false alarms asked for", ylabel="share")
        ax.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def _check_rates(rates):
    if rates.ndim != 1 or not rates.size or not ((rates > 0) & (rates < 1)).all():
        raise ValueError(f"false_alarm_rates must be shares between 0 and 1, got {rates.tolist()}.")


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
    _arrays = _finite = ("false_positive_rate", "overlap")

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
        images : ImageSet
            With masks, as `evaluate` takes them; types of defects without any are left out.
        pipe, max_fpr, name, ax
            See `ScoreShiftDisplay.from_estimator` and the class.
        """
        drawing()
        check_number(max_fpr, "max_fpr", 0, 1, closed="right")  # errors before the work
        fitted_steps(pipe)
        check_masks(images)
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
        n_curves = sum(line.get_gid() == "AUPRO" for line in ax.lines)  # labels may change
        label = f"AUPRO {100 * self.aupro:.1f} %"
        label = f"{self.name}: {label}" if self.name else label
        curve = self.false_positive_rate, self.overlap
        (self.line_,) = ax.plot(*curve, label=label, gid="AUPRO", **line_style(n_curves))
        if n_curves == 0:
            ax.fill_between(*self._area, color=BLUE, alpha=0.15, lw=0)
            ax.axvline(self.max_fpr, color=GREY, ls="--", lw=1)
            ax.text(self.max_fpr, 0.5, " end of the area", fontsize=8, color=GREY, va="center")
        for axis in (ax.xaxis, ax.yaxis):
            percent_axis(axis, np.linspace(0, 1, 6))
        ax.set(xlim=(0, 1), xlabel="normal pixels over the threshold")
        ax.set(ylim=(0, 1.02), ylabel="share of a defect over the threshold (mean)")
        ax.legend(loc="lower right")
