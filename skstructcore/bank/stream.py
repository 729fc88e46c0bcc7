"""Selecting a memory bank from more patches than fit into memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from .._utils.validation import counted_rows
from .build import Selection, join_routes

if TYPE_CHECKING:
    from .._utils.lazy import LazyRows
    from .build import SelectionRule
    from .training import ImageCodes


def stream_bank(X: LazyRows, codes: ImageCodes, rule: SelectionRule, max_memory: int) -> Selection:
    """Select a bank while the features pass by, and keep the patches of some images.

    Half of the memory, or more for a large bank, holds the buffers of a `StreamingCoreset` for
    each route, and the rest the patches of images drawn at random.

    Parameters
    ----------
    X : LazyRows of shape (n_images, h, w, n_features)
        Computed once, batch by batch. Ignored patches are never selected, but `ratio` is a share
        of all: how many are ignored is known when all have passed.
    codes : ImageCodes
    rule : SelectionRule
    max_memory : int
        Bytes for all that is held at once.

    Returns
    -------
    selection : Selection
        With the patches of the images that were drawn; `radius` is an upper bound.

    Raises
    ------
    ValueError
        If `max_memory` is too little for the bank and two images.
    """
    from ..neighbors.streaming import StreamingCoreset

    _, height, width, n_features = X.shape
    per_image, routes = height * width, codes.routes
    n_rows = per_image * np.bincount(routes, minlength=len(codes.route_names))
    n_entries = [
        rule.n_entries(int(n), route, name)
        for route, (n, name) in enumerate(zip(n_rows, codes.route_names, strict=True))
    ]
    shares, n_kept = _share_memory(max_memory, n_entries, n_features, 4 * per_image * n_features)
    starts = [rule.first_pick(int(n)) for n in n_rows]
    kept = _drawn(routes, codes.groups, n_kept, rule.random_state)
    values = np.empty((len(kept), *X.shape[1:]), dtype=np.float32)
    streams = [
        StreamingCoreset(n, max_memory=share, n_rows=int(total), device=rule.device)
        for n, share, total in zip(n_entries, shares, n_rows, strict=True)
    ]
    done = 0
    for batch in X.iter_batches():
        images = np.arange(done, done + len(batch))
        is_kept = np.isin(images, kept)
        values[np.searchsorted(kept, images[is_kept])] = batch[is_kept]
        for route in np.unique(routes[images]):
            mine = routes[images] == route
            rows, places = counted_rows(batch[mine])
            owners = np.repeat(images[mine], per_image)
            streams[route].add(rows, owners if places is None else owners[places])
        done += len(batch)
    parts = [stream.result(start=start) for stream, start in zip(streams, starts, strict=True)]
    bank = join_routes([part[:2] for part in parts], codes)
    return Selection(bank, np.array([bound for _, _, bound in parts]), values, kept)


def _drawn(routes, groups, n_drawn, random_state):
    """Images at random, as many of each route, and of as many groups, as can be; ascending."""
    order = check_random_state(random_state).permutation(len(routes))
    for labels in (groups, routes):
        order = order[np.argsort(_seen_before(labels[order]), kind="stable")]
    return np.sort(order[:n_drawn])


def _seen_before(labels):
    """How many equal ones come before each of some labels."""
    return pd.Series(labels).groupby(labels).cumcount().to_numpy()


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
