"""The image score: calibrated evidence from the whole anomaly map, not its maximum alone."""

from numbers import Real

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, OutlierMixin, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from .containers import AnomalyMaps
from .descriptors import compute_descriptors, descriptor_names
from .maps import upsample_maps


class StructCoreScorer(OutlierMixin, TransformerMixin, BaseEstimator):
    """Turn anomaly maps into calibrated image scores, decisions and pixel maps.

    The anomaly score of an image with map ``S`` is ``base(S) + lam * D_struct(S)``, where
    ``D_struct`` is the norm of ``z = (phi(S) - mu) / sigma``, the descriptors of the map
    standardised by those of the good training images.

    Parameters
    ----------
    norm : {"l2", "linf"}, default="l2"
        Norm of ``z``.
    lam : "auto" or float >= 0, default="auto"
        Weight of ``D_struct``. "auto" is ``std(base) / std(D_struct)`` over the training maps.
    quantile : float in (0, 1), default=0.995
        Quantile of the training scores at which the threshold lies.
    descriptors : sequence of str or callable, default=("std", "top1", "tv")
        Parts of ``phi``, see `skstructcore.descriptors`.
    base : str or callable, default="max"
        Descriptor that is the base score.
    resolution : {"grid", "full"}, default="grid"
        Whether descriptors look at the patch grid or at the smoothed pixel map.
    sigma : float >= 0, default=4.0
        Standard deviation of the Gaussian that smooths pixel maps, in pixels of the size that
        the backbone saw.

    Attributes
    ----------
    mu_, scale_ : ndarray of shape (n_descriptors,)
        Mean and standard deviation of the descriptors over the training maps. A descriptor
        that is constant there gets scale 1.
    lam_ : float
        Weight of ``D_struct``; 0 where "auto" finds ``D_struct`` constant.
    offset_ : float
        Minus the threshold: ``decision_function = score_samples - offset_``.
    n_features_in_ : int
        Width of the maps.

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
    >>> scorer = StructCoreScorer().fit(maps[:40].reshape(40, 64))
    >>> scorer.predict(5 * maps[40:42].reshape(2, 64))
    array([-1, -1])
    """

    _parameter_constraints = {
        "norm": [StrOptions({"l2", "linf"})],
        "lam": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
        "descriptors": [list, tuple],
        "base": [str, callable],
        "resolution": [StrOptions({"grid", "full"})],
        "sigma": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        norm="l2",
        lam="auto",
        quantile=0.995,
        *,
        descriptors=("std", "top1", "tv"),
        base="max",
        resolution="grid",
        sigma=4.0,
    ):
        self.norm = norm
        self.lam = lam
        self.quantile = quantile
        self.descriptors = descriptors
        self.base = base
        self.resolution = resolution
        self.sigma = sigma

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn what maps of good images look like.

        Parameters
        ----------
        X : AnomalyMaps or array-like of shape (n_samples, n_features)
            Maps of good training images, scored held-out; a table is maps of one row.
        y : Ignored

        Returns
        -------
        self : StructCoreScorer
        """
        maps = self._check_maps(X, reset=True)
        base, phi = self._describe_maps(maps)
        self.mu_ = phi.mean(axis=0)
        spread = phi.std(axis=0)
        self.scale_ = np.where(spread > 0, spread, 1.0)
        d_struct = self._d_struct((phi - self.mu_) / self.scale_)
        if self.lam == "auto":
            spread = d_struct.std()
            self.lam_ = float(base.std() / spread) if spread > 0 else 0.0
        else:
            self.lam_ = float(self.lam)
        self.offset_ = -float(np.quantile(base + self.lam_ * d_struct, self.quantile))
        return self

    def score_samples(self, X):
        """Return minus the anomaly score of each image; higher is more normal.

        Parameters
        ----------
        X : AnomalyMaps or array-like of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples,), float64
        """
        return -self._parts(X)[0]

    def decision_function(self, X):
        """Return ``score_samples(X) - offset_``; negative means anomalous.

        Parameters
        ----------
        X : AnomalyMaps or array-like of shape (n_samples, n_features)

        Returns
        -------
        decision : ndarray of shape (n_samples,), float64
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """Return +1 for normal and -1 for anomalous images.

        Parameters
        ----------
        X : AnomalyMaps or array-like of shape (n_samples, n_features)

        Returns
        -------
        labels : ndarray of shape (n_samples,), int64
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def transform(self, X):
        """Return pixel maps: bilinear to the size that the backbone saw, Gaussian-smoothed.

        Parameters
        ----------
        X : AnomalyMaps or array-like of shape (n_samples, n_features)
            Maps without geometry keep their size and are not smoothed.

        Returns
        -------
        pixels : ndarray of shape (n_samples, H, W), float32
        """
        check_is_fitted(self)
        return self._pixels(self._check_maps(X, reset=False))

    def describe(self, X):
        """Say how the score of each image comes about.

        Parameters
        ----------
        X : AnomalyMaps or array-like of shape (n_samples, n_features)

        Returns
        -------
        parts : DataFrame
            A row an image: ``base``, ``d_struct``, ``anomaly_score`` (= -score_samples), a
            column ``z_<descriptor>`` for each descriptor, ``is_anomalous``.
        """
        score, base, d_struct, z = self._parts(X)
        columns = {"base": base, "d_struct": d_struct, "anomaly_score": score}
        columns |= {
            f"z_{name}": z[:, i] for i, name in enumerate(descriptor_names(self.descriptors))
        }
        columns["is_anomalous"] = -score - self.offset_ < 0
        return pd.DataFrame(columns)

    def _check_maps(self, X, *, reset):
        if isinstance(X, AnomalyMaps):
            if reset:
                self.n_features_in_ = X.shape[-1]
            return X
        if getattr(X, "ndim", 2) == 3:
            return AnomalyMaps(np.asarray(X))
        table = validate_data(
            self, X, reset=reset, dtype=[np.float64, np.float32], ensure_min_samples=1 + reset
        )
        return AnomalyMaps(table[:, np.newaxis, :])

    def _pixels(self, maps):
        if maps.geometry is None:
            return np.asarray(maps.values, dtype=np.float32)
        return upsample_maps(maps.values, maps.geometry.input_size, self.sigma)

    def _describe_maps(self, maps):
        values = maps.values if self.resolution == "grid" else self._pixels(maps)
        return (
            compute_descriptors(values, [self.base])[:, 0],
            compute_descriptors(values, self.descriptors),
        )

    def _d_struct(self, z):
        return np.linalg.norm(z, ord=2 if self.norm == "l2" else np.inf, axis=1)

    def _parts(self, X):
        check_is_fitted(self)
        base, phi = self._describe_maps(self._check_maps(X, reset=False))
        z = (phi - self.mu_) / self.scale_
        d_struct = self._d_struct(z)
        return base + self.lam_ * d_struct, base, d_struct, z

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
