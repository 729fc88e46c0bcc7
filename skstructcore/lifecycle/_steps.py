"""What goes into the last steps of a fitted pipeline, and what comes out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .._utils.warning import warn_user
from ..pipeline.steps import with_steps

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike, NDArray
    from sklearn.pipeline import Pipeline

    from .._utils.rows import LazyRows
    from ..bank.coreset_bank import CoresetBank
    from ..images.image_list import ImagesLike
    from ..knn.scorer import RoutedKNNScorer
    from ..scoring.evidence import Evidence
    from ..scoring.routes import RouteCalibration
    from ..scoring.structcore import StructCoreScorer


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


def retrained(
    pipe: Pipeline,
    bank: CoresetBank,
    knn: RoutedKNNScorer,
    training: Evidence,
    routes: dict[str, RouteCalibration] | None = None,
) -> Pipeline:
    """Return the pipeline with a changed bank, calibrated with what its training images say.

    `routes` are as in `StructCoreScorer.with_training`. UserWarning if a recalibration is lost.
    """
    scorer = pipe[-1]
    learned = [
        scorer.part_decision_,
        *(scorer.routes_.decisions.values() if routes is None else ()),
    ]
    if any(decision is not None and decision.is_fresh for decision in learned):
        what = "The pipeline" if routes is None else "The decision about parts"
        warn_user(
            f"{what} had been recalibrated with fresh images, and is that of the training images "
            "again: recalibrate it anew."
        )
    training = replace(training, images=bank.images_)
    return with_steps(pipe, bank, knn, scorer.with_training(training, routes))
