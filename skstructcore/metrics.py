"""How good anomaly scores and anomaly maps are, given what is really there.

All functions take *anomaly* scores, of which higher is more anomalous: the column `anomaly_score`
of `StructCoreScorer.describe`, or minus the `score_samples` of an outlier detector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from sklearn import metrics

from ._utils.validation import check_number
from .images.labels import is_anomalous
from .images.masks import as_mask

__all__ = [
    "aupro_score",
    "f1_max_score",
    "fpr_at_tpr_score",
    "image_ap_score",
    "image_auroc_score",
    "pixel_auroc_score",
    "pro_curve",
]

Images = Sequence[ArrayLike] | NDArray[Any]


def image_auroc_score(y_true: ArrayLike, anomaly_score: ArrayLike) -> float:
    """Area under the ROC curve of image scores.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Labels, see `skstructcore.images.labels.is_anomalous`; both classes must be there.
    anomaly_score : array-like of shape (n,)
        Higher is more anomalous.

    Returns
    -------
    auroc : float
        1 if every anomalous image scores above every normal one, 0.5 for chance.

    Raises
    ------
    ValueError
        If there is one class only, lengths differ or a score is not finite.

    Examples
    --------
    >>> from skstructcore.metrics import image_auroc_score
    >>> image_auroc_score(["good", "good", "dent", "dent"], [0.1, 0.4, 0.3, 0.9])
    0.75
    """
    return float(metrics.roc_auc_score(*check_scores(y_true, anomaly_score)))


def image_ap_score(y_true: ArrayLike, anomaly_score: ArrayLike) -> float:
    """Average precision of image scores, anomalous images being the positives.

    Parameters
    ----------
    y_true, anomaly_score : see `image_auroc_score`

    Examples
    --------
    >>> from skstructcore.metrics import image_ap_score
    >>> round(image_ap_score(["good", "good", "dent", "dent"], [0.1, 0.4, 0.3, 0.9]), 4)
    0.8333
    """
    return float(metrics.average_precision_score(*check_scores(y_true, anomaly_score)))


def f1_max_score(y_true: ArrayLike, anomaly_score: ArrayLike) -> float:
    """Largest F1 score that any threshold on the scores reaches, chosen by the labels.

    Parameters
    ----------
    y_true, anomaly_score : see `image_auroc_score`

    Examples
    --------
    >>> from skstructcore.metrics import f1_max_score
    >>> f1_max_score(["good", "good", "dent", "dent"], [0.1, 0.4, 0.3, 0.9])
    0.8
    """
    precision, recall, _ = metrics.precision_recall_curve(*check_scores(y_true, anomaly_score))
    total = precision + recall  # 0 where nothing anomalous is found, where F1 is 0
    return float(np.max(2 * precision * recall / np.where(total > 0, total, 1)))


def fpr_at_tpr_score(y_true: ArrayLike, anomaly_score: ArrayLike, *, tpr: float = 0.95) -> float:
    """Share of good images that are rejected when `tpr` of the anomalous ones are found.

    The threshold is the highest one that finds at least that share. Lower is better.

    Parameters
    ----------
    y_true, anomaly_score : see `image_auroc_score`
    tpr : float in (0, 1], default=0.95

    Examples
    --------
    >>> from skstructcore.metrics import fpr_at_tpr_score
    >>> fpr_at_tpr_score(["good", "good", "dent", "dent"], [0.1, 0.4, 0.3, 0.9])
    0.5
    """
    check_number(tpr, "tpr", 0, 1, closed="right")
    false_rate, true_rate, _ = metrics.roc_curve(
        *check_scores(y_true, anomaly_score), drop_intermediate=False
    )
    # A rate is k / n; without the tolerance 19 / 20 may fall short of 0.95 by rounding.
    return float(false_rate[np.argmax(true_rate >= tpr - 1e-12)])


def pixel_auroc_score(
    masks: Images, anomaly_maps: Images, *, ignored: Images | None = None
) -> float:
    """Area under the ROC curve of all pixels of all images together.

    Exact, ties included, and equal to scikit-learn's `roc_auc_score` on the flattened maps as
    float32, which would need about ten numbers a pixel at once; here it is about three.

    Parameters
    ----------
    masks : sequence of n array-like of shape (h, w)
        Non-zero (or True) where an image is anomalous; all zero for a good image.
    anomaly_maps : sequence of n array-like of shape (h, w)
        Higher is more anomalous; sizes may differ between images. All functions of maps compare
        them as float32.
    ignored : sequence of n ndarray of shape (h, w), dtype bool, default=None
        Pixels that count neither as normal nor as anomalous.

    Returns
    -------
    auroc : float

    Raises
    ------
    ValueError
        If masks and maps differ in number or size, a map is not finite, or there are no
        anomalous or no normal pixels.

    Examples
    --------
    >>> from skstructcore.metrics import pixel_auroc_score
    >>> pixel_auroc_score([[[0, 0], [1, 1]]], [[[0.1, 0.4], [0.3, 0.9]]])
    0.75
    """
    _, anomalous, normal, maps = _checked_maps(masks, anomaly_maps, ignored)
    scores = np.concatenate([s[m] for m, s in zip(anomalous, maps, strict=True)])
    values, counts = np.unique(scores, return_counts=True)
    above, equal, n_normal = _normal_pixels_at(values, normal, maps)
    below = n_normal - above - equal
    won = np.sum(counts * (below + 0.5 * equal))
    return float(won / (len(scores) * n_normal))


def aupro_score(
    masks: Images, anomaly_maps: Images, *, max_fpr: float = 0.3, ignored: Images | None = None
) -> float:
    """Area under the per-region-overlap curve up to a false positive rate.

    At each threshold, the overlap is the share of a defect's pixels that lie above it, averaged
    over all connected defects (8-connected, every defect counts the same); the false positive
    rate is the share of all normal pixels above it. The area up to `max_fpr` is divided by
    `max_fpr`, so that 1 is perfect. Every distinct score is a threshold; nothing is binned.

    Parameters
    ----------
    masks, anomaly_maps, ignored : see `pixel_auroc_score`
    max_fpr : float in (0, 1], default=0.3
        The false positive rate up to which the area is taken.

    References
    ----------
    P. Bergmann et al., "The MVTec Anomaly Detection Dataset", International Journal of
    Computer Vision 129, 2021, section 5.1.

    Examples
    --------
    >>> from skstructcore.metrics import aupro_score
    >>> mask = [[1, 1, 0, 0, 1], [0, 0, 0, 0, 0]]
    >>> scores = [[9, 8, 0, 0, 7], [1, 2, 3, 4, 5]]
    >>> aupro_score([mask], [scores])
    1.0
    """
    check_number(max_fpr, "max_fpr", 0, 1, closed="right")
    curve = pro_curve(masks, anomaly_maps, ignored=ignored)
    return float(metrics.auc(*curve_until(*curve, max_fpr)) / max_fpr)


def pro_curve(
    masks: Images, anomaly_maps: Images, *, ignored: Images | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per-region-overlap curve: the points that `aupro_score` integrates.

    Parameters
    ----------
    masks, anomaly_maps, ignored : see `pixel_auroc_score`

    Returns
    -------
    false_positive_rate, overlap : ndarray of shape (n_points,)
        From (0, 0) to (1, 1), straight in between; two points for each distinct score of an
        anomalous pixel.

    Examples
    --------
    >>> from skstructcore.metrics import pro_curve
    >>> rates, overlap = pro_curve([[[1, 1, 0, 0]]], [[[9, 3, 4, 1]]])
    >>> rates.tolist(), overlap.tolist()
    ([0.0, 0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.0, 0.5, 0.5, 1.0, 1.0])
    """
    masks, anomalous, normal, maps = _checked_maps(masks, anomaly_maps, ignored)
    scores, weights = [], []
    for mask, counted, scored in zip(masks, anomalous, maps, strict=True):
        if counted.any():
            # A defect stays one region where ignored pixels cut through it.
            regions = ndimage.label(mask, structure=np.ones((3, 3)))[0][counted]
            weights.append(1 / np.bincount(regions)[regions])
            scores.append(scored[counted])
    values, inverse = np.unique(np.concatenate(scores), return_inverse=True)
    overlap = np.bincount(inverse, weights=np.concatenate(weights))
    overlap /= overlap.sum()

    above, equal, n_normal = _normal_pixels_at(values, normal, maps)
    # From the highest score down. Where normal pixels share it, the overlap rises in a slope.
    after = np.minimum(np.cumsum(overlap[::-1]), 1)
    reached = np.column_stack([np.r_[0.0, after[:-1]], after]).ravel()
    rates = np.column_stack([above, above + equal])[::-1].ravel() / n_normal
    return np.r_[0.0, rates, 1.0], np.r_[0.0, reached, 1.0]


def curve_until(
    rates: NDArray[np.float64], overlap: NDArray[np.float64], max_fpr: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The part of a curve of `pro_curve` up to a false positive rate."""
    inside = rates <= max_fpr
    end = np.interp(max_fpr, rates, overlap)
    return np.append(rates[inside], max_fpr), np.append(overlap[inside], end)


def check_scores(
    y_true: ArrayLike, anomaly_score: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Labels as bool and scores as float64, ``(n,)`` each, or an error that says what is wrong."""
    anomalous = is_anomalous(y_true, both=True)
    scores = np.asarray(anomaly_score)
    if scores.dtype.kind not in "biufO":
        raise ValueError(f"Anomaly scores must be real numbers, got {scores.dtype}.")
    scores = scores.astype(np.float64)
    if scores.shape != anomalous.shape:
        raise ValueError(
            f"One score for each label is needed: {len(anomalous)} labels, scores of shape "
            f"{scores.shape}."
        )
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        raise ValueError(
            f"{len(wrong)} of {len(scores)} anomaly scores are not finite, the first at "
            f"position {wrong[0]}: {scores[wrong[0]]}."
        )
    return anomalous, scores


def _checked_maps(masks, anomaly_maps, ignored):
    """Masks, their pixels that count, normal pixels that count, and maps: one array an image."""
    masks = [as_mask(mask, f"image {i}") for i, mask in enumerate(masks)]
    maps = [np.asarray(scored, dtype=np.float32) for scored in anomaly_maps]
    if len(masks) != len(maps):
        raise ValueError(f"One mask for each map is needed: {len(masks)} masks, {len(maps)} maps.")
    if ignored is None:
        ignored = [np.zeros(mask.shape, dtype=bool) for mask in masks]
    counted = [~np.asarray(out, dtype=bool) for out in ignored]
    if [counts.shape for counts in counted] != [mask.shape for mask in masks]:
        raise ValueError("ignored must hold one array of the size of its mask for each image.")
    for position, (mask, counts, scored) in enumerate(zip(masks, counted, maps, strict=True)):
        if mask.ndim != 2 or mask.shape != scored.shape:
            raise ValueError(
                f"Mask and map at position {position} must be two-dimensional and of one "
                f"size, got {mask.shape} and {scored.shape}."
            )
        if not np.isfinite(scored[counts]).all():
            raise ValueError(f"The anomaly map at position {position} is not finite.")
    anomalous = [mask & counts for mask, counts in zip(masks, counted, strict=True)]
    normal = [counts & ~mask for mask, counts in zip(masks, counted, strict=True)]
    for name, pixels in (("anomalous", anomalous), ("normal", normal)):
        if not any(part.any() for part in pixels):
            raise ValueError(f"The masks hold no {name} pixel; both kinds are needed.")
    return masks, anomalous, normal, maps


def _normal_pixels_at(values, normal, maps):
    """How many normal pixels score above, and exactly at, each of some values; and their number."""
    scores = np.concatenate([scored[good] for good, scored in zip(normal, maps, strict=True)])
    scores.sort()
    below = np.searchsorted(scores, values, side="left")
    up_to = np.searchsorted(scores, values, side="right")
    return len(scores) - up_to, up_to - below, len(scores)
