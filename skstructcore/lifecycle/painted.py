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
from ..bank.training import codes_of, training_images
from ..containers import Patches
from ..datasets import DEFECTS, paint_copies
from ..features.view import view_of
from ..images.image_list import as_images
from ..images.labels import is_defect_in_training
from ..scoring.descriptors import BASE, weighted
from ._steps import structcore_steps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from sklearn.pipeline import Pipeline

    from .._utils.typing import ArrayLike, RandomState
    from ..images.image_list import ImagesLike
    from ..scoring.structcore import StructCoreScorer

__all__ = ["learn_from_painted_defects"]


def learn_from_painted_defects(
    pipe: Pipeline,
    images: ImagesLike,
    *,
    groups: ArrayLike | Literal["auto"] | None = "auto",
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
        The training images, in the order in which the pipeline was fitted on them. Those of an
        `ImageSet` that are labelled as defects are left out, as `fit` does.
    groups : array-like of shape (n_images,), "auto" or None, default="auto"
        What was passed to `fit` as ``bank__groups``; see `CoresetBank.fit`.
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
        If the images or groups are not those that the pipeline was fitted with, or it was fitted
        in-sample.
    """
    bank, knn, structcore = structcore_steps(pipe)
    images = as_images(images).seen_through(view_of(pipe, channels=False))
    labels = images.annotations.labels
    is_good = slice(None) if labels is None else ~is_defect_in_training(labels)
    copies = paint_copies(
        images[is_good], kinds=kinds, severity=severity, random_state=random_state
    )
    known = training_images(pipe[:-3].transform(images), None, groups, n_routes=bank.n_routes)
    own = _what_the_bank_knows(bank, known)
    good, bad = (
        knn.transform_held_out(Patches(values, knn.bank_, **own))
        for values in (known.X, pipe[:-3].transform(copies))
    )
    scorer = clone(structcore)
    descriptors = list(dict.fromkeys([BASE, *weighted(structcore.descriptors)]))
    scorer.set_params(descriptors=descriptors, norm="sum", lam="struct-only")
    from sklearn.linear_model import LogisticRegression

    z = np.vstack([scorer.fit(good).standardise(maps) for maps in (good, bad)])
    is_bad = np.repeat([0, 1], len(copies))
    weights = LogisticRegression(C=C).fit(z, is_bad).coef_[0]
    weights = (weights / np.abs(weights).sum()).tolist()
    scorer.set_params(descriptors=dict(zip(descriptors, weights, strict=True))).fit(good)
    # Only the pipeline's own fit knows how far images are from their route when held out.
    scorer.routes_ = {
        name: replace(route, tail=structcore.routes_[name].tail)
        for name, route in scorer.routes_.items()
    }
    return scorer


def _what_the_bank_knows(bank, known):
    """The codes that the fitted bank has for images and their groups, and their routes."""
    entries = bank.bank_
    codes, _ = codes_of(known.groups, len(known.X))
    if known.groups is None and bank.dependence_ and len(codes) == bank.n_images_:
        codes = bank.groups_  # found by the fit
    record = getattr(bank, "images_", None)  # not of the first release
    same = record is None or np.array_equal(record.digests, digests_of(known.X))
    if (
        len(codes) != bank.n_images_
        or (codes[entries.image_index] != entries.groups).any()
        or not same
    ):
        raise ValueError(
            f"The memory bank knows {bank.n_images_} training images, others than these "
            f"{len(codes)}, or in another order or other groups: pass the images, in the same "
            "order, and the groups that the pipeline was fitted with."
        )
    names, routes = ([], None) if known.categories is None else codes_of(known.categories, 0)[::-1]
    if tuple(names) != entries.route_names:  # fitted without these categories: by the prototypes
        routes = None
    return {"image_index": np.arange(len(codes)), "groups": codes, "routes": routes}
