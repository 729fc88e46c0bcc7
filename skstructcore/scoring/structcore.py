"""The image score: calibrated evidence from the whole anomaly map, not its maximum alone."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import ndimage
from sklearn.base import BaseEstimator, OutlierMixin, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from ..containers import AnomalyMaps
from ..images.resampling import upsample_maps
from .calibration import NORMS, fit_calibration, location_and_scale
from .descriptors import PAPER_PHI, compute_descriptors, descriptor_names
from .routed import fit_routes, judge, judge_routed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from numpy.typing import ArrayLike, NDArray
    from typing_extensions import Self

    from .calibration import Norm
    from .descriptors import DescriptorLike

_SURPRISE = "surprise_"


class StructCoreScorer(OutlierMixin, TransformerMixin, BaseEstimator):
    """Turn anomaly maps into calibrated image scores, decisions and pixel maps.

    The anomaly score of an image with distance map ``S`` is ``base(S) + lam * D_struct``, where
    ``D_struct`` combines ``z = (phi - mu) / sigma``, the descriptors of its maps standardised
    by those of good training images. Descriptors look at the distances ``S`` or at the
    *surprise* ``U``, the same distances judged by what is normal for such content
    (`skstructcore.knn.surprise`).

    Parameters
    ----------
    norm : {"sum", "sum+", "l2", "l2+", "linf", "linf+", "mahalanobis"}, default="sum"
        How ``z`` becomes ``D_struct``. "sum": signed sum. "l2", "linf": the norms of the
        paper. "mahalanobis": with the shrunk (Ledoit-Wolf) correlations of the training
        images. With "+" only values above normal count.
    lam : "auto", "struct-only" or float >= 0, default="auto"
        Weight of ``D_struct``. "auto" is the standard deviation of the base score for the sums,
        so that the base is one more ``z`` of the sum, and ``std(base) / std(D_struct)``, as
        published, for the norms. "struct-only": the base score does not count.
    quantile : float in (0, 1), default=0.995
        One minus the false-alarm rate that is asked for on unseen good images. With too few
        training images to promise it, `fit` warns and says what can be promised.
    descriptors : sequence of str or callable, default=("contrast", "surprise_max", \
            "surprise_top1", "surprise_smoothmax", "surprise_std", "surprise_component")
        Parts of ``phi``, see `skstructcore.scoring.descriptors`. ``surprise_<name>`` is that of
        the surprise map, or of the distances where the maps carry none.
    weights : array-like of shape (n_descriptors,), default=None
        Factors of ``z`` before they are combined; None: all 1.
        `skstructcore.scoring.painted.learn_from_painted_defects` learns them without labels.
    base : str or callable, default="max"
        Descriptor of the distances that is the base score.
    resolution : {"grid", "full"}, default="grid"
        Whether descriptors look at the patch grid or at the smoothed pixel map.
    sigma : float >= 0, default=4.0
        Standard deviation of the Gaussian that smooths pixel maps, in pixels of the size that
        the backbone saw.
    threshold : {"conformal", "quantile"}, default="conformal"
        "conformal" keeps the false-alarm rate for good images that are exchangeable with the
        training images (groups with groups); "quantile" is the plain quantile of the training
        scores, as published.
    unknown_level : float in (0, 0.5), default=0.005
        With routes: the share of images of known products that may be called unknown.
    min_route_images : int, default=8
        A route with fewer training images (groups) is judged by the statistics of all routes
        together.

    Attributes
    ----------
    calibration_ : ScoreCalibration
        What good images look like: location and scale of the descriptors, training scores,
        threshold and the false-alarm rate that it promises. With routes, of all together.
    routes_ : dict of str to RouteCalibration, or None
        The same for each route, where the training maps have routes. Scores are standardised
        then: 0 is the mean of the good training images of the route, 1 its threshold.
    uses_surprise_ : bool
        Whether the training maps carried surprise, so that new maps need it too.
    mu_, scale_ : ndarray of shape (n_descriptors,)
        Mean and standard deviation of the descriptors over the training maps. A descriptor
        that is constant there gets scale 1.
    lam_ : float
        Weight of ``D_struct``.
    phi_location_, phi_scale_ : ndarray of shape (3,)
        The same of the descriptors of the paper, which `describe` shows in any case.
    offset_ : float
        Minus the threshold: ``decision_function = score_samples - offset_``. -1 with routes.
    n_features_in_ : int
        Width of the maps.

    Warns
    -----
    UserWarning
        In `fit`, if there are too few images (groups) for the false-alarm rate asked for, or
        for statistics of a route's own.

    References
    ----------
    Chae, J. et al. (2026). StructCore: structure-aware image-level scoring for training-free
    unsupervised anomaly detection. arXiv:2602.17048. ``docs/scoring.md`` says where the
    defaults depart from it, and why.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import StructCoreScorer
    >>> rng = np.random.default_rng(0)
    >>> maps = rng.random((50, 8, 8))
    >>> scorer = StructCoreScorer(quantile=0.9).fit(maps[:40])
    >>> scorer.predict(5 * maps[40:42])
    array([-1, -1])
    >>> scorer.describe(maps[40:41])[["base", "anomaly_score", "p_value"]].round(2)
       base  anomaly_score  p_value
    0   1.0           0.99      0.6
    """

    _parameter_constraints = {
        "norm": [StrOptions(set(NORMS))],
        "lam": [StrOptions({"auto", "struct-only"}), Interval(Real, 0, None, closed="left")],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
        "descriptors": [list, tuple],
        "weights": ["array-like", None],
        "base": [str, callable],
        "resolution": [StrOptions({"grid", "full"})],
        "sigma": [Interval(Real, 0, None, closed="left")],
        "threshold": [StrOptions({"conformal", "quantile"})],
        "unknown_level": [Interval(Real, 0, 0.5, closed="neither")],
        "min_route_images": [Interval(Integral, 2, None, closed="left")],
    }

    def __init__(
        self,
        norm: Norm = "sum",
        lam: float | Literal["auto", "struct-only"] = "auto",
        quantile: float = 0.995,
        *,
        descriptors: Sequence[DescriptorLike] = (
            "contrast",
            "surprise_max",
            "surprise_top1",
            "surprise_smoothmax",
            "surprise_std",
            "surprise_component",
        ),
        weights: ArrayLike | None = None,
        base: DescriptorLike = "max",
        resolution: Literal["grid", "full"] = "grid",
        sigma: float = 4.0,
        threshold: Literal["conformal", "quantile"] = "conformal",
        unknown_level: float = 0.005,
        min_route_images: int = 8,
    ) -> None:
        self.norm = norm
        self.lam = lam
        self.quantile = quantile
        self.descriptors = descriptors
        self.weights = weights
        self.base = base
        self.resolution = resolution
        self.sigma = sigma
        self.threshold = threshold
        self.unknown_level = unknown_level
        self.min_route_images = min_route_images

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
        maps = self._check_maps(X, reset=True)
        if len(maps) < 2:
            raise ValueError(
                "StructCoreScorer learns what is normal from at least 2 good training images, "
                f"got n_samples = {len(maps)}."
            )
        self.uses_surprise_ = maps.surprise is not None
        base, phi = self._describe_maps(maps)
        paper_phi = self._paper_phi(maps)
        self.phi_location_, self.phi_scale_ = location_and_scale(paper_phi)
        options = {
            "norm": self.norm,
            "lam": self.lam,
            "quantile": self.quantile,
            "weights": self.weights,
            "threshold": self.threshold,
        }
        if maps.route is None:
            self.calibration_ = fit_calibration(base, phi, maps.groups, **options)
            self.routes_ = None
            self.offset_ = -self.calibration_.threshold
            return self
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what counts are the routes
            self.calibration_ = fit_calibration(base, phi, maps.groups, **options)
        self.routes_ = fit_routes(
            base, phi, paper_phi, maps, self.calibration_, self.min_route_images, **options
        )
        self.offset_ = -1.0
        return self

    @property
    def mu_(self) -> NDArray[np.float64]:
        return self.calibration_.mu

    @property
    def scale_(self) -> NDArray[np.float64]:
        return self.calibration_.scale

    @property
    def lam_(self) -> float:
        return self.calibration_.lam

    def score_samples(self, X: AnomalyMaps | ArrayLike) -> NDArray[np.float64]:
        """Return minus the anomaly score of each image; higher is more normal.

        Parameters
        ----------
        X : AnomalyMaps or array-like of shape (n_samples, h, w) or (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples,), float64
        """
        check_is_fitted(self)
        maps = self._check_maps(X, reset=False)
        return -self._judge(maps, *self._describe_maps(maps))["score"]

    def decision_function(self, X: AnomalyMaps | ArrayLike) -> NDArray[np.float64]:
        """Return ``score_samples(X) - offset_``; negative means anomalous.

        Parameters
        ----------
        X : AnomalyMaps or array-like of shape (n_samples, h, w) or (n_samples, n_features)

        Returns
        -------
        decision : ndarray of shape (n_samples,), float64
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: AnomalyMaps | ArrayLike) -> NDArray[np.int64]:
        """Return +1 for normal and -1 for anomalous images.

        Parameters
        ----------
        X : AnomalyMaps or array-like of shape (n_samples, h, w) or (n_samples, n_features)

        Returns
        -------
        labels : ndarray of shape (n_samples,), int64
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def transform(self, X: AnomalyMaps | ArrayLike) -> NDArray[np.float32]:
        """Return pixel maps: bilinear to the size that the backbone saw, Gaussian-smoothed.

        Parameters
        ----------
        X : AnomalyMaps or array-like of shape (n_samples, h, w) or (n_samples, n_features)
            Maps without geometry keep their size and are not smoothed.

        Returns
        -------
        pixels : ndarray of shape (n_samples, H, W), float32
        """
        check_is_fitted(self)
        maps = self._check_maps(X, reset=False)
        return self._pixels(maps.values, maps.geometry)

    def standardise(self, X: AnomalyMaps | ArrayLike) -> NDArray[np.float64]:
        """Return ``z`` of each image: its descriptors in standard deviations of good images.

        Parameters
        ----------
        X : AnomalyMaps or array-like of shape (n_samples, h, w) or (n_samples, n_features)

        Returns
        -------
        z : ndarray of shape (n_samples, n_descriptors)
        """
        check_is_fitted(self)
        maps = self._check_maps(X, reset=False)
        return self._judge(maps, *self._describe_maps(maps))["z"][:, 1:]

    def describe(self, X: AnomalyMaps | ArrayLike) -> pd.DataFrame:
        """Say how the score of each image comes about, and where.

        Parameters
        ----------
        X : AnomalyMaps or array-like of shape (n_samples, h, w) or (n_samples, n_features)

        Returns
        -------
        parts : DataFrame
            A row an image:

            - ``base``, ``d_struct``, ``anomaly_score`` (= -score_samples);
            - ``z_<base>`` and ``z_<descriptor>``: how many standard deviations above good
              training images each part is; ``z_std``, ``z_top`` and ``z_tv``, the descriptors of
              the paper, are there even where they do not count;
            - ``p_value``: how often a good image scores at least as high;
            - ``is_anomalous``: the decision;
            - ``decided_by``: the part with the largest ``z``;
            - ``route``: the product that the image shows, or "unknown"; "all" without routes;
            - with routes: ``nearest_route``, the one that it was compared with;
              ``route_distance`` to it, and ``route_p_value``: how often an image of this
              product is at least as far;
            - ``peak_row``, ``peak_col``: where the distance is largest;
            - ``region_top``, ``region_left``, ``region_bottom``, ``region_right``: box of the
              connected patches around the peak whose distance is above the threshold of the
              base score, NaN where none is;
            - ``area_over``: share of all patches that are above it.

            Places are in pixels of the upright original image, or in patches where the maps
            have no geometry.
        """
        check_is_fitted(self)
        maps = self._check_maps(X, reset=False)
        base, phi = self._describe_maps(maps)
        judged = self._judge(maps, base, phi)
        score, z = judged["score"], judged["z"]
        names = descriptor_names([self.base]) + self._names()
        columns = {"base": base, "d_struct": judged["d_struct"], "anomaly_score": score}
        location, scale = self.phi_location_, self.phi_scale_
        if self.routes_ is not None:
            routes = [self.routes_[name] for name in maps.route]
            location = np.stack([route.phi_location for route in routes])
            scale = np.stack([route.phi_scale for route in routes])
        paper_z = (self._paper_phi(maps) - location) / scale
        columns |= {f"z_{name}": paper_z[:, i] for i, name in enumerate(PAPER_PHI)}
        columns |= {f"z_{name}": z[:, i] for i, name in enumerate(names)}
        columns["p_value"] = judged["p_value"]
        columns["is_anomalous"] = score > -self.offset_
        columns["decided_by"] = np.array(names, dtype=object)[z.argmax(axis=1)]
        columns["route"] = "all" if self.routes_ is None else judged["route"]
        if self.routes_ is not None:
            columns["nearest_route"] = judged["nearest_route"]
            columns["route_distance"] = maps.route_distance
            columns["route_p_value"] = judged["route_p_value"]
        columns |= _places(maps, judged["base_threshold"])
        return pd.DataFrame(columns)

    def _judge(self, maps, base, phi):
        if self.routes_ is None:
            return judge(self.calibration_, base, phi)
        if maps.route is None:
            raise ValueError(
                "The training maps had routes and these have none: score images with the "
                "pipeline that was fitted."
            )
        return judge_routed(self.routes_, base, phi, maps, self.unknown_level)

    def _names(self):
        names = []
        for descriptor in self.descriptors:
            on_surprise, inner = _split(descriptor)
            names.append((_SURPRISE if on_surprise else "") + descriptor_names([inner])[0])
        return names

    def _check_maps(self, X, *, reset):
        maps = X
        if not isinstance(X, AnomalyMaps):
            if getattr(X, "ndim", 2) == 3:
                maps = AnomalyMaps(np.asarray(X))
            else:
                table = validate_data(
                    self,
                    X,
                    reset=reset,
                    dtype=[np.float64, np.float32],
                    ensure_min_samples=1 + reset,
                )
                return AnomalyMaps(table[:, np.newaxis, :])
        if reset:
            self.n_features_in_ = maps.shape[-1]
        elif self.uses_surprise_ and maps.surprise is None:
            raise ValueError(
                "The training maps carried surprise and these do not: score images with the "
                "RoutedKNNScorer whose fit_transform gave the training maps (with the whole "
                "pipeline)."
            )
        return maps

    def _pixels(self, values, geometry):
        if geometry is None:
            return np.asarray(values, dtype=np.float32)
        return upsample_maps(values, geometry.input_size, self.sigma)

    def _describe_maps(self, maps):
        """Return the base score ``(n,)`` and the descriptors ``(n, p)`` of the maps."""
        distances, surprise = self._looked_at(maps.values, maps.geometry), None
        if self.uses_surprise_ and maps.surprise is not None:
            surprise = self._looked_at(maps.surprise, maps.geometry)
        base = compute_descriptors(distances, [self.base])[:, 0]
        phi = np.empty((len(base), len(self.descriptors)))
        for column, descriptor in enumerate(self.descriptors):
            on_surprise, inner = _split(descriptor)
            values = surprise if on_surprise and surprise is not None else distances
            phi[:, column] = compute_descriptors(values, [inner])[:, 0]
        return base, phi

    def _paper_phi(self, maps):
        return compute_descriptors(self._looked_at(maps.values, maps.geometry), PAPER_PHI)

    def _looked_at(self, values, geometry):
        """Return maps at the resolution that descriptors look at."""
        return self._pixels(values, geometry) if self.resolution == "full" else values

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _split(descriptor):
    """Return whether a descriptor looks at the surprise, and the descriptor itself."""
    if isinstance(descriptor, str) and descriptor.startswith(_SURPRISE):
        return True, descriptor.removeprefix(_SURPRISE)
    return False, descriptor


def _places(maps, thresholds):
    """Peak and region over the threshold of each map, as columns of `describe`."""
    values = np.asarray(maps.values)
    n_images, height, width = values.shape
    peaks = np.stack(np.unravel_index(values.reshape(n_images, -1).argmax(axis=1), (height, width)))
    origin, step = np.zeros((2, n_images)), np.ones((2, n_images))
    if maps.geometry is not None:
        boxes = maps.geometry.boxes.T
        origin = boxes[:2]
        step = (boxes[2:] - boxes[:2]) / np.array([[height], [width]])
    columns = {}
    for axis, name in enumerate(("peak_row", "peak_col")):
        columns[name] = origin[axis] + (peaks[axis] + (0.5 if maps.geometry else 0)) * step[axis]
    over = values > thresholds[:, np.newaxis, np.newaxis]
    corners = np.full((4, n_images), np.nan)  # top, left, bottom, right; in patches
    for image in np.flatnonzero(over.any(axis=(1, 2))):
        labels, _ = ndimage.label(over[image], structure=np.ones((3, 3)))
        rows, cols = ndimage.find_objects(labels)[labels[tuple(peaks[:, image])] - 1]
        corners[:, image] = rows.start, cols.start, rows.stop, cols.stop
    for corner, name in enumerate(("top", "left", "bottom", "right")):
        axis = corner % 2
        columns[f"region_{name}"] = origin[axis] + corners[corner] * step[axis]
    columns["area_over"] = over.mean(axis=(1, 2))
    return columns
