"""Training images that are unlike the others, by their held-out scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .predictive import fit_predictive_tail

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .decision import Decision

#: Expected share of ordinary images among those that are called unlike the others.
FALSE_DISCOVERIES = 0.15


def tail_p_values(scores: ArrayLike, weights: ArrayLike | None = None) -> NDArray[np.float64]:
    """Share of good images that score as high, by the tail that these scores have.

    Ranks among the images themselves could not tell: one of n is always highest.

    Examples
    --------
    >>> tail_p_values([1.0, 2.0, 3.0, 4.0, 5.0, 40.0]).round(1)
    array([0.8, 0.7, 0.5, 0.3, 0.2, 0. ])
    """
    if np.ptp(scores) == 0:  # copies of one image: none is unlike the others
        return np.ones(len(scores))
    return fit_predictive_tail(scores, weights).sf(scores)


def suspects_of(decision: Decision) -> NDArray[np.int64]:
    """Positions of the calibration images that are unlike the others, the strangest first."""
    from scipy.stats import false_discovery_control  # slow to import, and needed in a fit only

    p_values = tail_p_values(decision.scores, decision.counts)
    unlike = np.flatnonzero(false_discovery_control(p_values) <= FALSE_DISCOVERIES)
    return unlike[np.argsort(p_values[unlike], kind="stable")]
