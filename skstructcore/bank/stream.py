"""Selecting a memory bank from more patches than fit into memory, or from shards of images."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING

import joblib
import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from .._utils.computing import end_with_parent, parts
from .._utils.rows import counted_rows, iter_batches
from .build import Selection, join_routes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .._utils.rows import LazyRows
    from .._utils.typing import NDArray
    from ..containers import TrainingImages
    from .build import SelectionRule


def stream_bank(
    X: LazyRows,
    table: TrainingImages,
    rule: SelectionRule,
    max_memory: int,
    shard_size: int | None = None,
) -> Selection:
    """Select a bank while the features pass by, and keep the patches of some images.

    Half of `max_memory` bytes, or more for a large bank, holds the buffers of a `StreamingCoreset`
    for each route, and the rest the patches of images drawn at random. Features are computed once.
    Ignored patches are never selected, and `ratio` is a share of the others: of as many as some of
    the images tell, as all are known only when they have passed.

    With a `shard_size`, processes select as many patches of each shard as the bank is to have.
    These pass by here, and their radius with them. `radius` is an upper bound: no patch is farther
    from the bank than the radius of its shard and that of the last selection together. ValueError
    if the memory is too little for the bank and two images.
    """
    from ..neighbors.streaming import StreamingCoreset

    _, height, width, n_features = X.shape
    per_image = height * width
    routes, names = table.routes, tuple(rule.ratios)
    n_rows = (per_image * np.bincount(routes, minlength=len(names))).tolist()
    counted = 1 - X.ignored_share() if hasattr(X, "ignored_share") else 1.0
    n_entries = [
        rule.n_entries(name, round(counted * n)) for name, n in zip(names, n_rows, strict=True)
    ]
    shares, n_kept = _share_memory(max_memory, n_entries, n_features, 4 * per_image * n_features)
    starts = [rule.first_pick(n) for n in n_rows]
    kept = _drawn(routes, table.groups, n_kept, rule.random_state)
    values = np.empty((len(kept), *X.shape[1:]), dtype=np.float32)
    streams = [
        StreamingCoreset(n, max_memory=share, n_rows=total, device=rule.device)
        for n, share, total in zip(n_entries, shares, n_rows, strict=True)
    ]
    images = np.arange(len(routes))
    of_images = images, routes, np.isin(images, kept)
    if shard_size is None:
        pieces = _batches(X, *of_images)
    else:
        empty = copy.deepcopy(streams)
        pieces = over_shards(partial(_summary, empty), shard_size, X, *of_images)
    n_filled = 0
    for rows, kept_values in pieces:
        values[n_filled : n_filled + len(kept_values)] = kept_values
        n_filled += len(kept_values)
        for route, *summary in rows:
            streams[route].add(*summary)
    results = [stream.result(start=start) for stream, start in zip(streams, starts, strict=True)]
    bank = join_routes([result[:2] for result in results], names)
    return Selection(bank, np.array([bound for _, _, bound in results]), values, kept)


def _batches(X, images, routes, is_kept):
    """Of each batch the rows of each route, with their images, and the patches that are kept."""
    done = 0
    for batch in iter_batches(X):
        here = slice(done, done + len(batch))
        done, rows = here.stop, []
        for route in np.unique(routes[here]):
            mine = routes[here] == route
            counted, places = counted_rows(batch[mine])
            owners = np.repeat(images[here][mine], batch.shape[1] * batch.shape[2])
            rows.append((route, counted, owners if places is None else owners[places]))
        yield rows, batch[is_kept[here]]


def _summary(streams, X, *of_images):
    """What `_batches` yields, for a shard: rows selected of each route, and their radius."""
    streams, kept = copy.deepcopy(streams), []
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
    from ..neighbors.streaming import least_memory

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
    """Yield what a function gives for each shard of features, in order.

    It takes the features of a shard, and its part of each of the `others`, which have a row an
    image. Without a `shard_size` all images are one shard, which is worked on here.
    """
    if shard_size is None:
        yield function(X, *others)
        return
    jobs = (
        joblib.delayed(_at_work)(function, *(part[shard] for part in (X, *others)))
        for shard in parts(len(X), shard_size)
    )
    # A worker that is lost costs the shards that it was at: what is done has been sent.
    yield from joblib.Parallel(return_as="generator")(jobs)


def _at_work(function, *arguments):
    end_with_parent()
    return function(*arguments)
