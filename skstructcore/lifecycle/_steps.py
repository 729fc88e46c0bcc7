"""The last steps of a fitted pipeline, taken apart and put back; what goes into them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..bank.coreset_bank import CoresetBank
from ..knn.scorer import RoutedKNNScorer
from ..scoring.structcore import StructCoreScorer

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike, NDArray
    from sklearn.pipeline import Pipeline

    from .._utils.rows import LazyRows
    from ..images.image_list import ImagesLike

_WANTED = (CoresetBank, RoutedKNNScorer, StructCoreScorer)


def structcore_steps(pipe: Pipeline) -> list[Any]:
    """Return the fitted CoresetBank, RoutedKNNScorer and StructCoreScorer of a pipeline.

    Raises
    ------
    ValueError
        If these are not the last three steps.
    NotFittedError
        If `pipe` is not fitted.
    """
    check_is_fitted(pipe)
    steps = [estimator for _, estimator in pipe.steps[-3:]]
    if [type(step) for step in steps] != list(_WANTED):
        raise ValueError(
            "This needs a pipeline whose last steps are "
            f"{', '.join(kind.__name__ for kind in _WANTED)}, as make_structcore builds it; got "
            f"{', '.join(type(step).__name__ for step in steps)}."
        )
    for step in steps:
        check_is_fitted(step)
    return steps


def with_steps(pipe: Pipeline, *last: Any) -> Pipeline:
    """Return a pipeline with other last steps; all before them are shared."""
    changed = copy.copy(pipe)
    names = [name for name, _ in pipe.steps[-len(last) :]]
    changed.steps = [*pipe.steps[: -len(last)], *zip(names, last, strict=True)]
    return changed


def features_of(pipe: Pipeline, images: ImagesLike) -> LazyRows | NDArray[Any]:
    """Features of images, as the bank gets them; ValueError if there are none."""
    features = pipe[:-3].transform(images) if len(pipe) > 3 else np.asarray(images)
    if len(features) == 0:
        raise ValueError("The list of images is empty: at least one image is needed.")
    return features


def known_parts(scorer: StructCoreScorer, parts: NDArray[Any] | None) -> NDArray[Any] | None:
    """Parts of images that join the training images; ValueError if they are missing, or not new."""
    if scorer.part_decision_ is None:
        return None
    if parts is None:
        raise ValueError(
            "The pipeline decides about parts: pass parts= (--parts of a command), which part each "
            "image is a view of."
        )
    again = np.isin(parts, scorer.training_.parts)
    if again.any():
        raise ValueError(
            f"parts has {str(parts[again][0])!r}, which is a part of the training images already: "
            "give new parts names of their own."
        )
    return parts


def check_scores(scores: ArrayLike) -> None:
    """Raise ValueError if scores are not finite: a damaged model must not judge anything."""
    if not np.isfinite(scores).all():
        raise ValueError(
            "The pipeline gives scores that are not finite numbers, so that it is damaged: load "
            "another copy, or fit again."
        )
