"""Selecting a memory bank from the patches of normal images, route by route."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils import check_random_state

from .._utils.lazy import is_lazy
from .._utils.validation import as_patch_grid, counted_rows
from ..containers import MemoryBank
from ..routing.profile import fit_profile

# A twentieth of the patches is kept by default, up to so many entries.
_ENTRIES = 8192

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._utils.lazy import LazyRows
    from .._utils.typing import ArrayLike, NDArray, RandomState, Storage


def materialize(X: LazyRows | ArrayLike) -> NDArray[np.float32]:
    """Return lazy or given features as one float32 array ``(n, h, w, d)``."""
    if not is_lazy(X):
        return as_patch_grid(np.asarray(X, dtype=np.float32))
    values = np.empty(X.shape, dtype=np.float32)
    start = 0
    for batch in X.iter_batches():
        values[start : start + len(batch)] = batch
        start += len(batch)
    return values


def build_bank(
    values: NDArray[np.float32],
    *,
    groups: NDArray[np.int64],
    routes: NDArray[np.int64],
    route_names: tuple[str, ...],
    n_patches: int | Sequence[int] | None = None,
    ratio: float | str = "auto",
    image_index: NDArray[np.int64] | None = None,
    random_state: RandomState = None,
    dtype: Storage = "float32",
    device: str = "cpu",
    verbose: int = 0,
) -> tuple[MemoryBank, NDArray[np.float64]]:
    """Select a bank from patch features, route by route.

    Parameters
    ----------
    values : ndarray of shape (n_images, h, w, n_features), float32
        Ignored patches (NaN) are never selected, and `ratio` is a share of the others.
    groups, routes : ndarray of shape (n_images,), int64
        Group code and route of each image.
    route_names : tuple of str
    n_patches : int, sequence of int (one a route) or None
        How many patches to keep of each route; None: `ratio` of them.
    ratio : float or "auto"
    image_index : ndarray of shape (n_images,), default=None
        Position of each image in the training set; None: its row.
    random_state : int, RandomState instance or None
    dtype : {"float32", "float16"}
    device : str
        See `greedy_k_center`.
    verbose : int

    Returns
    -------
    bank : MemoryBank
    radius : ndarray of shape (n_routes,), float64
        Largest distance of a patch to the bank of its route.

    Raises
    ------
    ValueError
        If a route has fewer patches than it should keep.
    """
    from ..neighbors.coreset import greedy_k_center

    per_image = values.shape[1] * values.shape[2]
    parts, radius = [], []
    for route, name in enumerate(route_names):
        images = np.flatnonzero(routes == route)
        # The usual case of one route must not copy all patches.
        chosen = values if len(images) == len(values) else values[images]
        rows, places = counted_rows(chosen)
        wanted = n_patches if np.ndim(n_patches) == 0 else n_patches[route]
        wanted = n_wanted(wanted, ratio, len(rows), name)
        start = first_pick(random_state, len(rows))
        picks, radii = greedy_k_center(rows, wanted, start=start, device=device, verbose=verbose)
        of_all = picks if places is None else places[picks]
        parts.append((rows[picks], images[of_all // per_image]))
        radius.append(float(radii[-1]))
    bank = join_routes(
        parts,
        groups=groups,
        routes=routes,
        route_names=route_names,
        dtype=dtype,
        image_index=image_index,
    )
    return bank, np.array(radius)


def first_pick(random_state, n_rows):
    # An int seeds each route anew: its bank does not depend on which others there are.
    return int(check_random_state(random_state).randint(n_rows))


def n_wanted(n_patches: int | None, ratio: float | str, n_rows: int, name: str) -> int:
    """How many of `n_rows` patches of a route are kept."""
    if n_patches is None:
        return entries_of(ratio, n_rows)
    if n_patches > n_rows:
        raise ValueError(
            f"n_patches={n_patches} is larger than the {n_rows} patches there are in route "
            f"{name!r}: choose fewer, or give more images."
        )
    return int(n_patches)


def entries_of(ratio: float | str, n_rows: int) -> int:
    """How many of `n_rows` patches a ratio keeps; "auto": see `CoresetBank`.

    Examples
    --------
    >>> [entries_of("auto", n) for n in (100, 20_000, 500_000, 1_000_000)]
    [5, 1000, 8192, 10000]
    """
    if ratio == "auto":
        return max(round(0.01 * n_rows), min(_ENTRIES, round(0.05 * n_rows)), 1)
    return max(1, round(ratio * n_rows))


def most_unlike(
    values: NDArray[np.floating], routes: NDArray[np.int64], bank: MemoryBank, share: float
) -> NDArray[np.int64]:
    """Positions of the training images that are farthest from the entries of all others.

    Parameters
    ----------
    values : ndarray of shape (n_images, h, w, n_features)
    routes : ndarray of shape (n_images,), int64
    bank : MemoryBank
        Selected from these images, with their groups.
    share : float
        How many of each route, rounded up.

    Returns
    -------
    images : ndarray, int64
        By the mean distance of the farthest hundredth of their patches; ascending.
    """
    from ..neighbors.index import NeighborIndex

    scores, groups = np.empty(len(values)), np.full(len(values), -1)
    groups[bank.image_index] = bank.groups
    chosen = []
    for route in np.unique(routes):
        part = bank.select(route)
        index = NeighborIndex(part.values, groups=part.groups)
        mine = np.flatnonzero(routes == route)
        for image in mine:
            rows, _ = counted_rows(values[image : image + 1])
            own = None if groups[image] < 0 else np.full(len(rows), groups[image])
            distances = np.sort(index.query(rows, 1, exclude=own)[0][:, 0])
            scores[image] = distances[-max(1, len(distances) // 100) :].mean()
        n_out = int(np.ceil(share * len(mine)))
        chosen.append(mine[np.argsort(scores[mine])[len(mine) - n_out :]])
    return np.sort(np.concatenate(chosen))


def join_routes(parts, *, groups, routes, route_names, dtype, image_index=None):
    """Make one bank of the ``(entries, rows of their images)`` of each route."""
    kept = np.concatenate([images for _, images in parts])
    return MemoryBank(
        values=np.concatenate([entries.astype(dtype, copy=False) for entries, _ in parts]),
        image_index=kept if image_index is None else image_index[kept],
        groups=groups[kept],
        routes=routes[kept],
        route_names=tuple(route_names),
    )


def codes_of(labels, n_images, default=None):
    """Number the distinct labels; without labels each image is its own, or all are one."""
    if labels is not None:
        names, codes = np.unique(labels, return_inverse=True)
        return codes.astype(np.int64), tuple(str(label) for label in names)
    if default is None:
        return np.arange(n_images, dtype=np.int64), None
    return np.zeros(n_images, dtype=np.int64), (default,)


def profiles_of(bank, values, routes_of_values, pooled, routes, n_prototypes):
    """What the images of each route look like as a whole, see `fit_profile`."""
    profiles = []
    for route in range(len(bank.route_names)):
        rows, _ = counted_rows(values[routes_of_values == route])
        if len(rows) == 0:  # streamed, and no image of this route was kept
            rows = bank.select(route).values
        profiles.append(fit_profile(rows, pooled[routes == route], n_prototypes))
    return tuple(profiles)
