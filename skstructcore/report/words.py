"""What a report says in words: of each image, of all of them, of the model and its training."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from .._utils.versions import versions_of
from .._version import __version__
from ..images.labels import GOOD, UNLABELLED
from ..pipeline.steps import fitted_steps
from ..routing import UNKNOWN
from ..scoring.conformal import ROUNDING
from ..scoring.decision import percent
from ..scoring.descriptors import SURPRISE, TOP
from ..scoring.summary import unlike_the_others, what_it_rejects

_TERMS = {
    "max": "the distance of its farthest patch",
    "std": "the spread of its distances",
    "tv": "how much distances change from patch to patch",
    "mean": "the mean distance of its patches",
    "median": "the distance of its middle patch",
    "contrast": "its farthest patch against its middle one",
    "smoothmax": "the distance of its farthest 3 × 3 patches",
    "component": "the size of its largest unusual region",
    "moran": "how clustered its unusual patches are",
}
_SETTINGS = ("model", "image_size")  # of a backbone, that a report names
_PLACES = (
    ("at the upper left", "at the top", "at the upper right"),
    ("at the left", "in the middle", "at the right"),
    ("at the lower left", "at the bottom", "at the lower right"),
)


def term_in_words(name: str) -> str:
    """Say what a term of the score looks at; a descriptor of your own is called by its name.

    Examples
    --------
    >>> term_in_words("surprise_top5")
    'its 5 % farthest patches, compared with what is usual for such content'
    """
    inner = name.removeprefix(SURPRISE)
    top = TOP.fullmatch(inner)
    words = f"its {top[1]} % farthest patches" if top else _TERMS.get(inner, inner)
    return f"{words}, compared with what is usual for such content" if name != inner else words


def headline(row: Mapping[str, Any], least: float, size: tuple[int, int]) -> str:
    """Say in one phrase what is most unusual on an image, where, and how unusual it is.

    `least` is the smallest p-value that there is, `size` the height and width in pixels.
    """
    if row["route"] == UNKNOWN:
        return f"no known product; the nearest is {row['nearest_route']}"
    row_third, column_third = int(3 * row["peak_row"] / size[0]), int(3 * row["peak_col"] / size[1])
    place = _PLACES[min(row_third, 2)][min(column_third, 2)]
    height, width = _extent(row)
    shape = "long, thin mark" if max(height, width) >= 3 * min(height, width) else "spot"
    if math.isnan(height):
        shape = "most unusual"
    elif row["area_over"] > 0.25:
        shape = "large area, most of all"
    if row["p_value"] > 0.1:
        return f"{shape} {place}; {percent(row['p_value'])} of good images are as unusual"
    return f"{shape} {place}, farther from normal than {_how_many(row['p_value'], least)}"


def reasons(row: Mapping[str, Any], least: float) -> list[str]:
    """Explain the decision about one image; the first sentence says what was decided, and why."""
    is_unknown = row["route"] == UNKNOWN
    if is_unknown:
        first = f"Rejected: it shows no known product. The nearest is {row['nearest_route']}, and"
        first += f" only {percent(row['route_p_value'])} of its good images are as far from it."
    elif row["is_anomalous"]:
        first = f"Rejected: it scores higher than {_how_many(row['p_value'], least)}."
    else:
        first = f"Accepted: {percent(row['p_value'])} of good images score at least as high."
    sentences, z = [first], row[f"z_{row['decided_by']}"]
    if math.isfinite(z):
        decided = row["is_anomalous"] and not is_unknown
        sentences.append(
            f"{'Decided by' if decided else 'What counts most is'} "
            f"{term_in_words(row['decided_by'])}: {abs(z):.1f} standard deviations "
            f"{'above' if z >= 0 else 'below'} good images"
            f"{', which this score counts as unusual' if decided and z < 0 else ''}."
        )
    if math.isfinite(row["base_ratio"]):
        place = f"row {row['peak_row']:.0f}, column {row['peak_col']:.0f}"
        times = f"{row['base_ratio']:.2f} times the threshold distance"
        sentences.append(f"Its farthest patch, at {place}, is at {times}.")
    height, width = _extent(row)
    if math.isfinite(height):
        size, share = f"{width:.0f} × {height:.0f} pixels", percent(row["area_over"])
        covered = f"Such regions cover {share} of the image."
        sentences.append(f"It lies in a region of {size} over the threshold. {covered}")
    else:
        sentences.append("No patch is over the threshold distance.")
    if "nearest_route" in row and not is_unknown:
        sentences.append(
            f"It was taken for {row['route']}: {percent(row['route_p_value'])} of that product's "
            "images are at least as far from it."
        )
    return sentences


def _extent(row):
    """Height and width of the region around the peak; NaN where none is."""
    return row["region_bottom"] - row["region_top"], row["region_right"] - row["region_left"]


def _how_many(p_value, least):
    if p_value > least + ROUNDING:
        return f"{percent(1 - max(p_value, 0.001))} of good images"
    if least == 0:
        return "all good images of the fit"
    n_independent = round(1 / least) - 1
    return f"all {n_independent} independent good images"


def shift_in_words(counts: pd.DataFrame) -> str:
    """Whether the structure of the map helps, by what it changes at the thresholds as fitted."""
    start = "Compared with the farthest patch alone, the structure of the map"
    gained, lost = counts["only_score"], counts["only_base"]
    if gained.sum() + lost.sum() == 0:
        return f"{start} changes no decision on these images."
    if UNLABELLED in counts.index:
        return (
            f"{start} rejects {gained[UNLABELLED]} more images and accepts {lost[UNLABELLED]} that "
            "would be rejected. Without labels it is open which are right: look at the images in "
            "the coloured fields."
        )
    more, wrong = gained["defects"] - lost["defects"], gained[GOOD] - lost[GOOD]
    if more * wrong > 0:
        much = "more defects and rejects more" if more > 0 else "fewer defects and rejects fewer"
        verdict = f"It finds {much} good images: which is better depends on what each costs."
    elif more or wrong:
        verdict = f"It {'helps' if more > 0 or wrong < 0 else 'does not help'} on these images."
    else:
        verdict = "It makes no difference in sum."
    return (
        f"{start} finds {gained['defects']} more defects and loses {lost['defects']}; it rejects "
        f"{gained[GOOD]} more good images and spares {lost[GOOD]}. {verdict}"
    )


def facts(pipe: Pipeline) -> list[tuple[str, str]]:
    """Say what a fitted pipeline is and what it was fitted on: rows of a table of two columns."""
    bank, _, scorer = fitted_steps(pipe)
    n_groups = len(np.unique(bank.images_.groups[bank.images_.is_there]))
    groups = f" in {n_groups} groups" if n_groups < bank.n_images_ else ""
    rows = [("Fitted on", f"{bank.n_images_} good images{groups}")]
    for name, dependence in (bank.dependence_ or {}).items():
        rows.append(("At the fit" if name == "all" else f"At the fit, {name}", str(dependence)))
    if scorer.routes_.is_routed:
        rows.append(("Products", f"{len(scorer.routes_)}: {', '.join(scorer.routes_)}"))
    fresh = max(decision.held_out.fresh for decision in scorer.routes_.decisions.values())
    if fresh > 0:
        rows.append(("Threshold from", f"good images outside the fit, to {percent(fresh)}"))
    features = pipe[0]
    settings = [f"{k} {_short(getattr(features, k))}" for k in _SETTINGS if hasattr(features, k)]
    entries, n_features = bank.bank_.values.shape
    versions = [f"skstructcore {__version__}", f"Python {platform.python_version()}"]
    versions += map(" ".join, versions_of("scikit-learn", "numpy", "torch").items())
    return [
        *rows,
        ("Backbone", ", ".join([type(features).__name__, *settings])),
        ("Memory bank", f"{entries} patches of {n_features} features"),
        ("False alarms asked for", percent(scorer.calibration_.decision.asked_rate)),
        *(("To expect", sentence) for sentence in what_it_rejects(scorer)),
        *(("Suspects", sentence) for sentence in unlike_the_others(scorer)),
        ("Report written by", ", ".join(versions)),
    ]


def _short(value):
    text = str(value) if isinstance(value, (str, int, tuple)) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}…"
