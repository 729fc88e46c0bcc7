"""How the scores of good and defective images are spread about the threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..images.labels import GOOD
from ._base import ScoredDisplay, check_described, members_of
from .style import BLUE, GREY, ORANGE, legend_beside

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


_CALIBRATION = "good, calibration"


@dataclass(eq=False, repr=False)
class ScoreHistogramDisplay(ScoredDisplay):
    """Anomaly scores of good images, of defects and of the calibration images.

    Parameters
    ----------
    scores : array-like of shape (n_images,)
        Higher is more anomalous.
    threshold : float
        Scores above it are anomalous.
    labels : array-like of shape (n_images,) of str, default=None
        "good", or the type of the defect.
    calibration_scores : array-like of shape (n_calibration_images,), default=()
        Scores of the good images that the threshold comes from: training images, held out unless
        the fit was in-sample, and those that `recalibrate` was given. Where new good images
        score differently from held-out or fresh ones, something has changed since.

    Attributes
    ----------
    edges : ndarray of shape (n_bins + 1,)
        The bins; all histograms share them.

    Examples
    --------
    >>> from skstructcore.display import ScoreHistogramDisplay
    >>> display = ScoreHistogramDisplay([1, 2, 2, 9], 3, ["good", "good", "good", "dent"])
    >>> {name: values.tolist() for name, values in display.histograms().items()}
    {'good': [1, 2, 2], 'defects': [9]}
    """

    _size = (7.4, 4)

    scores: ArrayLike
    threshold: float
    labels: ArrayLike | None = None
    calibration_scores: ArrayLike = ()

    def __post_init__(self) -> None:
        self._as_arrays("scores", "labels")
        self.calibration_scores = np.asarray(self.calibration_scores, dtype=np.float64)
        everything = np.concatenate([self.scores, self.calibration_scores])
        n_bins = int(np.clip(2 * np.sqrt(len(self.scores)), 10, 50))
        self.edges = np.histogram_bin_edges(everything, bins=n_bins)

    @classmethod
    def of(cls, described, scorer, labels):
        check_described(described, "anomaly_score")
        routes = [route for route in scorer.routes_.values() if not route.is_pooled]
        scaled = [route.scale_scores(route.calibration.decision.scores) for route in routes]
        calibration = np.concatenate([*scaled, np.empty(0)])
        return cls(described["anomaly_score"], -scorer.offset_, labels, calibration)

    def histograms(self) -> dict[str, NDArray[np.float64]]:
        """Return the scores of each histogram."""
        members = members_of(self.labels, len(self.scores))
        found = {name: self.scores[mine] for name, mine in members.items()}
        found[_CALIBRATION] = self.calibration_scores
        return {name: values for name, values in found.items() if len(values)}

    def _draw(self, ax):
        looks = {
            GOOD: {"color": BLUE, "alpha": 0.55},
            "images": {"color": BLUE, "alpha": 0.55},
            "defects": {"facecolor": "none", "edgecolor": ORANGE, "hatch": "///", "lw": 1.2},
            _CALIBRATION: {"facecolor": "none", "edgecolor": "black", "ls": "--", "lw": 1.2},
        }
        for name, values in self.histograms().items():
            share = np.full(len(values), 1 / len(values))
            label = f"{name} ({len(values)})"
            ax.hist(
                values, self.edges, weights=share, histtype="stepfilled", label=label, **looks[name]
            )
        ax.axvline(self.threshold, color=GREY, lw=2, label="threshold")
        ax.set_xlabel("anomaly score")
        ax.set_ylabel("share of its images")
        legend_beside(ax)
