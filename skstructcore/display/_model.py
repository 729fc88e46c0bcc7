"""What a model has learned, and whether a line has left it: bank, dependence, drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline

from .._utils.typing import ArrayLike, NDArray, Self
from .._utils.validation import check_same_length
from ..bank.dependence import MIN_FOR_SEQUENCE
from ..images.image_list import ImagesLike
from ..lifecycle.drift import DriftMonitor
from ..pipeline.describe import describe
from ..pipeline.steps import fitted_steps
from ._base import Display
from .style import BLUE, GREY, ORANGE, Axes, as_text, by_label, drawing, legend_beside, line_style


@dataclass(eq=False, repr=False)
class BankDisplay(Display):
    """The entries of a bank in two dimensions, by the training image that each was cut from.

    Parameters
    ----------
    coordinates : array-like of shape (n_entries, 2)
        Places of the entries, by principal components usually.
    image_index : array-like of shape (n_entries,)
        Position of the training image that each entry was cut from.
    routes : array-like of shape (n_entries,) of str, default=None
        The route that each entry belongs to.
    explained : float, default=None
        Share of the variance that the two dimensions show.
    is_there : array-like of shape (n_images,) of bool, default=None
        Which training images have not been forgotten, with entries or not; None: all, up to the
        last one that has an entry.

    Examples
    --------
    >>> from skstructcore.display import BankDisplay
    >>> BankDisplay([[0, 0], [1, 0], [0, 1]], [0, 4, 4]).entries_per_image().tolist()
    [1, 0, 0, 0, 2]
    """

    _size = (6.8, 4.8)
    _arrays = ("coordinates", "image_index", "routes")
    _finite = ("coordinates",)

    coordinates: ArrayLike
    image_index: ArrayLike
    _: KW_ONLY
    routes: ArrayLike | None = None
    explained: float | None = None
    is_there: ArrayLike | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (shape := self.coordinates.shape)[1:] != (2,):
            raise ValueError(f"coordinates must have shape (n_entries, 2), got {shape}.")

    @classmethod
    def from_estimator(cls, pipe: Pipeline, *, ax: Axes | None = None) -> Self:
        """Draw the bank of a fitted pipeline.

        Parameters
        ----------
        pipe, ax
            See `ScoreShiftDisplay.from_estimator`.
        """
        estimator = fitted_steps(pipe)[0]
        bank = estimator.bank_
        rows = np.asarray(bank.values, dtype=np.float32)
        pca = PCA(min(2, *rows.shape), random_state=0).fit(rows)
        coordinates = np.pad(pca.transform(rows), ((0, 0), (0, 2 - pca.n_components_)))
        is_routed = len(bank.route_names) > 1
        routes = np.array(bank.route_names, dtype=object)[bank.routes] if is_routed else None
        explained = float(np.nan_to_num(pca.explained_variance_ratio_.sum()))
        options = {"explained": explained, "is_there": estimator.images_.is_there}
        return cls(coordinates, bank.image_index, routes=routes, **options).plot(ax)

    def entries_per_image(self) -> NDArray[np.int64]:
        """Count the entries that come from each training image, by its position."""
        n_images = 0 if self.is_there is None else len(self.is_there)
        return np.bincount(self.image_index, minlength=n_images)

    def _draw(self, ax):
        options = {"cmap": "cividis", "vmin": 0, "vmax": max(int(self.image_index.max()), 1)}
        for route, style, mine in by_label(self.routes, len(self.coordinates)):
            drawn = ax.scatter(
                *self.coordinates[mine].T, c=self.image_index[mine], marker=style["marker"],
                s=18, alpha=0.8, linewidths=0, label=as_text(route), **options,
            )  # fmt: skip
        # Inside of the axes, which would become smaller with each drawing otherwise.
        bar = ax.inset_axes([1.03, 0, 0.04, 1])
        self.figure_.colorbar(drawn, cax=bar, label="training image, by position")
        share = "" if self.explained is None else f" ({100 * self.explained:.0f} % of the variance)"
        ax.set(xlabel=f"two principal components{share}", xticks=[], yticks=[])
        if self.routes is not None:
            ax.legend(title="route", fontsize=8)

    def plot_images(self, ax: Axes | None = None) -> Self:
        """Draw how many entries come from each training image; else like `plot`.

        A few images with very many entries are unlike all others: look at them, they may be no
        good parts.
        """
        ax = self._begin(ax, (7.4, 3.2))
        counts = self.entries_per_image()
        ax.stairs(counts, np.arange(len(counts) + 1) - 0.5, fill=True, color=BLUE, lw=0)
        n_images = len(counts) if self.is_there is None else np.sum(self.is_there)
        ax.axhline(counts.sum() / n_images, color=GREY, ls="--", label="mean")
        for image in np.argsort(-counts, kind="stable")[:3]:
            ax.text(image, counts[image], str(image), ha="center", va="bottom", fontsize=8)
        ax.set(xlabel="training image, by position", ylabel="entries of the bank")
        ax.set_ylim(0, 1.12 * counts.max())
        legend_beside(ax)
        return self


@dataclass(eq=False, repr=False)
class DependenceDisplay(Display):
    """How much more often than by chance training images explain each other, by lag.

    Parameters
    ----------
    lags : array-like of shape (n_lags,)
        Distances in the sequence of the training images; the smallest of each range of lags.
    ratio : array-like of shape (n_lags,)
        How many patches have their nearest bank entry in an image at this lag, divided by what
        the shares of the entries let expect: 1 where images are independent.
    limit : float or array-like of shape (n_lags,), default=None
        What the ratio would not exceed by chance.
    block_length : int, default=None
        Consecutive images that count as one block, a lot for instance.

    Examples
    --------
    >>> from skstructcore.display import DependenceDisplay
    >>> display = DependenceDisplay([1, 2, 4, 8], [5.2, 3.7, 1.4, 1.0], limit=1.2).plot()
    >>> display.ax_.get_ylabel()
    'explained / expected by chance'
    """

    _size = (6.4, 4)
    _arrays = _finite = ("lags", "ratio")

    lags: ArrayLike
    ratio: ArrayLike
    _: KW_ONLY
    limit: ArrayLike | None = None
    block_length: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if np.ndim(self.limit):
            check_same_length(lags=self.lags, limit=self.limit)

    @classmethod
    def from_estimator(
        cls, pipe: Pipeline, *, route: str | None = None, ax: Axes | None = None
    ) -> Self:
        """Draw what a pipeline that was fitted without groups has found in its training images.

        Parameters
        ----------
        pipe, ax
            See `ScoreShiftDisplay.from_estimator`.
        route : str, default=None
            One of ``pipe["bank"].dependence_``; None: the only one.
        """
        by_route = fitted_steps(pipe)[0].dependence_
        if by_route is None:
            raise ValueError(
                "The bank did not look for dependence, as it was fitted with groups, with "
                "groups=None or with a table: fit it on images, with bank__groups='auto'."
            )
        if not by_route:
            raise ValueError(
                f"No route has {MIN_FOR_SEQUENCE} training images whose patches were kept, of "
                "which dependence can be told: add images (or raise bank__max_memory, where the "
                "bank was selected from a stream)."
            )
        route = next(iter(by_route)) if route is None and len(by_route) == 1 else route
        if route not in by_route:
            names = ", ".join(map(repr, by_route))
            raise ValueError(f"route must be one of {names}, got {route!r}.")
        measured = by_route[route]
        block = measured.block_length if measured.block_length > 1 else None
        return cls(measured.lags, measured.ratio, limit=measured.limit, block_length=block).plot(ax)

    def _draw(self, ax):
        ax.axhline(1, color=GREY, ls="--", lw=1, label="independent images")
        ax.plot(self.lags, self.ratio, "o-", ms=4, color=BLUE, label="training images")
        if self.limit is not None:
            limit = np.broadcast_to(self.limit, self.ratio.shape)
            ax.plot(self.lags, limit, ":", color=GREY, label="by chance at most")
        if self.block_length is not None:
            shade = {"color": ORANGE, "alpha": 0.12, "lw": 0, "hatch": "//"}
            label = f"blocks of {self.block_length}"
            ax.axvspan(self.lags[0], self.block_length, label=label, **shade)
        ax.set_xscale("log", base=2)
        doubled = 2 ** np.arange(int(np.log2(max(self.lags.max(), 1))) + 1)
        ax.set_xticks(doubled, [str(lag) for lag in doubled])
        ax.set_xticks([], minor=True)
        ax.set(xlabel="lag in the sequence of training images")
        ax.set(ylabel="explained / expected by chance", ylim=(0, None))
        ax.legend(frameon=False)


@dataclass(eq=False, repr=False)
class DriftDisplay(Display):
    """The martingales of a `DriftMonitor` over the images of a line.

    Parameters
    ----------
    log10_evidence : DataFrame of shape (n_images, n_tests)
        After each image; a column a test. 0 is where each starts.
    log10_alarm : mapping of column to float
        Where each test gives an alarm.
    alarms : sequence of (position, text), default=()
        Each alarm: its image, and the name of its test.

    Examples
    --------
    >>> import pandas as pd
    >>> from skstructcore.display import DriftDisplay
    >>> evidence = pd.DataFrame({"higher scores": [0.0, -0.1, 0.8, 2.2]})
    >>> display = DriftDisplay(evidence, {"higher scores": 2.0}, [(3, "higher scores")])
    >>> display.plot().ax_.get_ylabel()
    'evidence of a change (log10)'
    """

    _size = (8, 3.8)
    _arrays = ("log10_evidence",)

    log10_evidence: pd.DataFrame
    log10_alarm: Mapping[str, float]
    alarms: Sequence[tuple[int, str]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if missing := [name for name in self.log10_evidence if name not in self.log10_alarm]:
            raise ValueError(f"log10_alarm has no entry for the tests {missing}.")

    @classmethod
    def from_estimator(cls, pipe: Pipeline, images: ImagesLike, *, ax: Axes | None = None) -> Self:
        """Watch images with a new `DriftMonitor` as it is by default, and draw; the backbone runs.

        Parameters
        ----------
        pipe, images, ax
            See `ScoreShiftDisplay.from_estimator`; images in the order in which they were made.
        """
        drawing()
        monitor = DriftMonitor(pipe)  # errors before the work
        return cls.from_predictions(describe(pipe, images), monitor, ax=ax)

    @classmethod
    def from_predictions(
        cls, described: pd.DataFrame, monitor: DriftMonitor, *, ax: Axes | None = None
    ) -> Self:
        """Feed a monitor with images one by one, and draw what it says after each.

        Parameters
        ----------
        described : DataFrame
            From `StructCoreScorer.describe`, in the order in which the images were made.
        monitor : DriftMonitor
            It takes the images in.
        ax
            See `plot`.
        """
        if not len(described):
            raise ValueError("There are no images to watch: at least one is needed.")
        monitor.check_table(described)  # all of it, before an image is taken in
        n_alarms, first, tables = len(monitor.alarms_), monitor.n_images_, []
        for i in range(len(described)):
            monitor.update(described.iloc[i : i + 1])
            tables.append(monitor.evidence())
        names = [_test_name(test) for test in tables[-1].itertuples()]
        rows = np.array([table["log10_evidence"] for table in tables])
        evidence = pd.DataFrame(rows, range(first, first + len(rows)), names)
        limits = dict(zip(names, tables[-1]["log10_alarm"], strict=True))
        alarms = [(alarm.image, _test_name(alarm)) for alarm in monitor.alarms_[n_alarms:]]
        return cls(evidence, limits, alarms).plot(ax)

    def _draw(self, ax):
        for k, name in enumerate(self.log10_evidence):
            ax.plot(self.log10_evidence[name], lw=1.5, label=as_text(name), **line_style(k))
        for limit in sorted(set(self.log10_alarm.values())):
            ax.axhline(limit, color=GREY, lw=1)
            across = {"transform": ax.get_yaxis_transform(), "va": "bottom"}
            ax.text(0.007, limit, "alarm", fontsize=8, color=GREY, **across)
        middle = np.mean(self.log10_evidence.index)
        for k, (position, text) in enumerate(self.alarms):  # names of near alarms do not overlap
            ax.axvline(position, color="black", lw=1, ls=":")
            up = {"transform": ax.get_xaxis_transform(), "va": "bottom"}
            up["ha"] = "right" if position > middle else "left"
            name = f"{as_text(text)}: {position}"
            ax.text(position, 1.01 + 0.06 * (k % 3), name, fontsize=8, **up)
        ax.set(xlabel="image, by position in the stream", ylabel="evidence of a change (log10)")
        legend_beside(ax)


def _test_name(test):
    return test.kind if test.route == "all" else f"{test.route}: {test.kind}"
