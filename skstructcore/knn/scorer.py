"""Anomaly maps: how far each patch is from the nearest normal patches."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._utils.validation import as_patch_grid, check_features
from ..bank.build import build_bank
from ..containers import AnomalyMaps, MemoryBank, Patches
from ..routing.grouping import assign_folds
from ..routing.pooling import pool_patches
from ..routing.profile import held_out_distances
from ..routing.prototypes import AGGREGATES, routing_distances
from .search import n_routes_searched, query_together
from .surprise import N_CONTEXT, fit_expectation, join_expectations

if TYPE_CHECKING:
    from .._utils.typing import (
        Aggregate,
        ArrayLike,
        Calibration,
        Metric,
        NDArray,
        RandomState,
        Self,
    )


class _Found(NamedTuple):
    """What a search found for images of one batch that were compared with the same routes."""

    images: np.ndarray  # (b,), their positions
    routes: np.ndarray  # (k,)
    features: np.ndarray  # (b, h, w, d)
    distances: np.ndarray  # (b * h * w,)
    neighbors: np.ndarray  # (b * h * w, n_context); -1 where there is none


class RoutedKNNScorer(TransformerMixin, BaseEstimator):
    """Score each patch by its mean distance to the nearest entries of the memory bank.

    Parameters
    ----------
    n_neighbors : int, default=5
        Number of nearest bank entries whose distances are averaged.
    routing : None, "auto", "top1", "top2", ..., default=None
        Which sub-banks an image is compared with, where the bank has several (see
        `CoresetBank`). None: all, as one bank. "top<k>": those of the `k` routes whose
        prototypes are nearest. "auto": "top1" if the bank has routes, else None.
    calibration : {"leave-one-image-out", "leave-one-group-out", "k-fold", "in-sample"}, \
            default="leave-one-image-out"
        How `fit_transform` scores training images.

        - "leave-one-image-out": without the bank entries of the image itself, or of its
          whole group where groups were given to the bank.
        - "leave-one-group-out": the same, and an error if no groups were given.
        - "k-fold": with a bank of the same size built from the images of the other folds;
          groups stay together. About `n_folds` times the cost of the coreset.
        - "in-sample": with the whole bank, as published. Such scores are far too low, and
          thresholds set on them reject most good images.
    metric : {"euclidean", "sqeuclidean"}, default="euclidean"
        Plain or squared distance.
    n_folds : int, default=5
        Number of folds of ``calibration="k-fold"``.
    routing_aggregate : {"huber", "mean", "trimmed-mean"}, default="huber"
        What makes one routing distance of the nearest-prototype distances of all patches; see
        `skstructcore.routing.AGGREGATES`.
    n_route_patches : int or None, default=64
        How many patches of an image, drawn once at random, are compared with the prototypes;
        None: all. Without influence on the maps.
    random_state : int, RandomState instance or None, default=0
        Assigns images to folds and draws the route patches.

    Attributes
    ----------
    bank_ : MemoryBank
        The bank that patches are compared with.
    n_searched_ : int
        How many routes are searched for an image; 0 if the bank is searched as a whole.
    route_patches_ : ndarray of int64
        The patches of an image that are compared with the prototypes, by position.
    indexes_ : tuple of NeighborIndex
        The sub-bank of each route, prepared for search; without routing the whole bank.
    expectations_ : tuple of DistanceExpectation, or None
        For each of them, which distances are normal for which content, learned by
        `fit_transform` from the held-out training scores. None after `fit` alone and with
        ``calibration="in-sample"``: the maps have no `surprise` then.
    n_features_in_ : int
        Number of features of a patch.

    See Also
    --------
    StructCoreScorer : Turns the maps into calibrated image scores.

    Notes
    -----
    ``fit_transform(X)`` is not ``fit(X).transform(X)``: training images are scored as if they
    had not been in the bank (see `calibration`), all others with the whole bank. With routing,
    training images are compared with the route that they are known to be of, and the next
    nearest; their `route_distance` is held out as well, with every `calibration`.

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

    _parameter_constraints = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "routing": [None, str],
        "calibration": [
            StrOptions({"leave-one-image-out", "leave-one-group-out", "k-fold", "in-sample"})
        ],
        "metric": [StrOptions({"euclidean", "sqeuclidean"})],
        "n_folds": [Interval(Integral, 2, None, closed="left")],
        "routing_aggregate": [StrOptions(set(AGGREGATES))],
        "n_route_patches": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_neighbors: int = 5,
        routing: str | None = None,
        calibration: Calibration = "leave-one-image-out",
        *,
        metric: Metric = "euclidean",
        n_folds: int = 5,
        routing_aggregate: Aggregate = "huber",
        n_route_patches: int | None = 64,
        random_state: RandomState = 0,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.routing = routing
        self.calibration = calibration
        self.metric = metric
        self.n_folds = n_folds
        self.routing_aggregate = routing_aggregate
        self.n_route_patches = n_route_patches
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Patches | ArrayLike, y: object = None) -> Self:
        """Prepare the bank of `X` for search.

        Parameters
        ----------
        X : Patches or array-like of shape (n_samples, n_features)
            Patches with their bank, or a table that is the bank itself.
        y : Ignored

        Returns
        -------
        self : RoutedKNNScorer
        """
        self._fit(X)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X: Patches | ArrayLike, y: object = None) -> AnomalyMaps:
        """Fit, and score the training images held out, as `calibration` says.

        Parameters
        ----------
        X : Patches from ``CoresetBank.fit_transform``, or array-like of shape \
                (n_samples, n_features)
        y : Ignored

        Returns
        -------
        maps : AnomalyMaps of shape (n_images, h, w)
        """
        patches = self._fit(X)
        if self.calibration == "in-sample":
            scored = self._score(patches, self._known_routes(patches))
            return self._maps(patches, *scored, training=True)
        if patches.image_index is None:
            raise ValueError(
                f"calibration={self.calibration!r} scores training images and has to know "
                "them: pass the patches that CoresetBank.fit_transform returns (its transform "
                "does not know the images), or use calibration='in-sample'."
            )
        if len(np.unique(patches.groups)) < 2:
            raise ValueError(
                f"calibration={self.calibration!r} needs at least two training images (two "
                f"groups where groups are given), got n_samples = {len(patches)}: add images "
                "or use calibration='in-sample'."
            )
        if self.calibration == "leave-one-group-out" and np.array_equal(
            patches.groups, patches.image_index
        ):
            raise ValueError(
                "calibration='leave-one-group-out' needs groups: pass bank__groups= to the "
                "pipeline's fit (groups= to CoresetBank)."
            )
        return self._maps(patches, *self._score_held_out(patches), training=True)

    def transform(self, X: Patches | ArrayLike) -> AnomalyMaps:
        """Score every patch of the images.

        Parameters
        ----------
        X : Patches or array-like of shape (n_samples, n_features)

        Returns
        -------
        maps : AnomalyMaps of shape (n_images, h, w)
        """
        check_is_fitted(self)
        patches = self._as_patches(X, reset=False)
        return self._maps(patches, *self._score(patches))

    def transform_held_out(self, X: Patches) -> AnomalyMaps:
        """Score changed copies of training images as if those had not been in the bank.

        Parameters
        ----------
        X : Patches
            With the groups that the images have in ``bank_.groups``, and their routes, where
            there are routes; `fit_transform` must have learned what distances are normal.

        Returns
        -------
        maps : AnomalyMaps of shape (n_images, h, w)
        """
        check_is_fitted(self)
        if self.expectations_ is None or X.groups is None:
            raise ValueError(
                "transform_held_out needs patches with groups, and expectations_ that "
                "fit_transform learns unless calibration='in-sample'."
            )
        patches = self._as_patches(X, reset=False)
        scored = self._score(patches, self._known_routes(patches), held_out=True)
        return self._maps(patches, *scored)

    def score_samples(self, X: Patches | ArrayLike) -> NDArray[np.float64]:
        """Return minus the maximum of each map, the usual score without calibration.

        Parameters
        ----------
        X : Patches or array-like of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_images,), float64
            Higher is more normal.
        """
        return -self.transform(X).values.max(axis=(1, 2)).astype(np.float64)

    def _fit(self, X):
        patches = self._as_patches(X, reset=True)
        self.search_routes_of(patches.bank)
        self.indexes_ = self._indexes(self.bank_)
        self.expectations_ = None
        n_patches = patches.shape[1] * patches.shape[2]
        chosen = check_random_state(self.random_state).permutation(n_patches)
        self.route_patches_ = np.sort(chosen[: self.n_route_patches])
        return patches

    def search_routes_of(self, bank: MemoryBank) -> None:
        """Take a bank that `indexes_` and `expectations_` belong to."""
        self.bank_, self.n_searched_ = bank, n_routes_searched(self.routing, bank)

    def _indexes(self, bank):
        from ..neighbors.index import NeighborIndex

        is_routed = self.n_searched_ > 0
        banks = [bank.select(r) for r in range(len(bank.route_names))] if is_routed else [bank]
        for part in banks:
            if self.n_neighbors > len(part):
                where = f"the bank of route {part.route_names[0]!r}" if is_routed else "the bank"
                raise ValueError(
                    f"n_neighbors={self.n_neighbors} is larger than {where}, which has "
                    f"{len(part)} entries: use fewer neighbours or a larger ratio."
                )
        return tuple(NeighborIndex(part.values, groups=part.groups) for part in banks)

    def _as_patches(self, X, *, reset):
        if isinstance(X, Patches):
            check_features(self, X.values, reset=reset)
            return X
        rows = check_features(self, X, reset=reset)
        if hasattr(rows, "iter_batches"):
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
        return Patches(values, bank, bank.image_index, bank.groups, bank.routes)

    def _score(self, patches, routes=None, held_out=False):
        """Return distances ``(n, h, w)``, their surprise or None, routes, and pooled patches."""
        distances = np.empty(patches.shape[:3], dtype=np.float32)
        surprise = None if self.expectations_ is None else np.empty_like(distances)
        nearest = np.zeros(len(patches), dtype=np.int64)
        pooled = np.empty((len(patches), patches.shape[-1]))
        for found in self._search(patches, self.indexes_, routes, held_out):
            images, shape = found.images, found.features.shape[:3]
            distances[images] = found.distances.reshape(shape)
            if surprise is not None:
                expectation = join_expectations([self.expectations_[r] for r in found.routes])
                judged = expectation.surprise(found.distances, found.neighbors)
                surprise[images] = judged.reshape(shape)
            if self.n_searched_:
                nearest[images] = found.routes[0]
                pooled[images] = pool_patches(found.features)
        return distances, surprise, nearest, pooled

    def _score_held_out(self, patches):
        """The same for training images, each scored without its group; learn the expectations."""
        n_images, per_image = len(patches), patches.shape[1] * patches.shape[2]
        distances = np.empty((n_images, per_image), dtype=np.float32)
        neighbors = np.empty((n_images, per_image, self._n_context()), dtype=np.int32)
        routes = self._known_routes(patches)
        pooled = np.empty((n_images, patches.shape[-1]))
        for found in self._search(patches, self.indexes_, routes, held_out=True):
            distances[found.images] = found.distances.reshape(-1, per_image)
            neighbors[found.images] = found.neighbors.reshape(-1, *neighbors.shape[1:])
            if self.n_searched_:
                pooled[found.images] = pool_patches(found.features)
        if self.calibration == "k-fold":
            distances = self._k_fold_distances(patches, routes)
        surprise, expectations = np.empty_like(distances), []
        for route, index in enumerate(self.indexes_):
            mine = routes[:, 0] == route
            # Of the entries found in other routes, those know what is normal.
            nearest = neighbors[mine].reshape(-1, neighbors.shape[2])
            expectation, judged = fit_expectation(
                distances[mine].ravel(),
                np.where(nearest < len(index.bank), nearest, -1),
                np.repeat(patches.groups[mine], per_image),
                len(index.bank),
            )
            surprise[mine] = judged.reshape(-1, per_image)
            expectations.append(expectation)
        self.expectations_ = tuple(expectations)
        shape, nearest = patches.shape[:3], routes[:, 0]
        return distances.reshape(shape), surprise.reshape(shape), nearest, pooled

    def _search(self, patches, indexes, routes=None, held_out=False):
        """Yield what is found for each batch, images of the same routes together.

        Entries are numbered as if the banks of these routes stood one after the other.
        `held_out` leaves the entries of each image's own group out.
        """
        done = 0
        for batch in patches.iter_batches():
            rows = np.arange(done, done + len(batch))
            chosen = self._nearest_routes(batch) if routes is None else routes[rows]
            for key in np.unique(chosen, axis=0):
                mine = (chosen == key).all(axis=1)
                own = patches.groups[rows[mine]] if held_out else None
                found = self._query(batch[mine], [indexes[r] for r in key], own)
                yield _Found(rows[mine], key, batch[mine], *found)
            done += len(batch)

    def _query(self, images, indexes, groups):
        """Return mean distances and nearest entries of all patches of the images."""
        rows = images.reshape(-1, images.shape[-1])
        own = None if groups is None else np.repeat(groups, len(rows) // len(images))
        squared, neighbors = query_together(indexes, rows, self._n_context(), exclude=own)
        return self._mean_distance(squared[:, : self.n_neighbors]), neighbors

    def _n_context(self):
        """How many entries are looked up: the neighbours, and enough to tell the content."""
        return max(self.n_neighbors, N_CONTEXT)

    def _nearest_routes(self, images):
        """Return the routes ``(n, n_searched_)`` whose prototypes are nearest, nearest first."""
        if self.n_searched_ == 0:
            return np.zeros((len(images), 1), dtype=np.int64)
        flat = images.reshape(len(images), -1, images.shape[-1])
        if flat.shape[1] > self.route_patches_[-1]:
            flat = flat[:, self.route_patches_]
        prototypes = [profile.prototypes for profile in self.bank_.profiles]
        distances = routing_distances(flat, prototypes, self.routing_aggregate)
        return np.argsort(distances, axis=1, kind="stable")[:, : self.n_searched_]

    def _known_routes(self, patches):
        """Routes of training images: their own first, then the nearest others."""
        if self.n_searched_ == 0:
            return np.zeros((len(patches), 1), dtype=np.int64)
        if patches.routes is None:
            return None
        own = patches.routes[:, np.newaxis]
        if self.n_searched_ == 1:
            return own
        nearest = np.concatenate([self._nearest_routes(batch) for batch in patches.iter_batches()])
        # Own route to the front; where it was not among them, the farthest drops out.
        is_own = nearest == own
        is_own[:, -1] |= ~is_own.any(axis=1)
        others = nearest[~is_own].reshape(len(patches), -1)
        return np.column_stack([own, others])

    def _mean_distance(self, squared):
        distances = np.sqrt(squared) if self.metric == "euclidean" else squared
        # Where a group holds most of the bank, fewer than n_neighbors entries are left.
        left = np.isfinite(distances)
        if left.all():
            return distances.mean(axis=1)
        if not left.any(axis=1).all():
            raise ValueError(
                "The whole bank comes from one training image (or group), so that nothing is "
                "left to score that image with: use a larger ratio, more images, or "
                "calibration='k-fold'."
            )
        return np.where(left, distances, 0).sum(axis=1) / left.sum(axis=1)

    def _k_fold_distances(self, patches, routes):
        n_groups = len(np.unique(patches.groups))
        if self.n_folds > n_groups:
            raise ValueError(
                f"n_folds={self.n_folds} is more than the {n_groups} training images (or "
                "groups) there are: use fewer folds or calibration='leave-one-image-out'."
            )
        rng = check_random_state(self.random_state)
        folds = assign_folds(patches.groups, routes[:, 0], self.n_folds, rng)
        distances = np.empty((len(patches), patches.shape[1] * patches.shape[2]), np.float32)
        for fold in np.unique(folds):
            out = folds == fold
            bank = self._bank_of(patches[~out], routes[~out, 0], rng)
            rows = np.flatnonzero(out)
            for found in self._search(patches[out], self._indexes(bank), routes[out]):
                distances[rows[found.images]] = found.distances.reshape(len(found.images), -1)
        return distances

    def _bank_of(self, patches, routes, rng):
        """Build a bank of the fitted sizes from the training images in `patches`."""
        per_image = patches.shape[1] * patches.shape[2]
        sizes = [
            min(len(index.bank), per_image * int((routes == route).sum()))
            for route, index in enumerate(self.indexes_)
        ]
        bank, _ = build_bank(
            patches.values,
            groups=patches.groups,
            routes=routes,
            route_names=self.bank_.route_names if self.n_searched_ else ("all",),
            n_patches=sizes,
            random_state=rng,
            dtype=self.bank_.values.dtype,
        )
        return bank

    def _maps(self, patches, values, surprise, nearest, pooled, training=False):
        if not np.isfinite(values).all():
            bad = int(np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))[0])
            raise ValueError(
                f"The anomaly map of image {bad} is not finite: its features are NaN or "
                "infinite. Check the backbone's weights and dtype."
            )
        maps = AnomalyMaps(
            values, groups=patches.groups, geometry=patches.geometry, surprise=surprise
        )
        if self.n_searched_ == 0:
            return maps
        distances = np.empty(len(patches))
        for route in np.unique(nearest):
            mine = nearest == route
            if training and patches.groups is not None:
                distances[mine] = held_out_distances(pooled[mine], patches.groups[mine])
            else:
                distances[mine] = self.bank_.profiles[route].distance(pooled[mine])
        names = np.array(self.bank_.route_names)
        return replace(maps, route=names[nearest], route_distance=distances)

    def __getstate__(self):
        # The indexes hold the same entries as the bank: a pickle needs them once.
        return {key: value for key, value in super().__getstate__().items() if key != "indexes_"}

    def __setstate__(self, state):
        super().__setstate__(state)
        if "bank_" in state:
            self.indexes_ = self._indexes(self.bank_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
