"""Which training images explain which: counts, their profile along the sequence, and clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from .._utils.typing import NDArray
    from ..containers import MemoryBank

# Patches that are looked up: of an image, at least, and of all together.
_PATCHES_PER_IMAGE = 64
_PATCHES = 8192

#: Random orders exceed the limits of a profile at each lag this often.
LEVEL = 0.01
_N_PERMUTATIONS = 199
# Where the excess has fallen to this share of that at lag 1, the dependence is over.
_END = 0.15
# Two images (clusters) are joined if they explain each other three times as often as expected.
_JOIN = 3.0
# What is added to the expected share of each pair, so that chance in few patches joins nobody.
_PRIOR = 1 / 256


class LagProfile(NamedTuple):
    """How much more often than by chance images explain each other, by their lag in the sequence.

    For `ratio` and `limit` see `skstructcore.bank.dependence.Dependence`.
    """

    ratio: NDArray[np.float64]
    limit: NDArray[np.float64]
    p_value: float  # share of random orders whose ratio at lag 1 is no smaller
    baseline: float  # ratio at long lags: below 1 where near images explain most


@dataclass(frozen=True, eq=False)
class Explanations:
    """Whose bank entries explain whose patches, of the images of one route.

    Attributes
    ----------
    owner, source : ndarray of shape (n_pairs,), int64
        An image, and another that explains patches of it: each pair once.
    weight : ndarray of shape (n_pairs,), float64
        The share of its patches, which sums to one for each image.
    shares : ndarray of shape (n_images,), float64
        The share of the bank entries that come from each image.
    """

    owner: NDArray[np.int64]
    source: NDArray[np.int64]
    weight: NDArray[np.floating]
    shares: NDArray[np.floating]

    def within(self, groups: NDArray[np.int64]) -> float:
        """Share of the patches that images of the own group explain."""
        same = groups[self.owner] == groups[self.source]
        return float(self.weight[same].sum() / self.weight.sum())

    def excess(self, groups: NDArray[np.int64]) -> float:
        """The same, above what is expected."""
        own = np.bincount(groups, self.shares)[groups] - self.shares
        return self.within(groups) - np.mean(own / np.maximum(1 - self.shares, 1e-12))

    def lag_profile(self) -> LagProfile:
        """Compare what images at each lag explain with what the shares let expect."""
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
        limit = np.quantile(by_chance, 1 - LEVEL, axis=0)
        p_value = (1 + np.sum(by_chance[:, 0] >= ratio[0])) / (1 + _N_PERMUTATIONS)
        return LagProfile(ratio, limit, float(p_value), float(baseline))

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
    """For some patches of each image, the image of the nearest entry of another image.

    Takes what `skstructcore.bank.dependence.find_groups` takes.
    """
    from ..neighbors.index import NeighborIndex

    n, height, width, n_features = values.shape
    n_looked_up = max(_PATCHES_PER_IMAGE, -(-_PATCHES // n))
    # Fixed places, so that nothing here depends on, or changes, the estimator's random state. Of an
    # image in which some patches are ignored, the first places that count are taken.
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
    """Estimate how many consecutive images depend on each other, see `LagProfile`.

    In lots of ``m`` images the excess over the baseline falls from lag to lag, linearly, to zero at
    lag ``m``. The lag at which it has fallen to 15 % of that at lag 1 gives ``m``.

    Examples
    --------
    >>> import numpy as np
    >>> lots_of_six = np.r_[5, 4, 3, 2, 1, 0, 0, 0, 0, 0] + 1.0
    >>> dependence_reach(lots_of_six, 1.0)
    6
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


def blocks(n_images: int, length: int) -> NDArray[np.int64]:
    """Number consecutive images in blocks of nearly equal size, about `length`.

    Examples
    --------
    >>> blocks(7, 3)
    array([0, 0, 0, 0, 1, 1, 1])
    """
    n_blocks = max(1, round(n_images / length))
    return np.arange(n_images) * n_blocks // n_images


def cluster(observed: NDArray[np.floating], expected: NDArray[np.floating]) -> NDArray[np.int64]:
    """Join images that explain each other much more than expected.

    Arrays ``(n, n)`` hold how much the images of each pair explain of each other, and what is
    expected; the two directions are averaged. Greedy, the strongest first; clusters are compared by
    the averages over all their pairs, so that a chain of images, each like the next, is not one
    cluster. Clusters are numbered in the order in which they first appear.

    Examples
    --------
    >>> import numpy as np
    >>> observed = np.kron(np.eye(4), np.ones((2, 2))) - np.eye(8)
    >>> cluster(observed, np.full((8, 8), 1 / 7))
    array([0, 0, 1, 1, 2, 2, 3, 3])
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
