"""Selecting a memory bank from the patches of normal images, in memory or from a stream."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from numbers import Integral
from typing import Any, NamedTuple

import joblib
import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from .._utils.computing import end_with_parent, slices
from .._utils.rows import LazyRows, counted_rows, iter_placed
from .._utils.typing import NDArray, RandomState
from .._utils.warning import warn_user
from ..containers import MemoryBank, TrainingImages
from ..neighbors.coreset import greedy_k_center
from ..neighbors.index import NeighborIndex
from ..neighbors.streaming import StreamingCoreset, least_memory
from ..routing import RouteProfile, fit_profile


class Selection(NamedTuple):
    """A bank, and the patches of training images that are left for calibration."""

    bank: MemoryBank  # each image is a group of its own, until groups are known
    radius: NDArray[np.float64]  # no training patch lies farther from the bank of its route
    values: NDArray[np.float32]  # (n_kept, h, w, n_features)
    images: NDArray[np.int64]  # (n_kept,), their positions in the training set, ascending


def select_bank(
    values: NDArray[np.float32],
    table: TrainingImages,
    ratios: dict[str, float | str],
    random_state: RandomState = None,
    device: str = "cpu",
) -> Selection:
    """Select a bank from patch features ``(n_images, h, w, d)``, float32, route by route.

    Ignored patches (NaN) are never selected, nor those of images that are left out; `ratios`, of
    each route by its name, are shares of the others. An int as `random_state` seeds each route
    anew. ValueError if a route has fewer patches than it should keep.
    """
    per_image = values.shape[1] * values.shape[2]
    chosen, radius = [], []
    for route, (name, ratio) in enumerate(ratios.items()):
        members = np.flatnonzero((table.routes == route) & ~table.left_out)
        # The usual case of one route must not copy all patches.
        rows, places = counted_rows(values if len(members) == len(values) else values[members])
        n_entries = entries_of(ratio, len(rows), name)
        start = check_random_state(random_state).randint(len(rows))
        picks, radii = greedy_k_center(rows, n_entries, start=start, device=device)
        chosen.append((rows[picks], members[places[picks] // per_image]))
        radius.append(float(radii[-1]))
    bank = join_routes(chosen, tuple(ratios))
    return Selection(bank, np.array(radius), values, np.arange(len(values)))


def join_routes(chosen, route_names):
    """Make one bank of the ``(entries, positions of their images)`` of each route."""
    owners = np.concatenate([images for _, images in chosen])
    return MemoryBank(
        values=np.concatenate([entries for entries, _ in chosen]),
        image_index=owners,
        groups=owners,
        routes=np.repeat(np.arange(len(chosen)), [len(images) for _, images in chosen]),
        route_names=route_names,
    )


def entries_of(ratio: float | str, n_rows: int, route: str) -> int:
    """How many of `n_rows` patches of a route are kept, see `ratio` of `CoresetBank`.

    ValueError if there are none, or fewer than should be kept.
    """
    if n_rows == 0:
        raise ValueError(f"Every patch of route {route!r} is ignored: there is nothing to keep.")
    if isinstance(ratio, Integral):
        if ratio > n_rows:
            raise ValueError(
                f"ratio={ratio} is larger than the {n_rows} patches there are in route {route!r}: "
                "choose fewer, or give more images."
            )
        return int(ratio)
    if ratio == "auto":
        return max(round(0.01 * n_rows), min(8192, round(0.05 * n_rows)), 1)
    return max(1, round(ratio * n_rows))


def most_unlike(
    values: NDArray[np.floating], table: TrainingImages, bank: MemoryBank, share: float
) -> NDArray[np.bool_]:
    """Which training images are farthest from the entries of all other groups.

    Of each route a `share`, rounded up, by the mean distance of the farthest hundredth of their
    patches. ValueError if images of fewer than two groups of a route are left.
    """
    groups, scores, unlike = table.groups, np.empty(len(values)), np.zeros(len(values), dtype=bool)
    for route in np.unique(table.routes):
        part = bank.select(route)
        index = NeighborIndex(part.values, groups=groups[part.image_index])
        mine = np.flatnonzero(table.routes == route)
        for image in mine:
            rows, _ = counted_rows(values[image : image + 1])
            own_group = np.full(len(rows), groups[image])
            distances = np.sort(index.query(rows, 1, exclude=own_group)[0][:, 0])
            scores[image] = distances[-max(1, len(distances) // 100) :].mean()
        in_order = mine[np.argsort(scores[mine])]
        n_left = len(mine) - int(np.ceil(share * len(mine) - 1e-9))  # 0.07 * 100 is above 7
        n_groups = len(np.unique(groups[in_order[:n_left]]))
        if n_groups < 2:
            raise ValueError(
                f"contamination={share:g} leaves {n_left} of {len(mine)} training images of route "
                f"{bank.route_names[route]!r}, of {n_groups} group(s); at least two groups are "
                "needed, to score one by the other. Add images, or lower contamination."
            )
        unlike[in_order[n_left:]] = True
    return unlike


def profiles_of(
    selection: Selection, table: TrainingImages, pooled: NDArray[np.float64]
) -> tuple[RouteProfile, ...]:
    """What the images of each route look like as a whole, but for those that were left out."""
    bank, _, values, images = selection
    profiles = []
    for route in range(len(bank.route_names)):
        members = (table.routes == route) & ~table.left_out
        rows, _ = counted_rows(values[members[images]])
        profiles.append(fit_profile(pooled[members], rows))
    return tuple(profiles)


def stream_bank(
    X: LazyRows,
    table: TrainingImages,
    ratios: dict[str, float | str],
    random_state: RandomState,
    device: str,
    max_memory: int,
    shard_size: int | None = None,
) -> Selection:
    """Select a bank while the features pass by, and keep the patches of some images.

    `max_memory` bytes hold the buffers of a `StreamingCoreset` for each route, and the patches of
    images drawn at random. A ratio is a share of the patches that are not ignored, estimated from
    some images. With a `shard_size`, processes select as many patches of each shard as the bank is
    to have, which pass by here. ValueError if the memory is too little for the bank and two images.
    """
    n_features, per_image = X.shape[3], X.shape[1] * X.shape[2]
    routes = table.routes
    n_rows = (per_image * np.bincount(routes, minlength=len(ratios))).tolist()
    counted = 1 - X.ignored_share()
    of_routes = zip(ratios.items(), n_rows, strict=True)
    n_entries = [entries_of(ratio, round(counted * n), name) for (name, ratio), n in of_routes]
    shares, n_kept = _share_memory(max_memory, n_entries, n_features, 4 * per_image * n_features)
    starts = [check_random_state(random_state).randint(n) for n in n_rows]
    kept = _drawn(routes, table.groups, n_kept, random_state)
    if len(kept) < len(X):
        warn_user(
            f"The patches of {len(X)} training images take {4 * math.prod(X.shape)} bytes, more "
            f"than max_memory={max_memory} has room for: the bank is selected from a stream, and "
            f"{len(kept)} images drawn at random are left to set thresholds with."
        )
    values = np.empty((len(kept), *X.shape[1:]), dtype=np.float32)
    options = [
        {"n_select": n, "max_memory": share, "n_rows": total, "device": device}
        for n, share, total in zip(n_entries, shares, n_rows, strict=True)
    ]
    streams = [StreamingCoreset(**of_route) for of_route in options]
    images = np.arange(len(routes))
    of_images = images, routes, np.isin(images, kept)
    if shard_size is None:
        pieces = _batches(X, *of_images)
    else:
        pieces = over_shards(partial(_summary, options), shard_size, X, *of_images)
    n_filled = 0
    for rows, kept_values in pieces:
        values[n_filled : n_filled + len(kept_values)] = kept_values
        n_filled += len(kept_values)
        for route, *summary in rows:
            streams[route].add(*summary)
    results = [stream.result(start=start) for stream, start in zip(streams, starts, strict=True)]
    bank = join_routes([result[:2] for result in results], tuple(ratios))
    return Selection(bank, np.array([bound for _, _, bound in results]), values, kept)


def _batches(X, images, routes, is_kept):
    """Of each batch the rows of each route, with their images, and the patches that are kept."""
    for here, batch in iter_placed(X):
        rows = []
        for route in np.unique(routes[here]):
            mine = routes[here] == route
            counted, places = counted_rows(batch[mine])
            owners = images[here][mine][places // (batch.shape[1] * batch.shape[2])]
            rows.append((route, counted, owners))
        yield rows, batch[is_kept[here]]


def _summary(options, X, *of_images):
    """What `_batches` yields, for a shard: rows selected of each route, and their radius."""
    streams, kept = [StreamingCoreset(**of_route) for of_route in options], []
    for rows, values in _batches(X, *of_images):
        kept.append(values)
        for route, *batch in rows:
            streams[route].add(*batch)
    selected = [(i, *stream.result()) for i, stream in enumerate(streams) if stream.n_held]
    return selected, np.concatenate(kept)


def _drawn(routes, groups, n_drawn, random_state):
    """Draw images as evenly from routes, and from the groups of each, as can be; ascending."""
    order = check_random_state(random_state).permutation(len(routes))
    for labels in (groups, routes):
        in_order = pd.Series(labels[order])
        n_before = in_order.groupby(in_order).cumcount()  # of the same label
        order = order[np.argsort(n_before.to_numpy(), kind="stable")]
    return np.sort(order[:n_drawn])


def _share_memory(max_memory, wanted, n_features, bytes_per_image):
    """Bytes for the stream of each route, and how many images can be kept."""
    # Half for the streams and half for calibration, but more for the streams if they need it.
    needed = np.array([least_memory(n, n_features) for n in wanted])
    for_streams = max(max_memory // 2, int(needed.sum()))
    # Two images of each route calibrate it at least.
    least = for_streams + 2 * len(wanted) * bytes_per_image
    if least > max_memory:
        raise ValueError(
            f"max_memory={max_memory} bytes is too little to stream a bank of {sum(wanted)} "
            f"patches of {n_features} features: it takes at least {least}. Raise it, or keep "
            "fewer patches (ratio)."
        )
    shares = [int(share) for share in for_streams * (needed / needed.sum())]
    return shares, (max_memory - for_streams) // bytes_per_image


def over_shards(
    function: Callable[..., Any], shard_size: int | None, X: LazyRows, *others: NDArray[Any]
) -> Iterator[Any]:
    """Yield what a function gives for each shard of features, and of the others, in order."""
    if shard_size is None:  # all images are one shard, which is worked on here
        yield function(X, *others)
        return
    jobs = (
        joblib.delayed(_at_work)(function, *(part[shard] for part in (X, *others)))
        for shard in slices(len(X), shard_size)
    )
    # A worker that is lost costs the shards that it was at: what is done has been sent.
    yield from joblib.Parallel(return_as="generator")(jobs)


def _at_work(function, *arguments):
    end_with_parent()
    return function(*arguments)
