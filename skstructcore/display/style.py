"""What all pictures share, those of a report too: figures, colours, words along the axes.

Colours are those of Okabe and Ito, which the colour-blind tell apart; nothing is told by colour
alone, so that a print in grey still says it: images of different labels differ in their markers,
lines in their dashes, regions in their hatches.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._utils.files import escape_name
from .._utils.versions import import_extra
from ..images.labels import GOOD, UNLABELLED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Axes = Figure = Any  # matplotlib is loaded when something is drawn

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, AMBER, GREY = "#56B4E9", "#E69F00", "#555555"
_LABEL_COLORS = (ORANGE, GREEN, PURPLE, AMBER, SKY, "#000000", "#8C6D1F", GREY)
_LABEL_MARKERS = "^sDvPX<"  # 7, with 8 colours: 56 pairs, as neither number divides the other
_LINE_COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY, "black")
_LINE_DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))  # 5, with 6 colours: 30 pairs
# Colours of inferno from a quarter of its length on.
_STOPS = (
    (87, 16, 110), (124, 29, 109), (160, 42, 99), (195, 59, 79), (224, 85, 54), (243, 120, 25),
    (252, 161, 8), (248, 205, 55), (243, 246, 138),
)  # fmt: skip


def drawing() -> Any:
    """matplotlib's module of figures, or an error that says what to install: before any work."""
    return import_extra("matplotlib.figure", "plot", "A picture")


def new_figure(size: tuple[float, float]) -> Figure:
    """Return a figure: of pyplot where the program uses it, so that ``plt.show()`` shows it.

    pyplot keeps every figure until it is closed, and may open windows. Programs that have not
    loaded it get a figure of its own.
    """
    pyplot = sys.modules.get("matplotlib.pyplot")
    make = drawing().Figure if pyplot is None else pyplot.figure
    return make(figsize=size, layout="constrained")


def as_text(name: object) -> str:
    """A name as pictures show it: nothing in it is read as a formula, or breaks the line."""
    return escape_name(str(name)).replace("$", r"\$")


def label_styles(labels: Iterable[str]) -> dict[str, dict[str, str]]:
    """A colour and a marker for each label; good images, and those of no label, share one."""
    styles, usual = {}, (GOOD, UNLABELLED)
    others = zip(cycle(_LABEL_COLORS), cycle(_LABEL_MARKERS), strict=True)
    for label in dict.fromkeys(labels):
        color, marker = (BLUE, "o") if label in usual else next(others)
        styles[label] = {"color": color, "marker": marker}
    return styles


def by_label(labels: NDArray[Any] | None, n_images: int) -> list[tuple[str, dict, NDArray]]:
    """For each label its style, and which images have it; None: all are `UNLABELLED`."""
    labels = np.full(n_images, UNLABELLED) if labels is None else labels
    return [(label, style, labels == label) for label, style in label_styles(labels).items()]


def line_style(k: int) -> dict[str, Any]:
    """Colour and dashes of the k-th line of a picture."""
    colors, dashes = _LINE_COLORS, _LINE_DASHES
    return {"color": colors[k % len(colors)], "ls": dashes[k % len(dashes)]}


def overlay_colors(n_colors: int = 256) -> NDArray[np.uint8]:
    """Colours of a map on its image, RGBA: from transparent to yellow, in order in grey too."""
    steps = np.linspace(0, 1, n_colors)
    stops = np.linspace(0, 1, len(_STOPS))
    channels = [np.interp(steps, stops, values) for values in zip(*_STOPS, strict=True)]
    return np.rint(np.stack([*channels, 255 * 0.85 * np.sqrt(steps)], axis=1)).astype(np.uint8)


def map_limits(maps: Sequence[Any], threshold: float | None) -> tuple[float, float]:
    """Values of maps that are drawn transparent and in full colour: median and 99.5 % quantile.

    They are widened so that a threshold lies between them, at most two thirds of the way up.
    """
    values = np.concatenate([np.ravel(heat)[np.isfinite(np.ravel(heat))] for heat in maps])
    if not values.size:
        raise ValueError("the maps hold no value that is a finite number")
    low, high = np.quantile(values, [0.5, 0.995])
    if threshold is not None:
        low = min(low, threshold)
        # What is far over the threshold must not look like what is just over it.
        high = max(high, threshold + 0.5 * (threshold - low))
    return float(low), float(high if high > low else low + 1)


def around(values: NDArray[np.floating], threshold: float, margin: float) -> tuple[float, float]:
    """Limits of an axis on which values and a threshold lie; the margins are a share of it."""
    low, high = min(values.min(), threshold), max(values.max(), threshold)
    width = margin * (high - low or 1)
    return float(low - width), float(high + width)


def percent_axis(axis: Any, ticks: Sequence[float]) -> None:
    """Write shares in percent along an axis, at given places only."""
    axis.set_ticks(ticks)
    axis.set_ticks([], minor=True)
    axis.set_major_formatter(lambda share, _: f"{100 * share:.3g} %")


def legend_beside(ax: Axes, **options: Any) -> None:
    """Put the legend right of the axes, where it hides nothing."""
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False, **options)
