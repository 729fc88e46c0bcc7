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
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_random_state

from ..containers import Patches
from ..datasets.synthetic import DEFECTS, paint_defect
from ..images.image_list import as_images

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sklearn.pipeline import Pipeline

    from .._utils.typing import ArrayLike, RandomState
    from ..images.image_list import ImagesLike
    from .structcore import StructCoreScorer


def learn_from_painted_defects(
    pipe: Pipeline,
    images: ImagesLike,
    *,
    groups: ArrayLike | None = None,
    kinds: Sequence[str] = tuple(DEFECTS),
    severity: float = 1.0,
    C: float = 0.01,
    random_state: RandomState = None,
) -> StructCoreScorer:
    """Learn how much each descriptor counts, and calibrate with these weights.

    Parameters
    ----------
    pipe : Pipeline
        Fitted on `images`, as `make_structcore` builds it. It is not changed.
    images : list of paths, ImageSet or ndarray
        The good training images.
    groups : array-like of shape (n_images,), default=None
        The groups that the pipeline was fitted with (``bank__groups``). None: those of the
        `ImageSet`, if it has any.
    kinds : sequence of str, default=all of `DEFECTS`
        Kinds of defects to paint, in turn; one defect an image.
    severity : float, default=1.0
        Contrast of the defects, see `paint_defect`.
    C : float, default=0.01
        Inverse strength of the L2 penalty of the logistic regression. Strong by default:
        painted defects are not real ones.
    random_state : int, RandomState instance or None, default=None
        For the defects.

    Returns
    -------
    scorer : StructCoreScorer
        Fitted. The base score is one of its descriptors, and ``score = sum(weights * z)``.
        Use it with ``Pipeline([*pipe.steps[:-1], ("structcore", scorer)])``.

    Raises
    ------
    ValueError
        If `groups` is not of the length of `images`, or the pipeline was fitted in-sample.
    """
    images = as_images(images)
    groups = images.annotations.groups if groups is None else groups
    if groups is not None and len(groups) != len(images):
        raise ValueError(f"groups has {len(groups)} entries for {len(images)} images.")
    rng = check_random_state(random_state)
    painted = [
        paint_defect(images.read(i), kinds[i % len(kinds)], rng, severity)[0]
        for i in range(len(images))
    ]
    # The codes that the bank gave to the groups.
    codes = np.arange(len(images)) if groups is None else np.unique(groups, return_inverse=True)[1]
    good, bad = (_held_out_maps(pipe, x, codes) for x in (images, painted))
    scorer = clone(pipe[-1])
    scorer.set_params(
        descriptors=(scorer.base, *scorer.descriptors), norm="sum", lam="struct-only", weights=None
    )
    z = np.vstack([scorer.fit(good).standardise(maps) for maps in (good, bad)])
    is_bad = np.repeat([0, 1], len(images))
    weights = LogisticRegression(C=C).fit(z, is_bad).coef_[0]
    scorer.set_params(weights=weights / np.abs(weights).sum()).fit(good)
    if scorer.routes_ is not None:
        # How far images are from their route, held out, only the pipeline's own fit knows.
        known = pipe[-1].routes_
        scorer.routes_ = {
            name: replace(route, tail=known[name].tail) for name, route in scorer.routes_.items()
        }
    return scorer


def _held_out_maps(pipe, images, codes):
    values = pipe[:2].transform(images)
    knn = pipe.named_steps["knn"]
    return knn.transform_held_out(
        Patches(values, knn.bank_, image_index=np.arange(len(codes)), groups=codes)
    )
