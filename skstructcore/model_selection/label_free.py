"""Comparing settings without a single labelled defect: painted defects in held-out good images.

A user who has only good images cannot compute an AUROC. What can be computed is how well a
model that was fitted on some of them tells the others from copies with painted defects.
How well that ranks settings is measured in ``docs/model_selection.md``; read it before use.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..datasets import DEFECTS, paint_copies
from ..images.image_list import as_images
from ..images.labels import is_defect_in_training
from ..metrics import image_auroc_score
from ..pipeline.steps import intensity_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import ArrayLike

    from ..images.image_list import ImagesLike

_CHUNK = 16  # images that are painted at a time


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

    It is an object for ``scoring=`` of `GridSearchCV` and the like. Other defects are asked for by
    ``functools.partial(painted_defects_scorer, kinds=["spot"])``.

    Parameters
    ----------
    estimator : fitted estimator with `score_samples`
    X : held-out good images, in any form that `as_images` takes
    y : array-like of shape (n,), default=None
        Labels, which must call all images good; None: those of `X` where it has any.
    kinds : sequence of str, default=all of `DEFECTS`
        Kinds of defects; each copy gets one, at random.
    severities : sequence of float, default=(0.25, 0.5, 1.0)
        Contrasts of the defects, see `paint_copies`; each image gets a copy for each. Faint
        ones keep the criterion from reaching 1 for all settings.
    random_state : int, default=0
        The same seed and the same image give the same copies, whatever the fold, so that
        all settings are compared on the same copies and a feature cache knows them.

    Returns
    -------
    auroc : float

    Raises
    ------
    ValueError
        If labels call an image anomalous, or `X` are not images (features that were computed in
        advance cannot be painted on).

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
    good, painted = [], []
    # In chunks, because the copies of all images may not fit into memory.
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK]
        paint = partial(paint_copies, chunk, kinds=kinds, random_state=random_state)
        copies = [copy for severity in severities for copy in paint(severity=severity)]
        good.append(-estimator.score_samples(chunk))
        painted.append(-estimator.score_samples(copies))
    scores = np.concatenate(good + painted)
    return image_auroc_score(np.arange(len(scores)) >= len(images), scores)
