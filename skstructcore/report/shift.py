"""Base against whole score of the images of a report: the paper's Figure 2, and its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..display.style import label_styles
from ..images.labels import GOOD

if TYPE_CHECKING:
    from typing import Any

    import pandas as pd
    from numpy.typing import NDArray

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


def draw_shift(
    described: pd.DataFrame, thresholds: tuple[float, float], types: NDArray[np.object_] | None
) -> dict[str, Any]:
    """What the template draws: marks by type, axes, and in words whether the structure helps.

    `described` is the table of `collect`, `thresholds` are those of base and anomaly score; that of
    the base score is 1 where it is in units of the threshold of its route.
    """
    base = described["base_ratio" if thresholds[0] == 1.0 else "base"].to_numpy()
    scores = described["anomaly_score"].to_numpy()
    x, x_axis = _placed(base, thresholds[0], _ACROSS)
    y, y_axis = _placed(scores, thresholds[1], _UP)
    whole, alone = scores > thresholds[1], base > thresholds[0]
    gained, lost = whole & ~alone, alone & ~whole
    labels = np.full(len(x), "images") if types is None else types
    styles, groups = label_styles(labels), []
    for label in sorted(set(labels), key=lambda label: (label != GOOD, label)):
        mine = np.flatnonzero(labels == label)
        mine = mine[np.argsort(scores[mine], kind="stable")]
        marks = [
            {"i": int(described.index[k]), "x": f"{x[k]:.1f}", "y": f"{y[k]:.1f}"} for k in mine
        ]
        style = styles[label]
        if types is None:
            style = styles[GOOD]
        path = _MARKS[style["marker"]]
        groups.append({"name": label, "color": style["color"], "path": path, "marks": marks})
    return {
        "groups": groups,
        "x": x_axis,
        "y": y_axis,
        "n_gained": int(gained.sum()),
        "n_lost": int(lost.sum()),
        "words": _in_words(gained, lost, types),
    }


def _placed(values, threshold, ends):
    """Places of values along an axis, and of its threshold and ticks."""
    low, high = min(values.min(), threshold), max(values.max(), threshold)
    margin = 0.06 * ((high - low) or 1)
    low, high = low - margin, high + margin

    def place(value):
        return ends[0] + (ends[1] - ends[0]) * (value - low) / (high - low)

    step = 10 ** np.floor(np.log10((high - low) / 3))
    step *= next(k for k in (1, 2, 5, 10) if (high - low) / (k * step) <= 8)
    ticks = step * np.arange(np.ceil(low / step), np.floor(high / step) + 1)
    marked = [(f"{place(tick):.1f}", f"{tick:.4g}") for tick in ticks]
    return place(values), {"threshold": float(place(threshold)), "ticks": marked}


def _in_words(gained, lost, types):
    """Whether the structure of the map helps, by what it changes at the thresholds as fitted."""
    start = "Compared with the farthest patch alone, the structure of the map"
    if not gained.any() and not lost.any():
        return f"{start} changes no decision on these images."
    if types is None:
        return (
            f"{start} rejects {gained.sum()} more images and accepts {lost.sum()} that would be "
            "rejected. Without labels it is open which are right: look at the images in the "
            "coloured fields."
        )
    good = types == GOOD
    found, missed = (gained & ~good).sum(), (lost & ~good).sum()
    alarms, spared = (gained & good).sum(), (lost & good).sum()
    more, wrong = found - missed, alarms - spared
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
        f"{start} finds {found} more defects and loses {missed}; it rejects {alarms} more good "
        f"images and spares {spared}. {verdict}"
    )
