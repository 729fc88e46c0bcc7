"""A fitted scorer of a bank that has got more images, or has lost some."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from .held_out import contributions_of, leave_groups_out
from .search import score_patches
from .surprise import ExpectationSums, reduce_expectation

if TYPE_CHECKING:
    from .._utils.typing import NDArray
    from ..containers import AnomalyMaps, MemoryBank, Patches, TrainingImages
    from .scorer import RoutedKNNScorer
    from .surprise import Expectation


def scorer_of_bank(
    knn: RoutedKNNScorer, bank: MemoryBank, expectations: tuple[Expectation, ...] | None
) -> RoutedKNNScorer:
    """The scorer of another bank, whose expectations are known."""
    changed = copy.copy(knn)
    changed.search_, changed.expectations_ = knn.search_.of(bank), expectations
    return changed


def grown_scorer(knn: RoutedKNNScorer, patches: Patches) -> tuple[RoutedKNNScorer, AnomalyMaps]:
    """The scorer of a bank that more images have joined, and the maps of these, held out.

    `patches` are those of the new images, with the new bank, in whose routes the old entries come
    first.
    """
    changed, search = copy.copy(knn), knn.search_.of(patches.bank)
    changed.search_ = search
    if knn.expectations_ is None:
        return changed, score_patches(search, patches, own_routes=patches.routes)
    is_old = patches.bank.image_index < patches.image_index.min()
    before = []
    for old, rows in zip(knn.expectations_, search.rows, strict=True):
        sums = old.sums.at(np.flatnonzero(is_old[rows]), len(rows))
        before.append(sums.expectation(old.floor))
    maps, changed.expectations_ = leave_groups_out(search, patches, before)
    return changed, maps


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
    changed, search = copy.copy(knn), knn.search_
    changed.search_ = search.of(bank)
    if knn.expectations_ is None:
        return changed
    if patches is None:
        gone = [ExpectationSums.none(len(rows)) for rows in search.rows]
    else:
        gone = contributions_of(search, patches, knn.expectations_)
    kept = ~is_gone[search.bank.image_index]
    changed.expectations_ = tuple(
        reduce_expectation(
            knn.expectations_[route],
            gone[route],
            kept[rows],
            exact=_is_exact(knn, table, is_gone, route),
        )
        for route, rows in enumerate(search.rows)
    )
    return changed


def _is_exact(knn, table, is_gone, route):
    """Whether images of a route have the neighbours that they had when they came."""
    members = np.ones(len(table), dtype=bool)
    if knn.search_.is_routed:
        members = table.routes == route
    if knn.calibration == "k-fold":
        # The first images of a route came with a fit, and nothing is kept of its folds.
        if (table.came[is_gone & members] == table.came[members].min()).any():
            return False
    neighbors = members if knn.search_.n_searched == 1 else np.ones_like(members)
    return table.is_unchanged_since(is_gone, neighbors)
