"""Scorers for `scoring=` of scikit-learn: metrics applied to a fitted model and images.

They ask the estimator for `score_samples` (image metrics) or `transform` (pixel metrics)
and turn the sign of `score_samples`, so that the metrics get anomaly scores. Labels, lengths
and masks are checked before the estimator computes anything.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils.validation import _num_samples

from .. import metrics
from ..datasets.masks import check_masks, masks_as_seen
from ..images.labels import is_anomalous
from ..images.resampling import ignored_pixels

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import ArrayLike

    from ..images.image_list import ImagesLike

__all__ = [
    "aupro_scorer",
    "combine_anomaly_scorers",
    "fpr_at_tpr_scorer",
    "image_ap_scorer",
    "image_auroc_scorer",
    "image_f1max_scorer",
    "make_anomaly_scorer",
    "pixel_auroc_scorer",
]


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
        be an `ImageSet` with masks then; see `skstructcore.datasets.masks_as_seen` for the
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
    return _CombinedScorer(scorers)


class _AnomalyScorer:
    def __init__(self, metric, on_maps, greater_is_better, kwargs):
        self.metric = metric
        self.on_maps = on_maps
        self.greater_is_better = greater_is_better
        self.kwargs = kwargs

    def __call__(
        self, estimator: Any, X: ImagesLike | ArrayLike, y: ArrayLike | None = None
    ) -> float:
        return _evaluate({"score": self}, estimator, X, y)["score"]

    def __repr__(self):
        options = [f"{name}={value!r}" for name, value in self.kwargs.items()]
        options = ["on_maps=True"] * self.on_maps + options
        options += ["greater_is_better=False"] * (not self.greater_is_better)
        name = getattr(self.metric, "__name__", repr(self.metric))
        return f"make_anomaly_scorer({', '.join([name, *options])})"


class _CombinedScorer:
    def __init__(self, scorers):
        self.scorers = scorers

    def __call__(
        self, estimator: Any, X: ImagesLike | ArrayLike, y: ArrayLike | None = None
    ) -> dict[str, float]:
        return _evaluate(self.scorers, estimator, X, y)

    def __repr__(self):
        scorers = (f"{name}={scorer!r}" for name, scorer in self.scorers.items())
        return f"combine_anomaly_scorers({', '.join(scorers)})"


def _evaluate(scorers, estimator, X, y):
    """Check, run the estimator once, and apply each scorer's metric."""
    anomalous = _labels(X, y)
    on_maps = any(scorer.on_maps for scorer in scorers.values())
    on_scores = not all(scorer.on_maps for scorer in scorers.values())
    if on_maps:
        check_masks(X, anomalous)
    score, maps = _run(estimator, X, on_scores, on_maps)
    ignoring = {}
    if on_maps:
        maps, geometry, ignored = maps
        masks, used = masks_as_seen(X, geometry, maps.shape[1:], anomalous=anomalous)
        maps = maps[used]
        if ignored is not None:
            ignoring["ignored"] = ignored_pixels(ignored[used], maps.shape[1:])
    results = {}
    for name, scorer in scorers.items():
        if scorer.on_maps:
            _check_ignoring(scorer.metric, ignoring)
            value = float(scorer.metric(masks, maps, **ignoring, **scorer.kwargs))
        else:
            value = float(scorer.metric(anomalous, score, **scorer.kwargs))
        if not np.isfinite(value):
            raise ValueError(f"{scorer!r} gave {value}")
        results[name] = value if scorer.greater_is_better else -value
    return results


def _check_ignoring(metric, ignoring):
    if ignoring and "ignored" not in inspect.signature(metric).parameters:
        name = getattr(metric, "__name__", repr(metric))
        raise ValueError(
            f"The pipeline ignores parts of the images, but {name} takes no argument "
            "ignored, a boolean array of the shape of the maps, and would count them."
        )


def _labels(X, y):
    if y is None:
        y = getattr(X, "y", None)
    if y is None:
        raise ValueError("labels are needed: pass y, or images as an ImageSet with y")
    if _num_samples(X) != len(y):
        raise ValueError(f"{_num_samples(X)} images, but {len(y)} labels")
    if not is_anomalous(y).any():
        raise ValueError(
            f"all {len(y)} images have only normal labels, so there is nothing to find. If these "
            "are training images of a search, pass it return_train_score=False (which is not the "
            "default of HalvingGridSearchCV)"
        )
    return is_anomalous(y, both=True)


def _run(estimator, X, on_scores, on_maps):
    """Anomaly scores (n,) and, if asked for, maps (n, h, w), geometry and ignored patches."""
    if on_maps and hasattr(estimator, "steps"):
        # Up to the last step once, for scores and maps alike; the maps that enter the last
        # step know their geometry, the array that leaves it does not.
        X, estimator = estimator[:-1].transform(X), estimator[-1]
    score = maps = None
    if on_scores:
        if not hasattr(estimator, "score_samples"):
            raise TypeError(f"{type(estimator).__name__} has no score_samples")
        score = -np.asarray(estimator.score_samples(X), dtype=np.float64)
        wrong = np.flatnonzero(~np.isfinite(score))
        if len(wrong):
            raise ValueError(
                f"{len(wrong)} of {len(score)} scores are not finite, the first at {wrong[0]}"
            )
    if on_maps:
        if not hasattr(estimator, "transform"):
            raise TypeError(f"{type(estimator).__name__} has no transform, so no anomaly maps")
        maps = estimator.transform(X)
        geometry = getattr(X, "geometry", None) or getattr(maps, "geometry", None)
        ignored = getattr(X, "ignored", getattr(maps, "ignored", None))
        maps = np.asarray(maps), geometry, ignored
    return score, maps


image_auroc_scorer = make_anomaly_scorer(metrics.image_auroc_score)
image_ap_scorer = make_anomaly_scorer(metrics.image_ap_score)
image_f1max_scorer = make_anomaly_scorer(metrics.f1_max_score)
fpr_at_tpr_scorer = make_anomaly_scorer(metrics.fpr_at_tpr_score, greater_is_better=False)
pixel_auroc_scorer = make_anomaly_scorer(metrics.pixel_auroc_score, on_maps=True)
aupro_scorer = make_anomaly_scorer(metrics.aupro_score, on_maps=True)
