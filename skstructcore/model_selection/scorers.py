"""Scorers for `scoring=` of scikit-learn: of metrics with labels and masks, and without any.

They turn the sign of `score_samples`, so that metrics get anomaly scores. Labels, lengths and
masks are checked before the estimator computes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import metrics
from .._utils.validation import check_same_length
from .._utils.warning import warn_user
from ..datasets import DEFECTS, paint_copies
from ..datasets.masks import check_masks, judged_pixels
from ..images.image_list import ImagesLike, as_images
from ..images.labels import is_anomalous, is_defect_in_training, required_labels
from ..pipeline.steps import intensity_of


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
        scikit-learn fit.
    on_maps : bool, default=False
        Whether it is `metric(masks, anomaly_maps, **kwargs)` instead, with n arrays of shape
        (h, w), and with `ignored` where the pipeline ignores parts of images. The images must be
        an `ImageSet` with masks then, of which `skstructcore.datasets.judged_pixels` count.
    greater_is_better : bool, default=True
        False turns the sign, because scikit-learn always looks for the largest value.
    **kwargs
        Passed on to the metric.

    Returns
    -------
    scorer : callable
        `scorer(estimator, X, y=None) -> float`. Without `y`, `X.y` holds the labels. A value that
        is not finite is a ValueError. A search makes NaN of that and goes on, unless it has
        `error_score="raise"`.

    Examples
    --------
    >>> from sklearn.metrics import average_precision_score
    >>> from skstructcore.model_selection import make_anomaly_scorer
    >>> make_anomaly_scorer(average_precision_score)
    make_anomaly_scorer(average_precision_score)
    """
    if not callable(metric):
        raise TypeError(f"metric must be a function of labels and scores, got {metric!r}.")
    return _AnomalyScorer(metric, on_maps, greater_is_better, kwargs)


def combine_anomaly_scorers(**scorers: _AnomalyScorer) -> _CombinedScorer:
    """Make one scorer of several, so that the model runs once for all of them.

    It returns a dict of floats by name, which `GridSearchCV` (with `refit` naming one of them) and
    `cross_validate` take. Given a dict of scorers, they would run the model for each. Where one
    would raise a ValueError, all are NaN and a warning says why: a search goes on.

    Parameters
    ----------
    **scorers : scorers made by `make_anomaly_scorer`
        By the name that each gets in the results.

    Examples
    --------
    >>> from skstructcore.model_selection import scorers
    >>> both = scorers.combine_anomaly_scorers(auroc=scorers.image_auroc_scorer,
    ...                                        aupro=scorers.aupro_scorer)
    >>> both(pipe, images)  # doctest: +SKIP
    {'auroc': 0.98, 'aupro': 0.93}
    """
    if not scorers:
        raise ValueError("There is no scorer to combine: give at least one, by its name.")
    for name, scorer in scorers.items():
        if not isinstance(scorer, _AnomalyScorer):
            raise TypeError(f"{name} must be made by make_anomaly_scorer, got {scorer!r}.")
    return _CombinedScorer(scorers)


@dataclass(frozen=True, repr=False, eq=False)
class _AnomalyScorer:
    metric: Callable[..., float]
    on_maps: bool
    greater_is_better: bool
    kwargs: dict[str, Any]

    def __call__(
        self, estimator: Any, X: ImagesLike | ArrayLike, y: ArrayLike | None = None
    ) -> float:
        return _CombinedScorer({"score": self}).values(estimator, X, y)["score"]

    def value(self, true: Any, predicted: Any, ignored: Any = None) -> float:
        """The metric, of which higher is better; an error if it is not finite."""
        options = self.kwargs if ignored is None else {**self.kwargs, "ignored": ignored}
        value = float(self.metric(true, predicted, **options))
        if not np.isfinite(value):
            raise ValueError(f"{self!r} gave {value}.")
        return value if self.greater_is_better else -value

    def __repr__(self):
        options = [f"{name}={value!r}" for name, value in self.kwargs.items()]
        options = ["on_maps=True"] * self.on_maps + options
        options += ["greater_is_better=False"] * (not self.greater_is_better)
        name = getattr(self.metric, "__name__", repr(self.metric))
        return f"make_anomaly_scorer({', '.join([name, *options])})"


@dataclass(frozen=True, repr=False, eq=False)
class _CombinedScorer:
    scorers: dict[str, _AnomalyScorer]

    def __call__(
        self, estimator: Any, X: ImagesLike | ArrayLike, y: ArrayLike | None = None
    ) -> dict[str, float]:
        try:
            return self.values(estimator, X, y)
        except ValueError as error:  # beside dicts, scikit-learn would put one number, and fail
            warn_user(f"The scores are NaN: {error}")
            return dict.fromkeys(self.scorers, np.nan)

    def values(self, estimator: Any, X: Any, y: Any) -> dict[str, float]:
        """What each scorer gives; an error if one of them gives nothing."""
        y = required_labels(X, y)
        if not is_anomalous(y).any():
            raise ValueError(
                f"All {len(y)} images have only normal labels, so there is nothing to find. If "
                "these are training images of a search, pass it return_train_score=False."
            )
        anomalous, last_step, entering = is_anomalous(y, both=True), estimator, X
        on_maps = [one.on_maps for one in self.scorers.values()]
        if any(on_maps):
            check_masks(X, anomalous)
            if not hasattr(estimator, "steps"):
                raise TypeError(f"pixel metrics need a Pipeline, got {type(estimator).__name__}.")
            # Up to the last step once, for scores and maps alike; the maps that enter the last
            # step know their geometry, the array that leaves it does not.
            last_step, entering = estimator[-1], estimator[:-1].transform(X)
            known = [getattr(entering, name, None) for name in ("geometry", "ignored")]
            pixel_maps = np.asarray(last_step.transform(entering))
            of_pixels = judged_pixels(X, pixel_maps, *known, anomalous=anomalous)
        if not all(on_maps):
            scores = -np.asarray(last_step.score_samples(entering), dtype=np.float64)
            # Checked here, because a metric of one's own may not look.
            of_images = metrics.check_scores(anomalous, scores)
        return {
            name: one.value(*(of_pixels if one.on_maps else of_images))
            for name, one in self.scorers.items()
        }

    def __repr__(self):
        scorers = ", ".join(f"{name}={scorer!r}" for name, scorer in self.scorers.items())
        return f"combine_anomaly_scorers({scorers})"


image_auroc_scorer = make_anomaly_scorer(metrics.image_auroc_score)
image_ap_scorer = make_anomaly_scorer(metrics.image_ap_score)
f1_max_scorer = make_anomaly_scorer(metrics.f1_max_score)
fpr_at_tpr_scorer = make_anomaly_scorer(metrics.fpr_at_tpr_score, greater_is_better=False)
pixel_auroc_scorer = make_anomaly_scorer(metrics.pixel_auroc_score, on_maps=True)
aupro_scorer = make_anomaly_scorer(metrics.aupro_score, on_maps=True)


def painted_defects_scorer(
    estimator: Any,
    X: ImagesLike,
    y: ArrayLike | None = None,
    *,
    kinds: Sequence[str] = tuple(DEFECTS),
    severities: Sequence[float] = (0.25, 0.5, 1.0),
    random_state: int = 0,
) -> float:
    """Scorer for searches on good images: AUROC against painted copies of them.

    It goes to ``scoring=`` of `GridSearchCV`; ``functools.partial(painted_defects_scorer,
    kinds=["spot"])`` paints others. It is no estimate of the AUROC of real defects:
    ``docs/model_selection.md`` says how well it ranks settings. Defects may lie anywhere, so that
    it favours settings that see more: do not search over `crop` or `ignore` by it.

    Parameters
    ----------
    estimator : fitted estimator with `score_samples`
    X : held-out good images, in any form that `as_images` takes
    y : array-like of shape (n,), default=None
        Labels, which must call all images good; None: those of `X` where it has any.
    kinds, random_state : see `paint_copies`
        The same seed and the same image give the same copies, whatever the fold.
    severities : sequence of float, default=(0.25, 0.5, 1.0)
        Contrasts of the defects, see `paint_copies`; each image gets a copy for each.

    Raises
    ------
    ValueError
        If labels call an image anomalous or are of another number, or `X` are not images.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV, KFold
    >>> from skstructcore import make_structcore
    >>> from skstructcore.model_selection import painted_defects_scorer
    >>> search = GridSearchCV(make_structcore(), {"knn__n_neighbors": [1, 5]},
    ...                       scoring=painted_defects_scorer, cv=KFold(3))
    >>> search.fit(good_images)                       # doctest: +SKIP
    """
    y = getattr(X, "y", None) if y is None else y
    if y is not None and is_defect_in_training(y).any():
        raise ValueError(
            "Painted defects are compared with good images, but y calls some images "
            "anomalous; with real defects use skstructcore.model_selection.image_auroc_scorer."
        )
    if np.ndim(severities) != 1 or not len(severities):
        raise ValueError(f"severities must be one number at least, as a list; got {severities!r}.")
    images = as_images(X).seen_through(intensity_of(estimator, channels=False))
    check_same_length(images=images, y=y)
    good, painted = [], []
    for start in range(0, len(images), 16):  # the copies of all may not fit into memory
        chunk = images[start : start + 16]
        paint = partial(paint_copies, chunk, kinds=kinds, random_state=random_state)
        copies = [copy for severity in severities for copy in paint(severity=severity)]
        good.append(-estimator.score_samples(chunk))
        painted.append(-estimator.score_samples(copies))
    scores = np.concatenate(good + painted)
    return metrics.image_auroc_score(np.arange(len(scores)) >= len(images), scores)
