"""Scores of training images as if they had not been in the bank.

There is one function for each kind of held-out calibration. It takes a `BankSearch` and the
patches of training images, and returns their `PatchScores` and the expectations that were learned
on the way. Images of one group are left out together.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..bank.build import SelectionRule, select_bank
from ..bank.training import ImageCodes
from ..routing.grouping import assign_folds
from .search import PatchScores, collect
from .surprise import (
    contributions,
    extend_expectation,
    fit_expectation,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..containers import Patches
    from .search import BankSearch
    from .surprise import DistanceExpectation, ExpectationSums

#: Of the calibration "k-fold".
N_FOLDS = 5


def check_training_images(patches: Patches, calibration: str) -> None:
    """Raise ValueError if training images cannot be scored held out."""
    if patches.image_index is None:
        raise ValueError(
            f"calibration={calibration!r} scores training images and has to know "
            "them: pass the patches that CoresetBank.fit_transform returns (its transform "
            "does not know the images), or use calibration='in-sample'."
        )
    if len(np.unique(patches.groups)) < 2:
        raise ValueError(
            f"calibration={calibration!r} needs at least two training images (two "
            f"groups where groups are given), got n_samples = {len(patches)}: add images "
            "or use calibration='in-sample'."
        )


def leave_groups_out(
    search: BankSearch, patches: Patches
) -> tuple[PatchScores, tuple[DistanceExpectation, ...]]:
    """Score each training image without the entries of its group, and learn what is normal."""
    return _learn(search, patches, lambda distances, routes: distances)


def k_fold(
    search: BankSearch, patches: Patches
) -> tuple[PatchScores, tuple[DistanceExpectation, ...]]:
    """Score each training image by a bank of the same size, built from the other folds.

    What content a patch has is told by the entries of the whole bank, its own group left out.
    Of fewer groups than folds, each is a fold.
    """

    def distances_of_folds(distances, routes):
        rng = np.random.RandomState(0)
        folds = assign_folds(patches.groups, routes[:, 0], N_FOLDS, rng)
        distances = np.empty_like(distances)
        for fold in np.unique(folds):
            out = folds == fold
            others = search.of(_bank_of(search, patches[~out], routes[~out, 0], rng))
            rows = np.flatnonzero(out)
            for found in others.search(patches[out], routes[out]):
                distances[rows[found.images]] = found.distances
        return distances

    return _learn(search, patches, distances_of_folds)


def add_images(
    search: BankSearch, patches: Patches, expectations: Sequence[DistanceExpectation]
) -> tuple[PatchScores, tuple[DistanceExpectation, ...]]:
    """Score more training images without the entries of their groups, and learn from them.

    The bank has their entries already; `expectations`, for its entries, are what was learned
    before.
    """

    def learn(route, distances, neighbors, groups, n_entries):
        return extend_expectation(expectations[route], distances, neighbors, groups)

    return _learn(search, patches, lambda distances, routes: distances, learn)


def contributions_of(
    search: BankSearch, patches: Patches, expectations: Sequence[DistanceExpectation]
) -> tuple[ExpectationSums, ...]:
    """What training images have contributed to the expectations of each route."""
    sums = []

    def learn(route, distances, neighbors, groups, n_entries):
        sums.append(contributions(expectations[route], distances, neighbors, groups))
        return expectations[route], np.zeros(len(distances), dtype=np.float32)

    _learn(search, patches, lambda distances, routes: distances, learn)
    return tuple(sums)


def _fit_expectation(route, *found):
    return fit_expectation(*found)


def _learn(search, patches, distances_of, learn=_fit_expectation):
    """Expectations of each route, and what its training patches are by those of other groups."""
    neighbors = np.empty((*patches.shape[:3], search.n_context), dtype=np.int32)

    def remember(found):
        neighbors[found.images] = found.neighbors.reshape(-1, *neighbors.shape[1:])

    routes = search.known_routes(patches)
    surprise = np.empty(patches.shape[:3], dtype=np.float32)
    scores = collect(search, patches, surprise, remember, routes, held_out=True)
    distances = distances_of(scores.distances, routes)
    per_image = patches.shape[1] * patches.shape[2]
    expectations = []
    for route, index in enumerate(search.indexes):
        mine = routes[:, 0] == route
        counted = slice(None) if scores.ignored is None else ~scores.ignored[mine].ravel()
        # What is normal for an entry of another route is known by the expectation of that route.
        nearest = neighbors[mine].reshape(-1, neighbors.shape[-1])
        expectation, judged = learn(
            route,
            distances[mine].ravel()[counted],
            np.where(nearest < len(index.bank), nearest, -1)[counted],
            np.repeat(patches.groups[mine], per_image)[counted],
            len(index.bank),
        )
        of_route = np.zeros(len(nearest), dtype=np.float32)
        of_route[counted] = judged
        surprise[mine] = of_route.reshape(-1, *surprise.shape[1:])
        expectations.append(expectation)
    scores = PatchScores(distances, surprise, routes[:, 0], scores.pooled, scores.ignored)
    return scores, tuple(expectations)


def _n_counted(values, images):
    """How many patches of some images are not ignored."""
    return int(np.count_nonzero(~np.isnan(values[images, :, :, 0])))


def _bank_of(search, patches, routes, rng):
    """Build a bank of the fitted sizes from the training images in `patches`."""
    sizes = [
        min(len(index.bank), _n_counted(patches.values, routes == route))
        for route, index in enumerate(search.indexes)
    ]
    rule = SelectionRule(ratio=sizes, random_state=rng)
    bank = select_bank(
        patches.values, ImageCodes(patches.groups, routes, search.entries.route_names), rule
    ).bank
    return replace(bank, profiles=search.entries.profiles)
