"""Which images the structure term moves over the threshold: Figure 2 of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..images.labels import GOOD
from ._anomaly_map import base_thresholds
from ._base import ScoredDisplay
from ._inputs import check_described, members_of
from ._style import BLUE, GREY, ORANGE, as_text, label_styles, legend_beside

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


_REGIONS = ("both", "only_hybrid", "only_base", "neither")


@dataclass(eq=False, repr=False)
class ScoreShiftDisplay(ScoredDisplay):
    """The base score (max pooling) of images against their hybrid score, with both thresholds.

    With routes the base score is divided by the threshold of its route, as the hybrid score is
    standardised already, so that images of all products fit into one picture.

    Parameters
    ----------
    base, hybrid : array-like of shape (n_images,)
        Higher is more anomalous.
    base_threshold, threshold : float
        Scores above them are anomalous.
    labels : array-like of shape (n_images,) of str, default=None
        "good", or the type of the defect.

    Examples
    --------
    >>> from skstructcore.display import ScoreShiftDisplay
    >>> display = ScoreShiftDisplay(
    ...     [1, 1, 3, 3], [1, 5, 1, 5], 2, 4, ["good", "dent", "good", "dent"]
    ... )
    >>> display.counts()
             both  only_hybrid  only_base  neither
    good        0            0          1        1
    defects     1            1          0        0
    """

    _size = (7.4, 5)

    base: ArrayLike
    hybrid: ArrayLike
    base_threshold: float
    threshold: float
    labels: ArrayLike | None = None

    def __post_init__(self) -> None:
        self._as_arrays("base", "hybrid", "labels")

    @classmethod
    def _of(cls, described, scorer, labels):
        check_described(described, "base", "anomaly_score")
        base = described["base"].to_numpy()
        base_threshold = scorer.calibration_.base_decision.threshold
        if scorer.is_routed_:
            base, base_threshold = base / base_thresholds(described, scorer), 1.0
        hybrid = described["anomaly_score"].to_numpy()
        return cls(base, hybrid, base_threshold, -scorer.offset_, labels)

    def counts(self) -> pd.DataFrame:
        """Count images by which of the two scores rejects them.

        Returns
        -------
        counts : DataFrame
            A row for good images and one for defects, or one row for all images where the labels
            are not known. Columns ``both``, ``only_hybrid``, ``only_base``, ``neither``.
        """
        by_base, by_hybrid = self.base > self.base_threshold, self.hybrid > self.threshold
        regions = (
            by_base & by_hybrid,
            ~by_base & by_hybrid,
            by_base & ~by_hybrid,
            ~by_base & ~by_hybrid,
        )
        members = members_of(self.labels, len(self.base))
        rows = [[int((r & mine).sum()) for r in regions] for mine in members.values()]
        return pd.DataFrame(rows, index=list(members), columns=list(_REGIONS))

    def _draw(self, ax):
        """Draw a mark an image, and shade the regions by who rejects them."""
        labels = np.full(len(self.base), "images") if self.labels is None else self.labels
        styles = label_styles(labels)
        present = dict.fromkeys(labels.tolist())
        for label in sorted(present, key=lambda label: label != GOOD):  # defects above good images
            mine = labels == label
            ax.scatter(
                self.base[mine],
                self.hybrid[mine],
                s=22,
                alpha=0.75,
                linewidths=0.4,
                edgecolors="white",
                label=f"{as_text(label)} ({mine.sum()})",
                **styles[label],
            )
        self._frame(ax)
        self._shade(ax)
        ax.axvline(self.base_threshold, color=GREY, ls="--", lw=1.2, label="threshold, base")
        ax.axhline(self.threshold, color="black", ls="-", lw=1.2, label="threshold, hybrid")
        ax.set_xlabel("base score (farthest patch)")
        ax.set_ylabel("hybrid score (with structure)")
        legend_beside(ax)

    def _frame(self, ax):
        # The margins leave room for the words in the corners.
        for values, limit, set_limits, share in (
            (self.base, self.base_threshold, ax.set_xlim, 0.08),
            (self.hybrid, self.threshold, ax.set_ylim, 0.18),
        ):
            low, high = min(values.min(), limit), max(values.max(), limit)
            margin = share * (high - low or 1)
            set_limits(low - margin, high + margin)

    def _shade(self, ax):
        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
        x, y = self.base_threshold, self.threshold
        counts = self.counts()
        regions = {
            "both": (x, right, y, top, GREY, None, "right", "top"),
            "only_hybrid": (left, x, y, top, BLUE, "//", "left", "top"),
            "only_base": (x, right, bottom, y, ORANGE, "\\\\", "right", "bottom"),
            "neither": (left, x, bottom, y, "white", None, "left", "bottom"),
        }
        for name, (x0, x1, y0, y1, color, hatch, ha, va) in regions.items():
            ax.fill_between(
                [x0, x1], y0, y1, color=color, alpha=0.1, hatch=hatch, linewidth=0, zorder=0
            )
            place = (x0 if ha == "left" else x1, y0 if va == "bottom" else y1)
            offset = (5 if ha == "left" else -5, 5 if va == "bottom" else -5)
            ax.annotate(
                _words(name, counts[name]),
                place,
                offset,
                textcoords="offset points",
                ha=ha,
                va=va,
                fontsize=8,
                bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
            )


def _words(region, counts):
    """What a region means, and how many images are in it: gained, lost or the same."""
    heading = {
        "both": "both reject",
        "only_hybrid": "only hybrid rejects",
        "only_base": "only base rejects",
        "neither": "both accept",
    }[region]
    if "images" in counts:
        return f"{heading}\n{counts['images']} images"
    good, defects = counts[GOOD], counts["defects"]
    lines = {
        "only_hybrid": (f"+{defects} defects found", f"+{good} false alarms"),
        "only_base": (f"−{defects} defects lost", f"−{good} false alarms"),
        "both": (f"{defects} defects", f"{good} good"),
        "neither": (f"{defects} defects", f"{good} good"),
    }[region]
    return "\n".join([heading, *lines])
