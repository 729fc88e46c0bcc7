"""The image score: calibrated evidence from the whole anomaly map, not its maximum alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from numbers import Real
from typing import Literal

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, OutlierMixin, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._utils.copies import with_attributes
from .._utils.rows import ContainerOutputMixin
from .._utils.typing import ArrayLike, NDArray, Self
from .._utils.warning import warn_user
from .._version import __version__
from ..containers import AnomalyMaps
from .calibration import NORMS, Norm, fit_calibration
from .decision import MIN_IMAGES, RULES, HeldOut, Rule, decide
from .descriptors import DescriptorsLike, looks_at_surprise, shown, weighted, without_surprise
from .evidence import Evidence, at_pixels, check_maps, collect_evidence
from .parts import score_parts
from .routes import RouteCalibration, Routes, calibrate, rates_by_lot
from .summary import explain_routes, unlike_the_others, what_it_rejects
from .table import describe_maps

_DEFAULT_RATE = 0.01
_logger = logging.getLogger(__name__)


class StructCoreScorer(OutlierMixin, ContainerOutputMixin, TransformerMixin, BaseEstimator):
    """Turn anomaly maps into calibrated image scores, decisions and pixel maps.

    The anomaly score of an image with distance map ``S`` is ``max(S) + lam * D_struct``, where
    ``D_struct`` combines ``z = (phi - location) / scale``, the descriptors of its maps standardised
    by those of good training images. Descriptors look at the distances ``S`` or at the *surprise*,
    the same distances judged by what is normal for such content (`skstructcore.knn.surprise`).

    Parameters
    ----------
    norm : {"sum", "l2", "linf"}, default="sum"
        How ``z`` becomes ``D_struct``: the signed sum, or a norm of the paper.
    lam : "auto", "struct-only" or float >= 0, default="auto"
        Weight of ``D_struct``. "auto": ``std(base)`` for the sum, so that the base is one more
        ``z``, and, as published, ``std(base) / std(D_struct)`` for the norms. "struct-only": the
        base score does not count.
    quantile : float in (0, 1), default=None
        The paper's word: one minus `false_alarm_rate`. If it is given, it replaces that.
    false_alarm_rate : float in (0, 1), default=0.01
        Share of further good images that may be rejected.
    descriptors : "default", sequence of str or callable, or dict of these to float, \
            default="default"
        Entries of ``phi``, see `skstructcore.scoring.descriptors`, each with the factor of its
        ``z``: 1 in a sequence, or given by a dict. "default": `DEFAULT_PHI` there.
        ``surprise_<name>`` looks at the surprise map. Where the training maps carry none
        (``calibration="in-sample"``, plain arrays), ``<name>`` takes its place, under its own
        name.
    resolution : {"grid", "full"}, default="grid"
        Whether descriptors look at the patch grid or at the pixel map that `transform` returns.
    threshold : {"expected", "guaranteed", "quantile"}, default="expected"
        "expected": `false_alarm_rate` is the expected rate for further images like the training
        images, by a smooth, robust tail of their held-out scores. "guaranteed": the rate is never
        larger, whatever the distribution; few images can guarantee a large rate only, and then the
        threshold is their largest score. "quantile": of the training scores, as published; promises
        nothing.
    unknown_level : float in (0, 0.5), default=0.005
        With routes: the share of images of known products that may be called unknown.

    Attributes
    ----------
    calibration_ : ScoreCalibration
        Location and scale of the descriptors of good images, of all routes together.
    routes_ : Routes, a mapping of str to RouteCalibration
        The same for each route; for "all" where the training maps have no routes. With routes,
        scores are standardised: 0 is the median of the good training images of the route, 1 its
        threshold. A route with fewer than 8 independent images is judged by the statistics of all
        together. ``routes_.decisions`` are their thresholds and p-values.
    descriptors_ : dict of str or callable to float
        `descriptors` with their weights, as far as the training maps have what they look at.
    uses_surprise_ : bool
        Whether any of them looks at the surprise, so that new maps need it too.
    training_ : Evidence
        Base score, descriptors, group and route of each training image.
    map_shape_ : tuple of (int, int)
        Height and width of the maps, in patches.
    n_features_in_ : int
        Width of the maps.
    false_alarm_rate_ : float
        The rate that the threshold stands for: images with a p-value of at most this are rejected.
        Larger than what was asked for where ``threshold="guaranteed"`` has too few images. With
        routes the largest; each has its own in ``routes_.decisions``.
    part_decision_ : Decision or None
        About parts with several views, see `skstructcore.describe_parts`; None without parts.
    lots_ : LotRates or None
        Where training images come in lots or groups: each left out in turn, the share of its good
        images that the threshold of the others rejects. Known after `fit` only.
    offset_ : float
        Minus the threshold: ``decision_function = score_samples - offset_``. -1 with routes.
    version_ : str
        Of skstructcore, that learned all this.

    Warns
    -----
    UserWarning
        In `fit`, once: if there are too few images (groups) to guarantee the false-alarm rate,
        for statistics of a route's own, or to tell unknown products.

    References
    ----------
    Chae, J. et al. (2026). StructCore: structure-aware image-level scoring for training-free
    unsupervised anomaly detection. arXiv:2602.17048.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import StructCoreScorer
    >>> rng = np.random.default_rng(0)
    >>> maps = rng.random((50, 8, 8))
    >>> scorer = StructCoreScorer(false_alarm_rate=0.1).fit(maps[:40])
    >>> scorer.predict(5 * maps[40:42])
    array([-1, -1])
    >>> scorer.describe(maps[40:41])[["base", "anomaly_score", "is_anomalous"]].round(2)
       base  anomaly_score  is_anomalous
    0   1.0           0.98         False
    """

    routes_: Routes
    training_: Evidence

    _parameter_constraints = {
        "norm": [StrOptions(set(NORMS))],
        "lam": [StrOptions({"auto", "struct-only"}), Interval(Real, 0, None, closed="left")],
        "quantile": [Interval(Real, 0, 1, closed="neither"), None],
        "false_alarm_rate": [Interval(Real, 0, 1, closed="neither")],
        "descriptors": [StrOptions({"default"}), list, tuple, dict],
        "resolution": [StrOptions({"grid", "full"})],
        "threshold": [StrOptions({*RULES, "conformal"})],
        "unknown_level": [Interval(Real, 0, 0.5, closed="neither")],
    }

    def __init__(
        self,
        norm: Norm = "sum",
        lam: float | Literal["auto", "struct-only"] = "auto",
        quantile: float | None = None,
        *,
        false_alarm_rate: float = _DEFAULT_RATE,
        descriptors: Literal["default"] | DescriptorsLike = "default",
        resolution: Literal["grid", "full"] = "grid",
        threshold: Rule = "expected",
        unknown_level: float = 0.005,
    ) -> None:
        self.norm = norm
        self.lam = lam
        self.quantile = quantile
        self.false_alarm_rate = false_alarm_rate
        self.descriptors = descriptors
        self.resolution = resolution
        self.threshold = threshold
        self.unknown_level = unknown_level

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: AnomalyMaps | ArrayLike, y: object = None) -> Self:
        """Learn what maps of good images look like.

        Parameters
        ----------
        X : AnomalyMaps or array-like of shape (n_samples, h, w) or (n_samples, n_features)
            Maps of good training images, scored held-out; a table is maps of one row.
        y : Ignored

        Returns
        -------
        self : StructCoreScorer
        """
        maps = check_maps(self, X, reset=True)
        descriptors = weighted(self.descriptors)
        bare = maps.surprise is None
        self.descriptors_ = without_surprise(descriptors) if bare else descriptors
        self.training_ = self.evidence_of(maps)
        self.calibrate()
        # Where images have groups, training scores are held out by these already.
        apart = self.training_ if maps.without_lot is None else self.evidence_of(maps.without_lot)
        self.lots_ = rates_by_lot(self.training_, apart, self.routes_)
        for sentence in unlike_the_others(self):
            _logger.warning("%s (audit lists such images, forget takes them out)", sentence[:-1])
        for sentence in what_it_rejects(self):
            _logger.info("%s", sentence)
        return self

    def evidence_of(self, maps: AnomalyMaps) -> Evidence:
        """Return what the maps of images say, and what is known of the images."""
        return collect_evidence(maps, shown(self.descriptors_), self.resolution)

    def calibrate(self) -> Self:
        """Learn what is normal from ``training_``: the last part of `fit`."""
        self.calibration_, self.routes_ = calibrate(self.training_, **self._options())
        self.part_decision_ = self._decide_parts()
        self.version_ = __version__
        if messages := explain_routes(self.routes_):
            warn_user(" ".join(messages))
        return self

    def with_training(
        self, training: Evidence, routes: Mapping[str, RouteCalibration] | None = None
    ) -> Self:
        """Return a copy with other training images, of which `routes` may be known already."""
        changed = with_attributes(self, training_=training, lots_=None)
        vars(changed).pop("recalibration_", None)
        if routes is None:
            return changed.calibrate()
        if len(training) >= MIN_IMAGES:
            changed.calibration_ = fit_calibration(training, **changed._options())
        changed.routes_ = Routes(dict(routes))
        changed.part_decision_ = changed._decide_parts()
        return changed

    def at(self, rate: float) -> Self:
        """Return a copy with the thresholds of another false-alarm rate, on all routes."""
        changed = with_attributes(self, false_alarm_rate=rate, quantile=None, lots_=None)
        changed.calibration_, changed.routes_ = self.calibration_.at(rate), self.routes_.at(rate)
        changed.part_decision_ = self.part_decision_ and self.part_decision_.at(rate)
        return changed

    def _validate_params(self):
        super()._validate_params()
        self._asked_rate()
        weighted(self.descriptors)

    def _options(self):
        weights, rate = list(self.descriptors_.values()), self._asked_rate()
        options = {"norm": self.norm, "lam": self.lam, "weights": weights}
        return options | {"false_alarm_rate": rate, "threshold": self._rule()}

    def _decide_parts(self):
        """The decision about parts, by held-out training parts; None where there are none."""
        training = self.training_
        if training.parts is None:
            return None
        p_values = np.empty(len(training))
        for name, route in self.routes_.items():
            mine = training.rows_of(name)
            p_values[mine] = route.calibration.judge(training.take(mine)).p_value
        # The rule "quantile" gives 0 to the highest of each route, and to all that is above it.
        p_values[p_values == 0] = 0.5 / len(p_values)
        scores = score_parts(p_values, training.parts)["anomaly_score"].to_numpy()
        # All views have one group; where a lot is held out for some routes only, that comes first.
        groups = pd.Series(training.groups).groupby(training.parts, sort=False).min().to_numpy()
        if len(scores) < MIN_IMAGES:
            raise ValueError(
                f"A decision about parts is learned from at least {MIN_IMAGES} good parts, got "
                f"{len(scores)}: add parts, or leave parts= out."
            )
        held_out = HeldOut(scores, groups, in_sample=training.in_sample)
        return decide(held_out, self._asked_rate(), self._rule())

    def _asked_rate(self):
        if self.quantile is None:
            return self.false_alarm_rate
        rate = round(1 - self.quantile, 12)
        if self.false_alarm_rate not in (rate, _DEFAULT_RATE):
            raise ValueError(
                f"quantile={self.quantile:g} and false_alarm_rate={self.false_alarm_rate:g} say "
                "different things: set one of them, and quantile=None for the other."
            )
        return rate

    def _rule(self):
        if self.threshold != "conformal":
            return self.threshold
        warn_user("threshold='conformal' is called 'guaranteed' now.", FutureWarning)
        return "guaranteed"

    @property
    def offset_(self) -> float:
        return -1.0 if self.routes_.is_routed else -self.routes_.decisions["all"].threshold

    @property
    def false_alarm_rate_(self) -> float:
        return max(decision.rate for decision in self.routes_.decisions.values())

    @property
    def uses_surprise_(self) -> bool:
        return any(map(looks_at_surprise, self.descriptors_))

    def score_samples(self, X: AnomalyMaps | ArrayLike) -> NDArray[np.float64]:
        """Return minus the anomaly scores, (n_samples,), float64; higher is more normal."""
        evidence = self.evidence_of(self._fitted_maps(X))
        return -self.routes_.judge(evidence, self.unknown_level).score

    def decision_function(self, X: AnomalyMaps | ArrayLike) -> NDArray[np.float64]:
        """Return ``score_samples(X) - offset_``, (n_samples,), float64; negative is anomalous."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: AnomalyMaps | ArrayLike) -> NDArray[np.int64]:
        """Return +1 for normal and -1 for anomalous images, (n_samples,), int64.

        A score that is not a number, of an image that could not be judged, is no acceptance.
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def transform(self, X: AnomalyMaps | ArrayLike) -> NDArray[np.float32]:
        """Return pixel maps (n_samples, H, W), float32: bilinear to the size that the backbone saw.

        They are smoothed there by a Gaussian with a standard deviation of 4 pixels, as in the
        paper. Maps without geometry stay as they are. Ignored pixels are 0.
        """
        maps = replace(self._fitted_maps(X), surprise=None)
        return np.asarray(at_pixels(maps).values, dtype=np.float32)

    def describe(self, X: AnomalyMaps | ArrayLike) -> pd.DataFrame:
        """Say how the score of each image comes about, and where: a DataFrame, a row an image.

        `skstructcore.scoring.table.describe_maps` says what is in each column.
        """
        maps = self._fitted_maps(X)
        evidence = self.evidence_of(maps)
        judged = self.routes_.judge(evidence, self.unknown_level)
        return describe_maps(self, maps, evidence.base, judged)

    def _fitted_maps(self, X):
        check_is_fitted(self, "routes_")  # maps are known before, of a fit that failed too
        return check_maps(self, X, reset=False)
