"""From pipelines and images to the numbers that displays hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..images.labels import GOOD, is_anomalous

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray
    from sklearn.pipeline import Pipeline

    from ..images.image_list import ImagesLike
    from ..scoring.structcore import StructCoreScorer

DEFECT = "defect"

#: False-alarm rates that a person would ask for.
LEVELS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3)


def describe_images(pipe: Pipeline, images: ImagesLike) -> pd.DataFrame:
    """Return a row an image, from `StructCoreScorer.describe`; the backbone runs."""
    return pipe[-1].describe(pipe[:-1].transform(images))


def kinds_of(images: ImagesLike | None, y: ArrayLike | None) -> NDArray[np.object_] | None:
    """What each image is, as strings: "good", or the type of the defect.

    Parameters
    ----------
    images : ImageSet, or anything else
        An `ImageSet` knows its labels.
    y : array-like of shape (n_images,), or None
        Labels in any coding of `skstructcore.images.labels`; they win over those of `images`.

    Returns
    -------
    kinds : ndarray of shape (n_images,) of str, or None where nothing is known

    Examples
    --------
    >>> kinds_of(None, [0, 1]).tolist(), kinds_of(None, ["good", "dent"]).tolist()
    (['good', 'defect'], ['good', 'dent'])
    """
    y = getattr(images, "y", None) if y is None else y
    if y is None:
        return None
    y = np.asarray(y, dtype=object)
    if all(isinstance(label, str) for label in y.tolist()):
        is_anomalous(y)  # complains of "Good" and the like
        return y
    return np.where(is_anomalous(y), DEFECT, GOOD).astype(object)


def check_parts(parts: pd.DataFrame, *columns: str) -> None:
    """Raise ValueError unless a table comes from `describe` and has a score for every image."""
    missing = [name for name in columns if name not in getattr(parts, "columns", ())]
    if missing:
        raise ValueError(f"parts must be what describe returns: there is no {missing[0]!r}.")
    without = np.flatnonzero(parts[list(columns)].isna().any(axis=1))
    if len(without):
        raise ValueError(
            f"Image {without[0]} of the table has no score: leave out what could not be judged."
        )


def check_same_length(**columns: ArrayLike | None) -> None:
    """Raise ValueError unless all that are given have one entry an image."""
    lengths = {name: len(values) for name, values in columns.items() if values is not None}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"One entry an image is needed: {found}.")


def smallest_levels(scorer: StructCoreScorer, parts: pd.DataFrame) -> NDArray[np.float64]:
    """Smallest false-alarm rate that can be promised for each image, by its route."""
    if scorer.routes_ is None:
        return np.full(len(parts), float(scorer.calibration_.p_values([np.inf])[0]))
    smallest = {
        name: float(route.calibration.p_values([np.inf])[0])
        for name, route in scorer.routes_.items()
    }
    return np.array([smallest[name] for name in parts["nearest_route"]])


def rejected_at(
    parts: pd.DataFrame, scorer: StructCoreScorer, levels: ArrayLike
) -> NDArray[np.bool_]:
    """Which images would be rejected at other false-alarm rates than the fitted one.

    An image is rejected if its p-value is at most the rate, or the smallest rate that can be
    promised for its route, as `StructCoreScorer.fit` chooses the threshold; one of no known
    product is in any case.

    Parameters
    ----------
    parts : DataFrame
        From `StructCoreScorer.describe`.
    scorer : StructCoreScorer
    levels : array-like of shape (n_levels,)

    Returns
    -------
    rejected : ndarray of shape (n_levels, n_images), bool
    """
    check_parts(parts, "p_value", "route", "is_anomalous")
    levels = np.asarray(levels, dtype=np.float64)
    if levels.ndim != 1 or not levels.size or not ((levels > 0) & (levels < 1)).all():
        raise ValueError(f"levels must be shares between 0 and 1, got {levels.tolist()}.")
    # A p-value that equals the rate differs from it by rounding.
    limits = np.maximum(levels[:, np.newaxis], smallest_levels(scorer, parts)) + 1e-9
    unknown = parts["is_anomalous"] & (parts["route"] == "unknown")
    return (parts["p_value"].to_numpy() <= limits) | unknown.to_numpy(bool)
