"""Selecting a memory bank from the patches of normal images, route by route."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sklearn.utils import check_random_state

from .._utils.rows import counted_rows
from ..containers import MemoryBank
from ..routing.profile import fit_profile

# A twentieth of the patches is kept by default, up to so many entries.
_ENTRIES = 8192

if TYPE_CHECKING:
    from .._utils.typing import NDArray, RandomState
    from ..containers import TrainingImages
    from ..routing.profile import RouteProfile


@dataclass(frozen=True)
class SelectionRule:
    """How many patches of each route are kept, and how they are selected; see `CoresetBank`."""

    ratios: dict[str, float | str]  # of each route, by its name
    random_state: RandomState = None
    device: str = "cpu"

    def n_entries(self, name: str, n_rows: int) -> int:
        """How many of `n_rows` patches of a route are kept."""
        ratio = self.ratios[name]
        if n_rows == 0:
            raise ValueError(f"Every patch of route {name!r} is ignored: there is nothing to keep.")
        if isinstance(ratio, Integral) and ratio > n_rows:
            raise ValueError(
                f"ratio={ratio} is larger than the {n_rows} patches there are in route {name!r}: "
                "choose fewer, or give more images."
            )
        return entries_of(ratio, n_rows)

    def first_pick(self, n_rows: int) -> int:
        """The first of `n_rows` patches of a route.

        An int seeds each route anew: its bank does not depend on which others there are.
        """
        return int(check_random_state(self.random_state).randint(n_rows))


class Selection(NamedTuple):
    """A bank, and the patches of training images that are left for calibration."""

    bank: MemoryBank  # each image is a group of its own
    radius: NDArray[np.float64]  # no training patch lies farther from the bank of its route
    values: NDArray[np.float32]  # (n_kept, h, w, n_features)
    images: NDArray[np.int64]  # (n_kept,), their positions in the training set, ascending


def select_bank(
    values: NDArray[np.float32],
    routes: NDArray[np.int64],
    rule: SelectionRule,
    left_out: NDArray[np.bool_] | None = None,
) -> Selection:
    """Select a bank from patch features ``(n_images, h, w, d)``, float32, route by route.

    Ignored patches (NaN) are never selected, nor those of images that are `left_out`; a ratio is a
    share of the others. The selection keeps all `values`. ValueError if a route has fewer patches
    than it should keep.
    """
    from ..neighbors.coreset import greedy_k_center

    per_image = values.shape[1] * values.shape[2]
    parts, radius = [], []
    for route, name in enumerate(rule.ratios):
        of_route = routes == route
        members = np.flatnonzero(of_route if left_out is None else of_route & ~left_out)
        # The usual case of one route must not copy all patches.
        rows, places = counted_rows(values if len(members) == len(values) else values[members])
        n_entries, start = rule.n_entries(name, len(rows)), rule.first_pick(len(rows))
        picks, radii = greedy_k_center(rows, n_entries, start=start, device=rule.device)
        of_all = picks if places is None else places[picks]
        parts.append((rows[picks], members[of_all // per_image]))
        radius.append(float(radii[-1]))
    bank = join_routes(parts, tuple(rule.ratios))
    return Selection(bank, np.array(radius), values, np.arange(len(values)))


def join_routes(parts, route_names):
    """Make one bank of the ``(entries, positions of their images)`` of each route."""
    owners = np.concatenate([images for _, images in parts])
    return MemoryBank(
        values=np.concatenate([entries for entries, _ in parts]),
        image_index=owners,
        groups=owners,
        routes=np.repeat(np.arange(len(parts)), [len(images) for _, images in parts]),
        route_names=route_names,
    )


def entries_of(ratio: float | str, n_rows: int) -> int:
    """How many of `n_rows` patches of a route are kept, see `ratio` of `CoresetBank`.

    Examples
    --------
    >>> [entries_of("auto", n) for n in (100, 20_000, 500_000, 1_000_000)]
    [5, 1000, 8192, 10000]
    """
    if isinstance(ratio, Integral):
        return int(ratio)
    if ratio == "auto":
        return max(round(0.01 * n_rows), min(_ENTRIES, round(0.05 * n_rows)), 1)
    return max(1, round(ratio * n_rows))


def most_unlike(
    values: NDArray[np.floating], table: TrainingImages, bank: MemoryBank, share: float
) -> NDArray[np.bool_]:
    """Which training images are farthest from the entries of all other groups.

    Of each route a `share`, rounded up, by the mean distance of the farthest hundredth of their
    patches. The bank was selected from these images. ValueError if images of fewer than two groups
    of a route are left.
    """
    from ..neighbors.index import NeighborIndex

    groups, scores, unlike = table.groups, np.empty(len(values)), np.zeros(len(values), dtype=bool)
    for route in np.unique(table.routes):
        part = bank.select(route)
        index = NeighborIndex(part.values, groups=groups[part.image_index])
        mine = np.flatnonzero(table.routes == route)
        for image in mine:
            rows, _ = counted_rows(values[image : image + 1])
            left_out = np.full(len(rows), groups[image])
            distances = np.sort(index.query(rows, 1, exclude=left_out)[0][:, 0])
            scores[image] = distances[-max(1, len(distances) // 100) :].mean()
        in_order = mine[np.argsort(scores[mine])]
        n_left = len(mine) - int(np.ceil(share * len(mine)))
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
        if len(rows) == 0:  # streamed, and no image of this route was kept
            rows = bank.select(route).values
        profiles.append(fit_profile(rows, pooled[members]))
    return tuple(profiles)
