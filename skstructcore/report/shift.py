"""Base against whole score of the images of a report: the paper's Figure 2, and its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..display.style import around, label_styles
from ..images.labels import GOOD

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import pandas as pd

    from ..display import ScoreShiftDisplay

# Where values lie in the drawing: left, right; bottom, top.
_ACROSS, _UP = (60, 705), (395, 15)
_MARKS = {
    "o": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0",
    "^": "M0-4.5l4.5 9h-9z",
    "v": "M0 4.5l4.5-9h-9z",
    "<": "M-4.5 0l9-4.5v9z",
    ">": "M4.5 0l-9-4.5v9z",
    "s": "M-4-4h8v8h-8z",
    "D": "M0-4.5l4.5 4.5l-4.5 4.5l-4.5-4.5z",
    "P": "M-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
    "X": "M-4-4h3l1 2l1-2h3l-2 4l2 4h-3l-1-2l-1 2h-3l2-4z",
}


def draw_shift(shift: ScoreShiftDisplay, positions: Sequence[int]) -> dict[str, Any]:
    """What the template draws: marks by type, axes, and in words whether the structure helps.

    `positions` are those of the images among all of the report.
    """
    x, x_axis = _placed(shift.base, shift.base_threshold, _ACROSS)
    y, y_axis = _placed(shift.scores, shift.threshold, _UP)
    labels = np.full(len(x), "images") if shift.labels is None else shift.labels
    styles, groups = label_styles(labels), []
    for label in sorted(set(labels), key=lambda label: (label != GOOD, label)):
        mine = np.flatnonzero(labels == label)
        mine = mine[np.argsort(shift.scores[mine], kind="stable")]
        marks = [{"i": int(positions[k]), "x": f"{x[k]:.1f}", "y": f"{y[k]:.1f}"} for k in mine]
        look = {"color": styles[label]["color"], "path": _MARKS[styles[label]["marker"]]}
        groups.append({"name": label, **look, "marks": marks})
    counts = shift.counts()
    return {
        "groups": groups,
        "x": x_axis,
        "y": y_axis,
        "n_gained": counts["only_score"].sum(),
        "n_lost": counts["only_base"].sum(),
        "words": _in_words(counts),
    }


def _placed(values, threshold, ends):
    """Places of values along an axis, and of its threshold and ticks."""
    low, high = around(values, threshold, 0.06)

    def place(value):
        return ends[0] + (ends[1] - ends[0]) * (value - low) / (high - low)

    step = 10 ** np.floor(np.log10((high - low) / 3))
    step *= next(k for k in (1, 2, 5, 10) if (high - low) / (k * step) <= 8)
    ticks = step * np.arange(np.ceil(low / step), np.floor(high / step) + 1)
    marked = [(f"{place(tick):.1f}", f"{tick:.4g}") for tick in ticks]
    return place(values), {"threshold": float(place(threshold)), "ticks": marked}


def _in_words(counts: pd.DataFrame) -> str:
    """Whether the structure of the map helps, by what it changes at the thresholds as fitted."""
    start = "Compared with the farthest patch alone, the structure of the map"
    gained, lost = counts["only_score"], counts["only_base"]
    if gained.sum() + lost.sum() == 0:
        return f"{start} changes no decision on these images."
    if "images" in counts.index:
        return (
            f"{start} rejects {gained['images']} more images and accepts {lost['images']} that "
            "would be rejected. Without labels it is open which are right: look at the images in "
            "the coloured fields."
        )
    more, wrong = gained["defects"] - lost["defects"], gained[GOOD] - lost[GOOD]
    if more * wrong > 0:
        much = "more and rejects more" if more > 0 else "less and rejects fewer"
        verdict = f"It finds {much} good images: what costs more decides."
    elif more > 0 or wrong < 0:
        verdict = "It helps on these images."
    elif more < 0 or wrong > 0:
        verdict = "It does not help on these images."
    else:
        verdict = "It makes no difference in sum."
    return (
        f"{start} finds {gained['defects']} more defects and loses {lost['defects']}; it rejects "
        f"{gained[GOOD]} more good images and spares {lost[GOOD]}. {verdict}"
    )
