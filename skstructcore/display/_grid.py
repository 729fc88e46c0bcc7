"""Where images stand beside their maps in a figure, and what explains their colours and lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .style import SKY, new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from numpy.typing import NDArray

_MOST_COLUMNS = 6  # of a line without heading


def new_grid(n_images: int, width: int, rows: Sequence[str] | None) -> NDArray[np.object_]:
    """Axes of a new figure, of shape (n_images, width): an image and its maps side by side.

    Images of one heading of `rows` share a line; None: lines are filled.
    """
    if rows is None:
        rows, per_line = [""] * n_images, min(n_images, max(1, _MOST_COLUMNS // width))
    else:
        rows = list(rows)
        per_line = max(rows.count(row) for row in rows)
    lines = []  # heading, positions
    for heading in dict.fromkeys(rows):
        members = [i for i, row in enumerate(rows) if row == heading]
        for start in range(0, len(members), per_line):
            lines.append((heading if start == 0 else "", members[start : start + per_line]))
    figure = new_figure((2.1 * width * per_line, 2.6 * len(lines) + 0.9))
    # A heading has a line of the grid to itself, so that no title runs into it.
    heights = [h for heading, _ in lines for h in (0.2 if heading else 0.01, 1)]
    grid = figure.add_gridspec(2 * len(lines), width * per_line, height_ratios=heights)
    axes = np.empty((n_images, width), dtype=object)
    for line, (heading, members) in enumerate(lines):
        if heading:
            band = figure.add_subplot(grid[2 * line, :])
            band.set_axis_off()
            band.text(0, 0.5, heading, fontsize=11, fontweight="bold", va="center")
        for place, i in enumerate(members):
            for column in range(width):
                cell = grid[2 * line + 1, place * width + column]
                axes[i, column] = figure.add_subplot(cell)
    return axes


def draw_outline(ax: Axes, values: NDArray[np.floating], level: float, **style: Any) -> None:
    """Draw where a map crosses a level, if it does."""
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() < level < finite.max():
        ax.contour(values, levels=[level], linewidths=1.2, **style)


def draw_color_bar(
    image: AxesImage, axes: NDArray[np.object_], name: str, threshold: float | None
) -> None:
    """Say below all axes what the colours of a map mean, with a mark at the threshold."""
    bar = image.figure.colorbar(
        image, ax=axes.ravel().tolist(), location="bottom", shrink=0.5, aspect=40, pad=0.02
    )
    bar.set_label(f"{name} (transparent: as in good images)", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.ax.set_facecolor("0.6")
    if threshold is not None:
        bar.ax.axvline(threshold, color="black", lw=2)
        low, high = image.get_clim()
        bar.ax.set_title("threshold", x=(threshold - low) / (high - low), fontsize=8)


def draw_legend(figure: Figure, *, of_masks: bool, of_thresholds: bool) -> None:
    """Say below all axes what the outlines mean."""
    from matplotlib.lines import Line2D

    handles = []
    if of_masks:
        handles.append(Line2D([], [], color=SKY, ls="--", label="true defect"))
    if of_thresholds:
        handles.append(Line2D([], [], color="white", label="over the threshold"))
    if handles:
        figure.legend(
            handles=handles, loc="outside lower center", ncols=2, fontsize=9, facecolor="0.6"
        )
