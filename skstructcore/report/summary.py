"""What was fitted on what, and what each false-alarm rate would do to images."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import numpy as np

from .._utils.versions import versions_of
from .._version import __version__
from ..images.labels import GOOD
from ..pipeline.steps import fitted_steps
from ..scoring.summary import expectations, percent, unlike_the_others
from ..scoring.table import FALSE_ALARM_RATES, rejections

if TYPE_CHECKING:
    from typing import Any

    import pandas as pd
    from numpy.typing import NDArray
    from sklearn.pipeline import Pipeline

    from ..scoring.structcore import StructCoreScorer


def facts(pipe: Pipeline) -> list[tuple[str, str]]:
    """Say what a fitted pipeline is and what it was fitted on: rows of a table of two columns."""
    bank, _, scorer = fitted_steps(pipe)
    features = pipe[0]
    backbone = type(features).__name__
    for name in ("model", "image_size"):
        if hasattr(features, name):
            backbone += f", {name} {_short(getattr(features, name))}"
    rows = [("Fitted on", f"{bank.n_images_} good images{_groups(scorer)}")]
    for name, dependence in (bank.dependence_ or {}).items():
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
    versions += map(" ".join, versions_of("scikit-learn", "numpy", "torch").items())
    return [*rows, ("Report written by", ", ".join(versions))]


def _short(value):
    text = str(value) if isinstance(value, (str, int, tuple)) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}…"


def _groups(scorer):
    decisions = [r.calibration.decision for r in scorer.routes_.values() if not r.is_pooled]
    n_groups = sum(decision.n_independent for decision in decisions)
    n_images = sum(len(decision.scores) for decision in decisions)
    return f" in {n_groups} groups" if n_groups < n_images else ""


def decide_at_rates(
    described: pd.DataFrame,
    scorer: StructCoreScorer,
    types: NDArray[np.object_] | None,
    parts: pd.DataFrame | None,
) -> list[dict[str, Any]]:
    """Decide anew at several false-alarm rates, and count.

    Of images by the table of `describe`, and of `parts` by that of `decide_parts`. By ``rate``:
    ``name``, ``is_fitted``, ``rejected`` and ``rejected_parts`` (boolean arrays), and in words
    ``counts``, of all, good and defective images, and their ``sentence``.
    """
    fitted = scorer.calibration_.decision.asked_rate
    rates = sorted([fitted, *(rate for rate in FALSE_ALARM_RATES if not np.isclose(rate, fitted))])
    groups = [np.ones(len(described), bool)]
    if types is not None:
        groups += [types == GOOD, types != GOOD]
    of_images = rejections(described, scorer, rates)
    of_parts = [None] * len(rates) if parts is None else rejections(parts, scorer, rates)
    points = []
    for rate, rejected, rejected_parts in zip(rates, of_images, of_parts, strict=True):
        counts = [f"{(rejected & group).sum()} of {group.sum()}" for group in groups]
        endings = " images are rejected", " good ones", " defects are found"
        sentence = [count + ending for count, ending in zip(counts, endings, strict=False)]
        if parts is not None:
            sentence.insert(0, f"{rejected_parts.sum()} of {len(parts)} parts")
        points.append(
            {
                "rate": rate,
                "name": percent(rate) + (" (as fitted)" if rate == fitted else ""),
                "is_fitted": rate == fitted,
                "rejected": rejected,
                "rejected_parts": rejected_parts,
                "counts": counts,
                "sentence": f"{'; '.join(sentence)}.",
            }
        )
    return points
