"""Good images and products added to a fitted pipeline, or taken out of it, without a new fit."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from .._utils.copies import with_attributes
from .._utils.rows import materialize
from .._utils.warning import warn_user
from ..bank.growth import bank_with_route, bank_without, bank_without_route, grown_bank
from ..bank.training import digests_of, names_of
from ..containers import Patches
from ..images.image_list import ImagesLike
from ..images.labels import is_defect_in_training
from ..knn.held_out import grown_scorer, scorer_without
from ..pipeline.steps import features_of, fitted_steps, with_steps
from ..routing import UNKNOWN, fit_tail, held_out_distances
from ..scoring.evidence import check_maps
from ..scoring.routes import MIN_GROUPS, RouteCalibration, Routes
from ..scoring.summary import explain_routes
from ._fresh import fresh_images, new_images

__all__ = ["add_category", "forget", "remove_category", "update"]

# Of good images, so many are rejected with this chance at most where the line has not changed.
_CHANCE = 0.01
# Up to this share of forgotten images, scores are close to those of a refit (docs/field.md).
_MANY = 0.2


def update(
    pipe: Pipeline,
    images: ImagesLike,
    *,
    groups: ArrayLike | Literal["auto"] | None = "auto",
    categories: ArrayLike | str | None = "auto",
    parts: ArrayLike | Literal["auto"] | None = "auto",
    force: bool = False,
) -> Pipeline:
    """Add good images to the bank of a fitted pipeline, and calibrate it with them.

    The backbone runs on the new images only. Their patches that lie farthest from the bank join it,
    as many per image as it has. The new images are scored held out, as the training images were at
    fit; what distances are normal is learned from both.

    Parameters
    ----------
    pipe, images, groups, categories, parts, force : see `recalibrate`, also for what is refused
        Groups and parts are new ones: a group of the fit, named again, is another one.

    Returns
    -------
    pipe : Pipeline
        With the images. Only the last three steps are new.

    Warns
    -----
    UserWarning
        If more of the images are rejected than good ones should be; or if a recalibration with
        fresh images is lost, so that thresholds are those of training images again.

    See Also
    --------
    add_category : A new product.

    Notes
    -----
    Compared with a fit of all images together, no training patch lies farther from the bank than
    ``radius_`` (images left out by `contamination` aside). With ``n_neighbors=1`` the distance of
    any patch differs by at most the larger of both radii. No distance becomes larger than it was.
    Old images keep their held-out scores: thresholds err to the safe side. See ``docs/field.md``.
    """
    bank, knn, scorer = fitted_steps(pipe)
    fresh = fresh_images(pipe, images, groups, categories, parts, force=force, in_memory=True)
    values, good, table = fresh.patches.values, fresh.good, fresh.table
    if not force:
        _tell_of_rejected(table, good.places, scorer.false_alarm_rate_)
    if knn.search_.is_routed:
        routes = np.array([bank.bank_.route_names.index(name) for name in table["nearest_route"]])
    else:  # the bank may have routes that are searched together
        routes = replace(knn.search_, routing="top1").nearest_routes(values)[:, 0]
    codes = np.unique(table["group"], return_inverse=True)[1] + bank.images_.groups.max() + 1

    new_bank = grown_bank(bank, good, values, codes, routes)
    places = np.arange(len(bank.images_), len(new_bank.images_))
    patches = Patches(values, new_bank.bank_, places, new_bank.images_, fresh.patches.geometry)
    new_knn, maps = grown_scorer(knn, patches)
    training = scorer.training_.join(scorer.evidence_of(maps))
    return _retrained(pipe, new_bank, new_knn, training)


def _tell_of_rejected(table, places, rate):
    """Warn where the pipeline rejects more of the images than its rate explains."""
    rejected = places[table["is_anomalous"]]
    if len(rejected) and binomtest(len(rejected), len(table), rate, "greater").pvalue < _CHANCE:
        warn_user(
            f"{len(rejected)} of {len(table)} new images are rejected by the pipeline, where "
            f"{rate:.2%} of good ones should be (the first at position {rejected[0]}): where they "
            "show defects, forget takes them out again."
        )


def forget(pipe: Pipeline, images: ImagesLike) -> Pipeline:
    """Take images out of a fitted pipeline: their bank entries, scores and expectations.

    Parameters
    ----------
    pipe : see `recalibrate`
    images : folder, sequence of paths, PIL images or arrays, or ndarray
        Training images, as the pipeline got them: files are recognised by their bytes, arrays by
        their values. All copies of an image go; of a file that was in the fit itself, it alone.
        Those of an `ImageSet` that are labelled as defects need not be training images.

    Returns
    -------
    pipe : Pipeline
        Without the images. Only the last three steps are new.

    Raises
    ------
    ValueError
        If an image is not one that the pipeline was fitted with, or too few are left.

    Warns
    -----
    UserWarning
        If a recalibration with fresh images is lost, or if more than a fifth of the images of
        its products are forgotten by now.

    Notes
    -----
    ``radius_`` still bounds the distance of the training patches that are left. Other images keep
    their held-out scores. Those whose nearest entries were of a forgotten image would be farther
    from the bank now: thresholds may be a little too low until new images come.

    The images of one `update` leave no trace if nothing else has come or gone since: scores are
    what they were, to rounding (``route_distance`` to float32), but for prototypes of routes, which
    are learned anew. What an image has contributed to expectations is found again by its neighbours
    in the bank. Where these have changed, as many average patches are taken away.
    """
    bank, knn, scorer = fitted_steps(pipe)
    features = features_of(pipe, images)
    digests, training = digests_of(features), scorer.training_
    is_gone = _find_all(bank.images_, features, digests)
    left = training.take(~is_gone[training.image_index])
    _check_left(left, bank.bank_.route_names)

    is_known = bank.images_.routes >= 0  # not of a product that was removed
    if (share := 1 - (bank.images_.is_there & ~is_gone)[is_known].mean()) > _MANY:
        warn_user(
            f"{share:.0%} of the training images are forgotten by now. The others keep scores "
            "that had these in the bank, and are too low: fit again with the images that are left."
        )
    new_bank = bank_without(bank, is_gone)
    # Of a streamed fit, only the images that calibrate it have contributed.
    places = np.intersect1d(np.flatnonzero(is_gone), training.image_index)
    is_learned = knn.expectations_ is not None and len(places) > 0
    gone = _patches_at(bank, features, digests, places) if is_learned else None
    new_knn = scorer_without(knn, new_bank.bank_, bank.images_, is_gone, gone)
    return _retrained(pipe, new_bank, new_knn, left)


def _find_all(record, features, digests):
    """Which training images have one of these contents: all copies, or those of the same file."""
    is_unknown = record.find(digests) < 0
    labels = getattr(getattr(features, "annotations", None), "labels", None)
    if labels is not None and not is_unknown.all():  # a fit leaves out what is labelled a defect
        is_unknown &= ~is_defect_in_training(labels)
    unknown = np.flatnonzero(is_unknown)
    if len(unknown):
        raise ValueError(
            f"{len(unknown)} of {len(digests)} images are none that the pipeline was fitted with "
            f"(the first at position {unknown[0]}), or were forgotten before. Files are recognised "
            "by their bytes, arrays by their values: give images as the pipeline got them."
        )
    is_gone, images = np.isin(record.digests, digests), getattr(features, "images", None)
    if images is not None and record.names is not None:
        names = [_place_of(item) if isinstance(item, str) else None for item in images.items]
        given = set(zip(digests, names, strict=True))
        trained = list(zip(record.digests, map(_place_of, record.names), strict=True))
        nameless = [digest for digest, _ in given.difference(trained)]  # no copy lies there
        is_gone &= [image in given for image in trained] | np.isin(record.digests, nameless)
    return is_gone


def _place_of(name):
    """Where a file lies, however its folder is spelled."""
    folder, name = os.path.split(name)
    return os.path.join(os.path.realpath(folder), name)


def _check_left(left, names):
    for route, name in enumerate(names):
        n_groups = len(np.unique(left.groups[left.routes == route]))
        if n_groups < 2:
            of_route = "" if len(names) == 1 else f" of {name!r}"
            raise ValueError(
                f"Only {n_groups} calibration image(s) or group(s){of_route} would be left: at "
                "least two are needed."
            )


def _patches_at(bank, features, digests, places):
    """Patches of the training images at these places, from their features given anew."""
    table = bank.images_
    row_of = {digest: row for row, digest in enumerate(digests.tolist())}
    rows = [row_of[digest] for digest in table.digests[places].tolist()]
    names = np.array(bank.bank_.route_names)[table.routes[places]]
    values = materialize(features[rows], categories=names)
    return Patches(values, bank.bank_, places, table)


def add_category(
    pipe: Pipeline,
    images: ImagesLike,
    name: str,
    *,
    groups: ArrayLike | Literal["auto"] | None = "auto",
    parts: ArrayLike | Literal["auto"] | None = "auto",
) -> Pipeline:
    """Teach a fitted pipeline one more product.

    The backbone runs on the new images only. An image that is sent to one of the old products
    gets the same score as before, to the last bit (unless ``knn__routing="top2"`` compares it with
    the new one too).

    Parameters
    ----------
    pipe : Pipeline
        Fitted with routes (``bank__categories=`` or ``n_routes``). It is not changed.
    images : folder, sequence of paths, PIL images or arrays, or ndarray
        Good images of the product, at least two, see `recalibrate`.
    name : str
        Name of the product.
    groups, parts : see `recalibrate`

    Returns
    -------
    pipe : Pipeline
        With the product.

    Raises
    ------
    ValueError
        If `pipe` has no routes, the name is taken or cannot be used, the images are too few, in
        the bank already or of another grid of patches, or their parts are needed and not known.

    Warns
    -----
    UserWarning
        If the images are too few to judge the product by them alone; or if a decision about fresh
        parts is lost.

    Examples
    --------
    Patches of one image a row, instead of images:

    >>> import numpy as np
    >>> from skstructcore import add_category, make_structcore, remove_category
    >>> noise = np.random.default_rng(0).normal(size=(3, 200, 3))
    >>> nuts, bolts, pins = 9 * np.eye(3)[:, np.newaxis] + noise
    >>> products = np.repeat(["nut", "bolt"], 200)
    >>> pipe = make_structcore()[2:].fit(np.r_[nuts, bolts], bank__categories=products)
    >>> more = add_category(pipe, pins, "pin")
    >>> remove_category(more, "nut")["bank"].bank_.route_names
    ('bolt', 'pin')
    """
    bank, knn, scorer = _routed_steps(pipe)
    names = bank.bank_.route_names
    if not isinstance(name, str) or name.strip() in ("", UNKNOWN):
        raise ValueError(f"A product needs a name other than {UNKNOWN!r}, got {name!r}.")
    if name in names:
        raise ValueError(
            f"The pipeline already knows {name!r}. To learn it anew, remove_category it first."
        )
    features = features_of(pipe, images)
    good = new_images(pipe, features, groups, None, parts)
    alone = clone(bank).set_params(n_routes=None)
    if good.parts is not None and len(set(good.parts)) == len(good.parts):
        parts = None  # one view each, which a fit takes for no parts
    options = {"groups": groups, "parts": parts, "categories": [name] * len(features)}
    patches = alone.fit_transform(features, **options)
    names = names_of(good.X, first=bank.images_.n_given)
    alone.images_ = replace(alone.images_, names=names, parts=good.parts)
    new_knn = clone(knn).set_params(routing="top1")
    maps = new_knn.fit_transform(replace(patches, images=alone.images_))
    check_maps(scorer, maps, reset=False)
    training, route = _calibrated(scorer, maps, name)

    grown = bank_with_route(bank, alone)
    expectations = knn.expectations_ and knn.expectations_ + new_knn.expectations_
    search = knn.search_.of(grown.bank_)
    grown_knn = with_attributes(knn, search_=search, expectations_=expectations)
    places = len(bank.images_) + training.image_index
    training = scorer.training_.join(replace(training, image_index=places))
    return _retrained(pipe, grown, grown_knn, training, {**scorer.routes_, name: route})


def _calibrated(scorer, maps, name):
    """What maps of a new product say, and what is normal for it."""
    tail = fit_tail(maps.route_distance, maps.groups)
    if tail.n >= MIN_GROUPS:
        alone = clone(scorer).fit(maps)
        return alone.training_, alone.routes_[name]
    route = RouteCalibration(scorer.calibration_, tail, is_pooled=True)
    warn_user(" ".join(explain_routes(Routes({name: route}))))
    return scorer.evidence_of(maps), route


def remove_category(pipe: Pipeline, name: str) -> Pipeline:
    """Make a fitted pipeline forget a product.

    Parameters
    ----------
    pipe : see `add_category`
    name : str
        One of ``pipe["bank"].bank_.route_names``.

    Returns
    -------
    pipe : Pipeline
        Without the product. Images of it are unknown now, unless they look like another.

    Raises
    ------
    ValueError
        If `pipe` has no routes, does not know the name, or knows no other; or if it decides
        about parts, and too few are left.

    Warns
    -----
    UserWarning
        As `add_category` does, about parts.
    """
    bank, knn, scorer = _routed_steps(pipe)
    names = bank.bank_.route_names
    if name not in names:
        raise ValueError(f"The pipeline knows no {name!r}, only {', '.join(map(repr, names))}.")
    if len(names) == 1:
        raise ValueError(f"{name!r} is the only product there is: it cannot be removed.")
    gone, expectations = names.index(name), knn.expectations_
    expectations = expectations and expectations[:gone] + expectations[gone + 1 :]
    bank = bank_without_route(bank, gone)
    knn = with_attributes(knn, search_=knn.search_.of(bank.bank_), expectations_=expectations)
    routes = {key: route for key, route in scorer.routes_.items() if key != name}
    training = scorer.training_.take(scorer.training_.route != name)
    return _retrained(pipe, bank, knn, training, routes)


def _routed_steps(pipe):
    steps = fitted_steps(pipe)
    if not steps[1].search_.is_routed:
        raise ValueError(
            "The pipeline has no routes: fit it with bank__categories= (or set bank__n_routes) "
            "and knn__routing='auto'."
        )
    return steps


def _retrained(pipe, bank, knn, training, routes=None):
    """The pipeline with a changed bank, calibrated with what its training images say.

    `routes`: what is normal for each. None: it is learned anew, and so is how far images are from
    their route. UserWarning if a recalibration is lost.
    """
    scorer = pipe[-1]
    learned = [scorer.part_decision_]
    if routes is None:
        learned += scorer.routes_.decisions.values()
    if any(decision is not None and decision.held_out.fresh for decision in learned):
        which = "The pipeline" if routes is None else "The decision about parts"
        warn_user(
            f"{which} had been recalibrated with fresh images, and is that of the training images "
            "again: recalibrate it anew."
        )
    training = replace(training, images=bank.images_)
    if routes is None and training.route is not None:  # held out from all that are there now
        pooled = bank.images_.pooled[training.image_index].astype(np.float64)
        columns = training.groups, training.route, training.left_out
        training = replace(training, route_distance=held_out_distances(pooled, *columns))
    return with_steps(pipe, bank, knn, scorer.with_training(training, routes))
