"""From pipelines and images to the numbers that displays hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..images.labels import ANOMALOUS, GOOD, defect_types
from ..scoring import decision

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from sklearn.pipeline import Pipeline

    from ..images.image_list import ImagesLike
    from ..scoring.structcore import StructCoreScorer

DEFECT = "defect"

#: False-alarm rates that a person would ask for.
FALSE_ALARM_RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3)


def describe_images(pipe: Pipeline, images: ImagesLike) -> pd.DataFrame:
    """Return a row an image, from `StructCoreScorer.describe`; the backbone runs."""
    return pipe[-1].describe(pipe[:-1].transform(images))


def labels_of(images: ImagesLike | None, y: ArrayLike | None) -> NDArray[np.object_] | None:
    """What each image is, as strings: "good", or the type of the defect.

    Parameters
    ----------
    images : ImageSet, or anything else
        An `ImageSet` knows its labels.
    y : array-like of shape (n_images,), or None
        Labels in any coding of `skstructcore.images.labels`; they win over those of `images`.

    Returns
    -------
    labels : ndarray of shape (n_images,) of str, or None where nothing is known

    Examples
    --------
    >>> labels_of(None, [0, 1]).tolist(), labels_of(None, ["good", "dent"]).tolist()
    (['good', 'defect'], ['good', 'dent'])
    """
    if y is None:
        return getattr(images, "y", None)  # spelled already
    types = defect_types(y)
    return np.where(types == ANOMALOUS, DEFECT, types).astype(object)


def members_of(labels: NDArray | None, n_images: int) -> dict[str, NDArray[np.bool_]]:
    """Which images are good and which are defects; "images" are all, if nothing is known.

    Examples
    --------
    >>> members_of(np.array(["good", "dent"]), 2)
    {'good': array([ True, False]), 'defects': array([False,  True])}
    """
    if labels is None:
        return {"images": np.ones(n_images, dtype=bool)}
    return {GOOD: labels == GOOD, f"{DEFECT}s": labels != GOOD}


def check_described(described: pd.DataFrame, *columns: str) -> None:
    """Raise ValueError unless a table comes from `describe` and has a score for every image."""
    missing = [name for name in columns if name not in getattr(described, "columns", ())]
    if missing:
        raise ValueError(f"described must be what describe returns: there is no {missing[0]!r}.")
    without = np.flatnonzero(described[list(columns)].isna().any(axis=1))
    if len(without):
        raise ValueError(
            f"Image {without[0]} of the table has no score: leave out what could not be judged."
        )


def check_same_length(**columns: ArrayLike | None) -> None:
    """Raise ValueError unless all that are given have one entry an image."""
    lengths = {name: len(values) for name, values in columns.items() if values is not None}
    if len(set(lengths.values())) > 1:
        lengths_found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"One entry an image is needed: {lengths_found}.")


def smallest_rates(scorer: StructCoreScorer, described: pd.DataFrame) -> NDArray[np.float64]:
    """Smallest false-alarm rate that can be asked for, for each image, by its route."""
    smallest = {name: d.smallest_rate for name, d in scorer.decisions_.items()}
    return routes_of(described).map(smallest).to_numpy(np.float64)


def routes_of(described: pd.DataFrame) -> pd.Series:
    """The route that each image was compared with; "all" without routes."""
    return described.get("nearest_route", described["route"])


def rejected_at(
    described: pd.DataFrame, scorer: StructCoreScorer, false_alarm_rates: ArrayLike
) -> NDArray[np.bool_]:
    """Which images would be rejected at other false-alarm rates, ``(n_rates, n_images)``."""
    check_described(described, "p_value", "route", "is_anomalous")
    false_alarm_rates = np.asarray(false_alarm_rates, dtype=np.float64)
    if (
        false_alarm_rates.ndim != 1
        or not false_alarm_rates.size
        or not ((false_alarm_rates > 0) & (false_alarm_rates < 1)).all()
    ):
        raise ValueError(
            f"false_alarm_rates must be shares between 0 and 1, got {false_alarm_rates.tolist()}."
        )
    return np.array(
        [decision.rejected_at(described, scorer.decisions_, level) for level in false_alarm_rates]
    )
