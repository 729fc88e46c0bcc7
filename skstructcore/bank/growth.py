"""A fitted bank with more images, or without some: about what a new fit would give."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np

from .._utils.computing import find_device
from .._utils.copies import with_attributes
from .._utils.rows import counted_rows
from .._utils.typing import NDArray
from ..containers import TrainingImages
from ..neighbors.coreset import greedy_k_center
from ..neighbors.index import NeighborIndex
from ..routing import fit_profile, pool_patches
from .build import join_routes, select_bank
from .coreset_bank import CoresetBank
from .dependence import find_groups_of_routes
from .training import GoodImages, recognised


def find_new_groups(
    bank: CoresetBank, values: NDArray[np.float32], routes: NDArray[Any]
) -> NDArray[np.int64]:
    """Groups of new images, by their patches and names of routes, as a fit of them finds these."""
    names, codes = np.unique(routes.astype(str), return_inverse=True)
    ratio = "auto" if isinstance(bank.ratio, Integral) else bank.ratio  # they may be few
    table = TrainingImages(np.arange(len(values)), codes)
    ratios = dict.fromkeys(names.tolist(), ratio)
    selection = select_bank(values, table, ratios, random_state=0, device=find_device(bank.device))
    return find_groups_of_routes(selection, table)[0].groups


def grown_bank(
    bank: CoresetBank,
    good: GoodImages,
    values: NDArray[np.float32],
    groups: NDArray[np.int64],
    routes: NDArray[np.int64],
) -> CoresetBank:
    """The bank with more images, whose patches that lie farthest from it join it.

    As many join for each image as the bank has of its route, behind the old entries. `values` are
    the patches of the images, and `groups` and `routes` count on from those of the bank.
    """
    old, first = bank.bank_, len(bank.images_)
    chosen, radius = [], []
    for route, n_images in enumerate(bank.n_images_per_route_):
        entries, mine = old.select(route).values, np.flatnonzero(routes == route)
        n_new = round(len(entries) / n_images * len(mine))
        rows, owners, far = _farthest(entries, values[mine], n_new)
        chosen.append((rows, mine[owners]))
        radius.append(max(float(bank.radius_[route]), far))
    new = join_routes(chosen, old.route_names)
    new = replace(new, image_index=first + new.image_index, groups=groups[new.image_index])
    pooled = None if old.profiles is None else pool_patches(values).astype(np.float32)
    table = TrainingImages(groups, routes, parts=good.parts, pooled=pooled, places=good.places)
    table = recognised(table, good.X, first=bank.images_.n_given)
    table = replace(bank.images_, lots=None).join(table)  # lots are not known of new images
    changed = with_attributes(bank, bank_=old.join(new), images_=table, radius_=np.array(radius))
    return _with_profiles(changed, bank, [values[routes == route] for route in range(len(radius))])


def _farthest(entries, values, n_new):
    """Patches that lie farthest from all entries, the image of each, and how far the rest is."""
    rows, places = counted_rows(values)
    picks, n_new = np.empty(0, dtype=np.int64), min(n_new, len(rows))
    if len(rows) == 0:
        return rows, picks, 0.0
    squared = NeighborIndex(entries).query(rows)[0][:, 0]
    far = float(np.sqrt(squared.max()))
    if n_new:
        picks, radii = greedy_k_center(rows, n_new, nearest=squared)
        far = float(radii[-1])
    return rows[picks], places[picks] // (values.shape[1] * values.shape[2]), far


def bank_without(bank: CoresetBank, is_gone: NDArray[np.bool_]) -> CoresetBank:
    """The bank without the entries of some of its images; ValueError if a route had none left."""
    old, radius = bank.bank_, bank.radius_.copy()
    kept = ~is_gone[old.image_index]
    for route, name in enumerate(old.route_names):
        left, gone = (old.values[(old.routes == route) & part] for part in (kept, ~kept))
        if not len(left):
            raise ValueError(
                f"All entries of the bank of {name!r} come from these images: nothing would be "
                "left."
            )
        if len(gone):
            # A patch within the radius of an entry that goes is this much farther from the rest.
            radius[route] += NeighborIndex(left).query(gone)[0].max() ** 0.5
    table = bank.images_.forget(is_gone)
    changed = with_attributes(bank, bank_=old.take(kept), images_=table, radius_=radius)
    return _with_profiles(changed, bank)


def bank_with_route(bank: CoresetBank, other: CoresetBank) -> CoresetBank:
    """The bank with the one route of another, whose images and groups are numbered on."""
    first, first_group = len(bank.images_), int(bank.images_.groups.max()) + 1
    new = replace(
        other.bank_,
        image_index=first + other.bank_.image_index,
        groups=first_group + other.bank_.groups,
    )
    known = bank.dependence_
    dependence = None if known is None else known | (other.dependence_ or {})
    table = replace(
        other.images_,
        groups=first_group + other.images_.groups,
        routes=np.full(len(other.images_), len(bank.bank_.route_names)),
        lots=None,
    )
    return with_attributes(
        bank,
        bank_=bank.bank_.join(new),
        images_=replace(bank.images_, lots=None).join(table),
        radius_=np.concatenate([bank.radius_, other.radius_]),
        dependence_=dependence,
    )


def bank_without_route(bank: CoresetBank, gone: int) -> CoresetBank:
    """The bank without a route, by its position; those after it move up."""
    routes, name = bank.images_.routes, bank.bank_.route_names[gone]
    kept = np.delete(np.arange(len(bank.radius_)), gone)
    numbered_on = np.where(routes == gone, -1, np.searchsorted(kept, routes))
    others = bank.dependence_ and {key: d for key, d in bank.dependence_.items() if key != name}
    return with_attributes(
        bank,
        bank_=bank.bank_.select(*kept.tolist()),
        images_=replace(bank.images_.forget(routes == gone), routes=numbered_on),
        radius_=bank.radius_[kept],
        dependence_=others,
    )


def _with_profiles(changed, bank, new_values=None):
    """Learn anew what images of a route look like, where some have come or gone."""
    if changed.bank_.profiles is None:
        return changed
    table, profiles = changed.images_, list(changed.bank_.profiles)
    for route in np.flatnonzero(changed.n_images_per_route_ != bank.n_images_per_route_):
        rows = changed.bank_.select(route).values
        if new_values is not None:
            rows = np.concatenate([rows, counted_rows(new_values[route])[0]])
        mine = table.is_there & ~table.left_out & (table.routes == route)
        profiles[route] = fit_profile(table.pooled[mine].astype(np.float64), rows)
    return with_attributes(changed, bank_=replace(changed.bank_, profiles=tuple(profiles)))
