"""What was fitted on what, and what each false-alarm rate would do to these images."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import TYPE_CHECKING

import numpy as np

from ... import __version__
from ...images.labels import GOOD
from .._inputs import LEVELS, rejected_at
from .words import percent

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from sklearn.pipeline import Pipeline

    from ...scoring.structcore import StructCoreScorer

_LIBRARIES = ("scikit-learn", "numpy", "torch")


def facts(pipe: Pipeline) -> list[tuple[str, str]]:
    """Say what a fitted pipeline is and what it was fitted on.

    Parameters
    ----------
    pipe : Pipeline
        As `make_structcore` builds it.

    Returns
    -------
    rows : list of (str, str)
        For a table of two columns.
    """
    bank, scorer = pipe["bank"], pipe[-1]
    features = pipe[0]
    backbone = type(features).__name__
    for name in ("model", "image_size"):
        if hasattr(features, name):
            backbone += f", {name} {_short(getattr(features, name))}"
    rows = [("Fitted on", f"{bank.n_images_} good images{_groups(scorer)}")]
    for name, dependence in (getattr(bank, "dependence_", None) or {}).items():
        rows.append(("Training images" if name == "all" else f"Images of {name}", str(dependence)))
    if scorer.routes_ is not None:
        rows.append(("Products", f"{len(scorer.routes_)}: {', '.join(scorer.routes_)}"))
    entries, n_features = bank.bank_.values.shape
    rows += [
        ("Backbone", backbone),
        ("Memory bank", f"{entries} patches of {n_features} features"),
        ("False alarms asked for", percent(1 - scorer.quantile)),
        ("False alarms promised", _promise(scorer)),
    ]
    versions = [f"skstructcore {__version__}", f"Python {platform.python_version()}"]
    versions += [f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES]
    return [*rows, ("Report written by", ", ".join(versions))]


def _short(value):
    text = str(value) if isinstance(value, (str, int, tuple)) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}…"


def _groups(scorer):
    calibrations = [scorer.calibration_]
    if scorer.routes_ is not None:
        calibrations = [r.calibration for r in scorer.routes_.values() if not r.is_pooled]
    n_groups = sum(_n_independent(calibration) for calibration in calibrations)
    n_images = sum(len(calibration.scores) for calibration in calibrations)
    return f" in {n_groups} groups" if n_groups < n_images else ""


def _n_independent(calibration):
    groups = calibration.groups
    return len(calibration.scores) if groups is None else len(np.unique(groups))


def _promise(scorer):
    calibrations = {"": scorer.calibration_}
    if scorer.routes_ is not None:
        calibrations = {name: route.calibration for name, route in scorer.routes_.items()}
    levels = {name: calibration.level for name, calibration in calibrations.items()}
    if any(level is None for level in levels.values()):
        return "none: the threshold is a plain quantile of the training scores"
    worst = max(levels, key=levels.get)
    text = percent(levels[worst])
    if levels[worst] > 1 - scorer.quantile + 1e-9:
        text += f"{f' ({worst})' if worst else ''}: so few images can promise no less"
    elif len(levels) > 1:
        text += " at most"
    return text


def operating_points(
    parts: pd.DataFrame, scorer: StructCoreScorer, kinds: NDArray[np.object_] | None
) -> list[dict[str, float | int | str]]:
    """Count what would be rejected at several false-alarm rates.

    Parameters
    ----------
    parts : DataFrame
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
    for level, rejected in zip(LEVELS, rejected_at(parts, scorer, LEVELS), strict=True):
        row = {"level": level, "asked": percent(level), "rejected": int(rejected.sum())}
        if kinds is not None:
            good = kinds == GOOD
            row |= {
                "false_alarms": int(rejected[good].sum()),
                "found": int(rejected[~good].sum()),
            }
        rows.append(row)
    return rows
