"""The decision about an image: above which score it is rejected, and how rare its score is.

Everything that accepts or rejects asks a `Decision`. A rule is one of its three classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from sklearn.utils.validation import check_array

from .._utils.columns import OF_WHOLE, take_rows
from .._utils.typing import ArrayLike, NDArray, Self
from .._utils.validation import check_number
from ..bank.training import MIN_IMAGES
from .conformal import ROUNDING, conformal_p_values, conformal_threshold, count_images
from .predictive import PredictiveTail, fit_predictive_tail

Rule = Literal["expected", "guaranteed", "quantile"]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out scores of n good images, from which a decision follows."""

    scores: NDArray[np.float64]
    groups: NDArray[Any] | None = None  # of images that count as one; None: each is its own
    weights: NDArray[np.float64] | None = None  # of each image, beside that; None: 1
    # Share of the scores, 0 to 1, that come from images outside the fit.
    fresh: float = field(default=0.0, metadata=OF_WHOLE)
    # Images were compared with themselves, so that nothing is known of new ones.
    in_sample: bool = field(default=False, metadata=OF_WHOLE)
    # How many independent images the location of new scores rests on: fewer than all after
    # `recalibrate`, which moves old scores to the few fresh ones; None: all.
    n_known: float | None = field(default=None, metadata=OF_WHOLE)

    @property
    def n_independent(self) -> int:
        """Number of groups, or of images where each is its own."""
        return len(self.scores) if self.groups is None else len(np.unique(self.groups))

    @property
    def counts(self) -> NDArray[np.float64]:
        """What each image counts: a share of its group, times its own weight."""
        return count_images(len(self.scores), self.groups, self.weights)


@dataclass(frozen=True, eq=False)
class Decision:
    """What is rejected, by the rule of the class, at one false-alarm rate."""

    asked_rate: float
    rate: float  # that the threshold stands for; larger than what was asked if there is a shortage
    threshold: float  # scores above it are rejected
    held_out: HeldOut  # from which all of this follows

    smallest_rate = 0.0  # that the rule can be asked for; 0: there is none
    interval = None  # limits of the true false-alarm rate, 90 % of the time; None: nothing says it
    shortage = None  # what the rule "guaranteed" says of too few images

    @property
    def scores(self) -> NDArray[np.float64]:
        return self.held_out.scores

    def rejects(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """Whether scores are rejected. One that is no number is no acceptance."""
        return ~(np.asarray(scores, dtype=np.float64) <= self.threshold)

    def p_values(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Return how often a good image scores at least as high, by the rule of the threshold.

        That is at most `rate` exactly where the score is rejected. NaN counts as the highest score.
        """
        scores = np.asarray(scores, dtype=np.float64)
        p_values = self._p_values(np.where(np.isnan(scores), np.inf, scores))
        # Rounding must not set p-values and decisions at odds.
        accepted = np.clip(p_values, np.nextafter(self.rate + ROUNDING, 1), 1.0)
        return np.where(self.rejects(scores), np.minimum(p_values, self.rate), accepted)

    def at(self, rate: float) -> Self:
        """The same rule and scores, at another false-alarm rate."""
        return decide(self.held_out, rate, self.rule)

    def without(self, images: NDArray[np.int64]) -> Self | None:
        """What the other images would decide, by their scores here; None: these are all equal."""
        others = take_rows(self.held_out, np.delete(np.arange(len(self.scores)), images))
        return self.learn(others, self.asked_rate) if np.ptp(others.scores) > 0 else None

    def promise(self, of: str = "images") -> str:
        """Say how many good images, or parts, it rejects."""
        if self.held_out.in_sample:
            return f"{Decision._promise(self, of)} (they were compared with themselves: in-sample)"
        return self._promise(of)

    __str__ = promise

    def _promise(self, of):
        return f"rejects an unknown share of good {of}"


@dataclass(frozen=True, eq=False)
class Expected(Decision):
    """By the `tail` of the scores; p-values are in (0, 1), and 0 where they are too small.

    Rates below ``1 / (n + 1)``, of n independent images, are extrapolated.
    """

    tail: PredictiveTail | None = None
    rule = "expected"

    @classmethod
    def learn(cls, held_out, rate):
        n_images = len(held_out.scores)
        if n_images < MIN_IMAGES:
            raise ValueError(
                f"threshold='expected' needs at least {MIN_IMAGES} good images, got n_samples = "
                f"{n_images}: add images, or use threshold='guaranteed'."
            )
        tail = fit_predictive_tail(held_out.scores, held_out.counts, fresh=held_out.fresh)
        return cls(rate, rate, float(tail.isf(rate)), held_out, tail)

    def _p_values(self, scores):
        return self.tail.sf(scores)

    @property
    def interval(self) -> tuple[float, float] | None:
        held_out = self.held_out
        if held_out.in_sample:
            return None
        return self.tail.interval(self.threshold, held_out.n_known)

    def _promise(self, of):
        low, high = map(percent, self.interval)
        text = f"rejects about {percent(self.rate)} of good {of} ({low} to {high}"
        n_independent = self.held_out.n_independent
        if self.rate * (n_independent + 1) < 1:
            text += f"; extrapolated from {n_independent} {of}"
        return text + ")"


@dataclass(frozen=True, eq=False)
class Guaranteed(Decision):
    """By the ranks of the scores; p-values are in [1 / (n + 1), 1] for n independent images."""

    rule = "guaranteed"

    @classmethod
    def learn(cls, held_out, rate):
        columns = {"groups": held_out.groups, "weights": held_out.weights}
        threshold, promised = conformal_threshold(held_out.scores, rate, **columns)
        return cls(rate, promised, threshold, held_out)

    def _p_values(self, scores):
        held_out = self.held_out
        return conformal_p_values(scores, held_out.scores, held_out.groups, held_out.weights)

    @property
    def smallest_rate(self) -> float:
        return float(self._p_values([np.inf])[0])

    @property
    def shortage(self) -> str | None:
        asked, rate, n_independent = self.asked_rate, self.rate, self.held_out.n_independent
        if rate <= asked + ROUNDING:
            return None
        images = f"{len(self.scores)} {'good' if self.held_out.fresh else 'training'} images"
        if n_independent < len(self.scores):
            images += f" in {n_independent} groups"
        needed = int(np.ceil(1 / asked - 1 - 1e-9))
        return (
            f"false_alarm_rate={asked:g} takes {needed} independent good images to guarantee; with "
            f"{images} the best guarantee is {rate:.1%}. The threshold is the largest of their "
            f"scores. Add images, ask for false_alarm_rate={np.ceil(1000 * rate) / 1000:g}, or use "
            "threshold='expected'."
        )

    def _promise(self, of):
        return f"rejects at most {percent(self.rate)} of good {of}"


@dataclass(frozen=True, eq=False)
class Quantile(Decision):
    """By the plain quantile of all scores; p-values are in [0, 1], and 0 from the largest on."""

    rule = "quantile"

    @classmethod
    def learn(cls, held_out, rate):
        return cls(rate, rate, float(np.quantile(held_out.scores, 1 - rate)), held_out)

    def _p_values(self, scores):
        # The inverse of `numpy.quantile`: where it is flat, the lowest share.
        shares, ranked = np.linspace(0, 1, len(self.scores)), np.sort(self.scores)
        lowest = np.append(shares, 1)[np.searchsorted(ranked, scores)]
        return 1 - np.minimum(np.interp(scores, ranked, shares), lowest)


#: How a threshold follows from held-out scores of good images.
RULES = {rule.rule: rule for rule in (Expected, Guaranteed, Quantile)}


def decide(
    scores: HeldOut | ArrayLike, false_alarm_rate: float, rule: Rule = "expected"
) -> Decision:
    """Set a threshold by held-out scores of good images, ``(n,)``, higher is more anomalous.

    `StructCoreScorer` says what the rules are, and the class of each in `RULES` how it goes.
    ValueError without scores, for one that is not finite, and for a rate beyond 0 and 1.
    """
    check_number(false_alarm_rate, "false_alarm_rate", 0, 1)
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(map(repr, RULES))}, got {rule!r}.")
    held_out = scores if isinstance(scores, HeldOut) else HeldOut(scores)
    scores = check_array(held_out.scores, dtype=np.float64, ensure_2d=False, input_name="scores")
    return RULES[rule].learn(replace(held_out, scores=scores), false_alarm_rate)


def decide_by_base(base: HeldOut, false_alarm_rate: float, rule: Rule) -> Decision:
    """`decide` by base scores; where all are equal nothing is rare, and the rule is "quantile"."""
    return decide(base, false_alarm_rate, rule if np.ptp(base.scores) > 0 else "quantile")


def check_scores(scores: ArrayLike) -> None:
    """Raise ValueError if scores are not finite: a damaged model must not judge anything."""
    if not np.isfinite(scores).all():
        raise ValueError(
            "The pipeline gives scores that are not finite numbers, so that it is damaged: load "
            "another copy, or fit again."
        )


def percent(share: float) -> str:
    """A share for people: two digits, and no more precision than it has.

    Examples
    --------
    >>> percent(0.05), percent(0.0123), percent(0.00042), percent(0.996), percent(1.0)
    ('5 %', '1.2 %', '0.042 %', '99.6 %', '100 %')
    """
    value = 100 * share
    return f"{value:.3g} %" if value > 99 else f"{value:.2g} %"
