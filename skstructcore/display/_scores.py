"""The scores of images: histogram, descriptors, what the structure of maps changes, routes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..images.labels import GOOD, UNLABELLED
from ..routing import UNKNOWN
from ..scoring.table import base_thresholds, z_columns
from ._base import ScoredDisplay, check_described
from .style import BLUE, GREY, ORANGE, around, as_text, by_label, label_styles, legend_beside

_CALIBRATION = "good, calibration"

# How a region looks, what it means, and what it says of the defects and good images in it.
_REGIONS = {
    "both": (GREY, None, "both reject", "{} defects", "{} good"),
    "only_score": (BLUE, "//", "score alone rejects", "+{} defects found", "+{} false alarms"),
    "only_base": (ORANGE, "\\\\", "base alone rejects", "−{} defects lost", "−{} false alarms"),
    "neither": ("white", None, "both accept", "{} defects", "{} good"),
}


def members_of(labels: NDArray | None, n_images: int) -> dict[str, NDArray[np.bool_]]:
    """Which images are good and which are defects; all are `UNLABELLED`, if nothing is known."""
    if labels is None:
        return {UNLABELLED: np.ones(n_images, dtype=bool)}
    return {GOOD: labels == GOOD, "defects": labels != GOOD}


@dataclass(eq=False, repr=False)
class DescriptorDisplay(ScoredDisplay):
    """The standardised descriptors of images: what the score adds up.

    Parameters
    ----------
    z : DataFrame of shape (n_images, n_descriptors)
        Standard deviations above good training images; a column a descriptor.
    labels : array-like of shape (n_images,) of str, default=None
        "good", or the type of the defect.

    Examples
    --------
    >>> import pandas as pd
    >>> from skstructcore.display import DescriptorDisplay
    >>> z = pd.DataFrame({"max": [0.1, 5.0, 1.0], "contrast": [0.3, 2.0, 4.0]})
    >>> DescriptorDisplay(z, ["good", "dent", "dent"]).quantiles().loc[("contrast", "defects")]
    5%     2.1
    25%    2.5
    50%    3.0
    75%    3.5
    95%    3.9
    Name: (contrast, defects), dtype: float64
    """

    _arrays = ("z", "labels")

    z: pd.DataFrame
    labels: ArrayLike | None = None

    @classmethod
    def of(cls, described, scorer, labels):
        check_described(described, *z_columns(scorer))
        z = described[z_columns(scorer)]
        return cls(z.rename(columns=lambda name: name.removeprefix("z_")), labels)

    def quantiles(self) -> pd.DataFrame:
        """Return the 5, 25, 50, 75 and 95 % quantiles by descriptor: of good images, of defects."""
        members = members_of(self.labels, len(self.z))
        tables = {
            label: self.z[mine].describe([0.05, 0.25, 0.5, 0.75, 0.95]).loc["5%":"95%"].T
            for label, mine in members.items()
            if mine.any()
        }
        return pd.concat(tables).swaplevel().loc[list(self.z)]

    @property
    def _size(self):
        return 7.4, 1.2 + 0.5 * self.z.shape[1]

    def _draw(self, ax):
        names, members = list(self.z), members_of(self.labels, len(self.z))
        styles = label_styles(members)
        table = self.quantiles().unstack().loc[names].swaplevel(axis=1)
        drawn = [label for label in members if label in table]
        for k, label in enumerate(drawn):
            color, q = styles[label]["color"], table[label]
            rows = np.arange(len(names)) + 0.3 * (k - (len(drawn) - 1) / 2)
            ax.hlines(rows, q["5%"], q["95%"], color=color, lw=1.2)
            ax.hlines(rows, q["25%"], q["75%"], color=color, lw=5, alpha=0.5)
            name = f"{label} ({members[label].sum()})"
            ax.plot(q["50%"], rows, ls="", ms=6, label=name, **styles[label])
        ax.axvspan(-1, 1, color=GREY, alpha=0.12, lw=0, label="one standard deviation")
        ax.axvline(0, color=GREY, lw=1)
        ax.set_yticks(range(len(names)), map(as_text, names))
        ax.set_ylim(len(names) - 0.5, -0.5)
        marks = "(mark: median, thick: middle half, thin: 5 to 95 %)"
        ax.set_xlabel(f"standard deviations above good training images\n{marks}")
        legend_beside(ax)


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
        score differently, something has changed since.

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
    _arrays = ("scores", "labels")
    _finite = ("scores", "calibration_scores")

    scores: ArrayLike
    threshold: float
    labels: ArrayLike | None = None
    calibration_scores: ArrayLike = ()

    def __post_init__(self) -> None:
        self.calibration_scores = np.asarray(self.calibration_scores, dtype=np.float64)
        super().__post_init__()
        everything = np.concatenate([self.scores, self.calibration_scores])
        n_bins = int(np.clip(2 * np.sqrt(len(self.scores)), 10, 50))
        self.edges = np.histogram_bin_edges(everything, bins=n_bins)

    @classmethod
    def of(cls, described, scorer, labels):
        check_described(described, "anomaly_score")
        routes = [route for route in scorer.routes_.values() if not route.is_pooled]
        scaled = [route.scale_scores(route.calibration.decision.scores) for route in routes]
        calibration = np.concatenate([np.empty(0), *scaled])
        return cls(described["anomaly_score"], -scorer.offset_, labels, calibration)

    def histograms(self) -> dict[str, NDArray[np.float64]]:
        """Return the scores of each histogram."""
        members = members_of(self.labels, len(self.scores))
        scores_of = {name: self.scores[mine] for name, mine in members.items()}
        scores_of[_CALIBRATION] = self.calibration_scores
        return {name: values for name, values in scores_of.items() if len(values)}

    def _draw(self, ax):
        usual = {"color": BLUE, "alpha": 0.55}
        looks = {
            "defects": {"facecolor": "none", "edgecolor": ORANGE, "hatch": "///", "lw": 1.2},
            _CALIBRATION: {"facecolor": "none", "edgecolor": "black", "ls": "--", "lw": 1.2},
        }
        for name, values in self.histograms().items():
            share = np.full(len(values), 1 / len(values))
            options = {"label": f"{name} ({len(values)})", **looks.get(name, usual)}
            ax.hist(values, self.edges, weights=share, histtype="stepfilled", **options)
        ax.axvline(self.threshold, color=GREY, lw=2, label="threshold")
        ax.set(xlabel="anomaly score", ylabel="share of its images")
        legend_beside(ax)


@dataclass(eq=False, repr=False)
class ScoreShiftDisplay(ScoredDisplay):
    """The base score (max pooling) of images against their anomaly score, with both thresholds.

    With routes the base score is divided by the threshold of its route, as the anomaly score
    is already, so that images of all routes fit into one picture.

    Parameters
    ----------
    base, scores : array-like of shape (n_images,)
    base_threshold, threshold, labels
        See `ScoreHistogramDisplay`, for either score.

    Examples
    --------
    >>> from skstructcore.display import ScoreShiftDisplay
    >>> display = ScoreShiftDisplay([1, 1, 3, 3], [1, 5, 1, 5], 2, 4, ["good", "dent"] * 2)
    >>> display.counts()
             both  only_score  only_base  neither
    good        0           0          1        1
    defects     1           1          0        0
    """

    _size = (7.4, 5)
    _arrays = ("base", "scores", "labels")
    _finite = ("base", "scores")

    base: ArrayLike
    scores: ArrayLike
    base_threshold: float
    threshold: float
    labels: ArrayLike | None = None

    @classmethod
    def of(cls, described, scorer, labels):
        check_described(described, "base", "anomaly_score")
        base, threshold = described["base"], scorer.calibration_.base_decision.threshold
        if scorer.routes_.is_routed:
            base, threshold = base / base_thresholds(described, scorer), 1.0
        return cls(base, described["anomaly_score"], threshold, -scorer.offset_, labels)

    def counts(self) -> pd.DataFrame:
        """Count images by which of the two scores rejects them.

        Returns
        -------
        counts : DataFrame
            A row for good images and one for defects, or one row for all images where the labels
            are not known. Columns ``both``, ``only_score``, ``only_base``, ``neither``.
        """
        by_base, by_score = self.base > self.base_threshold, self.scores > self.threshold
        rejected = [by_base & by_score, by_score, by_base]
        regions = np.select(rejected, ["both", "only_score", "only_base"], "neither")
        members = members_of(self.labels, len(self.base))
        rows = {label: pd.Series(regions[mine]).value_counts() for label, mine in members.items()}
        return pd.DataFrame(rows, list(_REGIONS)).T.fillna(0).astype(int)

    def _draw(self, ax):
        marks = by_label(self.labels, len(self.base))
        for label, style, mine in sorted(marks, key=lambda mark: mark[0] != GOOD):  # defects above
            ax.scatter(
                self.base[mine], self.scores[mine], s=22, alpha=0.75, linewidths=0.4,
                edgecolors="white", label=f"{as_text(label)} ({mine.sum()})", **style,
            )  # fmt: skip
        # The margins leave room for the words in the corners.
        ax.set_xlim(around(self.base, self.base_threshold, 0.08))
        ax.set_ylim(around(self.scores, self.threshold, 0.18))
        self._shade(ax)
        ax.axvline(self.base_threshold, color=GREY, ls="--", lw=1.2, label="threshold, base score")
        ax.axhline(self.threshold, color="black", ls="-", lw=1.2, label="threshold, anomaly score")
        ax.set(xlabel="base score (farthest patch)", ylabel="anomaly score (with structure)")
        legend_beside(ax)

    def _shade(self, ax):
        """Colour each region, and write into its corner what it means and who is in it."""
        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
        x, y = self.base_threshold, self.threshold
        counts = self.counts()
        for name, (color, hatch, heading, of_defects, of_good) in _REGIONS.items():
            is_right, is_top = name in ("both", "only_base"), name in ("both", "only_score")
            xs = (x, right) if is_right else (left, x)
            ys = (y, top) if is_top else (bottom, y)
            ax.fill_between(xs, *ys, color=color, alpha=0.1, hatch=hatch, linewidth=0, zorder=0)
            members = counts[name]
            if UNLABELLED in members:
                lines = [f"{members[UNLABELLED]} images"]
            else:
                lines = [of_defects.format(members["defects"]), of_good.format(members[GOOD])]
            place = 0.99 if is_right else 0.01, 0.985 if is_top else 0.015
            sides = {"ha": "right" if is_right else "left", "va": "top" if is_top else "bottom"}
            box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1}
            words = "\n".join([heading, *lines])
            ax.text(*place, words, fontsize=8, bbox=box, transform=ax.transAxes, **sides)


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

    def __post_init__(self) -> None:
        super().__post_init__()
        if others := sorted({*map(str, self.nearest_route)} - {*map(str, self.route_names)}):
            raise ValueError(f"nearest_route names {others}, which are not in route_names.")

    @staticmethod
    def _check(scorer, n_images, labels):
        if not scorer.routes_.is_routed:
            raise ValueError(
                "The pipeline has no routes: fit it with bank__categories= (or set "
                "bank__n_routes) and knn__routing='auto'."
            )

    @classmethod
    def of(cls, described, scorer, labels):
        routes, level = scorer.routes_.items(), scorer.unknown_level
        limits = {name: route.tail.critical_distance(level) for name, route in routes}
        check_described(described, "nearest_route", "route_distance")
        ratio = described["route_distance"] / described["nearest_route"].map(limits)
        return cls(described["nearest_route"], ratio, list(limits), labels)

    @property
    def _size(self):
        return 8, 1.5 + 0.5 * len(self.route_names)

    def _draw(self, ax):
        rows, n_images = list(self.route_names), len(self.ratio)
        labels = None if self.labels is None else self.labels.astype(str)
        # Marks of one row are spread, by a fixed seed, so that each call draws the same picture.
        shift = np.random.default_rng(0).uniform(-0.3, 0.3, n_images)
        heights = np.array([rows.index(name) for name in self.nearest_route]) + shift
        for label, style, mine in by_label(labels, n_images):
            look = {"label": as_text(label), "ls": "", "ms": 5, "alpha": 0.6, **style}
            ax.plot(self.ratio[mine], heights[mine], **look)
        ax.axvline(1, color="0.3", ls="--", lw=1)
        ax.text(1, 1, f" {UNKNOWN} →", fontsize=9, va="bottom", transform=ax.get_xaxis_transform())
        ax.set_xscale("log", subs=(2, 5))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter("{x:g}")
        ax.set_yticks(range(len(rows)), map(as_text, rows))
        ax.set_ylim(len(rows) - 0.5, -0.5)
        xlabel = "distance to the route / largest distance of a known image"
        ax.set(xlabel=xlabel, ylabel="sent to")
        if self.labels is not None:
            legend_beside(ax, title="category")
