"""Images beside their anomaly maps, all on one colour scale that marks the threshold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from numbers import Integral
from pathlib import PurePath

import numpy as np
from sklearn.pipeline import Pipeline

from .._utils.typing import ArrayLike, NDArray, Self
from .._utils.validation import check_number, check_same_length
from ..containers import AnomalyMaps
from ..evaluation.single import Evaluation
from ..images.geometry import place_on_image, upsample_maps
from ..images.image_list import ImagesLike, as_images
from ..images.labels import GOOD, labels_of
from ..pipeline.steps import fitted_steps, intensity_of
from ..scoring.evidence import at_pixels
from ..scoring.table import base_thresholds
from ._base import Display
from .style import SKY, as_text, drawing, map_limits, new_figure, overlay_colors

_OURS = "distance / threshold"
_MOST_IMAGES = 100  # all are in memory, and each has axes of its own
_MOST_COLUMNS = 6  # of a line
_CASES = {
    "hardest defects": (False, 1),
    "most suspicious good images": (True, -1),
    "clearest defects": (False, -1),
    "plainest good images": (True, 1),
}


@dataclass(eq=False, repr=False)
class AnomalyMapDisplay(Display):
    """Images, and one or several anomaly maps of each beside it.

    Parameters
    ----------
    images : sequence of n ndarray of shape (h, w, 3), uint8
        The upright images.
    maps : mapping of str to sequence of n ndarray of shape (h, w)
        Maps of each method, on the images; NaN where nothing was seen. A method's maps share
        one colour scale.
    masks : sequence of n ndarray of shape (h, w), bool, or None
        True defects, drawn as a dashed outline; None for an image without one.
    titles : sequence of n str, default=None
        What stands above each image.
    thresholds : mapping of str to float, default=None
        A value of a method's maps that matters, marked in the colour bar and drawn as an outline.
    rows : sequence of n str, default=None
        Images under one heading stand beside each other; None: no headings.

    Attributes
    ----------
    limits : dict of str to tuple of float
        For each method, the values that are drawn transparent and in full colour.
    axes_ : ndarray of shape (n_images, 1 + n_methods) of Axes

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore.display import AnomalyMapDisplay
    >>> photo, heat = np.zeros((8, 8, 3), np.uint8), np.eye(8)
    >>> display = AnomalyMapDisplay([photo], {"ours": [heat], "other": [heat.T]}).plot()
    >>> display.axes_.shape
    (1, 3)
    """

    images: Sequence[NDArray[np.uint8]]
    maps: Mapping[str, Sequence[NDArray[np.floating]]]
    _: KW_ONLY
    masks: Sequence[NDArray[np.bool_] | None] | None = None
    titles: Sequence[str] | None = None
    thresholds: Mapping[str, float] | None = None
    rows: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if not len(self.images):
            raise ValueError("There are no images to show: at least one is needed.")
        beside = {name: getattr(self, name) for name in ("images", "masks", "titles", "rows")}
        stacks = {f"maps[{name!r}]": stack for name, stack in self.maps.items()}
        check_same_length(**beside, **stacks)
        self.masks = [None] * len(self.images) if self.masks is None else self.masks
        for name, stack in {**stacks, "masks": self.masks}.items():
            for i, (image, heat) in enumerate(zip(self.images, stack, strict=True)):
                if heat is not None and np.shape(image)[:2] != np.shape(heat):
                    raise ValueError(
                        f"{name}[{i}] has {np.shape(heat)} pixels, its image "
                        f"{np.shape(image)[:2]}: bring maps onto the images, see from_predictions."
                    )
        self.titles = [""] * len(self.images) if self.titles is None else self.titles
        self.thresholds = {} if self.thresholds is None else self.thresholds
        if unknown := sorted(set(self.thresholds) - set(self.maps)):
            raise ValueError(f"thresholds has {unknown}, but there are maps of {list(self.maps)}.")
        self.limits = {
            name: map_limits(stack, self.thresholds.get(name)) for name, stack in self.maps.items()
        }

    @classmethod
    def from_estimator(
        cls,
        pipe: Pipeline,
        images: ImagesLike,
        y: ArrayLike | None = None,
        *,
        others: Mapping[str, AnomalyMaps | ArrayLike] | None = None,
        axes: NDArray[np.object_] | None = None,
    ) -> Self:
        """Compute the maps of images, and draw; the backbone runs.

        The map is that which scores and regions come from: of the patches, or with
        ``resolution="full"`` of ``pipe.transform``. It is divided by the threshold of the base
        score of its route.

        Parameters
        ----------
        pipe, images, y, axes
            See `ScoreShiftDisplay.from_estimator` and `plot`. An `ImageSet` brings masks, too.
        others : mapping of str to AnomalyMaps or array of shape (n_images, H, W), default=None
            Maps of other methods for the same images, to stand beside.
        """
        drawing()
        labels, others = labels_of(images, y), {} if others is None else others
        _check_maps(images, others, y=labels)  # errors before the work
        scorer = fitted_steps(pipe)[-1]
        maps = pipe[:-1].transform(images)
        described = scorer.describe(maps)
        options = {"view": intensity_of(pipe), "others": others}
        return cls._judged(images, labels, maps, described, scorer, **options).plot(axes)

    @classmethod
    def from_predictions(
        cls,
        images: ImagesLike,
        maps: Mapping[str, AnomalyMaps | ArrayLike],
        *,
        titles: Sequence[str] | None = None,
        thresholds: Mapping[str, float] | None = None,
        rows: Sequence[str] | None = None,
        axes: NDArray[np.object_] | None = None,
    ) -> Self:
        """Bring maps that are known already onto their images, and draw.

        Parameters
        ----------
        images : folder, sequence of paths, PIL images or arrays, or ImageSet
        maps : mapping of str to AnomalyMaps or array of shape (n_images, H, W)
            For each method. `AnomalyMaps` know where they lie; an array covers the whole image.
        titles, thresholds, rows, axes
            See the class and `plot`.
        """
        return cls._of(images, maps, titles=titles, thresholds=thresholds, rows=rows).plot(axes)

    @classmethod
    def _of(cls, images, maps, *, view=None, **options):
        """Of maps on their images, as a pipeline sees them through `view`."""
        listed = _check_maps(images, maps)
        listed = listed if view is None else listed.seen_through(view)
        pixels = [np.asarray(listed.read(i)) for i in range(len(listed))]
        placed = {name: _on_images(stack, pixels) for name, stack in maps.items()}
        has_masks = hasattr(images, "load_mask")
        masks = [images.load_mask(i) for i in range(len(images))] if has_masks else None
        return cls(pixels, placed, masks=masks, **options)

    @classmethod
    def from_evaluation(
        cls, evaluation: Evaluation, *, n_cases: int = 3, axes: NDArray[np.object_] | None = None
    ) -> Self:
        """Choose the worst and best cases of an evaluation, and draw.

        Parameters
        ----------
        evaluation : Evaluation
        n_cases : int, default=3
            How many images of each of these.
        axes
            See `plot`.
        """
        check_number(n_cases, "n_cases", 1, closed="left", type=Integral)
        scores = evaluation.scores.reset_index(drop=True)
        is_good, chosen, rows = scores["defect_type"] == GOOD, [], []
        for heading, (good, direction) in _CASES.items():
            ranks = direction * scores["anomaly_score"][is_good == good]
            mine = ranks.sort_values(kind="stable").index[:n_cases].tolist()
            chosen += mine
            rows += [heading] * len(mine)
        images, described = evaluation.images[chosen], scores.iloc[chosen]
        judged = images, images.y, evaluation.maps[chosen], described, evaluation.scorer
        return cls._judged(*judged, view=evaluation.view, rows=rows).plot(axes)

    @classmethod
    def _judged(cls, images, labels, maps, described, scorer, *, others=(), **options):
        """Of maps as the scorer looks at them, divided by the threshold of their route."""
        seen = at_pixels(maps) if scorer.resolution == "full" else maps
        limits = base_thresholds(described, scorer)[:, np.newaxis, np.newaxis]
        every = {_OURS: replace(seen, values=seen.values / limits), **dict(others)}
        titles = _titles(images, described, labels)
        return cls._of(images, every, titles=titles, thresholds={_OURS: 1.0}, **options)

    def plot(self, axes: NDArray[np.object_] | None = None) -> Self:
        """Draw the images, and return the display.

        Parameters
        ----------
        axes : ndarray of shape (n_images, 1 + n_methods) of Axes, default=None
            None: a figure of its own, with colour bars and a legend.
        """
        from matplotlib.colors import ListedColormap

        is_new, shape = axes is None, (len(self.images), 1 + len(self.maps))
        self.axes_ = np.asarray(_new_grid(*shape, self.rows) if is_new else axes, dtype=object)
        if self.axes_.shape != shape:
            raise ValueError(f"axes must have shape {shape}, got {self.axes_.shape}.")
        self.figure_ = self.axes_.flat[0].figure.figure  # the whole one, of a subfigure too
        colors, drawn = ListedColormap(overlay_colors() / 255), {}
        for i, (image, mask) in enumerate(zip(self.images, self.masks, strict=True)):
            for ax in self.axes_[i]:
                ax.imshow(image)
                ax.set_axis_off()
                ax.set_anchor("N")
            for ax, (name, stack) in zip(self.axes_[i, 1:], self.maps.items(), strict=True):
                low, high = self.limits[name]
                drawn[name] = ax.imshow(stack[i], cmap=colors, vmin=low, vmax=high)
                if name in self.thresholds:
                    _draw_outline(ax, stack[i], self.thresholds[name], colors="white")
            for ax in () if mask is None else self.axes_[i]:
                _draw_outline(ax, np.asarray(mask, float), 0.5, colors=SKY, linestyles="dashed")
            self.axes_[i, 0].set_title(self.titles[i], fontsize=8, loc="left")
        if is_new:
            if self.rows is None and len(self.maps) > 1:
                for ax, name in zip(self.axes_[0, 1:], self.maps, strict=True):
                    ax.set_title(name, fontsize=8)
            for name, image in drawn.items():
                _draw_color_bar(image, self.axes_, name, self.thresholds.get(name))
            self._draw_legend()
        return self

    def _draw_legend(self):
        """Say below all axes what the outlines mean."""
        from matplotlib.lines import Line2D

        lines = []
        if any(mask is not None and np.any(mask) for mask in self.masks):
            lines.append(Line2D([], [], color=SKY, ls="--", label="true defect"))
        if self.thresholds:
            lines.append(Line2D([], [], color="white", label="over the threshold"))
        if lines:
            options = {"ncols": 2, "fontsize": 9, "facecolor": "0.6"}
            self.figure_.legend(handles=lines, loc="outside lower center", **options)


def _check_maps(images, maps, y=None):
    """List the images; refuse too many, and maps and labels that are not one an image."""
    listed = as_images(images)
    if len(listed) > _MOST_IMAGES:
        raise ValueError(
            f"No picture shows {len(listed)} images, {_MOST_IMAGES} at most: choose some, or "
            "write a report (skstructcore.report)."
        )
    if not hasattr(maps, "items"):
        raise TypeError(f"maps must be a dict, {{'name': maps}}, got {type(maps).__name__}.")
    stacks = {f"maps[{name!r}]": stack for name, stack in maps.items()}
    check_same_length(images=listed, y=y, **stacks)
    for name, stack in stacks.items():
        if np.ndim(stack) != 3:
            raise ValueError(f"{name} must have the shape (n_images, H, W), got {np.shape(stack)}.")
    return listed


def _titles(images, described, labels):
    """Short lines above each image: its file, what it is and what was decided, its p-value."""
    titles, names = [], as_images(images).file_names()
    for i, (name, row) in enumerate(zip(names, described.itertuples(), strict=True)):
        name = PurePath(name).name
        name = name if len(name) <= 28 else f"…{name[-27:]}"
        verdict = "rejected" if row.is_anomalous else "accepted"
        lines = [
            as_text(name),
            verdict if labels is None else f"{as_text(labels[i])}, {verdict}",
            f"p-value {row.p_value:.2g}, score {row.anomaly_score:.3g}",
        ]
        # The name of an image that is no file is its position, which says little: it is left out.
        titles.append("\n".join(lines[1:] if re.fullmatch(r"image \d+", name) else lines))
    return titles


def _on_images(maps, images):
    geometry, values = getattr(maps, "geometry", None), np.asarray(maps)
    if geometry is not None:
        return [place_on_image(values[i], geometry, i) for i in range(len(values))]
    return [upsample_maps(values[i : i + 1], image.shape[:2])[0] for i, image in enumerate(images)]


def _new_grid(n_images, width, rows):
    """Axes of a new figure, of shape (n_images, width): an image and its maps side by side.

    Images of one heading of `rows` share lines; None: there are no headings.
    """
    headings = [""] * n_images if rows is None else list(map(str, rows))
    per_line = min(max(map(headings.count, headings)), max(1, _MOST_COLUMNS // width))
    lines, heights, n_columns = [], [], per_line * width
    for heading in dict.fromkeys(headings):
        members = [i for i in range(n_images) if headings[i] == heading]
        cells = [i * width + k for i in members for k in range(width)]
        for start in range(0, len(cells), n_columns):
            line = cells[start : start + n_columns]
            # A heading has a line of the grid to itself, so that no title runs into it.
            above = "" if start else heading
            lines += [[above] * n_columns, line + [""] * (n_columns - len(line))]
            heights += [0.2 if above else 0.01, 1]
    figure = new_figure((2.1 * n_columns, 1.3 * len(lines) + 0.9))
    axes = figure.subplot_mosaic(lines, height_ratios=heights, empty_sentinel="")
    for heading in filter(None, dict.fromkeys(headings)):
        axes[heading].set_axis_off()
        axes[heading].text(0, 0.5, heading, fontsize=11, fontweight="bold", va="center")
    return np.array([axes[k] for k in range(n_images * width)]).reshape(n_images, width)


def _draw_outline(ax, values, level, **style):
    """Draw where a map crosses a level, if it does."""
    if (values < level).any() and (values > level).any():
        ax.contour(values, levels=[level], linewidths=1.2, **style)


def _draw_color_bar(image, axes, name, threshold):
    """Say below all axes what the colours of a map mean, with a mark at the threshold."""
    place = {"location": "bottom", "shrink": 0.5, "aspect": 40, "pad": 0.02}
    bar = image.figure.colorbar(image, ax=axes.ravel().tolist(), **place)
    bar.set_label(f"{name} (grey: transparent)", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.ax.set_facecolor("0.6")
    if threshold is not None:
        bar.ax.axvline(threshold, color="black", lw=2)
        low, high = image.get_clim()
        bar.ax.set_title("threshold", x=(threshold - low) / (high - low), fontsize=8)
