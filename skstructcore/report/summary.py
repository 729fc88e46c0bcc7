"""What was fitted on what, and what each false-alarm rate would do to these images."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import TYPE_CHECKING

import numpy as np

from .._version import __version__
from ..display._inputs import FALSE_ALARM_RATES, rejected_at
from ..images.labels import GOOD
from ..scoring.summary import expectations, percent, unlike_the_others

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from sklearn.pipeline import Pipeline

    from ..scoring.structcore import StructCoreScorer

_LIBRARIES = ("scikit-learn", "numpy", "torch")


def facts(pipe: Pipeline) -> list[tuple[str, str]]:
    """Say what a fitted pipeline is and what it was fitted on: rows of a table of two columns."""
    bank, scorer = pipe["bank"], pipe[-1]
    features = pipe[0]
    backbone = type(features).__name__
    for name in ("model", "image_size"):
        if hasattr(features, name):
            backbone += f", {name} {_short(getattr(features, name))}"
    rows = [("Fitted on", f"{bank.n_images_} good images{_groups(scorer)}")]
    for name, dependence in (getattr(bank, "dependence_", None) or {}).items():
        rows.append(("Training images" if name == "all" else f"Images of {name}", str(dependence)))
    if scorer.is_routed_:
        rows.append(("Products", f"{len(scorer.routes_)}: {', '.join(scorer.routes_)}"))
    entries, n_features = bank.bank_.values.shape
    rows += [
        ("Backbone", backbone),
        ("Memory bank", f"{entries} patches of {n_features} features"),
        ("False alarms asked for", percent(scorer.calibration_.decision.asked_rate)),
        *(("To expect", sentence) for sentence in expectations(scorer)),
        *(("Suspects", sentence) for sentence in unlike_the_others(scorer)),
    ]
    versions = [f"skstructcore {__version__}", f"Python {platform.python_version()}"]
    versions += [f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES]
    return [*rows, ("Report written by", ", ".join(versions))]


def _short(value):
    text = str(value) if isinstance(value, (str, int, tuple)) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}…"


def _groups(scorer):
    decisions = [r.calibration.decision for r in scorer.routes_.values() if not r.is_pooled]
    n_groups = sum(decision.n_independent for decision in decisions)
    n_images = sum(len(decision.scores) for decision in decisions)
    return f" in {n_groups} groups" if n_groups < n_images else ""


def operating_points(
    described: pd.DataFrame, scorer: StructCoreScorer, kinds: NDArray[np.object_] | None
) -> list[dict[str, float | int | str]]:
    """Count what would be rejected at several false-alarm rates.

    Parameters
    ----------
    described : DataFrame
        From `describe`.
    scorer : StructCoreScorer
    kinds : ndarray of shape (n_images,) of str, or None
        What each image shows.

    Returns
    -------
    rows : list of dict
        ``level``, ``asked``, ``rejected`` and, where `kinds` are known, ``false_alarms`` and
        ``found``.
    """
    rows = []
    for level, rejected in zip(
        FALSE_ALARM_RATES, rejected_at(described, scorer, FALSE_ALARM_RATES), strict=True
    ):
        row = {"level": level, "asked": percent(level), "rejected": int(rejected.sum())}
        if kinds is not None:
            good = kinds == GOOD
            row |= {
                "false_alarms": int(rejected[good].sum()),
                "found": int(rejected[~good].sum()),
            }
        rows.append(row)
    return rows
