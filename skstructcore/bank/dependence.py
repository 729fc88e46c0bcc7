"""Training images that are not independent: lots, exposures of one part, near-duplicates.

A held-out score says how a *new* good image would do. Where the images come in lots, the bank
holds patches of an image's own lot, its held-out score is too low, and so is every threshold. So
it is counted whose bank entries explain whose patches: for patches of each image, the image that
the nearest entry of *another* image was cut from, compared with what the shares of the entries
let expect. Independent images explain each other alike, whatever their distance in the sequence.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .explained import LEVEL, blocks, dependence_reach, who_explains_whom

if TYPE_CHECKING:
    from typing import Literal

    from .._utils.typing import NDArray
    from ..containers import MemoryBank
    from .build import Selection

_logger = logging.getLogger(__name__)

#: Fewer images say nothing about a sequence.
MIN_FOR_SEQUENCE = 12
# Neighbours in the sequence have to explain each other this much more often than by chance: a
# tiny dependence that many images make significant does no harm to thresholds.
_MIN_RATIO = 1.5
# At least so many blocks are kept, however long the dependence.
_MIN_BLOCKS = 5
# A handful of clusters may be the variants of a product, each of independent images.
_MIN_CLUSTERS = 8

# Clusters count if they explain at least this share of all patches; independent images that
# happen to look alike reach a few percent, tiles of one material up to 24 %.
_MIN_EXPLAINED = 0.3
# Blocks of a sequence that explain this share of their patches are near-duplicates, no lots.
_NEAR_DUPLICATES = 0.5
# Counting pairs takes memory and time of their square and more.
_MAX_CLUSTERED = 4000


@dataclass(frozen=True, eq=False)
class Dependence:
    """How the training images of a route depend on each other.

    Attributes
    ----------
    found : {"independent", "sequence", "clusters"}
        What the groups follow: nothing (each image is its own), blocks of the sequence, or
        clusters of images that explain each other.
    n_images, n_groups : int
    reach : int
        Estimate of how many consecutive images depend on each other; 0 if none do.
    are_lots : bool
        Whether the blocks are lots, which are held out only if that is asked for
        (``CoresetBank(lots="hold-out")``), and not near-duplicates, which always are.
    block_length : int
        Consecutive images of a block: twice the reach where the groups follow the sequence, else 1.
    ratio : ndarray of shape (n_lags,), float64
        How many patches are explained by an image at this lag, divided by what the shares of the
        bank entries let expect: 1 where images are independent.
    limit : ndarray of shape (n_lags,), float64
        What 99 % of the random orders of the same images do not exceed.
    p_value : float
        Share of random orders in which neighbours explain each other at least as often.
    explained : float
        Share of the patches that are explained by images of the own cluster.
    lags : ndarray of shape (n_lags,), int64
        Distances in the sequence, 1, 2, ….
    """

    found: Literal["independent", "sequence", "clusters"]
    n_images: int
    n_groups: int
    reach: int
    block_length: int
    ratio: NDArray[np.float64] = field(repr=False)
    limit: NDArray[np.float64] = field(repr=False)
    p_value: float
    explained: float
    are_lots: bool = False

    @property
    def lags(self) -> NDArray[np.int64]:
        return np.arange(1, len(self.ratio) + 1)

    def __str__(self) -> str:
        if self.found == "independent":
            return f"{self.n_images} training images: none are alike more often than by chance"
        if self.are_lots:
            return (
                f"{self.n_images} training images come in lots: neighbours are alike "
                f"{self.ratio[0]:.1f} times as often as by chance. Images of a lot that training "
                "never saw may be rejected more often than others"
            )
        how = "look alike in clusters"
        if self.found == "sequence":
            how = f"repeat each other in blocks of about {self.block_length}"
        return (
            f"{self.n_images} training images {how}: they count as {self.n_groups} independent "
            "ones, and are held out together"
        )


def find_groups_of_routes(
    selection: Selection, routes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None, dict[str, Dependence]]:
    """Find groups and lots of training images, each route by itself, and say so in the log.

    See `find_groups`; `routes` are of all training images. Groups are numbered as they first
    appear; lots are None if no image depends on its neighbours. The dependence is that of routes
    with enough images to tell.
    """
    bank, _, values, images = selection
    groups, lots, dependence = np.arange(len(routes)), np.arange(len(routes)), {}
    for route, name in enumerate(bank.route_names):
        mine, part = np.flatnonzero(routes == route), bank.select(route)
        here = np.flatnonzero(routes[images] == route)
        part = replace(part, image_index=np.searchsorted(mine, part.image_index))
        of_route = values if len(here) == len(values) else values[here]
        places = np.searchsorted(mine, images[here])
        found = find_groups(of_route, places, part, len(mine))
        if found is None:
            continue
        codes, dependence[name] = found
        numbered = lots if dependence[name].are_lots else groups
        numbered[mine] = codes + numbered.max() + 1
        level = logging.INFO if dependence[name].found == "independent" else logging.WARNING
        _logger.log(level, "Route %r: %s", name, dependence[name])
    any_lots = any(of_route.are_lots for of_route in dependence.values())
    lots = pd.factorize(lots)[0] if any_lots else None
    return pd.factorize(groups)[0], lots, dependence


def find_groups(
    values: NDArray[np.floating],
    images: NDArray[np.int64],
    bank: MemoryBank,
    n_images: int,
) -> tuple[NDArray[np.int64], Dependence] | None:
    """Find which training images of one route depend on each other.

    `values` are patches of the images at the positions `images`, ascending, of `n_images`: all, or
    those that were kept of a stream. Returns the code of the group, or of the lot, of each image,
    and the `Dependence`, which says which of both it is; None if there are too few images or
    entries to tell.
    """
    few = len(np.unique(bank.image_index)) < MIN_FOR_SEQUENCE // 2
    if few or len(values) < MIN_FOR_SEQUENCE:
        return None
    explanations = who_explains_whom(values, images, bank, n_images)
    ratio, limit, p_value, baseline = explanations.lag_profile()
    candidates, reach, length, explained = {}, 0, 1, 0.0
    if p_value <= LEVEL and ratio[0] >= _MIN_RATIO:
        reach = dependence_reach(ratio, baseline)
        # Twice: the images at both ends of a block resemble those of the next.
        length = min(2 * reach, n_images // _MIN_BLOCKS)
        candidates["sequence"] = blocks(n_images, length)
    if len(values) == n_images <= _MAX_CLUSTERED:
        labels = explanations.clusters()
        explained = explanations.within(labels)
        if explained >= _MIN_EXPLAINED and labels.max() + 1 >= _MIN_CLUSTERS:
            candidates["clusters"] = labels
    excess = {name: explanations.excess(groups) for name, groups in candidates.items()}
    found = max(excess, key=excess.get, default="independent")
    groups = candidates.get(found, np.arange(n_images))
    return groups, Dependence(
        found=found,
        n_images=n_images,
        n_groups=len(np.unique(groups)),
        reach=reach,
        block_length=length if found == "sequence" else 1,
        ratio=ratio,
        limit=limit,
        p_value=p_value,
        explained=explained,
        # Shots of one part are near-duplicates, which a new part does not have: they are held out.
        # Images of a lot share some of their looks, and new images may well be of the same lot.
        are_lots=found == "sequence" and excess[found] < _NEAR_DUPLICATES,
    )
