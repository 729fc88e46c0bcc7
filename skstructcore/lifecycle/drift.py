"""Notice that a line has changed, with a bound on the chance of ever being wrong about it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline

from .._utils.files import escape_name
from .._utils.validation import check_labels, check_number
from ..images.image_list import ImagesLike
from ..pipeline.steps import fitted_steps
from ..scoring.decision import check_scores
from ._drift_tests import RouteTests

__all__ = ["DriftAlarm", "DriftMonitor"]

_logger = logging.getLogger(__name__)

_VERSION = 4  # of the state
_PARAMETERS = ("alpha", "tolerated_rejects", "random_state")


@dataclass(frozen=True)
class DriftAlarm:
    """What a `DriftMonitor` has noticed.

    Attributes
    ----------
    route : str
        The product whose images have changed; "all" without routes.
    kind : {"higher scores", "changed scores", "more rejects"}
        Which of the three tests gave the alarm, see `DriftMonitor`.
    image : int
        Position in the whole stream of the image that gave it.
    since : int
        Position of the image from which the evidence has grown.
    evidence : float
        Value of the martingale. It started at 1 and reached ``1 / alpha`` of this test.
    descriptor : str or None
        Column of `describe` that has shifted most; None if only p-values were seen.
    shift : float
        By how many of its standard errors.
    place : tuple of (float, float) or None
        Where the maps have changed most, as shares of the image's height and width.
    """

    route: str
    kind: str
    image: int
    since: int
    evidence: float
    descriptor: str | None = None
    shift: float = float("nan")
    place: tuple[float, float] | None = None

    def __str__(self) -> str:
        text = f"{self.kind} since about image {self.since} (noticed at {self.image})"
        if self.route != "all":
            text = f"{escape_name(self.route)}: {text}"
        if self.descriptor is not None:
            text += f"; most in {self.descriptor} ({self.shift:+.1f} standard errors)"
        if self.place is not None:
            row, column = self.place
            text += f"; most at {row:.0%} of the height and {column:.0%} of the width"
        return text


class DriftMonitor:
    """Watch the images of a line as they come, and say when they are no longer the same.

    For each route three martingales bet against "nothing has changed":

    - *higher scores*: images that pass rank higher than calibration says;
    - *changed scores*: images that pass rank otherwise among those before them, in any direction;
      it needs no calibration, but cannot see a change that was there from the start;
    - *more rejects*: more than `tolerated_rejects` of all images are decided anomalous.

    Only images that pass are ranked, against the calibration scores that would pass: real
    defects on an unchanged line are no drift.

    Parameters
    ----------
    pipe : Pipeline
        Fitted, as `make_structcore` builds it. It is not changed, and not saved in the state.
    alpha : float in (0, 1), default=0.01
        Bound on the chance of *ever* raising an alarm on an unchanged line, over all routes and
        tests together.
    tolerated_rejects : float in (0, 1) or "auto", default="auto"
        Share of images that may be decided anomalous without being news. "auto": a tenth, beside
        as many false alarms as the threshold of a route may give.
    random_state : int, default=0
        Orders images of equal p-value.

    Attributes
    ----------
    alarms_ : list of DriftAlarm
        All alarms so far. A test that has given one is over: when the line has been put right, or
        `recalibrate` has set a threshold for what it looks like now, begin a new monitor.
    n_images_ : int
        How many images came.

    Notes
    -----
    The bound holds while good images are exchangeable with the calibration images: exactly where
    fresh images alone decide after `recalibrate`; with the held-out scores of training images as
    far as those are not lower than scores of new images. Where `recalibrate` has moved old scores,
    "higher scores" is not tested; after an in-sample fit, whose scores are too low, neither is
    "more rejects". Images that come in lots are no independent evidence: pass their lots as
    `groups`, and the first image of each counts. The state keeps a number for each image that
    passes, about 20 MB of JSON for a million.

    References
    ----------
    Vovk, V. (2021). Testing randomness online. Statistical Science 36(4).

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import DriftMonitor, make_structcore
    >>> X = np.random.default_rng(0).normal(size=(300, 4))
    >>> monitor = DriftMonitor(make_structcore()[2:].fit(X[:100]))
    >>> monitor.update(X[100:200])
    []
    >>> monitor.update(X[200:] + 1.5)[0].kind
    'higher scores'
    """

    def __init__(
        self,
        pipe: Pipeline,
        alpha: float = 0.01,
        *,
        tolerated_rejects: float | Literal["auto"] = "auto",
        random_state: int = 0,
    ) -> None:
        check_number(alpha, "alpha", 0, 1)
        if tolerated_rejects != "auto":
            check_number(tolerated_rejects, "tolerated_rejects", 0, 1)
            tolerated_rejects = float(tolerated_rejects)  # of Python, as JSON has numbers
        check_number(random_state, "random_state", 0, closed="left", type=Integral)
        self.pipe, self.alpha, self.random_state = pipe, float(alpha), int(random_state)
        self.tolerated_rejects = tolerated_rejects
        decisions = fitted_steps(pipe)[-1].routes_.decisions
        for decision in decisions.values():
            check_scores([*decision.scores, decision.threshold])
        if any(decision.held_out.in_sample for decision in decisions.values()):
            _logger.warning(
                "The pipeline was calibrated in-sample: higher scores and more rejects than in "
                "training mean nothing, and are not tested. recalibrate it with good images."
            )
        per_route = self.alpha / len(decisions)
        self._tests = {k: RouteTests(d, per_route, tolerated_rejects) for k, d in decisions.items()}
        self._random = np.random.default_rng(random_state)
        self.alarms_, self.n_images_ = [], 0

    def update(
        self, X: ImagesLike | pd.DataFrame | ArrayLike, groups: ArrayLike | None = None
    ) -> list[DriftAlarm]:
        """Take in images, in the order in which they were made; return each `DriftAlarm` of them.

        Parameters
        ----------
        X : images, DataFrame or array-like of shape (n_images,)
            What the pipeline takes; or the table that `describe` gave for the images; or, where
            there are no routes, their p-values. Only images tell at which place a shift is.
        groups : array-like of shape (n_images,), default=None
            The lot of each image, in runs. Of a lot only the first image counts.

        Raises
        ------
        ValueError
            If the table lacks values, or has routes that are not known; no image is taken in then.
        """
        table, maps = self._describe(X)
        groups = None if groups is None else check_labels(groups, len(table), "groups")
        routes, p_values = _routes_of(table), table["p_value"].to_numpy(np.float64)
        rejected = list(table.get("is_anomalous", [None] * len(table)))
        z = table.filter(regex="^z_")
        columns, z = list(z), z.to_numpy(np.float64)
        new = []
        for i, tie in enumerate(self._random.random((len(table), 2))):
            tests = self._tests[routes[i]]
            if groups is None or tests.begins_lot(groups[i]):
                row = None if maps is None else maps[i]
                tests.recent.add(self.n_images_, columns, z[i], row)
                for alarm in tests.add(self.n_images_, p_values[i], rejected[i], tie):
                    new.append(DriftAlarm(routes[i], **alarm))
            self.n_images_ += 1
        for alarm in new:
            _logger.warning("Drift: %s", alarm)
        self.alarms_ += new
        return new

    def evidence(self) -> pd.DataFrame:
        """Return how the martingales stand, a DataFrame with a row a route and test.

        Columns are ``route``, ``kind``, ``n_images`` that counted, ``log10_evidence``,
        ``log10_alarm`` at which it alarms, and ``is_over``.
        """
        rows = [
            (name, kind, test.n_steps, test.log_value, tests.log_alarm, kind in tests.over)
            for name, tests in self._tests.items()
            for kind, test in tests.capital.items()
        ]
        log10 = ["log10_evidence", "log10_alarm"]
        table = pd.DataFrame(rows, columns=["route", "kind", "n_images", *log10, "is_over"])
        table[log10] /= np.log(10)
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return the state, of plain lists and numbers, ready for `json.dump`."""
        state = {
            "version": _VERSION,
            "fingerprint": _fingerprint(self.pipe),
            "parameters": {name: getattr(self, name) for name in _PARAMETERS},
            "generator": self._random.bit_generator.state,
            "n_images": self.n_images_,
            "alarms": [vars(alarm) for alarm in self.alarms_],
            "routes": {name: tests.state() for name, tests in self._tests.items()},
        }
        return {**state, "checksum": _digest(state)}

    @classmethod
    def from_dict(cls, pipe: Pipeline, state: Mapping[str, Any]) -> DriftMonitor:
        """Return a `DriftMonitor` that continues where `to_dict` was called.

        Parameters
        ----------
        pipe : Pipeline
            The one that was watched, with the same calibration.
        state : dict
            What `to_dict` returned, also after it was JSON.

        Raises
        ------
        ValueError
            If the pipeline or its calibration is another, or the state is of another release or
            not as it was written.
        """
        if not isinstance(state, Mapping) or state.get("version") != _VERSION:
            raise ValueError(
                "state is no state of DriftMonitor.to_dict, or one of an earlier release: "
                f"{list(state)[:5] if isinstance(state, Mapping) else type(state).__name__}."
            )
        if state.get("fingerprint") != _fingerprint(pipe):
            raise ValueError(
                "The state belongs to another pipeline, or to one with another calibration "
                "(recalibrated or refitted since): begin a new DriftMonitor."
            )
        if state.get("checksum") != _digest({k: v for k, v in state.items() if k != "checksum"}):
            raise ValueError("The state is not as it was written: begin a new DriftMonitor.")
        monitor = cls(pipe, **state["parameters"])
        monitor._random.bit_generator.state = state["generator"]
        monitor.n_images_ = state["n_images"]
        for alarm in state["alarms"]:
            place = alarm["place"] and tuple(alarm["place"])
            monitor.alarms_.append(DriftAlarm(**{**alarm, "place": place}))
        for name, tests in monitor._tests.items():
            tests.set_state(state["routes"][name])
        return monitor

    def _describe(self, X):
        """Table with p-values, and maps where images were given."""
        is_row = isinstance(X, list | tuple | np.ndarray | pd.Series)
        are_numbers = is_row and all(value is None or isinstance(value, Real) for value in X)
        if are_numbers and np.ndim(X) == 1:
            X = pd.DataFrame({"p_value": np.asarray(X, dtype=np.float64)})
        if isinstance(X, pd.DataFrame):
            self.check_table(X)
            return X, None
        maps = self.pipe[:-1].transform(X)
        return self.pipe[-1].describe(maps), np.asarray(maps.values)

    def check_table(self, table: pd.DataFrame) -> None:
        """Raise ValueError unless `update` can take in every row of a table of `describe`."""
        if "p_value" not in table:
            raise ValueError("X is a table without p_value: give what describe returns.")
        p_values = pd.to_numeric(table["p_value"], errors="coerce")
        p_values = p_values.to_numpy(np.float64, na_value=np.nan)
        if len(wrong := np.flatnonzero(~((p_values >= 0) & (p_values <= 1)))):
            raise ValueError(
                f"p-values must be between 0 and 1, got {p_values[wrong[0]]} for image {wrong[0]}. "
                "Leave out images that have no score."
            )
        unknown = sorted(set(_routes_of(table)) - set(self._tests))
        if unknown:
            raise ValueError(
                f"X has the routes {', '.join(unknown)}, but the pipeline knows "
                f"{', '.join(self._tests)}: give the table of this pipeline's describe, or images."
            )
        for image, decided in enumerate(table.get("is_anomalous", ())):
            if not isinstance(decided, bool | np.bool_):
                raise ValueError(
                    f"is_anomalous must be True or False, got {decided!r} for image {image}. Leave "
                    "out images that have no decision."
                )


def _routes_of(table):
    """The route of each image; "all" without routes."""
    return [str(name) for name in table.get("nearest_route", ["all"] * len(table))]


def _fingerprint(pipe):
    decisions = pipe[-1].routes_.decisions
    return _digest({name: [d.threshold, *d.scores.tolist()] for name, d in decisions.items()})


def _digest(values):
    """Digest of plain lists and numbers, whether or not they have been JSON since."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
