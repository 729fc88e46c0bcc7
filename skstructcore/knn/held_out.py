"""Scores of training images as if they, and their groups, had not been in the bank.

One function for each kind of held-out calibration takes a `BankSearch` and the patches of training
images, and returns their maps and the expectations that were learned on the way. A fitted scorer
learns on in the same way as its bank gets more images, or loses some.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .._utils.copies import with_attributes
from .._utils.typing import NDArray
from ..bank.build import select_bank
from ..bank.training import with_lots_as_groups
from ..containers import AnomalyMaps, MemoryBank, Patches, TrainingImages
from .search import BankSearch, score_held_out, score_patches
from .surprise import (
    DistanceExpectation,
    Lesson,
    extend_expectation,
    fit_expectation,
    reduce_expectation,
)

if TYPE_CHECKING:
    from .scorer import RoutedKNNScorer

#: Of the calibration "k-fold".
N_FOLDS = 5
#: Maps of training images, held out, and what is normal for each route.
Learned = tuple[AnomalyMaps, tuple[DistanceExpectation, ...]]


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


def leave_groups_out(search: BankSearch, patches: Patches) -> Learned:
    """Score each training image without the entries of its group, and learn what is normal."""
    return _learn(search, *score_held_out(search, patches), fit_expectation, map(len, search.rows))


def leave_lots_out(
    search: BankSearch, patches: Patches, expectations: Sequence[DistanceExpectation]
) -> AnomalyMaps | None:
    """Score each training image without the entries of its lot; None if no route has two lots."""
    bank = patches.bank
    images, of_one_lot = with_lots_as_groups(patches.images, bank)
    if len(of_one_lot) == len(np.unique(bank.routes)):
        return None
    search = search.of(replace(bank, groups=images.groups[bank.image_index]))
    return score_held_out(search, replace(patches, images=images), expectations)[0]


def k_fold(search: BankSearch, patches: Patches) -> Learned:
    """Score each training image by a bank of the same size, built from the other folds.

    The content of a patch is read from the entries of the whole bank, without its own group.
    No bank has patches of the images that `contamination` of `CoresetBank` left out.
    """
    maps, neighbors = score_held_out(search, patches)
    rng = np.random.RandomState(0)
    routes = patches.routes if search.is_routed else np.zeros(len(patches), dtype=np.int64)
    groups, in_bank = patches.groups, ~patches.left_out
    # Groups that `contamination` left out are dealt apart: others remain, whatever fold is out.
    apart = ~np.isin(groups, groups[in_bank])
    folds = assign_folds(groups, routes + len(search.indexes) * apart, rng)
    distances = np.empty_like(maps.values)
    for fold in np.unique(folds):
        out = folds == fold
        left = ~out & in_bank
        images = TrainingImages(groups[left], routes[left])
        others = search.of(_bank_of(search, patches.values[left], images, rng))
        distances[out] = score_patches(others, patches[out], own_routes=routes[out]).values
    maps = replace(maps, values=distances)
    return _learn(search, maps, neighbors, fit_expectation, map(len, search.rows))


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


def _learn(search, maps, neighbors, learn, known):
    """`learn` expectations of each route from what is `known` of it, and judge by other groups."""
    surprise, expectations = np.zeros_like(maps.values), []
    for (mine, lesson), of_route in zip(_by_route(search, maps, neighbors), known, strict=True):
        learned, surprise[mine] = learn(lesson, of_route)
        expectations.append(learned)
    return replace(maps, surprise=surprise), tuple(expectations)


def _bank_of(search, values, images, rng):
    """Build a bank of the fitted sizes from patches of training images."""
    counted = np.count_nonzero(~np.isnan(values[..., 0]), axis=(1, 2))
    n_rows = np.bincount(images.routes, counted, len(search.indexes)).astype(int).tolist()
    of_routes = zip(search.entries.route_names, search.indexes, n_rows, strict=True)
    sizes = {name: min(len(index.bank), n) for name, index, n in of_routes}
    bank = select_bank(values, images, sizes, rng).bank
    return replace(bank, profiles=search.entries.profiles)


def assign_folds(groups, routes, rng):
    """Assign images to folds at random, groups together and every route spread over all."""
    folds = np.empty(len(groups), dtype=np.int64)
    for route in np.unique(routes):
        mine = routes == route
        distinct, codes = np.unique(groups[mine], return_inverse=True)
        folds[mine] = rng.permutation(np.arange(len(distinct)) % N_FOLDS)[codes]
    return folds


def grown_scorer(knn: RoutedKNNScorer, patches: Patches) -> tuple[RoutedKNNScorer, AnomalyMaps]:
    """The scorer of a bank that more images have joined, and the maps of these, held out.

    `patches` are those of the new images, with the new bank.
    """
    search = knn.search_.of(patches.bank)
    if knn.expectations_ is None:
        maps = score_patches(search, patches, own_routes=patches.routes)
        return with_attributes(knn, search_=search), maps
    is_old = patches.bank.image_index < patches.image_index.min()
    before = []
    for old, rows in zip(knn.expectations_, search.rows, strict=True):
        sums = np.zeros((3, len(rows) + 1))
        sums[:, np.append(is_old[rows], True)] = old.sums
        before.append(DistanceExpectation.of_sums(sums, old.floor))
    scored = score_held_out(search, patches)
    maps, expectations = _learn(search, *scored, extend_expectation, before)
    return with_attributes(knn, search_=search, expectations_=expectations), maps


def scorer_without(
    knn: RoutedKNNScorer,
    bank: MemoryBank,
    table: TrainingImages,
    is_gone: NDArray[np.bool_],
    patches: Patches | None,
) -> RoutedKNNScorer:
    """The scorer of a bank that has lost the entries of some images.

    `table` and `is_gone` are of all images that the bank had; `patches` are those of the images
    that have contributed to expectations, with the bank as it was; None if none has.
    """
    search, expectations, left = knn.search_, knn.expectations_, knn.search_.of(bank)
    left.check()
    if expectations is not None:
        lessons = [None] * len(search.rows)
        if patches is not None:
            by_route = _by_route(search, *score_held_out(search, patches))
            lessons = [lesson for _, lesson in by_route]
        kept = ~is_gone[search.bank.image_index]
        expectations = tuple(
            reduce_expectation(
                expectations[route], lesson, kept[rows], exact=_is_exact(knn, table, is_gone, route)
            )
            for route, (rows, lesson) in enumerate(zip(search.rows, lessons, strict=True))
        )
    return with_attributes(knn, search_=left, expectations_=expectations)


def _is_exact(knn, table, is_gone, route):
    """Whether images of a route have the neighbours that they had when they came."""
    search = knn.search_
    members = table.routes == route if search.is_routed else np.ones(len(table), dtype=bool)
    if knn.calibration == "k-fold":
        # The first images of a route came with a fit, and nothing is kept of its folds.
        if (table.came[is_gone & members] == table.came[members].min()).any():
            return False
    neighbors = members if search.n_searched == 1 else np.ones_like(members)
    return table.is_unchanged_since(is_gone, neighbors)
