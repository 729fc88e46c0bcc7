"""What each false-alarm rate costs in good parts and brings in defects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .._utils.warning import renamed
from ..images.labels import is_anomalous
from ._base import ScoredDisplay
from ._inputs import FALSE_ALARM_RATES, check_same_length, rejected_at
from ._style import BLUE, GREEN, GREY, ORANGE, percent_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike
    from typing_extensions import Self

    from ..scoring.structcore import StructCoreScorer


@dataclass(eq=False, repr=False)
class OperatingPointDisplay(ScoredDisplay):
    """Defects found and good images rejected, at every false-alarm rate that one may ask for.

    Parameters
    ----------
    asked : array-like of shape (n_rates,)
        False-alarm rates, above 0.
    found : array-like of shape (n_rates,)
        Share of the defects that is found at each.
    false_alarms : array-like of shape (n_rates,), default=None
        Share of unseen good images that is rejected.
    smallest_defect : array-like of shape (n_rates,), default=None
        Size from which on painted defects are found, as a share of the shorter side of the image;
        NaN where none is.
    chosen : float, default=None
        The rate that the pipeline was fitted with, marked by a line.

    Attributes
    ----------
    smallest_ax_ : matplotlib.axes.Axes or None
        Of the smallest defect, with the same horizontal axis.
    figure_ : matplotlib.figure.Figure

    Examples
    --------
    >>> from skstructcore.display import OperatingPointDisplay
    >>> display = OperatingPointDisplay([0.01, 0.1], [0.4, 0.8], [0.0, 0.12], chosen=0.01)
    >>> display.table()
           asked  found  false_alarms
    0   0.01    0.4          0.00
    1   0.10    0.8          0.12
    """

    _size = (6.6, 4.4)

    asked: ArrayLike
    found: ArrayLike
    false_alarms: ArrayLike | None = None
    smallest_defect: ArrayLike | None = None
    chosen: float | None = None

    def __post_init__(self) -> None:
        self._as_arrays("asked", "found", "false_alarms", "smallest_defect")
        if not (self.asked > 0).all():
            raise ValueError(f"False-alarm rates must be above 0, got {self.asked.min():g}.")

    @classmethod
    @renamed("levels", "false_alarm_rates")
    def from_predictions(
        cls,
        described: pd.DataFrame,
        scorer: StructCoreScorer,
        y: ArrayLike,
        *,
        false_alarm_rates: ArrayLike = FALSE_ALARM_RATES,
        ax: Axes | None = None,
    ) -> Self:
        """Draw scores that are known already.

        Parameters
        ----------
        described : DataFrame
            From ``scorer.describe``.
        scorer : StructCoreScorer
        y : array-like of shape (n_images,)
            Good images and defects, both.
        false_alarm_rates : array-like, default=from 0.1 % to 30 %
        ax : matplotlib.axes.Axes, default=None
            See `plot`.

        Returns
        -------
        display : OperatingPointDisplay
        """
        if y is None:
            raise ValueError("Labels are needed to count defects found: pass y, or an ImageSet.")
        check_same_length(described=described, y=y)
        anomalous = is_anomalous(y, both=True)
        rejected = rejected_at(described, scorer, false_alarm_rates)
        return cls(
            false_alarm_rates,
            rejected[:, anomalous].mean(axis=1),
            rejected[:, ~anomalous].mean(axis=1),
            chosen=scorer.calibration_.decision.asked_rate,
        ).plot(ax)

    @classmethod
    def from_table(
        cls, table: pd.DataFrame, *, chosen: float | None = None, ax: Axes | None = None
    ) -> Self:
        """Draw the table of `skstructcore.lifecycle.operating_points`.

        Parameters
        ----------
        table : DataFrame
            Made with images: what is found of painted defects stands for what is found, unless
            defects were among the images.
        chosen : float, default=None
        ax : matplotlib.axes.Axes, default=None
            See `plot`.

        Returns
        -------
        display : OperatingPointDisplay
        """
        # What is found is the same in the rows of all routes.
        table = table.drop_duplicates("false_alarm_rate")
        found = next((name for name in ("found", "painted_found") if name in table), None)
        if found is None:
            raise ValueError(
                "The table does not say what is found: call operating_points with images."
            )
        optional = (table.get(name) for name in ("false_alarms", "smallest_found"))
        return cls(table["false_alarm_rate"], table[found], *optional, chosen).plot(ax)

    def table(self) -> pd.DataFrame:
        """Return the numbers of the picture, a row a rate."""
        columns = {
            "asked": self.asked,
            "found": self.found,
            "false_alarms": self.false_alarms,
            "smallest_defect": self.smallest_defect,
        }
        return pd.DataFrame({key: value for key, value in columns.items() if value is not None})

    def _draw(self, ax):
        """Draw both shares against the rate that is asked for."""
        ax.plot(self.asked, self.found, "o-", color=ORANGE, label="defects found")
        if self.false_alarms is not None:
            ax.plot(self.asked, self.false_alarms, "s--", color=BLUE, label="good images rejected")
        ax.plot(self.asked, self.asked, ":", color=GREY, label="asked for")
        ax.set_xscale("log")
        percent_axis(ax.xaxis, self.asked)
        ax.tick_params(axis="x", rotation=45)
        percent_axis(ax.yaxis, np.linspace(0, 1, 6))
        ax.set_ylim(-0.02, 1.02)
        ax.grid(alpha=0.25)
        if self.chosen is not None:
            ax.axvline(self.chosen, color="black", lw=1, ls="-.", label="as fitted")
        ax.set_xlabel("false alarms asked for")
        ax.set_ylabel("share of the images")
        self.smallest_ax_ = None
        if self.smallest_defect is not None:
            self.smallest_ax_ = ax.twinx()
            self.smallest_ax_.plot(self.asked, self.smallest_defect, "D-.", color=GREEN)
            self.smallest_ax_.set_ylabel(
                "smallest painted defect found, of the shorter side", color=GREEN
            )
            self.smallest_ax_.set_ylim(bottom=0)
            self.smallest_ax_.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g} %")
            ax.plot([], [], "D-.", color=GREEN, label="smallest painted defect")
        ax.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
