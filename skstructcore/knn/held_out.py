"""Scores of training images as if they had not been in the bank.

There is one function for each kind of held-out calibration. It takes a `BankSearch` and the
patches of training images, and returns their maps and the expectations that were learned
on the way. Images of one group are left out together.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..bank.build import SelectionRule, select_bank
from .search import score_held_out, score_patches
from .surprise import Lesson, contributions, extend_expectation, fit_expectation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..containers import AnomalyMaps, Patches
    from .search import BankSearch
    from .surprise import DistanceExpectation, ExpectationSums

    HeldOut = tuple[AnomalyMaps, tuple[DistanceExpectation, ...]]

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
    n_groups = len(np.unique(patches.groups))
    if n_groups < 2:
        raise ValueError(
            f"calibration={calibration!r} needs at least two training images (two groups where "
            f"groups are given), got n_samples = {len(patches)} in {n_groups} group(s): add images "
            "or use calibration='in-sample'."
        )


def leave_groups_out(
    search: BankSearch,
    patches: Patches,
    before: Sequence[DistanceExpectation] | None = None,
) -> HeldOut:
    """Score each training image without the entries of its group, and learn what is normal.

    Expectations of `before`, which other images gave, are learned on from.
    """
    return _learn(search, *score_held_out(search, patches), before)


def k_fold(search: BankSearch, patches: Patches) -> HeldOut:
    """Score each training image by a bank of the same size, built from the other folds.

    What content a patch has is told by the entries of the whole bank, its own group left out.
    Of fewer groups than folds, each is a fold. No bank has patches of the images that
    `contamination` of `CoresetBank` left out.
    """
    maps, neighbors = score_held_out(search, patches)
    routes, rng = np.zeros(len(patches), dtype=np.int64), np.random.RandomState(0)
    if search.is_routed:
        routes = patches.routes
    groups, in_bank = patches.groups, ~patches.left_out
    # Groups that `contamination` left out are dealt apart: others remain, whatever fold is out.
    apart = ~np.isin(groups, groups[in_bank])
    folds = assign_folds(groups, routes + len(search.indexes) * apart, rng)
    distances = np.empty_like(maps.values)
    for fold in np.unique(folds):
        out = folds == fold
        left = ~out & in_bank
        others = search.of(_bank_of(search, patches[left], routes[left], rng))
        distances[out] = score_patches(others, patches[out], own_routes=routes[out]).values
    return _learn(search, replace(maps, values=distances), neighbors)


def contributions_of(
    search: BankSearch, patches: Patches, expectations: Sequence[DistanceExpectation]
) -> tuple[ExpectationSums, ...]:
    """What training images have contributed to the expectations of each route."""
    by_route = _by_route(search, *score_held_out(search, patches))
    return tuple(
        contributions(expectation, lesson)
        for expectation, (_, lesson) in zip(expectations, by_route, strict=True)
    )


def _by_route(search, maps, neighbors):
    """For each route, which patches count, and the `Lesson` of these."""
    counted = np.ones(maps.shape, dtype=bool) if maps.ignored is None else ~maps.ignored
    groups = np.broadcast_to(maps.groups[:, np.newaxis, np.newaxis], counted.shape)
    for name, index in zip(search.entries.route_names, search.indexes, strict=True):
        mine = counted
        if search.is_routed:
            mine = counted & (maps.route == name)[:, np.newaxis, np.newaxis]
        # What is normal for an entry of another route is known by the expectation of that route.
        nearest = neighbors[mine]
        nearest = np.where(nearest < len(index.bank), nearest, -1)
        yield mine, Lesson(maps.values[mine], nearest, groups[mine])


def _learn(search, maps, neighbors, before=None):
    """Expectations of each route, and what its training patches are by those of other groups.

    They are learned anew, or from what was known before.
    """
    surprise, expectations = np.zeros_like(maps.values), []
    for route, (mine, lesson) in enumerate(_by_route(search, maps, neighbors)):
        if before is None:
            learned = fit_expectation(lesson, len(search.indexes[route].bank))
        else:
            learned = extend_expectation(before[route], lesson)
        expectations.append(learned[0])
        surprise[mine] = learned[1]
    return replace(maps, surprise=surprise), tuple(expectations)


def _bank_of(search, patches, routes, rng):
    """Build a bank of the fitted sizes from the training images in `patches`."""
    counted = np.count_nonzero(~np.isnan(patches.values[..., 0]), axis=(1, 2))
    sizes = [
        min(len(index.bank), int(counted[routes == route].sum()))
        for route, index in enumerate(search.indexes)
    ]
    sizes = dict(zip(search.entries.route_names, sizes, strict=True))
    bank = select_bank(patches.values, routes, SelectionRule(sizes, random_state=rng)).bank
    return replace(bank, profiles=search.entries.profiles)


def assign_folds(groups, routes, rng):
    """Assign images to folds at random, groups together and every route spread over all."""
    folds = np.empty(len(groups), dtype=np.int64)
    for route in np.unique(routes):
        mine = routes == route
        distinct, codes = np.unique(groups[mine], return_inverse=True)
        folds[mine] = rng.permutation(np.arange(len(distinct)) % N_FOLDS)[codes]
    return folds
