"""How much memory a fit takes, worked out from shapes before it begins."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np

from .._utils.computing import available_memory
from .._utils.rows import LazyRows
from ..neighbors.streaming import least_memory
from .build import entries_of
from .training import GoodImages

if TYPE_CHECKING:
    from .coreset_bank import CoresetBank

_SELECTION = 30e6  # blocks that a selection works on
_STREAM = 40e6
# What the allocator does not give back of the work of the backbone: this share, at most so much.
_KEPT_SHARE, _KEPT = 0.7, 60e6
_PREPARED = 1.25  # of the bytes of the entries: a bank made ready to be searched
# Bytes of a patch that is scored held out, and of each of its neighbours.
_HELD_OUT, _NEIGHBOR = 110, 16
_PER_PATCH = 20  # bytes that a selection keeps for each patch


@dataclass(frozen=True)
class FitShape:
    """What the memory of a fit depends on."""

    n_images: int  # good ones
    n_patches: int  # of each image
    n_features: int  # of a patch, projected
    n_entries: int  # of the memory bank, in all routes
    n_pairs: int  # of patches and entries of the same route
    max_memory: int  # of `CoresetBank`
    sharded: bool = False  # whether shards of images are worked on apart
    largest_route: float = 0.0  # share of the images that are in the largest of several routes
    ignored: float = 0.0  # share of the patches
    n_context: int = 0  # neighbours kept for each patch of held-out images; 0: none is held out
    n_folds: int = 0  # of the calibration "k-fold"; 0: another one
    network: int = 0  # bytes of the weights of the backbone, and what stays with them
    n_in_work: int = 0  # images whose features are computed at a time
    work: int = 0  # bytes of this work

    @property
    def all_patches(self) -> int:
        return 4 * self.n_images * self.n_patches * self.n_features

    @property
    def streamed(self) -> bool:
        return self.sharded or self.all_patches > self.max_memory

    @property
    def n_held(self) -> float:
        """Patches that are kept to score training images held out."""
        most = self.max_memory / 2 if self.streamed else math.inf
        return min(most, self.all_patches) / (4 * self.n_features)

    def estimate(self, available: int | None = None) -> MemoryEstimate:
        """Work out the memory of the fit; `available` is asked for if it is not given."""
        entries = 4 * self.n_entries * self.n_features
        copied = 1 - self.ignored if self.ignored else self.largest_route
        kept, n_held = min(_KEPT_SHARE * self.work, _KEPT), self.n_held
        if self.streamed:
            # At most half of it each: what is selected from, and what is kept.
            patches = 2 * min(self.max_memory / 2, self.all_patches)
            # Patches are selected while images still come in.
            extraction, selection = self.work, self.work + _STREAM + 3 * entries
        else:
            patches = self.all_patches
            extraction = max(self.work - patches * self.n_in_work / self.n_images, 0)
            selection = self._selection(n_held, copied) + kept
        held_out = 0.0
        if self.n_context:
            held_out = _PREPARED * entries + (_HELD_OUT + _NEIGHBOR * self.n_context) * n_held
        if self.n_folds:
            others = 1 - 1 / self.n_folds
            in_fold = (4 + 4 * self.n_context) * n_held + entries
            held_out = max(held_out, in_fold + self._selection(n_held, others * (1 + copied)))
        if held_out:
            held_out += kept
        parts = map(int, (self.network, extraction, patches, selection, held_out))
        return MemoryEstimate(*parts, available_memory() if available is None else available)

    def advised(self, name: str, *others: tuple[str, FitShape]) -> MemoryEstimate:
        """The estimate, with advice where there is not enough memory.

        `name` is that of `max_memory`; `others` are other changes, and the shapes that follow.
        """
        estimate = self.estimate()
        if estimate.fits:
            return estimate
        available, n_bytes = estimate.available, 4 * self.n_patches * self.n_features
        least = 2 * least_memory(self.n_entries, self.n_features) + 2 * n_bytes
        most = min(available, self.all_patches - 1) // 10**7 * 10**7  # in whole 10 MB
        while most >= least and not replace(self, max_memory=most).estimate(available).fits:
            most = 9 * most // 10**8 * 10**7  # a tenth less, with less that is held out
        if most >= least:
            advice = f"Set {name}={most}: the bank is then selected from a stream of patches."
        else:
            fitting = (text for text, shape in others if shape.estimate(available).fits)
            advice = f"Set {next(fitting, 'a smaller image_size, or a tile_size')}, or use a "
            advice += "machine with more memory."
        return replace(estimate, advice=advice)

    def _selection(self, n_rows, copied):
        """Of `n_rows` patches, of which a share is copied first."""
        entries = 12 * self.n_entries * self.n_features
        return (_PER_PATCH + 4 * copied * self.n_features) * n_rows + entries + _SELECTION


def shape_of_fit(bank: CoresetBank, training: GoodImages) -> FitShape:
    """What the memory of ``bank.fit`` depends on, without the backbone."""
    shape = training.X.shape
    n_images, n_patches = shape[0], math.prod(shape[1:-1])
    names, sizes, largest = ["all"], np.array([n_images]), 0.0
    if training.categories is not None:
        names, sizes = np.unique(training.categories, return_counts=True)
        largest = sizes.max() / n_images if len(sizes) > 1 else 0.0
    elif bank.n_routes not in (None, 1):
        largest = 1.0  # at most
    of_routes = zip(map(str, names), (sizes * n_patches).tolist(), strict=True)
    n_entries = np.array([entries_of(bank.ratio, n_rows, name) for name, n_rows in of_routes])
    pairs = int((sizes * n_patches * n_entries).sum())
    if isinstance(bank.ratio, Integral) and largest == 1:
        n_entries *= 1 if bank.n_routes == "auto" else bank.n_routes
    return FitShape(
        n_images=n_images,
        n_patches=n_patches,
        n_features=shape[-1],
        n_entries=int(n_entries.sum()),
        n_pairs=pairs,
        max_memory=bank.max_memory,
        sharded=bank.shard_size is not None,
        largest_route=float(largest),
        ignored=training.X.ignored_share() if isinstance(training.X, LazyRows) else 0.0,
    )


@dataclass(frozen=True)
class MemoryEstimate:
    """What a fit takes, in bytes above what the process holds before."""

    network: int  # the weights of the backbone, and what stays with them
    extraction: int  # work of the backbone: pixels, activations, batches of features
    patches: int  # of the training images, projected; at most ``bank__max_memory``
    selection: int  # work of selecting the memory bank
    held_out: int  # work of scoring the training images held out
    available: int  # what the machine, or the container, has left now
    advice: str = ""  # what to change where that is not enough

    @property
    def peak(self) -> int:
        """What is there at once at most: three kinds of work follow one another."""
        return self.network + self.patches + max(self.extraction, self.selection, self.held_out)

    @property
    def fits(self) -> bool:
        """Whether that much is available."""
        return self.peak <= self.available

    def check(self) -> None:
        """Raise ValueError, with what to change, if the fit has not enough memory."""
        if not self.fits:
            raise ValueError(f"The fit takes about {self}. {self.advice}")

    def __str__(self) -> str:
        names = "network", "patches", "extraction", "selection", "held_out"
        parts = ", ".join(f"{n.replace('_', ' ')} {megabytes(getattr(self, n))}" for n in names)
        return f"{megabytes(self.peak)} of {megabytes(self.available)} available ({parts})"


def megabytes(n_bytes: float) -> str:
    """Bytes as people read them."""
    n = n_bytes / 1e6
    return f"{n:,.0f} MB" if n >= 10 else f"{n:.1f} MB"
