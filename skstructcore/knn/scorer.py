"""Anomaly maps: how far each patch is from the nearest normal patches."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral
from typing import get_args

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._utils.rows import ContainerOutputMixin, LazyRows, as_patch_grid, check_features
from .._utils.typing import Algorithm, ArrayLike, Calibration, Metric, NDArray, Self
from ..containers import AnomalyMaps, MemoryBank, Patches, TrainingImages
from ..routing import held_out_distances, pool_patches
from .held_out import check_training_images, k_fold, leave_groups_out, leave_lots_out
from .search import BankSearch, score_patches


class RoutedKNNScorer(ContainerOutputMixin, TransformerMixin, BaseEstimator):
    """Score each patch by its mean distance to the nearest entries of the memory bank.

    Parameters
    ----------
    n_neighbors : int, default=5
        Number of nearest bank entries whose distances are averaged.
    routing : None, "auto", "top1", "top2", ..., default=None
        Which sub-banks an image is compared with, where the bank has several. None: all, as one
        bank. "top<k>": those of the `k` routes whose prototypes are nearest. "auto": "top1" if
        the bank has routes, else None.
    calibration : {"leave-one-image-out", "k-fold", "in-sample"}, default="leave-one-image-out"
        How training images are scored at fit.

        - "leave-one-image-out": without the bank entries of the image itself, or its group.
        - "k-fold": with a bank of the same size built from the images of the other four folds;
          groups stay together. About five times the cost of the coreset.
        - "in-sample": with the whole bank, as published. Thresholds set on such scores, which are
          far too low, reject most good images.
    metric : {"euclidean", "sqeuclidean"}, default="euclidean"
        Plain or squared distance.
    algorithm : {"exact", "approximate"}, default="exact"
        "approximate" pays for banks of many 100,000 entries only, see `NeighborIndex`; `recall_`
        says what share it finds. A loaded model builds its graph anew.
    device : str, default="auto"
        Where the exact search computes: "auto" is a CUDA device if there is one, else "cpu".

    Attributes
    ----------
    search_ : BankSearch
        The bank and its routes, ready to be searched.
    bank_ : MemoryBank
        The bank that patches are compared with.
    expectations_ : tuple of DistanceExpectation, or None
        For the sub-bank of each route, or the whole bank, which distances are normal for which
        content. None with ``calibration="in-sample"``: the maps have no `surprise` then.
    recall_ : float
        Share of the nearest entries that the search finds; 1.0 for the exact search.
    n_features_in_ : int
        Number of features of a patch.

    See Also
    --------
    StructCoreScorer : Turns the maps into calibrated image scores.

    Notes
    -----
    ``fit_transform(X)`` learns what ``fit(X)`` learns, but does not return what
    ``fit(X).transform(X)`` returns: training images are scored as `calibration` says, all others
    with the whole bank. With routing, training images are compared with the route that they are
    known to be of, and the next nearest.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import RoutedKNNScorer
    >>> scorer = RoutedKNNScorer(n_neighbors=1).fit([[0.0], [1.0]])
    >>> np.asarray(scorer.transform([[0.25], [3.0]])).ravel()
    array([0.25, 2.  ], dtype=float32)
    >>> np.asarray(scorer.fit_transform([[0.0], [1.0]])).ravel()
    array([1., 1.], dtype=float32)
    """

    search_: BankSearch

    _parameter_constraints = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "routing": [None, str],
        "calibration": [StrOptions(set(get_args(Calibration)))],
        "metric": [StrOptions(set(get_args(Metric)))],
        "algorithm": [StrOptions(set(get_args(Algorithm)))],
        "device": [str],
    }

    def __init__(
        self,
        n_neighbors: int = 5,
        routing: str | None = None,
        calibration: Calibration = "leave-one-image-out",
        *,
        metric: Metric = "euclidean",
        algorithm: Algorithm = "exact",
        device: str = "auto",
    ) -> None:
        self.n_neighbors = n_neighbors
        self.routing = routing
        self.calibration = calibration
        self.metric = metric
        self.algorithm = algorithm
        self.device = device

    def fit(self, X: Patches | ArrayLike, y: object = None) -> Self:
        """Prepare the bank of `X` for search, and learn which distances are normal.

        Parameters
        ----------
        X : Patches from ``CoresetBank.fit_transform``, or array-like of shape \
                (n_samples, n_features)
            Training patches with their bank, or a table that is the bank itself.
        y : Ignored

        Returns
        -------
        self : RoutedKNNScorer

        Raises
        ------
        ValueError
            If the training images are unknown or too few, unless ``calibration="in-sample"``.
        """
        self.fit_transform(X)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X: Patches | ArrayLike, y: object = None) -> AnomalyMaps:
        """See `fit`; returns the maps of the training images, scored as `calibration` says."""
        patches = self._checked_patches(X, reset=True)
        options = self.n_neighbors, self.routing, self.metric, self.algorithm, self.device
        search, expectations = BankSearch(patches.bank, *options), None
        search.check()
        if self.calibration == "in-sample":
            maps = score_patches(search, patches, own_routes=patches.routes)
        else:
            check_training_images(patches, self.calibration)
            score = k_fold if self.calibration == "k-fold" else leave_groups_out
            maps, expectations = score(search, patches)
            if patches.lots is not None:
                maps = replace(maps, without_lot=leave_lots_out(search, patches, expectations))
        if maps.route is not None and patches.groups is not None:
            pooled = pool_patches(patches.values)
            routes = np.array(patches.bank.route_names)[patches.routes]
            distances = held_out_distances(pooled, patches.groups, routes, patches.left_out)
            maps = replace(maps, route_distance=distances)
        self.search_, self.expectations_ = search, expectations
        return maps

    def transform(self, X: Patches | ArrayLike) -> AnomalyMaps:
        """Score every patch of the images: anomaly maps of shape (n_images, h, w).

        Parameters
        ----------
        X : Patches of the fitted bank, or array-like of shape (n_samples, n_features)
        """
        check_is_fitted(self, "search_")
        patches = self._checked_patches(X, reset=False)
        return score_patches(self.search_, patches, self.expectations_)

    def score_samples(self, X: Patches | ArrayLike) -> NDArray[np.float64]:
        """Return minus the maximum of each map, (n_images,), float64: max pooling."""
        return -self.transform(X).values.max(axis=(1, 2)).astype(np.float64)

    @property
    def bank_(self) -> MemoryBank:
        return self.search_.bank

    @property
    def recall_(self) -> float:
        return min(index.recall_ for index in self.search_.indexes)

    def _checked_patches(self, X, *, reset):
        """Patches as they are; of a table each row is an image, and in `fit` a bank entry, too."""
        if isinstance(X, Patches):
            check_features(self, X.values, reset=reset)
            # Steps that were saved one by one hold equal banks.
            if not (reset or X.bank is self.bank_) and not np.array_equal(
                X.bank.values, self.bank_.values
            ):
                raise ValueError(
                    "The patches come with another memory bank than the one that RoutedKNNScorer "
                    "was fitted with: fit the steps after CoresetBank again."
                )
            return X
        rows = check_features(self, X, reset=reset)
        if isinstance(rows, LazyRows):
            raise TypeError(
                "RoutedKNNScorer compares patches with a bank: pass what CoresetBank returns, "
                "not the lazy features themselves."
            )
        values = as_patch_grid(np.asarray(rows, dtype=np.float32))
        if not reset:
            return Patches(values, self.bank_)
        if values.shape[1:3] != (1, 1):
            raise ValueError(
                "RoutedKNNScorer.fit needs a bank: pass what CoresetBank returns, or a table "
                f"(n_samples, n_features) that is the bank itself, got shape {values.shape}."
            )
        bank = MemoryBank.of_rows(values[:, 0, 0])
        return Patches(values, bank, bank.image_index, TrainingImages(bank.groups, bank.routes))
