"""Good images added to a fitted pipeline, or taken out of it, without a new fit."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import binomtest

from .._utils.rows import counted_rows, materialize
from .._utils.warning import warn_user
from ..bank.table import digests_of, recognised
from ..containers import MemoryBank, Patches, TrainingImages
from ..knn.held_out import add_images, contributions_of
from ..knn.search import score_patches
from ..knn.surprise import ExpectationSums, reduce_expectation
from ..pipeline.steps import fitted_steps, with_steps
from ..routing.pooling import pool_patches
from ..routing.profile import fit_profile, held_out_distances
from ._fresh import fresh_images, is_fresh
from ._steps import features_of, known_parts

if TYPE_CHECKING:
    from typing import Literal

    from numpy.typing import ArrayLike
    from sklearn.pipeline import Pipeline

    from ..images.image_list import ImagesLike

__all__ = ["forget", "update"]

_logger = logging.getLogger(__name__)

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
    images : folder, sequence of paths, PIL images or arrays, or ndarray
        Good images that are not in the bank; whatever `pipe` takes. Those of an `ImageSet` that
        are labelled as defects are left out.
    groups : array-like of shape (n_images,), "auto" or None, default="auto"
        The part, shot or lot that each image shows; none of them is one of the fit. See
        `CoresetBank.fit`.
    categories : array-like of shape (n_images,), str, "auto" or None, default="auto"
        With routes: the product of each image, or of all. "auto": those of the `ImageSet`. None:
        the route that each image is sent to.
    parts : array-like of shape (n_images,), "auto" or None, default="auto"
        The part that each image is a view of, needed where the pipeline decides about parts.
        "auto": those of the `ImageSet`.
    force : bool, default=False
        Whether to take images that look like defects or another product.

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
    What holds, compared with a fit of all images together:

    - No training patch, old or new, lies farther from the bank than ``radius_``, beside those of
      images that `contamination` has left out. With
      ``n_neighbors=1`` the distance of any patch differs from that of the fit by at most
      the larger of both radii; with ``ratio=1`` by nothing, unless more patches of old images
      than of new ones are ignored.
    - No distance of any image becomes larger than it was.
    - The old images' patches are gone, so that their held-out scores are kept. Distances to
      the larger bank would be the same or smaller: thresholds of distances err to the safe side.
    """
    bank, knn, scorer = fitted_steps(pipe)
    fresh = fresh_images(pipe, images, groups, categories, parts, force=force, in_memory=True)
    values, good, table = fresh.patches.values, fresh.good, fresh.table
    if not force:
        _tell_of_rejected(table, scorer)
    parts = known_parts(scorer, good.parts)
    routes = np.zeros(len(values), dtype=np.int64)
    if scorer.is_routed_:
        routes = np.array([bank.bank_.route_names.index(name) for name in table["nearest_route"]])
    elif bank.bank_.profiles is not None:  # all products are searched together
        search = replace(knn.search_, routing="top1", n_neighbors=1)
        routes = search.nearest_routes(values)[:, 0]
    codes = np.unique(table["group"], return_inverse=True)[1] + bank.images_.groups.max() + 1

    new_bank, old_rows = _grown_bank(bank, values, routes, codes, good.X, parts)
    places = np.arange(len(bank.images_), len(new_bank.images_))
    geometry = fresh.patches.geometry
    patches = Patches(values, new_bank.bank_, places, new_bank.images_, geometry)
    new_knn = copy.copy(knn)
    new_knn.search_ = knn.search_.of(new_bank.bank_)
    if knn.expectations_ is None:
        search = new_knn.search_
        maps = score_patches(search, patches, routes=search.known_routes(patches))
    else:
        before = _expectations_at(knn, new_knn.search_, old_rows)
        maps, new_knn.expectations_ = add_images(new_knn.search_, patches, before)
    # Distances to routes are held out below, from all images.
    training = scorer.training_.join(scorer.evidence_of(maps))
    return with_steps(pipe, new_bank, new_knn, _calibrated(scorer, training, new_bank))


def _tell_of_rejected(table, scorer):
    """Warn where the pipeline rejects more of the images than its rate explains."""
    rejected = np.flatnonzero(table["is_anomalous"])
    rate = scorer.false_alarm_rate_
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
    What holds, compared with a fit without the images:

    - ``radius_`` remains a bound on the distance of the training patches that it was one for. With
      ``n_neighbors=1`` the distance of any patch differs from that of the fit by at most
      the larger of both radii; with ``ratio=1`` by nothing.
    - Other images keep their held-out scores. Those whose nearest entries were of a forgotten
      image would be farther from the bank now: thresholds may be a little too low until new
      images come. Nothing differs where a forgotten image was near no other, as a defect is.
    - The images of one `update` leave no trace if nothing else has come or gone since: scores are
      what they were, to rounding (``route_distance`` to float32).
    - What an image has contributed to expectations is found again by its neighbours in the bank.
      Where these have changed since, as others came or went before, as many patches are taken away,
      each like the average: expectations keep their location and scale.
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
    new_bank, kept = _shrunk_bank(bank, is_gone)
    new_knn = copy.copy(knn)
    new_knn.search_ = knn.search_.of(new_bank.bank_)
    if knn.expectations_ is not None:
        # Of a streamed fit, only the images that calibrate it have contributed.
        places = np.intersect1d(np.flatnonzero(is_gone), training.image_index)
        gone = _contributions(bank, knn, features, digests, places)
        rows = _rows_of(knn.search_)
        new_knn.expectations_ = tuple(
            reduce_expectation(old, part, kept[rows[i]], exact=_is_exact(bank, knn, is_gone, i))
            for i, (old, part) in enumerate(zip(knn.expectations_, gone, strict=True))
        )
    training = training.take(~is_gone[training.image_index])
    return with_steps(pipe, new_bank, new_knn, _calibrated(scorer, training, new_bank))


def _find_all(record, features, digests):
    """Which training images have one of these contents: all copies, or those of the same name."""
    unknown = np.flatnonzero(record.find(digests) < 0)
    if len(unknown):
        raise ValueError(
            f"{len(unknown)} of {len(digests)} images are none that the pipeline was fitted with "
            f"(the first at position {unknown[0]}), or were forgotten before. Files are told by "
            "their bytes, arrays by their values: give images as the pipeline got them."
        )
    places: dict[str, list[int]] = {}
    for place in np.flatnonzero(record.is_there):
        places.setdefault(record.digests[place], []).append(place)
    images, is_gone = getattr(features, "images", None), np.zeros(len(record), dtype=bool)
    for i, digest in enumerate(digests):
        copies = places[digest]
        is_file = images is not None and isinstance(images.items[i], str)
        if is_file and record.names is not None:
            named = [place for place in copies if record.names[place] == images.items[i]]
            copies = named or copies
        is_gone[copies] = True
    return is_gone


def _check_left(bank, training, is_gone):
    record, names = bank.images_, bank.bank_.route_names
    calibrating = np.isin(np.arange(len(record)), training.image_index)
    for left, kind in (
        (record.is_there & ~is_gone, "training"),
        (calibrating & ~is_gone, "calibration"),
    ):
        for route, name in enumerate(names):
            n_groups = len(np.unique(record.groups[left & (record.routes == route)]))
            if n_groups < 2:
                of_route = "" if len(names) == 1 else f" of {name!r}"
                raise ValueError(
                    f"Only {n_groups} {kind} image(s) or group(s){of_route} would be left: at "
                    "least two are needed."
                )


def _contributions(bank, knn, features, digests, places):
    """What the training images at these places have contributed to the expectations."""
    if len(places) == 0:
        return [ExpectationSums.none(len(old.location)) for old in knn.expectations_]
    record = bank.images_
    row_of = {digest: row for row, digest in enumerate(digests.tolist())}
    rows = [row_of[digest] for digest in record.digests[places].tolist()]
    names = np.array(bank.bank_.route_names)[record.routes[places]]
    values = materialize(features[rows], categories=names)
    gone = Patches(values, bank.bank_, places, record)
    return contributions_of(knn.search_, gone, knn.expectations_)


def _is_exact(bank, knn, is_gone, route):
    """Whether images of a route have the neighbours that they had when they came."""
    record, search = bank.images_, knn.search_
    members = record.routes == route if search.is_routed else np.ones(len(record), dtype=bool)
    if knn.calibration == "k-fold":
        # The first images of a route came with a fit, and nothing is kept of its folds.
        if (record.came[is_gone & members] == record.came[members].min()).any():
            return False
    neighbors = members if search.n_searched == 1 else np.ones_like(members)
    return record.is_unchanged_since(is_gone, neighbors)


def _grown_bank(bank, values, routes, groups, X, parts):
    """Bank step with more entries, and the row of each old entry in the new bank."""
    from ..neighbors.coreset import greedy_k_center
    from ..neighbors.index import NeighborIndex

    old, first = bank.bank_, len(bank.images_)
    per_image = values.shape[1] * values.shape[2]
    picked, owners, radius = [], [], []
    for route in range(len(old.route_names)):
        mine, entries = np.flatnonzero(routes == route), np.flatnonzero(old.routes == route)
        radius.append(float(bank.radius_[route]))
        if not len(mine):
            continue
        rows, places = counted_rows(values[mine])
        per_old_image = len(entries) / bank.n_images_per_route_[route]
        n_new = min(len(rows), round(per_old_image * len(mine)))
        squared = NeighborIndex(old.values[entries]).query(rows)[0][:, 0]
        picks = np.empty(0, dtype=np.int64)
        far = float(np.sqrt(squared.max()))
        if n_new:
            picks, radii = greedy_k_center(rows, n_new, nearest=squared)
            far = float(radii[-1])
        radius[-1] = max(radius[-1], far)
        picked.append(rows[picks])
        owners.append(mine[(picks if places is None else places[picks]) // per_image])

    image = np.concatenate(owners)
    new = MemoryBank(
        np.concatenate(picked), first + image, groups[image], routes[image], old.route_names
    )
    pooled = None if old.profiles is None else pool_patches(values).astype(np.float32)
    changed = copy.copy(bank)
    new_images = TrainingImages(groups, routes, parts=parts, pooled=pooled)
    new_images = recognised(new_images, X, first=first)
    changed.images_ = replace(bank.images_, lots=None).join(new_images)  # lots are not known of new
    changed.bank_ = old.join(new)
    # Within a route the old entries come first.
    old_rows = np.flatnonzero(changed.bank_.image_index < first)
    rows = [values[routes == route] for route in range(len(radius))]
    return _finish(bank, changed, radius, rows), old_rows


def _shrunk_bank(bank, is_gone):
    """Bank step without the entries of some images, and which entries were kept."""
    from ..neighbors.index import NeighborIndex

    old = bank.bank_
    kept = ~is_gone[old.image_index]
    radius = []
    for route, name in enumerate(old.route_names):
        mine = old.routes == route
        if not (mine & kept).any():
            raise ValueError(
                f"All entries of the bank of {name!r} come from these images: nothing would be "
                "left."
            )
        far = 0.0
        if (mine & ~kept).any():
            # A patch within the radius of an entry that goes is this much farther from the rest.
            left = NeighborIndex(old.values[mine & kept])
            far = left.query(old.values[mine & ~kept])[0].max() ** 0.5
        radius.append(float(bank.radius_[route] + far))
    changed = copy.copy(bank)
    changed.images_ = bank.images_.forget(is_gone)
    changed.bank_ = old.take(kept)
    return _finish(bank, changed, radius, [()] * len(radius)), kept


def _finish(bank, changed, radius, new_values):
    """What follows from the entries and the record of a changed bank."""
    record = changed.images_
    changed.radius_ = np.array(radius)
    counts = np.bincount(record.routes[record.is_there], minlength=len(radius))
    if changed.bank_.profiles is not None:
        profiles = list(changed.bank_.profiles)
        for route in np.flatnonzero(counts != bank.n_images_per_route_):
            rows = changed.bank_.select(route).values
            if len(new_values[route]):
                rows = np.concatenate([rows, counted_rows(new_values[route])[0]])
            mine = record.is_there & (record.routes == route)
            pooled = record.pooled[mine].astype(np.float64)
            profiles[route] = fit_profile(rows, pooled)
        changed.bank_ = replace(changed.bank_, profiles=tuple(profiles))
    return changed


def _rows_of(search):
    """Entries of each index of the search, by their rows in the bank."""
    entries = search.entries
    return [np.flatnonzero(entries.routes == route) for route in range(len(entries.route_names))]


def _expectations_at(knn, search, old_rows):
    """The expectations for the search of a bank with more entries."""
    spread, before = [], _rows_of(knn.search_)
    for old, was, now in zip(knn.expectations_, before, _rows_of(search), strict=True):
        places = np.searchsorted(now, old_rows[was])
        spread.append(old.sums.at(places, len(now)).expectation(old.floor))
    return tuple(spread)


def _calibrated(scorer, training, bank):
    """Scorer that has learned what is normal from training images."""
    if is_fresh(scorer):
        warn_user(
            "The pipeline had been recalibrated with fresh images; its threshold is that of the "
            "training images again. recalibrate it anew."
        )
    training = replace(training, images=bank.images_)
    if training.route is not None:
        pooled = bank.images_.pooled[training.image_index].astype(np.float64)
        distances = held_out_distances(pooled, training.groups, training.route)
        training = replace(training, route_distance=distances)
    _logger.info("Calibrated with %d training images", len(training))
    return scorer.with_training(training)
