"""Good images added to a fitted pipeline, or taken out of it, without a new fit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from .._utils.rows import materialize
from .._utils.warning import warn_user
from ..bank.growth import bank_without, grown_bank
from ..bank.training import digests_of
from ..containers import Patches
from ..images.labels import is_defect_in_training
from ..knn.held_out import grown_scorer, scorer_without
from ..pipeline.steps import fitted_steps
from ..routing.profile import held_out_distances
from ._fresh import features_of, fresh_images, retrained

if TYPE_CHECKING:
    from typing import Literal

    from numpy.typing import ArrayLike
    from sklearn.pipeline import Pipeline

    from ..images.image_list import ImagesLike

__all__ = ["forget", "update"]

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

    The backbone runs on the new images only. Their patches that lie farthest from the bank join
    it (k-center goes on from the entries that are there), as many per image as it has. The new
    images are scored held out, as the training images were at fit; what distances are normal is
    learned from both.

    Parameters
    ----------
    pipe : Pipeline
        Fitted, as `make_structcore` builds it. It is not changed.
    images, groups, categories, parts, force : see `recalibrate`
        No group and no part is one of the fit.

    Returns
    -------
    pipe : Pipeline
        With the images. Only the last three steps are new.

    Raises
    ------
    ValueError
        If there are no images, or images that are in the bank already, anomalous by a wide margin
        or of another product, or whose parts are not known where parts are decided.

    Warns
    -----
    UserWarning
        If more of the images are rejected than good ones should be; or if a recalibration with
        fresh images is lost: thresholds are those of training images again, at the rate that was
        set.

    See Also
    --------
    recalibrate : A new threshold alone.
    add_category : A new product.

    Notes
    -----
    Compared with a fit of all images together, no training patch lies farther from the bank than
    ``radius_``, beside those of images that `contamination` has left out. With ``n_neighbors=1``
    the distance of any patch differs by at most the larger of both radii. No distance becomes
    larger than it was. Old images keep their held-out scores: thresholds err to the safe side.
    ``docs/field.md`` has more.
    """
    bank, knn, scorer = fitted_steps(pipe)
    fresh = fresh_images(pipe, images, groups, categories, parts, force=force, in_memory=True)
    values, good, table = fresh.patches.values, fresh.good, fresh.table
    if not force:
        _tell_of_rejected(table, good.places, scorer.false_alarm_rate_)
    routes = np.zeros(len(values), dtype=np.int64)
    if scorer.routes_.is_routed:
        routes = np.array([bank.bank_.route_names.index(name) for name in table["nearest_route"]])
    elif bank.bank_.profiles is not None:  # all products are searched together
        search = replace(knn.search_, routing="top1", n_neighbors=1)
        routes = search.nearest_routes(values)[:, 0]
    codes = np.unique(table["group"], return_inverse=True)[1] + bank.images_.groups.max() + 1

    new_bank = grown_bank(bank, good.X, values, codes, routes, good.parts)
    places = np.arange(len(bank.images_), len(new_bank.images_))
    geometry = fresh.patches.geometry
    patches = Patches(values, new_bank.bank_, places, new_bank.images_, geometry)
    new_knn, maps = grown_scorer(knn, patches)
    training = scorer.training_.join(scorer.evidence_of(maps))
    training = _routes_held_out(training, new_bank.images_)
    return retrained(pipe, new_bank, new_knn, training)


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
    pipe : Pipeline
        Fitted, as `make_structcore` builds it. It is not changed.
    images : folder, sequence of paths, PIL images or arrays, or ndarray
        Training images, as the pipeline got them: files are told by their bytes, arrays by their
        values. All copies go; of files with copies of other names, those of the same name alone.
        Images of an `ImageSet` that are labelled as defects need not be training images.

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
        If a recalibration with fresh images is lost, so that thresholds are those of training
        images again, or if more than a fifth of all images are forgotten by now.

    Notes
    -----
    ``radius_`` remains a bound on the distance of the training patches that it was one for. Other
    images keep their held-out scores. Those whose nearest entries were of a forgotten image would
    be farther from the bank now: thresholds may be a little too low until new images come.

    The images of one `update` leave no trace if nothing else has come or gone since: scores are
    what they were, to rounding (``route_distance`` to float32). With routes, prototypes are learned
    anew from the bank: an image between two products may be sent to the other one. What an image
    has contributed to expectations is found again by its neighbours in the bank. Where these have
    changed since, as many average patches are taken away, so that location and scale stay.
    """
    bank, knn, scorer = fitted_steps(pipe)
    features = features_of(pipe, images)
    digests = digests_of(features)
    is_gone = _find_all(bank.images_, features, digests)
    training = scorer.training_
    _check_left(bank, training, is_gone)

    share = 1 - (bank.images_.is_there & ~is_gone).mean()
    if share > _MANY:
        warn_user(
            f"{share:.0%} of the training images are forgotten by now. The others keep scores "
            "that had these in the bank, and are too low: fit again with the images that are left."
        )
    new_bank = bank_without(bank, is_gone)
    # Of a streamed fit, only the images that calibrate it have contributed.
    places = np.intersect1d(np.flatnonzero(is_gone), training.image_index)
    gone = None
    if knn.expectations_ is not None and len(places):
        gone = _patches_at(bank, features, digests, places)
    new_knn = scorer_without(knn, new_bank.bank_, bank.images_, is_gone, gone)
    training = training.take(~is_gone[training.image_index])
    return retrained(pipe, new_bank, new_knn, _routes_held_out(training, new_bank.images_))


def _find_all(record, features, digests):
    """Which training images have one of these contents: all copies, or those of the same name."""
    is_unknown = record.find(digests) < 0
    labels = getattr(getattr(features, "annotations", None), "labels", None)
    if labels is not None and not is_unknown.all():  # a fit leaves out what is labelled a defect
        is_unknown &= ~is_defect_in_training(labels)
    unknown = np.flatnonzero(is_unknown)
    if len(unknown):
        raise ValueError(
            f"{len(unknown)} of {len(digests)} images are none that the pipeline was fitted with "
            f"(the first at position {unknown[0]}), or were forgotten before. Files are told by "
            "their bytes, arrays by their values: give images as the pipeline got them."
        )
    is_gone, images = np.isin(record.digests, digests), getattr(features, "images", None)
    if images is not None and record.names is not None:
        files = [(d, f) for d, f in zip(digests, images.items, strict=True) if isinstance(f, str)]
        trained = pd.MultiIndex.from_arrays([record.digests, record.names])
        is_named = trained.isin(files)
        is_gone &= is_named | ~np.isin(record.digests, record.digests[is_named])
    return is_gone


def _check_left(bank, training, is_gone):
    record, names = bank.images_, bank.bank_.route_names
    left = training.image_index[~is_gone[training.image_index]]
    for route, name in enumerate(names):
        n_groups = len(np.unique(record.groups[left[record.routes[left] == route]]))
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


def _routes_held_out(training, table):
    """The training images with their distances to routes, held out from all of these images."""
    if training.route is None:
        return training
    pooled = table.pooled[training.image_index].astype(np.float64)
    groups, left_out = table.groups[training.image_index], table.left_out[training.image_index]
    distances = held_out_distances(pooled, groups, training.route, left_out)
    return replace(training, route_distance=distances)
