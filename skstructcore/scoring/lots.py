"""What becomes of good images of a lot that training never saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .decision import MIN_IMAGES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .calibration import RouteCalibration
    from .evidence import Evidence


@dataclass(frozen=True, eq=False)
class LotRates:
    """Each lot left out in turn: how many of its good images the others would have rejected.

    Attributes
    ----------
    lots : ndarray of shape (n_lots,), int64
        Their numbers, or the codes of the groups that were given.
    n_images : ndarray of shape (n_lots,), int64
    rates : ndarray of shape (n_lots,), float64
        Share of the images of the lot that is above the threshold of the other images, while the
        bank has no patches of the lot.
    """

    lots: NDArray[np.int64]
    n_images: NDArray[np.int64]
    rates: NDArray[np.float64]

    @property
    def mean(self) -> float:
        return float(self.rates.mean())

    @property
    def worst(self) -> float:
        return float(self.rates.max())

    def __str__(self) -> str:
        of_worst = self.n_images[self.rates == self.worst].max()  # of few images it says little
        return (
            f"of {len(self.lots)} lots, each left out in turn, {self.mean:.0%} of the good images "
            f"would be rejected, {self.worst:.0%} of the worst ({of_worst} images)"
        )


def rates_by_lot(
    training: Evidence,
    apart: Evidence,
    routes: dict[str, RouteCalibration],
    lots: NDArray[np.int64],
) -> LotRates | None:
    """Count, for each lot, what the threshold of the others rejects.

    `apart` is the evidence of the `training` images, from which `routes` were learned, scored
    without the entries of their lot. Lots count that have at least 5 images which could be judged,
    and 5 images beside them that a threshold is learned from; None where fewer than two have.
    """
    names, counts = np.unique(lots, return_counts=True)
    large = names[counts >= MIN_IMAGES]
    if len(large) < 2:
        return None
    judged, rejected = np.zeros((2, len(lots)), dtype=bool)
    for name, route in routes.items():
        if route.is_pooled:
            continue
        mine = training.rows_of(name)
        scores = route.calibration.score(apart.take(mine))
        for lot in large:
            of_lot = np.flatnonzero(lots[mine] == lot)
            if 0 < len(of_lot) <= len(mine) - MIN_IMAGES:
                others = route.calibration.decision.without(of_lot)
                judged[mine[of_lot]] = True
                rejected[mine[of_lot]] = others.rejects(scores[of_lot])
    counts = np.array([(judged & (lots == lot)).sum() for lot in large])
    large, counts = large[counts >= MIN_IMAGES], counts[counts >= MIN_IMAGES]
    if len(large) < 2:
        return None
    rates = np.array([rejected[lots == lot].sum() for lot in large]) / counts
    return LotRates(large, counts, rates)
