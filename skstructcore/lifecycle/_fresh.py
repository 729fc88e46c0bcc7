"""Fresh good images for a fitted pipeline: scored, checked for what they should not be, joined."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline

from .._utils.rows import LazyRows, materialize
from ..bank.growth import find_new_groups
from ..bank.training import GoodImages, digests_of, good_images, is_auto
from ..containers import AnomalyMaps, Patches
from ..images.image_list import ImagesLike
from ..knn.search import score_patches
from ..pipeline.steps import features_of, fitted_steps
from ..routing import UNKNOWN
from ..scoring.decision import check_scores
from ..scoring.evidence import check_maps
from ..scoring.table import describe_maps, routes_of

# Scores this many times as far above the median as the most anomalous calibration image.
_WIDE = 2.0
# Sides this many times larger or smaller than those of all training images are of another camera.
_OTHER_SIZE = 1.25


class FreshImages(NamedTuple):
    """Good images that are not in the bank, and the table of `describe` of them.

    It has, beside: ``raw_score``, not scaled by the threshold of the route; ``nearest_route`` in
    any case; and ``group``.
    """

    good: GoodImages
    patches: Patches
    maps: AnomalyMaps
    table: pd.DataFrame


def fresh_images(
    pipe: Pipeline,
    images: ImagesLike,
    groups: ArrayLike | Literal["auto"] | None,
    categories: ArrayLike | str | None,
    parts: ArrayLike | Literal["auto"] | None = None,
    *,
    force: bool,
    in_memory: bool = False,
) -> FreshImages:
    """Score the good ones of some images; ValueError if nothing can be learned from them.

    They must be new to the bank and, without `force`, look like good images of a known product.
    With `in_memory`, or to look for near-duplicates, their patches become an array.
    """
    bank, knn, scorer = fitted_steps(pipe)
    good = new_images(pipe, features_of(pipe, images), groups, categories, parts)
    if not force:
        _check_sizes(bank, good)
    patches = bank.transform(good.X)
    finds_groups = is_auto(groups) and good.groups is None and good.X.ndim == 4
    finds_groups &= in_memory or 4 * math.prod(good.X.shape) <= bank.max_memory
    in_memory |= finds_groups
    # What is ignored may depend on the product, which the search finds first.
    waits = isinstance(good.X, LazyRows) and good.X.waits_for_categories
    if in_memory and not waits:
        patches = replace(patches, values=materialize(good.X))
    if force and good.categories is not None:  # they go where it was said
        said = np.array([bank.bank_.route_names.index(name) for name in good.categories])
        maps = score_patches(knn.search_, patches, knn.expectations_, said)
    else:
        maps = knn.transform(patches)
    table = _describe(scorer, maps, good)
    if in_memory and waits:
        patches = replace(patches, values=materialize(good.X, categories=table["nearest_route"]))
    if not force:
        _check_normal(table, good, scorer.routes_.decisions)
    if finds_groups:
        found = find_new_groups(bank, patches.values, table["nearest_route"].to_numpy())
        _, first = np.unique(table["group"], return_index=True)  # copies are of one group
        table["group"] = found[first][table["group"]]
    return FreshImages(good, patches, maps, table)


def new_images(
    pipe: Pipeline,
    features: LazyRows | NDArray[np.floating],
    groups: ArrayLike | Literal["auto"] | None,
    categories: ArrayLike | str | None,
    parts: ArrayLike | Literal["auto"] | None,
) -> GoodImages:
    """The good ones of some images, with what is known of them; ValueError if one is not new.

    Where the pipeline decides about parts it knows what these are: each may have one view here.
    """
    bank, _, scorer = fitted_steps(pipe)
    if not scorer.routes_.is_routed:
        if categories is not None and not is_auto(categories):
            raise ValueError(
                f"categories={categories!r} tells products apart, but the pipeline has no routes: "
                "leave it out, or fit with bank__categories= and knn__routing='auto'."
            )
        categories = None
    elif is_auto(categories):  # one alone counts, too; routes that were found are no categories
        carried = None if bank.n_routes is not None else getattr(features, "annotations", None)
        categories = carried and carried.categories
    elif isinstance(categories, str):
        categories = np.full(len(features), categories, dtype=object)
    has_parts = scorer.part_decision_ is not None
    good = good_images(features, None, groups, categories, parts, single_views=has_parts)
    if good.categories is not None:
        good = good._replace(categories=good.categories.astype(str).astype(object))
        if unknown := sorted(set(good.categories) - set(scorer.routes_)):
            raise ValueError(
                f"The pipeline knows no {', '.join(map(repr, unknown))}, only "
                f"{', '.join(map(repr, scorer.routes_))}: add_category teaches it a new product."
            )
    if len(in_bank := np.flatnonzero(bank.images_.find(digests_of(good.X)) >= 0)):
        raise ValueError(
            f"{len(in_bank)} of {len(good.X)} images are in the bank already (the first at "
            f"position {good.places[in_bank[0]]}): give new ones."
        )
    if not has_parts:
        return good._replace(parts=None)
    if good.parts is None:
        raise ValueError(
            "The pipeline decides about parts: pass parts= (--parts of a command), which part each "
            "image is a view of."
        )
    again = np.isin(good.parts, scorer.training_.parts)
    if again.any():
        raise ValueError(
            f"parts has {str(good.parts[again][0])!r}, which is a part of the training images "
            "already: give new parts names of their own."
        )
    return good


def _describe(scorer, maps, good):
    evidence = scorer.evidence_of(check_maps(scorer, maps, reset=False))
    judged = scorer.routes_.judge(evidence, scorer.unknown_level)
    check_scores(judged.raw_score)
    table = describe_maps(scorer, maps, evidence.base, judged)
    # Without groups each image is its own, and that of its copies.
    groups = pd.factorize(digests_of(good.X))[0] if good.groups is None else good.groups
    return table.assign(nearest_route=routes_of(table), raw_score=judged.raw_score, group=groups)


def _check_sizes(bank, good):
    """Raise ValueError if images are larger or smaller than any that the bank was made of."""
    geometry, trained = getattr(good.X, "geometry", None), bank.images_.sizes
    if geometry is None or trained is None:
        return
    sizes, least, most = geometry.original_sizes, trained.min(axis=0), trained.max(axis=0)
    other = ((sizes < least / _OTHER_SIZE) | (sizes > most * _OTHER_SIZE)).any(axis=1)
    (height, width), (h0, w0), (h1, w1) = sizes[other.argmax()], least, most
    _refuse(
        other,
        good.places,
        f"of another size than the training images, the first {height} x {width} pixels, where "
        f"those had {h0} to {h1} x {w0} to {w1}: another camera, or another part of the image?",
    )


def _check_normal(fresh, good, decisions):
    """Raise ValueError if images are of another product, or can hardly be good ones."""
    places, unknown = good.places, fresh["route"] == UNKNOWN
    nearest = next(iter(fresh.loc[unknown, "nearest_route"].mode()), None)
    _refuse(unknown, places, f"of no product that the pipeline knows (the nearest is {nearest!r}).")
    if good.categories is not None:
        said, looks = good.categories, fresh["nearest_route"].to_numpy()
        other = said != looks
        first = int(np.argmax(other))
        text = f"the first was called {said[first]!r} and looks like {looks[first]!r}."
        _refuse(other, places, f"of another product than was said: {text}")
    limits = {}
    for name, decision in decisions.items():
        median = float(np.median(decision.scores))
        limits[name] = median + _WIDE * (float(decision.scores.max()) - median)
    _refuse(
        fresh["raw_score"] > fresh["nearest_route"].map(limits),
        places,
        f"anomalous by a wide margin, with scores more than {_WIDE:g} times as far above the "
        "median of good images as the highest of these: defects, or another product, must not be "
        "among good images.",
    )


def _refuse(which, places, what):
    """Raise ValueError if some images are `what` good ones are not."""
    places = places[np.asarray(which)]
    if len(places):
        shown = ", ".join(map(str, places[:10])) + (", ..." if len(places) > 10 else "")
        are = "is" if len(places) == 1 else "are"
        raise ValueError(
            f"{len(places)} of {len(which)} images (at position {shown}) {are} {what} If they are "
            "as they should be, pass force=True (--force)."
        )
