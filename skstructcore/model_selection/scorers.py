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
from ..images.labels import is_anomalous
from ..images.masks import mask_as_seen
from ..images.resampling import ignored_pixels

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    from ..datasets import ImageSet
    from ..images.geometry import Geometry
    from ..images.image_list import ImagesLike

__all__ = [
    "aupro_scorer",
    "combine_anomaly_scorers",
    "fpr_at_tpr_scorer",
    "image_ap_scorer",
    "image_auroc_scorer",
    "image_f1max_scorer",
    "make_anomaly_scorer",
    "masks_as_seen",
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
        be an `ImageSet` with masks then; see `masks_as_seen` for the images that count.
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
        return f"make_anomaly_scorer({', '.join([self.metric.__name__, *options])})"


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
    masks = _masks(X, anomalous) if on_maps else None

    score, maps = _run(estimator, X, on_scores, on_maps)
    ignoring = {}
    if on_maps:
        maps, geometry, ignored = maps
        masks, used = _fit_masks(masks, geometry, maps.shape[1:])
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
        raise ValueError(
            f"The pipeline ignores parts of the images, but {metric.__name__} takes no argument "
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


def masks_as_seen(
    images: ImageSet, geometry: Geometry | None, size: tuple[int, int]
) -> tuple[list[NDArray[np.bool_]], NDArray[np.bool_]]:
    """Masks of the images at the size of their anomaly maps, for pixel metrics.

    Each mask is brought the way that its image went: cut to the part that the backbone saw,
    then scaled by taking the nearest pixel. Good images count with an empty mask. Anomalous
    images whose mask is empty, or whose type of defect has no masks at all, say nothing about
    pixels and are left out.

    Parameters
    ----------
    images : ImageSet
    geometry : Geometry or None
        What the backbone saw of each image; None: the whole images.
    size : tuple of (int, int)
        Height and width of the maps.

    Returns
    -------
    masks : list of ndarray of shape `size`, dtype bool
        Of the images that count.
    used : ndarray of shape (n,), dtype bool
        Which images count.

    Raises
    ------
    ValueError
        If no anomalous image has a mask, some images of a type of defect have masks and
        others have none, or a mask is not of the size of its image.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore.datasets import ImageSet
    >>> from skstructcore.model_selection.scorers import masks_as_seen
    >>> pictures = np.zeros((3, 4, 4), dtype=np.uint8)
    >>> images = ImageSet(pictures, ["good", "hole", "crack"],
    ...                   masks=[None, np.eye(4), np.zeros((4, 4))])
    >>> masks, used = masks_as_seen(images, None, (2, 2))
    >>> used
    array([ True,  True, False])
    >>> masks[1].astype(int)
    array([[1, 0],
           [0, 1]])
    """
    return _fit_masks(_masks(images, is_anomalous(images.y)), geometry, size)


def _masks(images, anomalous):
    """For each image its own mask, False for a good image, None for one that does not count."""
    if not hasattr(images, "masks"):
        raise ValueError(
            f"pixel metrics need masks: pass the images as an ImageSet, not {type(images).__name__}"
        )
    without = np.array([mask is None for mask in images.masks])
    for kind in np.unique(images.y[anomalous].astype(str)).tolist():
        members = anomalous & (images.y == kind)
        missing = np.flatnonzero(members & without)
        if 0 < len(missing) < members.sum():
            names = ", ".join(images.name(i) for i in missing[:5])
            raise ValueError(
                f"{len(missing)} of {members.sum()} images of the type {kind!r} have no mask "
                f"({names}{', …' if len(missing) > 5 else ''}); add them, or take all masks "
                "of this type away to leave it out of pixel metrics"
            )
    masks = [images.load_mask(i) if anomalous[i] else False for i in range(len(images))]
    masks = [
        None if mask is None or (mask is not False and not mask.any()) else mask for mask in masks
    ]
    if not any(isinstance(mask, np.ndarray) for mask in masks):
        raise ValueError(
            f"pixel metrics need masks, and none of the {anomalous.sum()} anomalous images "
            "has one with a defect in it"
        )
    return masks


def _fit_masks(masks, geometry, size):
    used = np.array([mask is not None for mask in masks])
    fitted = [
        np.zeros(size, bool)
        if mask is False
        else mask_as_seen(mask, size, None if geometry is None else geometry.boxes[i])
        for i, mask in enumerate(masks)
        if used[i]
    ]
    return fitted, used


image_auroc_scorer = make_anomaly_scorer(metrics.image_auroc_score)
image_ap_scorer = make_anomaly_scorer(metrics.image_ap_score)
image_f1max_scorer = make_anomaly_scorer(metrics.f1_max_score)
fpr_at_tpr_scorer = make_anomaly_scorer(metrics.fpr_at_tpr_score, greater_is_better=False)
pixel_auroc_scorer = make_anomaly_scorer(metrics.pixel_auroc_score, on_maps=True)
aupro_scorer = make_anomaly_scorer(metrics.aupro_score, on_maps=True)
