"""Patches are searched in a memory bank and its routes, and judged by what is found there."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .._utils.rows import LazyRows, check_counted, counted_rows, iter_placed
from .._utils.typing import Algorithm, Metric, NDArray
from ..containers import AnomalyMaps, MemoryBank, Patches
from ..neighbors.index import NeighborIndex
from ..routing import compared_patches, pool_patches, routing_distances
from .surprise import N_CONTEXT, DistanceExpectation, join_expectations


@dataclass(frozen=True, eq=False)
class BankSearch:
    """A bank made ready to be searched, route by route where images are routed."""

    bank: MemoryBank
    n_neighbors: int
    routing: str | None
    metric: Metric
    algorithm: Algorithm
    device: str

    def check(self) -> None:
        """Raise ValueError if `routing` or `n_neighbors` cannot be had of the bank."""
        if self.is_routed and not re.fullmatch(r"auto|top[1-9]\d*", self.routing):
            raise ValueError(
                f"routing must be None, 'auto', 'top1', 'top2', ..., got {self.routing!r}."
            )
        if self.is_routed and self.bank.profiles is None:
            raise ValueError(
                f"routing={self.routing!r} needs a bank with routes: pass bank__categories= to the "
                "pipeline's fit (categories= to CoresetBank), or set n_routes of CoresetBank."
            )
        for name, rows in zip(self.entries.route_names, self.rows, strict=True):
            if self.n_neighbors > len(rows):
                raise ValueError(
                    f"n_neighbors={self.n_neighbors} is larger than the bank of route {name!r}, "
                    f"which has {len(rows)} entries: use fewer neighbours or a larger ratio."
                )

    def of(self, bank: MemoryBank) -> BankSearch:
        """The same search in another bank."""
        return replace(self, bank=bank)

    @cached_property
    def is_routed(self) -> bool:
        """Whether images are sent to the routes of the bank."""
        return self.routing is not None and (
            self.routing != "auto" or self.bank.profiles is not None
        )

    @cached_property
    def entries(self) -> MemoryBank:
        """The bank by the routes that are searched: one, "all", where images are not routed."""
        if self.is_routed:
            return self.bank
        routes = np.zeros_like(self.bank.routes)
        return replace(self.bank, routes=routes, route_names=("all",), profiles=None)

    @cached_property
    def rows(self) -> list[NDArray[np.int64]]:
        """Which rows of the bank are the entries of each of the `indexes`."""
        n_routes = len(self.entries.route_names)
        return [np.flatnonzero(self.entries.routes == route) for route in range(n_routes)]

    @cached_property
    def n_searched(self) -> int:
        """How many routes are searched for an image, by `routing`."""
        if not self.is_routed or self.routing == "auto":
            return 1
        return min(int(self.routing.removeprefix("top")), len(self.bank.route_names))

    @property
    def n_context(self) -> int:
        """How many entries are looked up: the neighbours, and enough to tell the content."""
        return max(self.n_neighbors, N_CONTEXT)

    @cached_property
    def indexes(self) -> tuple[NeighborIndex, ...]:
        """The sub-bank of each route, prepared."""
        banks = [self.entries.select(route) for route in range(len(self.entries.route_names))]
        device = self.device if self.algorithm == "exact" else "cpu"
        options = {"algorithm": self.algorithm, "device": device}
        return tuple(NeighborIndex(bank.values, groups=bank.groups, **options) for bank in banks)

    def __getstate__(self):
        # The indexes hold the same entries as the bank, which a pickle needs only once.
        return {key: self.__dict__[key] for key in self.__dataclass_fields__}

    def find(
        self,
        features: NDArray[np.floating],
        routes: NDArray[np.int64],
        groups: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
        """Compare the patches of images ``(b, h, w, d)`` with the entries of some routes.

        Entries of the images' own `groups` are left out. Returns distances ``(b, h, w)``, 0 where
        patches are ignored, and the nearest entries ``(b, h, w, n_context)``, numbered as if the
        banks of the routes stood one after the other, -1 where there is none.
        """
        grid, (rows, places) = features.shape[:3], counted_rows(features)
        exclude = None if groups is None else groups[places // (grid[1] * grid[2])]
        indexes = [self.indexes[route] for route in routes]
        squared, nearest = _query_together(indexes, rows, self.n_context, exclude)
        means = _mean_distance(squared[:, : self.n_neighbors], self.metric)
        distances = np.zeros(math.prod(grid), dtype=means.dtype)
        neighbors = np.full((len(distances), nearest.shape[1]), -1)
        distances[places], neighbors[places] = means, nearest
        return distances.reshape(grid), neighbors.reshape(*grid, -1)

    def nearest_routes(self, images: NDArray[np.floating]) -> NDArray[np.int64]:
        """Routes ``(n, n_searched)`` whose prototypes are nearest to images ``(n, h, w, d)``."""
        if len(self.entries.route_names) == 1:
            return np.zeros((len(images), 1), dtype=np.int64)
        flat = images.reshape(len(images), -1, images.shape[-1])
        chosen, ignored = compared_patches(flat.shape[1]), np.isnan(flat[..., 0])
        compared = [flat[:, chosen]]
        if ignored.any():  # as many of the patches that are left, image by image
            left = [np.flatnonzero(~row) for row in ignored]
            left = [row[np.unique(chosen * len(row) // flat.shape[1])] for row in left]
            compared = [image[np.newaxis, row] for image, row in zip(flat, left, strict=True)]
        prototypes = [profile.prototypes for profile in self.bank.profiles]
        distances = np.concatenate([routing_distances(part, prototypes) for part in compared])
        return np.argsort(distances, axis=1, kind="stable")[:, : self.n_searched]

    def routes_of(
        self, images: NDArray[np.floating], own_route: NDArray[np.int64] | None
    ) -> NDArray[np.int64]:
        """Routes ``(n, n_searched)`` of images: the own one, if it is known, then the nearest."""
        if own_route is None or not self.is_routed:
            return self.nearest_routes(images)
        if self.n_searched == 1:
            return own_route[:, np.newaxis]
        nearest = self.nearest_routes(images)
        # The own route comes first. Where it was not among the nearest, the farthest drops out.
        is_own = nearest == own_route[:, np.newaxis]
        is_own[:, -1] |= ~is_own.any(axis=1)
        return np.column_stack([own_route, nearest[~is_own].reshape(len(images), -1)])


def _query_together(indexes, rows, n_neighbors, exclude):
    """Squared distances and nearest entries in several banks; inf and -1 where there is none."""
    squared = np.full((len(rows), len(indexes), n_neighbors), np.inf, dtype=np.float32)
    neighbors = np.full(squared.shape, -1, dtype=np.int64)
    offset = 0
    for place, index in enumerate(indexes):
        n_found = min(n_neighbors, len(index.bank))
        nearest = index.query(rows, n_found, exclude=exclude)
        squared[:, place, :n_found] = nearest[0]
        neighbors[:, place, :n_found] = np.where(nearest[1] < 0, -1, nearest[1] + offset)
        offset += len(index.bank)
    squared, neighbors = squared.reshape(len(rows), -1), neighbors.reshape(len(rows), -1)
    if len(indexes) > 1:
        order = np.argsort(squared, axis=1, kind="stable")[:, :n_neighbors]
        squared = np.take_along_axis(squared, order, axis=1)
        neighbors = np.take_along_axis(neighbors, order, axis=1)
    return squared, neighbors


def _mean_distance(squared, metric):
    distances = np.sqrt(squared) if metric == "euclidean" else squared
    # Where a group holds most of the bank, fewer than n_neighbors entries are left.
    left = np.isfinite(distances)
    if left.all():
        return distances.mean(axis=1)
    return np.where(left, distances, 0).sum(axis=1) / left.sum(axis=1)


def _batches(search, patches, own_routes):
    """Of each batch the images that are compared with the same routes: places, routes, features."""
    for rows, batch in iter_placed(patches.values):
        images = np.arange(rows.start, rows.stop)
        check_counted(np.isnan(batch[..., 0]), images)
        chosen = search.routes_of(batch, None if own_routes is None else own_routes[images])
        for key in np.unique(chosen, axis=0):
            mine = (chosen == key).all(axis=1)
            yield images[mine], key, batch[mine]


def score_patches(
    search: BankSearch,
    patches: Patches,
    expectations: Sequence[DistanceExpectation] | None = None,
    own_routes: NDArray[np.int64] | None = None,
) -> AnomalyMaps:
    """Score patches by a bank, judged by what is expected of such content, if that is known.

    `own_routes` ``(n,)`` are those that the images are known to be of; None: those whose prototypes
    are nearest.
    """
    return _score(search, patches, expectations, own_routes)[0]


def score_held_out(
    search: BankSearch,
    patches: Patches,
    expectations: Sequence[DistanceExpectation] | None = None,
) -> tuple[AnomalyMaps, NDArray[np.int32]]:
    """Score training images without the entries of their groups, see `score_patches`.

    The nearest entries come beside the maps.
    """
    return _score(search, patches, expectations, patches.routes, patches.groups)


def _score(search, patches, expectations, own_routes, groups=None):
    """Maps and, where the entries of their `groups` are left out, the nearest of the others."""
    waits = isinstance(patches.values, LazyRows) and patches.values.waits_for_categories
    if waits and not search.is_routed:
        raise ValueError(
            "ignore is a dict of categories, but images are not routed, so that the category "
            "of an image is not known: use routing='auto' or 'top1'."
        )
    grid = patches.shape[:3]
    distances, ignored = np.empty(grid, dtype=np.float32), np.zeros(grid, dtype=bool)
    surprise = None if expectations is None else np.empty(grid, dtype=np.float32)
    neighbors = None if groups is None else np.empty((*grid, search.n_context), dtype=np.int32)
    sent_to, route_distance = np.zeros(len(patches), dtype=np.int64), np.empty(len(patches))
    for images, key, features in _batches(search, patches, own_routes):
        route = key[0]
        if waits:
            categories = [search.bank.route_names[route]] * len(images)
            patches.values.mark_ignored(features, images, categories)  # in place
            check_counted(np.isnan(features[..., 0]), images)
        ignored[images] = np.isnan(features[..., 0])
        own_groups = None if groups is None else groups[images]
        distance, entries = search.find(features, key, own_groups)
        distances[images] = distance
        if surprise is not None:
            expectation = join_expectations([expectations[route] for route in key])
            surprise[images] = expectation.surprise(distance, entries) * ~ignored[images]
        if neighbors is not None:
            neighbors[images] = entries
        if search.is_routed:
            sent_to[images] = route
            route_distance[images] = search.bank.profiles[route].distance(pool_patches(features))
    maps = AnomalyMaps(
        distances,
        image_index=patches.image_index,
        images=patches.images,
        geometry=patches.geometry,
        route=np.array(search.bank.route_names)[sent_to] if search.is_routed else None,
        route_distance=route_distance if search.is_routed else None,
        surprise=surprise,
        ignored=ignored if ignored.any() else None,
        held_out=groups is not None,
    )
    return maps, neighbors
