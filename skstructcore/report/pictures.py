"""Pictures of a report as text that a page can hold: images, maps, masks, and the one plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .._utils.pages import base64_of
from ..display import ScoreShiftDisplay
from ..display.style import around, by_label, overlay_colors
from ..images.labels import GOOD
from .words import shift_in_words

_N_COLORS = 64  # of a map: a palette that is small
_WEBP_SIDE = 16383  # longer pictures cannot be written
# Where values lie in the drawing: left, right; bottom, top.
_ACROSS, _UP = (60, 705), (395, 15)
_MARKS = {
    "o": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0",
    "^": "M0-4.5l4.5 9h-9z",
    "v": "M0 4.5l4.5-9h-9z",
    "<": "M-4.5 0l9-4.5v9z",
    "s": "M-4-4h8v8h-8z",
    "D": "M0-4.5l4.5 4.5l-4.5 4.5l-4.5-4.5z",
    "P": "M-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
    "X": "M-4-4h3l1 2l1-2h3l-2 4l2 4h-3l-1-2l-1 2h-3l2-4z",
}


def image_uri(image: Image.Image, side: int, quality: int = 60) -> str:
    """Return an image, reduced to a longer side of `side` pixels, as a data URI (WebP)."""
    image, side = image.copy(), min(side, _WEBP_SIDE)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _as_uri(image, "webp", quality=quality)


def _as_uri(image, form, **options):
    return f"data:image/{form};base64,{base64_of(image.save, form, **options)}"


def reduced(values: NDArray[Any], side: int) -> NDArray[Any]:
    """Reduce a map or mask to at most `side` cells a side: the largest value of every block."""
    step = -(-max(values.shape) // side)
    for axis in (0, 1):
        n_blocks = -(-values.shape[axis] // step)  # of one size, give or take a cell
        blocks = np.arange(n_blocks) * values.shape[axis] // n_blocks
        values = np.maximum.reduceat(values, blocks, axis=axis)
    return values


def map_uri(heat: NDArray[np.floating], low: float, high: float) -> str:
    """A map in its colours, as a data URI (PNG): transparent at `low`, in full colour at `high`."""
    scaled = np.clip((heat - low) / (high - low), 0, 1)
    image = Image.fromarray(np.rint((_N_COLORS - 1) * scaled).astype(np.uint8))
    colors = overlay_colors(_N_COLORS)
    image.putpalette(colors[:, :3].tobytes())
    return _as_uri(image, "png", transparency=colors[:, 3].tobytes(), optimize=True)


def outline(inside: NDArray[np.bool_], box: Sequence[float]) -> dict[str, str]:
    """An SVG path around cells of a grid that lies over a box (top, left, bottom, right)."""
    padded, steps = np.pad(inside, 1), []
    crossings = padded[1:, 1:-1] != padded[:-1, 1:-1], (padded[1:-1, 1:] != padded[1:-1, :-1]).T
    for direction, edges in zip("hv", crossings, strict=True):
        ends = np.diff(np.pad(edges, ((0, 0), (1, 1))).astype(np.int8), axis=1)
        starts, stops = np.argwhere(ends == 1), np.argwhere(ends == -1)
        for (line, start), (_, stop) in zip(starts, stops, strict=True):
            x, y = (start, line) if direction == "h" else (line, start)
            steps.append(f"M{x} {y}{direction}{stop - start}")
    top, left, bottom, right = box
    scale = f"{(right - left) / inside.shape[1]:.6g} {(bottom - top) / inside.shape[0]:.6g}"
    transform = f"translate({left:.6g} {top:.6g}) scale({scale})"
    return {"d": "".join(steps), "transform": transform}


def draw_shift(shift: ScoreShiftDisplay, positions: Sequence[int]) -> dict[str, Any]:
    """What the template draws and says; `positions` are those of the images in the report."""
    x, x_axis = _on_axis(shift.base, shift.base_threshold, _ACROSS)
    y, y_axis = _on_axis(shift.scores, shift.threshold, _UP)
    order, groups = np.argsort(shift.scores, kind="stable"), []
    for label, style, mine in by_label(shift.labels, len(x)):
        mine = order[mine[order]]
        marks = [{"i": int(positions[k]), "x": f"{x[k]:.1f}", "y": f"{y[k]:.1f}"} for k in mine]
        look = {"color": style["color"], "path": _MARKS[style["marker"]]}
        groups.append({"name": label, **look, "marks": marks})
    groups.sort(key=lambda group: (group["name"] != GOOD, group["name"]))
    counts = shift.counts()
    return {
        "groups": groups,
        "x": x_axis,
        "y": y_axis,
        "n_gained": counts["only_score"].sum(),
        "n_lost": counts["only_base"].sum(),
        "words": shift_in_words(counts),
    }


def _on_axis(values, threshold, ends):
    """Places of values along an axis, and of its threshold and ticks."""
    low, high = limits = around(values, threshold, 0.06)
    step = 10 ** np.floor(np.log10((high - low) / 3))
    step *= next(k for k in (1, 2, 5, 10) if (high - low) / (k * step) <= 8)
    ticks = step * np.arange(np.ceil(low / step), np.floor(high / step) + 1) + 0.0  # no -0
    places = np.interp(ticks, limits, ends)
    marked = [(f"{place:.1f}", f"{tick:.4g}") for place, tick in zip(places, ticks, strict=True)]
    axis = {"start": ends[0], "end": ends[1], "ticks": marked}
    axis["threshold"] = float(np.interp(threshold, limits, ends))
    return np.interp(values, limits, ends), axis
