"""Training images that are not independent: lots, exposures of one part, near-duplicates.

Where images come in lots, the bank holds patches of an image's own lot, so that its held-out
score and every threshold are too low. Therefore this module counts how many patches of an image
each of the others explains, by having the entry that is nearest to them but for the image's own,
and compares that with what the shares of the entries let expect. Independent images explain each
other alike, whatever their distance in the sequence.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd

from .._utils.typing import NDArray
from ..containers import MemoryBank, TrainingImages
from ..neighbors.index import NeighborIndex
from .build import Selection

_logger = logging.getLogger(__name__)

#: Fewer images say nothing about a sequence.
MIN_FOR_SEQUENCE = 12
# Neighbours in the sequence have to explain each other this much more often than by chance: a
# tiny dependence that many images make significant does no harm to thresholds.
_MIN_RATIO = 1.5
_MIN_BLOCKS = 5  # however long the dependence
_MIN_CLUSTERS = 8  # a handful may be the variants of a product, each of independent images
# Clusters count if they explain at least this share of all patches; independent images that
# happen to look alike reach a few percent, tiles of one material up to 24 %.
_MIN_EXPLAINED = 0.3
# Blocks of a sequence that explain this share of their patches are near-duplicates, no lots.
_NEAR_DUPLICATES = 0.5
_MAX_CLUSTERED = 4000  # images: pairs take memory and time of their square and more
_PATCHES_PER_IMAGE, _PATCHES = 64, 8192  # that are looked up at least: of each, and of all
_LEVEL, _N_PERMUTATIONS = 0.01, 199  # random orders exceed the limit at each lag this often
_END = 0.15  # of the excess at lag 1: where it has fallen to that, the dependence is over
_JOIN = 3.0  # clusters are joined that explain each other so many times as often as expected
_PRIOR = 1 / 256  # is added to the expected share of each pair, so that chance joins nobody


@dataclass(frozen=True, eq=False)
class Dependence:
    """How the training images of a route depend on each other."""

    # What the groups follow: nothing, as each image is its own, blocks of the sequence, or clusters
    # of images that explain each other.
    found: Literal["independent", "sequence", "clusters"]
    n_images: int
    n_groups: int
    reach: int  # estimate of how many consecutive images depend on each other; 0 if none do
    block_length: int  # images of a block: twice the reach, or 1 if groups follow no sequence
    # (n_lags,), how many patches an image at this lag explains, divided by what the shares of the
    # bank entries let expect: 1 where images are independent.
    ratio: NDArray[np.float64] = field(repr=False)
    # (n_lags,), what 99 % of the random orders of the same images do not exceed.
    limit: NDArray[np.float64] = field(repr=False)
    p_value: float  # share of random orders in which neighbours explain each other as often
    explained: float  # share of the patches that are explained by images of the own cluster
    # Whether blocks are lots, held out on request (`lots` of `CoresetBank`), or near-duplicates,
    # which always are.
    are_lots: bool = False

    @property
    def lags(self) -> NDArray[np.int64]:
        """Distances in the sequence, 1, 2, …, of `ratio` and `limit`."""
        return np.arange(1, len(self.ratio) + 1)

    def __str__(self) -> str:
        if self.found == "independent":
            return f"{self.n_images} good images: none are alike more often than by chance"
        if self.are_lots:
            return (
                f"{self.n_images} good images come in lots: neighbours are alike "
                f"{self.ratio[0]:.1f} times as often as by chance. Images of another lot may be "
                "rejected more often than others"
            )
        pattern = "look alike in clusters"
        if self.found == "sequence":
            pattern = f"repeat each other in blocks of about {self.block_length}"
        return (
            f"{self.n_images} good images {pattern}: they count as {self.n_groups} independent ones"
        )


def find_groups_of_routes(
    selection: Selection, table: TrainingImages
) -> tuple[TrainingImages, dict[str, Dependence]]:
    """Find groups and lots of good images, each route by itself, and say so in the log.

    The table gets them, but keeps lots that it has; they are numbered as they first appear. The
    dependence is that of routes with enough images to tell.
    """
    (bank, _, values, images), routes = selection, table.routes
    groups, lots, dependence = np.arange(len(table)), np.arange(len(table)), {}
    for route, name in enumerate(bank.route_names):
        mine, part = np.flatnonzero(routes == route), bank.select(route)
        here = np.flatnonzero(routes[images] == route)
        part = replace(part, image_index=np.searchsorted(mine, part.image_index))
        of_route = values if len(here) == len(values) else values[here]
        places = np.searchsorted(mine, images[here])
        result = find_groups(of_route, places, part, len(mine))
        if result is None:
            continue
        codes, dependence[name] = result
        numbered = lots if dependence[name].are_lots else groups
        numbered[mine] = codes + numbered.max() + 1
        level = logging.INFO if dependence[name].found == "independent" else logging.WARNING
        _logger.log(level, "Route %r: %s", name, dependence[name])
    table = replace(table, groups=pd.factorize(groups)[0])
    if table.lots is None and any(of_route.are_lots for of_route in dependence.values()):
        table = replace(table, lots=pd.factorize(lots)[0])
    return table, dependence


def find_groups(
    values: NDArray[np.floating],
    images: NDArray[np.int64],
    bank: MemoryBank,
    n_images: int,
) -> tuple[NDArray[np.int64], Dependence] | None:
    """Find which training images of one route depend on each other.

    `values` are patches of the images at the positions `images`, ascending, of `n_images`. Returns
    the code of the group, or of the lot, of each image, and the `Dependence`; None if there are too
    few images or entries to tell.
    """
    few = len(np.unique(bank.image_index)) < MIN_FOR_SEQUENCE // 2
    if few or len(values) < MIN_FOR_SEQUENCE:
        return None
    explanations = who_explains_whom(values, images, bank, n_images)
    ratio, limit, p_value, baseline = explanations.lag_profile()
    candidates, reach, length, explained = {}, 0, 1, 0.0
    if p_value <= _LEVEL and ratio[0] >= _MIN_RATIO:
        reach = dependence_reach(ratio, baseline)
        # Twice: the images at both ends of a block resemble those of the next.
        length = min(2 * reach, n_images // _MIN_BLOCKS)
        n_blocks = max(1, round(n_images / length))
        groups = np.arange(n_images) * n_blocks // n_images
        excess = explanations.within(groups) - explanations.expected_within(groups)
        candidates["sequence"] = groups, excess
    if len(values) == n_images <= _MAX_CLUSTERED:
        groups = explanations.clusters()
        explained = explanations.within(groups)
        if explained >= _MIN_EXPLAINED and groups.max() + 1 >= _MIN_CLUSTERS:
            candidates["clusters"] = groups, explained - explanations.expected_within(groups)
    likeliest = max(candidates, key=lambda name: candidates[name][1], default="independent")
    groups, excess = candidates.get(likeliest, (np.arange(n_images), 0.0))
    return groups, Dependence(
        found=likeliest,
        n_images=n_images,
        n_groups=len(np.unique(groups)),
        reach=reach,
        block_length=length if likeliest == "sequence" else 1,
        ratio=ratio,
        limit=limit,
        p_value=p_value,
        explained=explained,
        # Near-duplicates are held out: a new part has none. New images may well be of a known lot.
        are_lots=likeliest == "sequence" and excess < _NEAR_DUPLICATES,
    )


@dataclass(frozen=True, eq=False)
class Explanations:
    """Whose bank entries explain whose patches, of the images of one route."""

    owner: NDArray[np.int64]  # (n_pairs,), an image
    source: NDArray[np.int64]  # and another that explains patches of it: each pair once
    weight: NDArray[np.floating]  # the share of its patches, which sums to one for each image
    shares: NDArray[np.floating]  # (n_images,), of the bank entries that come from each image

    def within(self, groups: NDArray[np.int64]) -> float:
        """Share of the patches that images of the own group explain."""
        same = groups[self.owner] == groups[self.source]
        return float(self.weight[same].sum() / self.weight.sum())

    def expected_within(self, groups: NDArray[np.int64]) -> float:
        """The share that the shares of the entries let expect."""
        of_own_group = np.bincount(groups, self.shares)[groups] - self.shares
        return np.mean(of_own_group / np.maximum(1 - self.shares, 1e-12))

    def lag_profile(self) -> tuple[NDArray[np.float64], NDArray[np.float64], float, float]:
        """Compare what images at each lag explain with what the shares let expect.

        Returns `ratio`, `limit` and `p_value`, see `Dependence`, and the ratio at long lags.
        """
        from scipy.signal import correlate

        n_images = len(self.shares)
        n_lags = min(n_images // 2, 256)
        looked_up = np.unique(self.owner)
        others = np.zeros(n_images)
        others[looked_up] = 1 / np.maximum(1 - self.shares[looked_up], 1e-12)

        def ratios(place):
            """Ratios if image `i` stood at `place[i]`."""
            lag = np.abs(place[self.owner] - place[self.source])
            observed = np.bincount(lag, self.weight, minlength=n_images)
            at, of = np.empty(n_images), np.empty(n_images)
            at[place], of[place] = others, self.shares
            expected = correlate(at, of)
            expected = expected[n_images - 1 :] + expected[n_images - 1 :: -1]
            ratio = observed[1:] / np.maximum(expected[1:], 1e-12)
            far = slice(max(n_lags // 2, 1), n_lags + 1)
            return ratio[:n_lags], observed[far].sum() / max(expected[far].sum(), 1e-12)

        ratio, baseline = ratios(np.arange(n_images))
        rng = np.random.default_rng(0)
        by_chance = np.array([ratios(rng.permutation(n_images))[0] for _ in range(_N_PERMUTATIONS)])
        limit = np.quantile(by_chance, 1 - _LEVEL, axis=0)
        p_value = (1 + np.sum(by_chance[:, 0] >= ratio[0])) / (1 + _N_PERMUTATIONS)
        return ratio, limit, float(p_value), float(baseline)

    def clusters(self) -> NDArray[np.int64]:
        """Join images that explain each other much more than expected, see `cluster`."""
        n_images = len(self.shares)
        observed = np.zeros((n_images, n_images))
        observed[self.owner, self.source] = self.weight
        expected = self.shares / np.maximum(1 - self.shares, 1e-12)[:, np.newaxis]
        np.fill_diagonal(expected, 0.0)
        return cluster((observed + observed.T) / 2, (expected + expected.T) / 2)


def who_explains_whom(
    values: NDArray[np.floating], images: NDArray[np.int64], bank: MemoryBank, n_images: int
) -> Explanations:
    """For some patches of each image, the image of the nearest entry of another image."""
    n, height, width, n_features = values.shape
    n_looked_up = max(_PATCHES_PER_IMAGE, -(-_PATCHES // n))
    # Of each image the first that count of a fixed random order, whatever the random state.
    places = np.random.default_rng(0).permutation(height * width)
    counted = ~np.isnan(values[..., 0]).reshape(n, -1)[:, places]
    chosen = np.zeros_like(counted)
    chosen[:, places] = counted & (counted.cumsum(axis=1) <= n_looked_up)
    rows, owner = values.reshape(n, -1, n_features)[chosen], images[np.nonzero(chosen)[0]]
    _, nearest = NeighborIndex(bank.values, groups=bank.image_index).query(rows, 1, exclude=owner)
    source = bank.image_index[nearest[:, 0]]
    pairs, n_patches = np.unique(np.stack([owner, source]), axis=1, return_counts=True)
    shares = np.bincount(bank.image_index, minlength=n_images) / len(bank)
    return Explanations(*pairs, n_patches / np.bincount(owner)[pairs[0]], shares)


def dependence_reach(ratio: NDArray[np.floating], baseline: float) -> int:
    """Estimate how many consecutive images depend on each other, see `Explanations.lag_profile`.

    In lots of ``m`` images the excess over the baseline falls from lag to lag, linearly, to zero at
    lag ``m``. The lag at which it has fallen to 15 % of that at lag 1 gives ``m``.
    """
    excess = ratio - min(baseline, 1.0)
    sums = np.cumsum(np.r_[0.0, excess])
    starts = np.arange(len(excess))
    # Single lags are noisy: a window that widens with the lag.
    stops = np.minimum(starts + 1 + starts // 8, len(excess))
    smooth = (sums[stops] - sums[starts]) / (stops - starts)
    over = smooth > _END * excess[0]
    reach = len(over) if over.all() else int(np.argmin(over))
    return round((reach + 0.5 - _END) / (1 - _END))


def cluster(observed: NDArray[np.floating], expected: NDArray[np.floating]) -> NDArray[np.int64]:
    """Join images that explain each other much more than expected.

    Symmetric arrays ``(n, n)`` hold how much the images of each pair explain of each other, and
    what is expected. Greedy, the strongest first; clusters are compared by the averages over all
    their pairs, so that a chain of images, each like the next, is not one cluster.
    """
    observed, expected = observed.copy(), expected + _PRIOR
    labels, alive = np.arange(len(observed)), np.ones(len(observed), dtype=bool)
    ratio = observed / expected
    np.fill_diagonal(ratio, -np.inf)
    best, strength = ratio.argmax(axis=1), ratio.max(axis=1)
    while strength.max() >= _JOIN:
        kept = int(strength.argmax())
        gone = best[kept]
        for sums in (observed, expected):
            sums[kept] += sums[gone]
            sums[:, kept] += sums[:, gone]
        labels[labels == gone] = kept
        alive[gone], strength[gone] = False, -np.inf
        row = np.where(alive, observed[kept] / expected[kept], -np.inf)
        row[kept] = -np.inf
        ratio[kept] = ratio[:, kept] = row
        ratio[gone] = ratio[:, gone] = -np.inf
        # Only rows whose best was one of the two have to look again.
        changed = alive & ((best == kept) | (best == gone) | (row > strength))
        changed[kept] = True
        best[changed] = ratio[changed].argmax(axis=1)
        strength[changed] = ratio[changed].max(axis=1)
    return pd.factorize(labels)[0]
