"""Which images the structure term moves over the threshold: Figure 2 of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..images.labels import GOOD
from ..scoring.table import base_thresholds
from ._base import ScoredDisplay, check_described, members_of
from .style import BLUE, GREY, ORANGE, around, as_text, label_styles, legend_beside

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


# Whether a region is right of the base threshold and above the other, how it looks, what it means,
# and what it says of the defects and good images in it.
_REGIONS = {
    "both": (True, True, GREY, None, "both reject", "{} defects", "{} good"),
    "only_score": (
        False, True, BLUE, "//", "score alone rejects",
        "+{} defects found", "+{} false alarms",
    ),
    "only_base": (
        True, False, ORANGE, "\\\\", "base alone rejects",
        "−{} defects lost", "−{} false alarms",
    ),
    "neither": (False, False, "white", None, "both accept", "{} defects", "{} good"),
}  # fmt: skip


@dataclass(eq=False, repr=False)
class ScoreShiftDisplay(ScoredDisplay):
    """The base score (max pooling) of images against their anomaly score, with both thresholds.

    With routes the base score is divided by the threshold of its route, as the anomaly score
    is already, so that images of all routes fit into one picture.

    Parameters
    ----------
    base, scores : array-like of shape (n_images,)
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
             both  only_score  only_base  neither
    good        0           0          1        1
    defects     1           1          0        0
    """

    _size = (7.4, 5)

    base: ArrayLike
    scores: ArrayLike
    base_threshold: float
    threshold: float
    labels: ArrayLike | None = None

    def __post_init__(self) -> None:
        self._as_arrays("base", "scores", "labels")
        for name in ("base", "scores"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} must be finite numbers: leave out what has no score.")

    @classmethod
    def of(cls, described, scorer, labels):
        check_described(described, "base", "anomaly_score")
        base = described["base"].to_numpy()
        base_threshold = scorer.calibration_.base_decision.threshold
        if scorer.is_routed_:
            base, base_threshold = base / base_thresholds(described, scorer), 1.0
        scores = described["anomaly_score"].to_numpy()
        return cls(base, scores, base_threshold, -scorer.offset_, labels)

    def counts(self) -> pd.DataFrame:
        """Count images by which of the two scores rejects them.

        Returns
        -------
        counts : DataFrame
            A row for good images and one for defects, or one row for all images where the labels
            are not known. Columns ``both``, ``only_score``, ``only_base``, ``neither``.
        """
        by_base, by_score = self.base > self.base_threshold, self.scores > self.threshold
        regions = {
            name: (by_base == is_right) & (by_score == is_top)
            for name, (is_right, is_top, *_) in _REGIONS.items()
        }
        members = members_of(self.labels, len(self.base))
        rows = [[int((r & mine).sum()) for r in regions.values()] for mine in members.values()]
        return pd.DataFrame(rows, index=list(members), columns=list(regions))

    def _draw(self, ax):
        labels = np.full(len(self.base), "images") if self.labels is None else self.labels
        styles = label_styles(labels)
        present = dict.fromkeys(labels.tolist())
        for label in sorted(present, key=lambda label: label != GOOD):  # defects above good images
            mine = labels == label
            ax.scatter(
                self.base[mine],
                self.scores[mine],
                s=22,
                alpha=0.75,
                linewidths=0.4,
                edgecolors="white",
                label=f"{as_text(label)} ({mine.sum()})",
                **styles[label],
            )
        self._frame(ax)
        self._shade(ax)
        ax.axvline(self.base_threshold, color=GREY, ls="--", lw=1.2, label="threshold, base score")
        ax.axhline(self.threshold, color="black", ls="-", lw=1.2, label="threshold, anomaly score")
        ax.set_xlabel("base score (farthest patch)")
        ax.set_ylabel("anomaly score (with structure)")
        legend_beside(ax)

    def _frame(self, ax):
        # The margins leave room for the words in the corners.
        ax.set_xlim(around(self.base, self.base_threshold, 0.08))
        ax.set_ylim(around(self.scores, self.threshold, 0.18))

    def _shade(self, ax):
        """Colour each region, and write into its corner what it means and who is in it."""
        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
        x, y = self.base_threshold, self.threshold
        counts = self.counts()
        for name, (is_right, is_top, color, hatch, heading, *words) in _REGIONS.items():
            xs = (x, right) if is_right else (left, x)
            ys = (y, top) if is_top else (bottom, y)
            ax.fill_between(xs, *ys, color=color, alpha=0.1, hatch=hatch, linewidth=0, zorder=0)
            members = counts[name]
            if "images" in members:
                lines = [f"{members['images']} images"]
            else:
                numbers = members["defects"], members[GOOD]
                lines = [text.format(n) for text, n in zip(words, numbers, strict=True)]
            ax.annotate(
                "\n".join([heading, *lines]),
                (xs[is_right], ys[is_top]),
                (-5 if is_right else 5, -5 if is_top else 5),
                textcoords="offset points",
                ha="right" if is_right else "left",
                va="top" if is_top else "bottom",
                fontsize=8,
                bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
            )
