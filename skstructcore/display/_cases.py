"""The cases a person wants to look at first: the worst and the best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..images.labels import GOOD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from typing_extensions import Self

    from ..evaluation.single import Evaluation

_CASES = {
    "hardest defects": (False, 1),
    "most suspicious good images": (True, -1),
    "clearest defects": (False, -1),
    "plainest good images": (True, 1),
}


class CasesDisplay:
    """Images beside their heat maps: the worst and the best cases of an evaluation.

    Parameters
    ----------
    images : list of ndarray of shape (h, w, 3), uint8
        The upright images.
    maps : list of ndarray of shape (h, w), float
        Their pixel maps, on the images; NaN where the backbone saw nothing.
    masks : list of ndarray of shape (h, w), bool, or None
        True defects, drawn as an outline; None for an image without one.
    titles : list of str
        What stands above each image.
    rows : list of str
        The kind of case that each image is; images of one kind share a row.
    limits : tuple of float
        Map values that are drawn transparent and in full colour.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore.display import CasesDisplay
    >>> display = CasesDisplay(
    ...     [np.zeros((8, 8, 3), np.uint8)], [np.zeros((8, 8))], [None], ["a"], ["all"], (0, 1)
    ... )
    >>> figure = display.plot()
    >>> len(figure.axes)
    2
    """

    def __init__(
        self,
        images: Sequence[NDArray[np.uint8]],
        maps: Sequence[NDArray[np.floating]],
        masks: Sequence[NDArray[np.bool_] | None],
        titles: Sequence[str],
        rows: list[str],
        limits: tuple[float, float],
    ) -> None:
        self.images = images
        self.maps = maps
        self.masks = masks
        self.titles = titles
        self.rows = rows
        self.limits = limits

    @classmethod
    def from_evaluation(cls, evaluation: Evaluation, n_cases: int = 3) -> Self:
        """Choose the worst and best cases of an evaluation.

        Parameters
        ----------
        evaluation : Evaluation
        n_cases : int, default=3
            How many images of each kind.

        Returns
        -------
        display : CasesDisplay
        """
        scores = evaluation.scores
        is_good = scores["defect_type"].to_numpy() == GOOD
        chosen, rows = [], []
        for kind, (good, direction) in _CASES.items():
            candidates = np.flatnonzero(is_good == good)
            ranked = candidates[
                np.argsort(direction * scores["anomaly_score"].to_numpy()[candidates])
            ]
            chosen += ranked[:n_cases].tolist()
            rows += [kind] * min(n_cases, len(ranked))
        verdicts = np.where(scores["is_anomalous"], "rejected", "accepted")
        titles = [
            f"{scores['defect_type'][i]}, {verdicts[i]}\nscore {scores['anomaly_score'][i]:.3g}"
            for i in chosen
        ]
        good_pixels = evaluation.pixel_maps[is_good]
        limits = (float(np.median(good_pixels)), float(np.quantile(evaluation.pixel_maps, 0.99)))
        return cls(
            [evaluation.image(i) for i in chosen],
            [evaluation.map_on_image(i) for i in chosen],
            [evaluation.mask(i) for i in chosen],
            titles,
            rows,
            limits,
        )

    def plot(self) -> Figure:
        """Draw the cases, a row for each kind.

        Returns
        -------
        figure : matplotlib.figure.Figure
        """
        # Not pyplot: a figure of its own touches no global state and needs no screen.
        from matplotlib.figure import Figure

        kinds = list(dict.fromkeys(self.rows))
        n_columns = max(self.rows.count(kind) for kind in kinds)
        figure = Figure(figsize=(4.2 * n_columns, 2.6 * len(kinds)), layout="constrained")
        bands = np.atleast_1d(figure.subfigures(len(kinds), 1))
        for band, kind in zip(bands, kinds, strict=True):
            band.suptitle(kind, fontsize=11, fontweight="bold")
            axes = band.subplots(1, 2 * n_columns, squeeze=False)[0]
            members = [i for i, row in enumerate(self.rows) if row == kind]
            for pair, case in zip(axes.reshape(-1, 2), members, strict=False):
                self._draw(*pair, case)
            for axis in axes[2 * len(members) :]:
                axis.remove()
        return figure

    def _draw(self, left, right, case):
        image, heat, mask = self.images[case], self.maps[case], self.masks[case]
        low, high = self.limits
        strength = np.clip((heat - low) / max(high - low, 1e-12), 0, 1)
        left.imshow(image)
        right.imshow(image)
        shown = np.nan_to_num(strength)
        right.imshow(shown, cmap="inferno", vmin=0, vmax=1, alpha=0.1 + 0.65 * np.sqrt(shown))
        for axis in (left, right):
            if mask is not None and mask.any() and not mask.all():
                axis.contour(mask, levels=[0.5], colors="cyan", linewidths=1)
            axis.set_axis_off()
        left.set_title(self.titles[case], fontsize=8, loc="left")
