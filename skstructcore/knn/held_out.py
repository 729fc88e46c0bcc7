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
from ..routing.grouping import assign_folds
from .search import score_patches
from .surprise import contributions, extend_expectation, fit_expectation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..containers import Patches
    from .search import BankSearch, PatchScores
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
    return _learn(search, patches, _score_held_out(search, patches))


def k_fold(
    search: BankSearch, patches: Patches
) -> tuple[PatchScores, tuple[DistanceExpectation, ...]]:
    """Score each training image by a bank of the same size, built from the other folds.

    What content a patch has is told by the entries of the whole bank, its own group left out.
    Of fewer groups than folds, each is a fold.
    """
    scores = _score_held_out(search, patches)
    routes, rng = search.known_routes(patches), np.random.RandomState(0)
    folds = assign_folds(patches.groups, routes[:, 0], N_FOLDS, rng)
    distances = np.empty_like(scores.distances)
    for fold in np.unique(folds):
        out = folds == fold
        others = search.of(_bank_of(search, patches[~out], routes[~out, 0], rng))
        distances[out] = score_patches(others, patches[out], routes=routes[out]).distances
    return _learn(search, patches, replace(scores, distances=distances))


def add_images(
    search: BankSearch, patches: Patches, expectations: Sequence[DistanceExpectation]
) -> tuple[PatchScores, tuple[DistanceExpectation, ...]]:
    """Score more training images without the entries of their groups, and learn from them.

    The bank has their entries already; `expectations`, for its entries, are what was learned
    before.
    """
    return _learn(search, patches, _score_held_out(search, patches), expectations)


def contributions_of(
    search: BankSearch, patches: Patches, expectations: Sequence[DistanceExpectation]
) -> tuple[ExpectationSums, ...]:
    """What training images have contributed to the expectations of each route."""
    by_route = _by_route(search, patches, _score_held_out(search, patches))
    return tuple(
        contributions(expectation, *lesson)
        for expectation, (_, lesson) in zip(expectations, by_route, strict=True)
    )


def _score_held_out(search, patches):
    routes = search.known_routes(patches)
    scores = score_patches(search, patches, routes=routes, held_out=True, keep_neighbors=True)
    return replace(scores, routes=routes[:, 0])


def _by_route(search, patches, scores):
    """For each route, which patches count, and what can be learned from them.

    The latter are their distances, nearest entries and groups.
    """
    counted = np.ones(scores.distances.shape, bool) if scores.ignored is None else ~scores.ignored
    groups = np.broadcast_to(patches.groups[:, np.newaxis, np.newaxis], counted.shape)
    for route, index in enumerate(search.indexes):
        mine = counted & (scores.routes == route)[:, np.newaxis, np.newaxis]
        # What is normal for an entry of another route is known by the expectation of that route.
        nearest = scores.neighbors[mine]
        nearest = np.where(nearest < len(index.bank), nearest, -1)
        yield mine, (scores.distances[mine], nearest, groups[mine])


def _learn(search, patches, scores, before=None):
    """Expectations of each route, and what its training patches are by those of other groups.

    They are learned anew, or from what was known before.
    """
    surprise, expectations = np.zeros_like(scores.distances), []
    for route, (mine, lesson) in enumerate(_by_route(search, patches, scores)):
        if before is None:
            learned = fit_expectation(*lesson, len(search.indexes[route].bank))
        else:
            learned = extend_expectation(before[route], *lesson)
        expectations.append(learned[0])
        surprise[mine] = learned[1]
    return replace(scores, surprise=surprise, neighbors=None), tuple(expectations)


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
    bank = select_bank(patches.values, routes, search.entries.route_names, rule).bank
    return replace(bank, profiles=search.entries.profiles)
