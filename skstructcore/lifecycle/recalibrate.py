"""A new threshold for a fitted pipeline, without a new fit."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline

from .._utils.columns import join_rows
from .._utils.copies import with_attributes
from .._utils.validation import check_number
from .._utils.warning import renamed, warn_user
from ..bank.training import is_auto
from ..images.image_list import ImagesLike
from ..pipeline.steps import fitted_steps, with_steps
from ..routing import fit_tail
from ..scoring.decision import MIN_IMAGES, HeldOut, decide, decide_by_base
from ..scoring.parts import score_parts
from ..scoring.predictive import UPPER, weighted_quantiles
from ..scoring.routes import MIN_GROUPS_FOR_UNKNOWN, Routes
from ._fresh import fresh_images

__all__ = ["Recalibration", "recalibrate"]

_logger = logging.getLogger(__name__)

# From this number of fresh images (groups) on, the old scores do not count any more.
_ENOUGH = 50
# Of n scores, the standard error of the median, in spreads, and that of the logarithm of the
# spread, both times sqrt(n): normal scores have 1.5 and 1.6, those of Student's t 1.4 and 1.7.
_ERROR = 1.5
# From these numbers on, one odd image among them does not decide where the median and the
# 0.8-quantile are, so that these are followed.
_FOLLOW_LOCATION, _FOLLOW_SPREAD = 3, 10
_DECISIONS = ["route", "anomaly_score", "group", "was_anomalous", "is_anomalous", "changed"]


@dataclass(frozen=True, eq=False)
class Recalibration:
    """What `recalibrate` has changed.

    Attributes
    ----------
    thresholds : DataFrame
        A row a route: ``route``, ``n_images`` and ``n_groups`` that were given for it,
        ``old_threshold`` and ``new_threshold`` of the anomaly score, ``old_rate`` and
        ``new_rate`` that they stand for. With routes, anomaly scores of `describe` are scaled so
        that the threshold is 1; here they are not.
    decisions : DataFrame
        A row a good image, with its position among the images that were given as index: ``route``,
        ``anomaly_score``, ``group``, ``was_anomalous``, ``is_anomalous``, ``changed``. With routes
        scores are not scaled here either. Without images it has no rows.
    """

    thresholds: pd.DataFrame
    decisions: pd.DataFrame


@renamed("quantile", "false_alarm_rate", lambda quantile: round(1 - quantile, 12))
def recalibrate(
    pipe: Pipeline,
    images: ImagesLike | None = None,
    *,
    groups: ArrayLike | Literal["auto"] | None = "auto",
    categories: ArrayLike | str | None = "auto",
    parts: ArrayLike | Literal["auto"] | None = "auto",
    false_alarm_rate: float | None = None,
    weight_old: float = 0.0,
    force: bool = False,
) -> Pipeline:
    """Set the threshold of a fitted pipeline anew, from fresh good images.

    Bank and statistics stay, so that scores (with routes: before scaling) stay; threshold and
    p-values become those of the fresh images, by the rule of the pipeline ("guaranteed" where that
    is "quantile"). As they had no part in the fit, the rule "guaranteed" is exact for further
    images like them (split-conformal). With the rule "expected", n fresh images, fewer than 50,
    move location and spread of the last calibration n / 50 of the way: from 3 images on the
    location, from 10 on the spread at least to within a standard error of the fresh one. In-sample
    scores are never moved: fresh images, at least 5, decide alone, or any number of them together
    with the old ones at `weight_old`.

    Parameters
    ----------
    pipe : Pipeline
        Fitted, as `make_structcore` builds it. It is not changed.
    images : folder, sequence of paths, PIL images or arrays, or ndarray, default=None
        Good images that are not in the bank; whatever `pipe` takes. Those of an `ImageSet` that
        are labelled as defects are left out. None: only the false-alarm rate changes.
    groups : array-like of shape (n_images,), "auto" or None, default="auto"
        The part, shot or lot that each image shows; see `CoresetBank.fit`. Copies are of one group.
        Near-duplicates are found where all patches fit into ``bank__max_memory``.
    categories : array-like of shape (n_images,), str, "auto" or None, default="auto"
        With routes: the product of each image, or of all. "auto": those of the `ImageSet`, unless
        the fit found the routes (`n_routes`). None: the route that each image is sent to. Only
        routes with images are recalibrated.
    parts : array-like of shape (n_images,), "auto" or None, default="auto"
        The part that each image is a view of, needed where the pipeline decides about parts.
        "auto": those of the `ImageSet`.
    false_alarm_rate : float in (0, 1), default=None
        Share of further good images that may be rejected, on all routes; None: as before.
    weight_old : float in [0, 1], default=0.0
        What an image that calibrated the pipeline before counts, compared with a fresh one.
        Above 0 the promise is exact only as far as the line has not changed, and nothing is known
        of the rate where the old scores are in-sample. With the rule "expected" old scores are
        moved to the fresh ones, less the more they count; at 0 and from 50 fresh images on these
        decide alone.
    force : bool, default=False
        Whether to take images that look like defects, another product or another camera.

    Returns
    -------
    pipe : Pipeline
        With a new last step, whose ``recalibration_``, a `Recalibration`, says what has changed.

    Raises
    ------
    ValueError
        If there is nothing to recalibrate with; or if images are anomalous by a wide margin, of
        the bank, of another product or of another size than those of the fit, or their parts are
        not known where parts are decided.

    Warns
    -----
    UserWarning
        If the images are too few for the rate that is to be guaranteed.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import make_structcore, recalibrate
    >>> X = np.random.default_rng(0).normal(size=(300, 4))
    >>> pipe = make_structcore(structcore__false_alarm_rate=0.1)[2:].fit(X[:100])
    >>> later = recalibrate(pipe, X[100:199] * 1.1)
    >>> later[-1].recalibration_.thresholds[["n_images", "old_rate", "new_rate"]].round(2)
       n_images  old_rate  new_rate
    0        99       0.1       0.1
    >>> recalibrate(pipe, false_alarm_rate=0.05)[-1].false_alarm_rate_
    0.05
    """
    scorer, rate = fitted_steps(pipe)[-1], false_alarm_rate
    if rate is not None:
        check_number(rate, "false_alarm_rate", 0, 1)
    check_number(weight_old, "weight_old", 0, 1, closed="both")
    if images is None:
        if rate is None:
            raise ValueError("Give fresh good images, a false_alarm_rate, or both.")
        said = [value for value in (groups, categories, parts) if value is not None]
        if weight_old or not all(map(is_auto, said)):
            raise ValueError(
                "groups, categories, parts and weight_old are about fresh images: give these too."
            )
    # What was measured of lots is of the thresholds before.
    changed = with_attributes(scorer if rate is None else scorer.at(rate), lots_=None)
    decisions = pd.DataFrame(columns=_DECISIONS)
    if images is not None:
        if any(decision.rule == "quantile" for decision in scorer.routes_.decisions.values()):
            _logger.warning("Fresh images decide by 'guaranteed' instead of 'quantile'.")
        fresh = fresh_images(pipe, images, groups, categories, parts, force=force)
        _calibrate(changed, fresh.table, weight_old)
        now = changed.describe(fresh.maps)
        if scorer.part_decision_ is not None:
            by_part = score_parts(now["p_value"], fresh.good.parts)
            learned = by_part["anomaly_score"], fresh.table["group"][by_part["worst"]]
            changed.part_decision_ = _fresh_decision(changed.part_decision_, *learned, weight_old)
        decisions = _decisions(fresh, now["is_anomalous"])
    changed.recalibration_ = Recalibration(_thresholds(scorer, changed, decisions), decisions)
    _logger.info("Recalibrated:\n%s", changed.recalibration_.thresholds)
    short = [decision.shortage for decision in changed.routes_.decisions.values()]
    if any(short):
        warn_user(next(filter(None, short)))
    return with_steps(pipe, changed)


def _calibrate(scorer, fresh, weight_old):
    """Put fresh scores in the place of those that calibrated the scorer."""
    routes = dict(scorer.routes_)
    for name, mine in fresh.groupby("nearest_route"):
        route, tail = routes[name], routes[name].tail
        is_enough = mine["group"].nunique() >= MIN_GROUPS_FOR_UNKNOWN
        if tail is not None and is_enough and weight_old == 0:
            tail = fit_tail(mine["route_distance"].to_numpy(), mine["group"].to_numpy())
        calibration = _with_scores(route.calibration, mine, weight_old)
        routes[name] = replace(route, calibration=calibration, tail=tail, is_pooled=False)
    scorer.routes_ = Routes(routes)
    if not scorer.routes_.is_routed:
        scorer.calibration_ = routes["all"].calibration


def _with_scores(calibration, fresh, weight_old):
    """The same statistics, with decisions learned from the scores of fresh images."""
    old, base, groups = calibration.decision, calibration.base_decision, fresh["group"]
    decision = _fresh_decision(old, fresh["raw_score"], groups, weight_old)
    by_base = {"rule": old.rule, "learn": decide_by_base}
    base = _fresh_decision(base, fresh["base"], groups, weight_old, **by_base)
    return replace(calibration, decision=decision, base_decision=base)


def _fresh_decision(old, scores, groups, weight_old, *, rule=None, learn=decide):
    """A decision by fresh scores; at a weight, or where they are few, by old ones too."""
    rule = rule or old.rule
    if rule == "quantile":  # that of a few fresh scores promises nothing
        rule = "guaranteed"
    groups = np.unique(groups, return_inverse=True)[1]
    held_out, known = HeldOut(np.asarray(scores), groups, fresh=1.0), old.held_out
    is_few = held_out.n_independent < _ENOUGH
    if rule == "expected" and not known.in_sample and (is_few or weight_old > 0):
        held_out = _moved(known, held_out, weight_old)
    elif weight_old > 0:
        held_out = _joined(known, held_out, weight_old)
    return learn(held_out, old.asked_rate, rule)


def _joined(old, fresh, weight):
    """The old images, of which each counts `weight`, and fresh ones."""
    groups = np.arange(len(old.scores)) if old.groups is None else old.groups
    codes = np.unique(groups, return_inverse=True)[1]
    fresh = replace(_weighed(fresh, 1.0), groups=fresh.groups + codes.max() + 1)
    joined = join_rows(replace(_weighed(old, weight), groups=codes), fresh)
    kept = 1 - len(fresh.scores) / float(joined.weights.sum())  # how much of the old scores is kept
    return replace(joined, fresh=1 - kept * (1 - old.fresh))


def _weighed(held_out, weight):
    """The same scores, of which each counts `weight` times as much."""
    before = 1.0 if held_out.weights is None else held_out.weights
    return replace(held_out, weights=weight * before * np.ones(len(held_out.scores)))


def _moved(old, fresh, weight):
    """Old scores, moved to where fresh ones lie.

    Of n fresh scores, fewer than 50, location and logarithm of the spread move n / 50 of the way,
    or to within a standard error of theirs where that is more (a limited translation, Efron and
    Morris 1972); but never farther than n fresh images beside old ones of that `weight` would pull.
    """
    n, n_old = fresh.n_independent, float(old.counts.sum())
    (location, spread), (new_location, new_spread) = map(_middle, (old, fresh))
    shift, widening, error = new_location - location, 0.0, _ERROR / np.sqrt(n)
    if n >= MIN_IMAGES and min(spread, new_spread) > 0:
        # The logarithm of the spread of n scores is too small by half of its variance.
        widening = np.log(new_spread / spread) + error**2 / 2
    least, most = min(n / _ENOUGH, 1.0), n / (n + weight * n_old)
    widened = _part(widening, error if n >= _FOLLOW_SPREAD else np.inf, least)
    error *= spread * np.exp(widened * widening)  # in scores
    shifted = _part(shift, error if n >= _FOLLOW_LOCATION else np.inf, least)
    about_zero = np.exp(min(widened, most) * widening) * (old.scores - location)
    return replace(
        _weighed(old, max(1.0, weight + n / n_old)),
        scores=location + min(shifted, most) * shift + about_zero,
        fresh=old.fresh + (1 - old.fresh) * min(least, most),
        n_known=n + weight * (old.n_known or n_old),  # of a line that has changed
    )


def _part(way, error, least):
    """The part of a way that leads to within `error` of its end; the part `least` at least."""
    return max(least, 1 - error / abs(way)) if abs(way) > error else least


def _middle(held_out):
    """Location and spread of scores, as a tail reads them."""
    location, upper = weighted_quantiles(held_out.scores, held_out.counts, [0.5, UPPER])
    return location, upper - location


def _decisions(fresh, now):
    """What was, and what is decided about the fresh images."""
    was = fresh.table[["nearest_route", "raw_score", "group", "is_anomalous"]]
    table = was.assign(now=now, changed=now != was["is_anomalous"])
    return table.set_axis(_DECISIONS, axis=1).set_axis(fresh.good.places)


def _thresholds(old, new, decisions):
    given = decisions.groupby("route")["group"].agg(n_images="size", n_groups="nunique")
    table = given.reindex([*new.routes_], fill_value=0).rename_axis("route").reset_index()
    for name in ("threshold", "rate"):
        for when, scorer in (("old", old), ("new", new)):
            decided = scorer.routes_.decisions.values()
            table[f"{when}_{name}"] = [getattr(decision, name) for decision in decided]
    return table
