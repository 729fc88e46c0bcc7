"""Weights of the score's parts, learned without labels: good images against painted defects.

Which part of the evidence to trust depends on the product. Defects painted into the good
training images show how each part reacts there, compared with how much it varies between good
images. The painted copies pass through the backbone and are scored, as the training images
are, without the bank entries of their originals.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import clone

from ..bank.record import digests_of
from ..datasets import DEFECTS, paint_copies
from ..features.view import view_of
from ..images.image_list import as_images
from ..images.labels import is_defect_in_training
from ..scoring.descriptors import BASE, weighted
from ._steps import features_of, patches_of, structcore_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sklearn.pipeline import Pipeline

    from .._utils.typing import RandomState
    from ..images.image_list import ImagesLike
    from ..scoring.structcore import StructCoreScorer

__all__ = ["learn_from_painted_defects"]


def learn_from_painted_defects(
    pipe: Pipeline,
    images: ImagesLike,
    *,
    kinds: Sequence[str] = tuple(DEFECTS),
    severity: float = 1.0,
    C: float = 0.01,
    random_state: RandomState = 0,
) -> StructCoreScorer:
    """Learn how much each descriptor counts, and calibrate with these weights.

    Parameters
    ----------
    pipe : Pipeline
        Fitted on `images`, as `make_structcore` builds it. It is not changed.
    images : list of paths, ImageSet or ndarray
        The training images. Those of an `ImageSet` that are labelled as defects are left out, as
        `fit` does.
    kinds : sequence of str, default=all of `DEFECTS`
        Kinds of defects to paint; one defect an image, see `paint_copies`.
    severity : float, default=1.0
        Contrast of the defects, see `paint_defect`.
    C : float, default=0.01
        Inverse strength of the L2 penalty of the logistic regression. Strong by default:
        painted defects are not real ones.
    random_state : int, RandomState instance or None, default=0
        Seed of the defects.

    Returns
    -------
    scorer : StructCoreScorer
        Fitted. The base score is one of its descriptors, and ``score = sum(weights * z)``.
        Use it with ``Pipeline([*pipe.steps[:-1], ("structcore", scorer)])``.

    Raises
    ------
    ValueError
        If there are images that the pipeline was not fitted with, or it was fitted in-sample.
    """
    bank, knn, structcore = structcore_steps(pipe)
    images = as_images(images).seen_through(view_of(pipe, channels=False))
    labels = images.annotations.labels
    is_good = slice(None) if labels is None else ~is_defect_in_training(labels)
    copies = paint_copies(
        images[is_good], kinds=kinds, severity=severity, random_state=random_state
    )
    features = features_of(pipe, images[is_good])
    places = bank.images_.find(digests_of(features))
    if (places < 0).any():
        raise ValueError(
            f"{int((places < 0).sum())} of {len(places)} images are none that the pipeline was "
            f"fitted with (the first at position {int(np.argmax(places < 0))} of the good ones): "
            "pass training images, as the pipeline got them."
        )
    good, bad = (
        knn.transform_held_out(patches_of(bank, values, places))
        for values in (features, features_of(pipe, copies))
    )
    training = structcore.training_
    if training.parts is not None:
        # Of a stream, only the images that calibrate it have parts.
        rows = np.flatnonzero(np.isin(places, training.image_index))
        row_of = np.searchsorted(training.image_index, places[rows])
        good, bad = replace(good[rows], parts=training.parts[row_of]), bad[rows]
    scorer = clone(structcore)
    descriptors = list(dict.fromkeys([BASE, *weighted(structcore.descriptors)]))
    scorer.set_params(descriptors=descriptors, norm="sum", lam="struct-only")
    from sklearn.linear_model import LogisticRegression

    scorer.fit(good)
    z = np.vstack([scorer.standardise(good), scorer.standardise(bad)])
    is_bad = np.repeat([0, 1], len(bad))
    weights = LogisticRegression(C=C).fit(z, is_bad).coef_[0]
    weights = (weights / np.abs(weights).sum()).tolist()
    scorer.set_params(descriptors=dict(zip(descriptors, weights, strict=True))).fit(good)
    # Only the pipeline's own fit knows how far images are from their route when held out.
    scorer.routes_ = {
        name: replace(route, tail=structcore.routes_[name].tail)
        for name, route in scorer.routes_.items()
    }
    return scorer
