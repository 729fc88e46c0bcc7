"""What the rows of `describe` mean, with the scorer that wrote them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .descriptors import BASE, descriptor_names

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from .structcore import StructCoreScorer

#: False-alarm rates that a person would ask for.
FALSE_ALARM_RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3)


def routes_of(described: pd.DataFrame) -> pd.Series:
    """The route that each image was compared with; "all" without routes."""
    return described.get("nearest_route", described["route"])


def base_thresholds(described: pd.DataFrame, scorer: StructCoreScorer) -> NDArray[np.float64]:
    """Threshold of the base score for each image, by its route, to divide by; 1 in place of 0."""
    limits = {name: c.base_decision.threshold for name, c in scorer.calibrations_.items()}
    limits = routes_of(described).map(limits).to_numpy(np.float64)
    return np.where(limits > 0, limits, 1)


def z_columns(scorer: StructCoreScorer) -> list[str]:
    """Columns that the score adds up: of the base score and each descriptor, each once."""
    names = descriptor_names([BASE]) + descriptor_names(scorer.descriptors_)
    return [f"z_{name}" for name in dict.fromkeys(names)]
