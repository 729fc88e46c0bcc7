"""Whether the false-alarm rate that was asked for is kept on unseen good images."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import beta

from .._utils.warning import renamed
from ..images.labels import is_anomalous
from ._base import ScoredDisplay
from ._inputs import FALSE_ALARM_RATES, check_same_length, rejected_at
from ._style import BLUE, GREY, percent_axis

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike
    from typing_extensions import Self

    from ..scoring.structcore import StructCoreScorer


@dataclass(eq=False, repr=False)
class CalibrationDisplay(ScoredDisplay):
    """False alarms that were asked for, against those on unseen good images.

    Parameters
    ----------
    asked : array-like of shape (n_rates,)
        False-alarm rates.
    false_alarms : array-like of shape (n_rates,)
        How many good images are rejected at each.
    n_good : int
        Number of good images.
    n_independent : int, default=None
        How many of them are independent (groups); None: all. It sets the width of the band.
    promised : float, default=None
        The smallest rate that the training images can guarantee; below it, that rate is what
        counts. None, or 0: there is none.

    Attributes
    ----------
    measured : ndarray of shape (n_rates,)
        Shares of the good images.
    lower, upper : ndarray of shape (n_rates,)
        95 % interval of each (Clopper and Pearson).

    See Also
    --------
    sklearn.calibration.CalibrationDisplay : Of probabilities, for classifiers.

    Examples
    --------
    >>> from skstructcore.display import CalibrationDisplay
    >>> display = CalibrationDisplay([0.05, 0.1], [0, 3], n_good=20)
    >>> display.measured, display.upper.round(3)
    (array([0.  , 0.15]), array([0.168, 0.379]))
    """

    _size = (5.6, 4.8)
    _carried = ("groups",)

    asked: ArrayLike
    false_alarms: ArrayLike
    n_good: int
    _: KW_ONLY
    n_independent: int | None = None
    promised: float | None = None

    def __post_init__(self) -> None:
        self.asked = np.asarray(self.asked, dtype=np.float64)
        self.false_alarms = np.asarray(self.false_alarms)
        if self.n_good < 1:
            raise ValueError("No good image is among them: false alarms cannot be counted.")
        if self.false_alarms.min() < 0 or self.false_alarms.max() > self.n_good:
            raise ValueError(f"false_alarms must be counts of the {self.n_good} good images.")
        if self.n_independent is None:
            self.n_independent = self.n_good
        self.measured = self.false_alarms / self.n_good
        n = self.n_independent
        hits = self.measured * n
        # Without a false alarm the interval begins at 0, with false alarms only it ends at 1.
        with np.errstate(invalid="ignore"):
            self.lower = np.nan_to_num(beta.ppf(0.025, hits, n - hits + 1), nan=0.0)
            self.upper = np.nan_to_num(beta.ppf(0.975, hits + 1, n - hits), nan=1.0)

    @classmethod
    @renamed("levels", "false_alarm_rates")
    def from_predictions(
        cls,
        described: pd.DataFrame,
        scorer: StructCoreScorer,
        y: ArrayLike | None = None,
        *,
        false_alarm_rates: ArrayLike = FALSE_ALARM_RATES,
        groups: ArrayLike | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw scores that are known already.

        Parameters
        ----------
        described : DataFrame
            From ``scorer.describe``.
        scorer : StructCoreScorer
        y : array-like of shape (n_images,), default=None
            Labels; None: all are good.
        false_alarm_rates : array-like, default=from 0.1 % to 30 %
            False-alarm rates to ask for.
        groups : array-like of shape (n_images,), default=None
            Images of one group are alike and count as one in the band. `from_estimator` takes
            those of the `ImageSet`.
        ax : matplotlib.axes.Axes, default=None
            See `plot`.

        Returns
        -------
        display : CalibrationDisplay
        """
        check_same_length(described=described, y=y, groups=groups)
        good = np.ones(len(described), dtype=bool) if y is None else ~is_anomalous(y)
        false_alarms = rejected_at(described[good], scorer, false_alarm_rates).sum(axis=1)
        n_independent = None if groups is None else len(np.unique(np.asarray(groups)[good]))
        promised = max(decision.smallest_rate for decision in scorer.decisions_.values())
        counts = {"n_independent": n_independent, "promised": promised}
        return cls(false_alarm_rates, false_alarms, int(good.sum()), **counts).plot(ax)

    def _draw(self, ax):
        """Draw the measured rates with their band, and the diagonal that was asked for."""
        most = 1.05 * max(self.asked.max(), min(self.upper.max(), 2 * self.asked.max()))
        ax.fill_between(
            self.asked, self.lower, self.upper, color=BLUE, alpha=0.18, lw=0, label="95 % interval"
        )
        label = f"measured on {self.n_good} good images"
        if self.n_independent != self.n_good:
            label += f"\n({self.n_independent} groups)"
        ax.plot(self.asked, self.measured, "o-", color=BLUE, ms=4, label=label)
        line = np.linspace(0, most, 200)
        kept = line if self.promised is None else np.maximum(line, self.promised)
        ax.plot(line, kept, "--", color=GREY, label="asked for")
        # The axes show roots, because people ask for small rates; a logarithm could not show 0.
        for set_scale in (ax.set_xscale, ax.set_yscale):
            set_scale("function", functions=(_root, np.square))
        for axis in (ax.xaxis, ax.yaxis):
            percent_axis(axis, [0, *(t for t in (0.01, 0.05, 0.1, 0.2, 0.3, 0.5) if t <= most)])
        ax.set_xlim(0, most)
        ax.set_ylim(0, most)
        ax.set_xlabel("false alarms asked for")
        ax.set_ylabel("false alarms")
        ax.legend(loc="upper left", frameon=False, fontsize=9)


def _root(values):
    return np.sqrt(np.maximum(values, 0))
