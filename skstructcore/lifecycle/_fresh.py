"""Fresh good images for a fitted pipeline: scored, and checked for what they should not be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..bank.record import digests_of
from ..bank.training import is_auto, training_images
from ._steps import check_scores, structcore_steps

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    import pandas as pd
    from numpy.typing import ArrayLike
    from sklearn.pipeline import Pipeline

    from ..bank.coreset_bank import CoresetBank
    from ..bank.training import TrainingImages
    from ..containers import Patches
    from ..images.image_list import ImagesLike
    from ..scoring.calibration import ScoreCalibration

# Scores this many times as far above the median as the most anomalous calibration image.
_WIDE = 2.0
# Sides this many times larger or smaller than those of all training images are of another camera.
_OTHER_SIZE = 1.25
_FORCE = "If they are as they should be, pass force=True."


def take_good(
    pipe: Pipeline,
    images: ImagesLike,
    groups: ArrayLike | Literal["auto"] | None,
    categories: ArrayLike | str | None,
) -> TrainingImages:
    """Features of the good ones of some images, with what is known of them."""
    scorer = structcore_steps(pipe)[-1]
    features = pipe[:-3].transform(images) if len(pipe) > 3 else np.asarray(images)
    if len(features) == 0:
        raise ValueError("The list of images is empty: at least one good image is needed.")
    if not scorer.is_routed_:
        if categories is not None and not is_auto(categories):
            raise ValueError(
                f"categories={categories!r} tells products apart, but the pipeline has no routes: "
                "leave it out, or fit with bank__categories=."
            )
        categories = None
    elif isinstance(categories, str) and not is_auto(categories):
        categories = np.full(len(features), categories, dtype=object)
    good = training_images(features, None, groups, categories)
    if good.categories is not None:
        known = list(scorer.routes_)
        unknown = sorted({str(name) for name in good.categories} - set(known))
        if unknown:
            raise ValueError(
                f"The pipeline knows no {', '.join(map(repr, unknown))}, only "
                f"{', '.join(map(repr, known))}: add_category teaches it a new product."
            )
    return good


def describe_fresh(
    pipe: Pipeline, good: TrainingImages, patches: Patches | None = None
) -> pd.DataFrame:
    """Score images that are not in the bank; `patches` are theirs, where they are known.

    Returns
    -------
    fresh : DataFrame
        What `describe` says, and ``raw_score``, not scaled by the threshold of the route;
        ``nearest_route`` in any case; ``group``; and ``category``, None where it is unknown.
    """
    bank, knn, scorer = structcore_steps(pipe)
    patches = bank.transform(good.X) if patches is None else patches
    fresh = scorer.describe(knn.transform(patches))
    if "nearest_route" not in fresh:
        fresh["nearest_route"] = "all"
    calibrations = scorer.calibrations_
    lam = fresh["nearest_route"].map({name: c.lam for name, c in calibrations.items()})
    weight = fresh["nearest_route"].map({name: c.base_weight for name, c in calibrations.items()})
    fresh["raw_score"] = weight * fresh["base"] + lam * fresh["d_struct"]
    check_scores(fresh["raw_score"])
    if good.groups is None:  # each image its own, and that of its copies
        _, first, which = np.unique(digests_of(good.X), return_index=True, return_inverse=True)
        fresh["group"] = first[which]
    else:
        fresh["group"] = good.groups
    fresh["category"] = None if good.categories is None else good.categories.astype(str)
    return fresh


def check_new(bank: CoresetBank, good: TrainingImages) -> None:
    """Raise ValueError if images are in the bank already."""
    digests = digests_of(good.X)
    there = np.flatnonzero(bank.images_.find(digests) >= 0)
    if len(there):
        raise ValueError(
            f"{len(there)} of {len(digests)} images are in the bank already (the first at position "
            f"{there[0]}): give new ones."
        )


def check_sizes(bank: CoresetBank, good: TrainingImages) -> None:
    """Raise ValueError if images are larger or smaller than any that the bank was made of."""
    geometry, known = getattr(good.X, "geometry", None), bank.images_.sizes
    if geometry is None or known is None:
        return
    sizes = geometry.original_sizes
    low, high = known.min(axis=0) / _OTHER_SIZE, known.max(axis=0) * _OTHER_SIZE
    other = ((sizes < low) | (sizes > high)).any(axis=1)
    if other.any():
        height, width = sizes[np.argmax(other)]
        (h0, w0), (h1, w1) = known.min(axis=0), known.max(axis=0)
        raise ValueError(
            f"{_count(other)} of another size than the training images, the first {height} x "
            f"{width} pixels, where those had {h0} to {h1} x {w0} to {w1}: another camera, or "
            f"another part of the image? {_FORCE}"
        )


def check_products(fresh: pd.DataFrame) -> None:
    """Raise ValueError if images are of no known product, or of another than was said."""
    unknown = fresh["route"] == "unknown"
    if unknown.any():
        raise ValueError(
            f"{_count(unknown)} of no product that the pipeline knows (the nearest is "
            f"{fresh.loc[unknown, 'nearest_route'].mode()[0]!r}). {_FORCE}"
        )
    other = fresh["category"].notna() & (fresh["category"] != fresh["nearest_route"])
    if other.any():
        first = fresh[other].iloc[0]
        raise ValueError(
            f"{_count(other)} of another product than was said: the first was called "
            f"{first['category']!r} and looks like {first['nearest_route']!r}. {_FORCE}"
        )


def check_margin(fresh: pd.DataFrame, calibrations: Mapping[str, ScoreCalibration]) -> None:
    """Raise ValueError if images are so anomalous that good ones can hardly be."""
    limits = {}
    for name, calibration in calibrations.items():
        median = float(np.median(calibration.scores))
        limits[name] = median + _WIDE * (float(calibration.scores.max()) - median)
    far = fresh["raw_score"] > fresh["nearest_route"].map(limits)
    if far.any():
        raise ValueError(
            f"{_count(far)} anomalous by a wide margin, with scores more than {_WIDE:g} times as "
            "far above the median of good images as the highest of these: defects, or another "
            f"product, must not be among good images. {_FORCE}"
        )


def _count(which):
    places = np.flatnonzero(which)
    shown = ", ".join(map(str, places[:10])) + (", ..." if len(places) > 10 else "")
    are = "is" if len(places) == 1 else "are"
    return f"{len(places)} of {len(which)} images (at position {shown}) {are}"
