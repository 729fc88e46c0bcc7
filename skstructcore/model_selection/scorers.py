"""Scorers for `scoring=` of scikit-learn: metrics applied to a fitted model and images.

They ask the estimator for `score_samples` (image metrics) or `transform` (pixel metrics)
and turn the sign of `score_samples`, so that the metrics get anomaly scores. Labels, lengths
and masks are checked before the estimator computes anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .. import metrics
from ..datasets.masks import check_masks, judged_pixels
from ..images.labels import is_anomalous, required_labels

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import ArrayLike

    from ..images.image_list import ImagesLike


def make_anomaly_scorer(
    metric: Callable[..., float],
    *,
    on_maps: bool = False,
    greater_is_better: bool = True,
    **kwargs: Any,
) -> _AnomalyScorer:
    """Make a scorer of a metric, usable as `scoring=` in `GridSearchCV` and `cross_validate`.

    Parameters
    ----------
    metric : callable
        `metric(anomalous, anomaly_score, **kwargs) -> float` with arrays of shape (n,): True
        for anomalous images, and scores of which higher is more anomalous. Metrics of
        scikit-learn fit. With `on_maps=True`, `metric(masks, anomaly_maps, **kwargs)` with
        lists of n arrays of shape (h, w), and with `ignored`, an array of the shape of the maps,
        where the pipeline ignores parts of images.
    on_maps : bool, default=False
        Whether the metric takes masks and maps instead of labels and scores. The images must
        be an `ImageSet` with masks then; see `skstructcore.datasets.judged_pixels` for the
        images that count.
    greater_is_better : bool, default=True
        False turns the sign, because scikit-learn always looks for the largest value.
    **kwargs
        Passed on to the metric.

    Returns
    -------
    scorer : callable
        `scorer(estimator, X, y=None) -> float`. Without `y`, `X.y` holds the labels. Raises
        ValueError rather than return NaN; to make a search stop on that instead of going on
        with NaN, pass it `error_score="raise"`.

    Examples
    --------
    >>> from sklearn.metrics import average_precision_score
    >>> from skstructcore.model_selection.scorers import make_anomaly_scorer
    >>> make_anomaly_scorer(average_precision_score)
    make_anomaly_scorer(average_precision_score)
    """
    if not callable(metric):
        raise TypeError(f"metric must be a function of labels and scores, got {metric!r}.")
    return _AnomalyScorer(metric, on_maps, greater_is_better, kwargs)


def combine_anomaly_scorers(**scorers: _AnomalyScorer) -> _CombinedScorer:
    """Make one scorer of several, so that the model runs once for all of them.

    Given a dict of scorers, scikit-learn runs the model for each of them; the combined one
    returns a dict of values, which `GridSearchCV` and `cross_validate` also take (with
    `refit` naming one of them).

    Parameters
    ----------
    **scorers : scorers made by `make_anomaly_scorer`
        By the name that each gets in the results.

    Returns
    -------
    scorer : callable
        `scorer(estimator, X, y=None) -> dict of str to float`.

    Examples
    --------
    >>> from skstructcore.model_selection import scorers
    >>> scorers.combine_anomaly_scorers(auroc=scorers.image_auroc_scorer,
    ...                                 aupro=scorers.aupro_scorer)
    combine_anomaly_scorers(auroc=make_anomaly_scorer(image_auroc_score),
    aupro=make_anomaly_scorer(aupro_score, on_maps=True))
    """
    if not scorers:
        raise ValueError("There is no scorer to combine: give at least one, by its name.")
    for name, scorer in scorers.items():
        if not isinstance(scorer, _AnomalyScorer):
            raise TypeError(f"{name} must be made by make_anomaly_scorer, got {scorer!r}.")
    return _CombinedScorer(scorers)


@dataclass(frozen=True, repr=False)
class _AnomalyScorer:
    metric: Callable[..., float]
    on_maps: bool
    greater_is_better: bool
    kwargs: dict[str, Any]

    def __call__(
        self, estimator: Any, X: ImagesLike | ArrayLike, y: ArrayLike | None = None
    ) -> float:
        return _evaluate({"score": self}, estimator, X, y)["score"]

    def value(self, *true_and_predicted: Any, **ignored: Any) -> float:
        """The metric, of which higher is better; an error if it is not finite."""
        value = float(self.metric(*true_and_predicted, **ignored, **self.kwargs))
        if not np.isfinite(value):
            raise ValueError(f"{self!r} gave {value}.")
        return value if self.greater_is_better else -value

    def __repr__(self):
        options = [f"{name}={value!r}" for name, value in self.kwargs.items()]
        options = ["on_maps=True"] * self.on_maps + options
        options += ["greater_is_better=False"] * (not self.greater_is_better)
        name = getattr(self.metric, "__name__", repr(self.metric))
        return f"make_anomaly_scorer({', '.join([name, *options])})"


@dataclass(frozen=True, repr=False)
class _CombinedScorer:
    scorers: dict[str, _AnomalyScorer]

    def __call__(
        self, estimator: Any, X: ImagesLike | ArrayLike, y: ArrayLike | None = None
    ) -> dict[str, float]:
        return _evaluate(self.scorers, estimator, X, y)

    def __repr__(self):
        scorers = (f"{name}={scorer!r}" for name, scorer in self.scorers.items())
        return f"combine_anomaly_scorers({', '.join(scorers)})"


def _evaluate(scorers, estimator, X, y):
    """Check, run the estimator once, and apply each scorer's metric."""
    y = required_labels(X, y)
    if not is_anomalous(y).any():
        raise ValueError(
            f"All {len(y)} images have only normal labels, so there is nothing to find. If these "
            "are training images of a search, pass it return_train_score=False (which is not the "
            "default of HalvingGridSearchCV)."
        )
    anomalous, last, maps = is_anomalous(y, both=True), estimator, X
    if any(scorer.on_maps for scorer in scorers.values()):
        check_masks(X, anomalous)
        if not hasattr(estimator, "steps"):
            raise TypeError(f"pixel metrics need a Pipeline, got {type(estimator).__name__}.")
        # Up to the last step once, for scores and maps alike; the maps that enter the last step
        # know their geometry, the array that leaves it does not.
        last, maps = estimator[-1], estimator[:-1].transform(X)
        known = [getattr(maps, name, None) for name in ("geometry", "ignored")]
        pixels = np.asarray(last.transform(maps))
        masks, pixels, ignored = judged_pixels(X, pixels, *known, anomalous=anomalous)
        on_pixels = {} if ignored is None else {"ignored": ignored}
    if not all(scorer.on_maps for scorer in scorers.values()):
        scores = -np.asarray(last.score_samples(maps), dtype=np.float64)
        wrong = np.flatnonzero(~np.isfinite(scores))
        if len(wrong):
            raise ValueError(
                f"{len(wrong)} of {len(scores)} scores are not finite, the first at {wrong[0]}."
            )
    return {
        name: scorer.value(masks, pixels, **on_pixels)
        if scorer.on_maps
        else scorer.value(anomalous, scores)
        for name, scorer in scorers.items()
    }


image_auroc_scorer = make_anomaly_scorer(metrics.image_auroc_score)
image_ap_scorer = make_anomaly_scorer(metrics.image_ap_score)
f1_max_scorer = make_anomaly_scorer(metrics.f1_max_score)
fpr_at_tpr_scorer = make_anomaly_scorer(metrics.fpr_at_tpr_score, greater_is_better=False)
pixel_auroc_scorer = make_anomaly_scorer(metrics.pixel_auroc_score, on_maps=True)
aupro_scorer = make_anomaly_scorer(metrics.aupro_score, on_maps=True)
