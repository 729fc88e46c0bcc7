"""How the evidence that a line has changed grows, image by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..lifecycle.drift import DriftMonitor
from ._base import Display, described_by
from .style import GREY, as_text, legend_beside, line_style

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from sklearn.pipeline import Pipeline
    from typing_extensions import Self

    from ..images.image_list import ImagesLike


@dataclass(eq=False, repr=False)
class DriftDisplay(Display):
    """The martingales of a `DriftMonitor` over the images of a line.

    Parameters
    ----------
    log10_evidence : DataFrame of shape (n_images, n_tests)
        After each image; a column a test. 0 is where each starts.
    log10_alarm : mapping of column to float
        Where each test gives an alarm.
    alarms : sequence of (position, text), default=()
        What was noticed.

    Examples
    --------
    >>> import pandas as pd
    >>> from skstructcore.display import DriftDisplay
    >>> evidence = pd.DataFrame({"higher scores": [0.0, -0.1, 0.8, 2.2]})
    >>> display = DriftDisplay(evidence, {"higher scores": 2.0}, [(3, "higher scores")])
    >>> display.plot().ax_.get_ylabel()
    'evidence of a change (log10)'
    """

    _size = (8, 3.8)

    log10_evidence: pd.DataFrame
    log10_alarm: Mapping[str, float]
    alarms: Sequence[tuple[int, str]] = ()

    def __post_init__(self) -> None:
        missing = [name for name in self.log10_evidence if name not in self.log10_alarm]
        if missing:
            raise ValueError(f"log10_alarm has no entry for the tests {missing}.")
        self.alarms = list(self.alarms)

    @classmethod
    def from_estimator(cls, pipe: Pipeline, images: ImagesLike, *, ax: Axes | None = None) -> Self:
        """Watch images with a new `DriftMonitor` as it is by default, and draw; the backbone runs.

        Parameters
        ----------
        pipe, images, ax
            See `ScoreShiftDisplay.from_estimator`; images in the order in which they were made.
        """
        described, _ = described_by(pipe, images)
        return cls.from_predictions(described, DriftMonitor(pipe), ax=ax)

    @classmethod
    def from_predictions(
        cls, described: pd.DataFrame, monitor: DriftMonitor, *, ax: Axes | None = None
    ) -> Self:
        """Feed a monitor with images one by one, and draw what it says after each.

        Parameters
        ----------
        described : DataFrame
            From `StructCoreScorer.describe`, in the order in which the images were made.
        monitor : DriftMonitor
            It takes the images in.
        ax : Axes, default=None
            See `plot`.
        """
        if not len(described):
            raise ValueError("There are no images to watch: at least one is needed.")
        n_alarms, first, tables = len(monitor.alarms_), monitor.n_images_, []
        for i in range(len(described)):
            monitor.update(described.iloc[i : i + 1])
            tables.append(monitor.evidence())
        route, kind = tables[-1]["route"], tables[-1]["kind"]
        names = kind.where(route == "all", route + ": " + kind).tolist()
        rows = np.array([table["log10_evidence"] for table in tables])
        evidence = pd.DataFrame(rows, range(first, first + len(rows)), names)
        limits = dict(zip(names, tables[-1]["log10_alarm"], strict=True))
        alarms = [(alarm.image, alarm.kind) for alarm in monitor.alarms_[n_alarms:]]
        return cls(evidence, limits, alarms).plot(ax)

    def _draw(self, ax):
        for k, name in enumerate(self.log10_evidence):
            label = as_text(name)
            ax.plot(self.log10_evidence[name], lw=1.5, label=label, **line_style(k))
        for limit in sorted(set(self.log10_alarm.values())):
            ax.axhline(limit, color=GREY, lw=1)
            ax.annotate(
                "alarm", (0, limit), (3, 2), xycoords=("axes fraction", "data"),
                textcoords="offset points", fontsize=8, color=GREY,
            )  # fmt: skip
        middle = np.mean(self.log10_evidence.index)
        for k, (position, text) in enumerate(self.alarms):  # names of near alarms do not overlap
            ax.axvline(position, color="black", lw=1, ls=":")
            ax.annotate(
                f"{as_text(text)}: {position}",
                (position, 1.01 + 0.06 * (k % 3)), xycoords=("data", "axes fraction"),
                va="bottom", ha="right" if position > middle else "left", fontsize=8,
            )  # fmt: skip
        ax.set(xlabel="image, by position in the stream", ylabel="evidence of a change (log10)")
        legend_beside(ax)
