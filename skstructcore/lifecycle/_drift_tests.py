"""The three tests that `DriftMonitor` runs for each route, and what has moved in its images."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from ..scoring.conformal import ROUNDING
from ..scoring.decision import Decision
from . import _martingale as bets

HIGHER, CHANGED, REJECTS = "higher scores", "changed scores", "more rejects"

# Attributes of `RouteTests` that images change.
_STATE = ("ranks", "capital", "over", "lot", "recent")
# Default share of defects on an unchanged line, of the images that are no false alarms.
_TOLERATED_DEFECTS = 0.1
_MOST_TOLERATED = 1 - 1e-6  # where all are rejected, nothing is more
# So many of the last images are kept to say what has shifted, and where.
_WINDOW = 200
# With fewer images before the change, the calibration images stand for what was normal.
_MIN_BEFORE = 20


def _tolerated(share, decision, chance):
    """The share of rejects that is no news; ValueError if false alarms may be more than `share`."""
    # Of n exchangeable images, `above` score above the threshold. The share of all good images
    # above the next lower score is distributed as Beta(above + 1, n - above).
    held_out, counts = decision.held_out, decision.held_out.counts
    n = held_out.n_known or float(counts.sum())
    above = n * float(counts[decision.rejects(decision.scores)].sum() / counts.sum())
    most = float(betaincinv(above + 1, n - above, 1 - chance)) if n > above else 1.0
    if share == "auto":
        return min(most + (1 - most) * _TOLERATED_DEFECTS, _MOST_TOLERATED)
    if share < most:
        raise ValueError(
            f"tolerated_rejects={share:g} is less than the false alarms that the threshold may "
            f"give on an unchanged line: up to {most:.2g} with "
            f"{held_out.n_known or held_out.n_independent:.0f} calibration images. Use more than "
            "that or 'auto', or recalibrate with more images or a smaller false_alarm_rate."
        )
    return share


class RouteTests:
    """Tests of one route, which share `alpha`.

    Of in-sample scores only `CHANGED` is tested. Where scores were moved, `HIGHER` is not.
    ValueError if `tolerated_rejects` is too small, see `DriftMonitor`.
    """

    def __init__(
        self, decision: Decision, alpha: float, tolerated_rejects: float | Literal["auto"]
    ) -> None:
        held_out, scores = decision.held_out, decision.scores
        n_bets = {HIGHER: len(bets.RISING), CHANGED: len(bets.ANY_CHANGE), REJECTS: 2}
        if held_out.in_sample:
            tests = [CHANGED]
        else:  # moved scores say only roughly where those of the line lie
            tests = [*n_bets] if held_out.n_known is None else [CHANGED, REJECTS]
        # One share of alpha is spent on the false-alarm rate, which is not known exactly.
        share = alpha / (len(tests) + 1)
        self.log_alarm = float(-np.log(share))  # log capital at which a test gives an alarm
        self.rate = decision.rate
        # Given the last calibration image that passes, those before it are a sample of what new
        # images that pass before it look like: these are compared.
        last = scores[~decision.rejects(scores)].max(initial=-np.inf)
        (self.lowest,) = decision.p_values([last]).tolist()  # smaller ones are not ranked
        self.ranks = {CHANGED: bets.OnlineRanks()}
        if REJECTS in tests:
            self.tolerated_rejects = _tolerated(tolerated_rejects, decision, share)
        if HIGHER in tests:
            if held_out.groups is not None:  # images of one group are alike: the first counts
                scores = scores[np.unique(held_out.groups, return_index=True)[1]]
            reference = decision.p_values(scores[scores < last]).tolist()
            # An image with the p-value of a calibration image scores at most as high as that one.
            self.ranks = {HIGHER: bets.OnlineRanks(-p + 1e-9 for p in reference), **self.ranks}
        self.capital = {test: bets.StartMixture(n_bets[test]) for test in tests}
        self.over, self.lot = set(), None
        self.recent = RecentImages()

    def begins_lot(self, lot: Any) -> bool:
        """Whether an image is the first of its lot, where lots come in runs."""
        before, self.lot = self.lot, str(lot)
        return self.lot != before

    def add(
        self, image: int, p_value: float, rejected: bool | None, ties: Sequence[float]
    ) -> Iterator[dict[str, Any]]:
        """Take in an image; yield what `DriftAlarm` has to say of each alarm."""
        if rejected is None:
            rejected = p_value <= self.rate + ROUNDING
        laid = {}
        if REJECTS in self.capital:
            laid[REJECTS] = bets.log_count_bets(bool(rejected), self.tolerated_rejects)
        if not rejected and p_value >= self.lowest - ROUNDING:
            for tie, (test, ranks) in zip(ties, self.ranks.items(), strict=False):
                rank = ranks.add(-p_value, tie)
                densities = bets.RISING if test == HIGHER else bets.ANY_CHANGE
                laid[test] = bets.log_beta_bets(rank, densities)
        for test, capital in self.capital.items():
            if test in self.over or test not in laid:
                continue
            log_value = capital.add(laid[test], image)
            if log_value >= self.log_alarm:
                self.over.add(test)
                evidence, since = float(np.exp(min(log_value, 700))), capital.start
                alarm = {"kind": test, "image": image, "since": since, "evidence": evidence}
                yield alarm | self.recent.shift_since(since)

    def state(self) -> dict[str, Any]:
        """What `set_state` takes up again, as JSON has it."""
        return json.loads(json.dumps({key: getattr(self, key) for key in _STATE}, default=_plain))

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take up the `state` of another."""
        ranks, capital, over, self.lot, recent = (state[key] for key in _STATE)
        self.over = set(over)
        self.ranks = {test: bets.OnlineRanks(ranks[test]["values"]) for test in self.ranks}
        for test, mixture in self.capital.items():
            vars(mixture).update({key: np.array(v)[()] for key, v in capital[test].items()})
        self.recent.columns, self.recent.before = recent["columns"], np.array(recent["before"])
        self.recent.grid = recent["grid"] and tuple(recent["grid"])
        self.recent.rows.extend((image, np.array(row)) for image, row in recent["rows"])


def _plain(value):
    """What JSON has for an array, set, queue or object of the state."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, set):
        return sorted(value)
    return list(value) if isinstance(value, deque) else vars(value)


class RecentImages:
    """Descriptors and maps of the last images; of all before, their sums."""

    def __init__(self) -> None:
        self.rows = deque(maxlen=_WINDOW)  # of each image its position, descriptors and map
        self.columns, self.grid, self.before = [], None, None

    def add(
        self,
        image: int,
        columns: Sequence[str],
        z: NDArray[np.float64],
        anomaly_map: NDArray[np.floating] | None,
    ) -> None:
        """Take in the standardised descriptors, named by `columns`, and the map of an image."""
        if len(columns) == 0:
            return
        row, grid = z, None
        if anomaly_map is not None:
            row, grid = np.concatenate([z, anomaly_map.ravel()]), anomaly_map.shape
        if (list(columns), grid) != (self.columns, self.grid):  # maps come, or no longer come
            self.columns, self.grid = list(columns), grid
            self.rows.clear()
            self.before = np.zeros((3, len(row)))
        if len(self.rows) == self.rows.maxlen:
            self.before += _sums(self.rows[0][1])
        self.rows.append((image, row))

    def shift_since(self, first: int) -> dict[str, Any]:
        """Which descriptor, and which place, has moved most since an image, see `DriftAlarm`."""
        after = np.array([row for image, row in self.rows if image >= first])
        if len(after) == 0:
            return {}
        earlier = (_sums(row) for image, row in self.rows if image < first)
        n, total, squares = sum(earlier, self.before)
        n_z, location, variance = len(self.columns), 0.0, 1.0
        knows_before = n[0] >= _MIN_BEFORE
        if knows_before:
            location = total / n
            variance = np.maximum(squares / n - location**2, 1e-12) * (1 + len(after) / n)
        shift = (after.mean(axis=0) - location) / np.sqrt(variance / len(after))
        largest = int(np.abs(shift[:n_z]).argmax())
        moved = {"descriptor": self.columns[largest], "shift": float(shift[largest])}
        if self.grid not in (None, (1, 1)) and knows_before:
            row, column = np.unravel_index(np.abs(shift[n_z:]).argmax(), self.grid)
            height, width = self.grid
            moved["place"] = (float((row + 0.5) / height), float((column + 0.5) / width))
        return moved


def _sums(row):
    """What `RecentImages` keeps of an image: its number, values and squares."""
    return np.stack([np.ones_like(row), row, row**2])
