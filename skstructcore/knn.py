"""Anomaly maps: how far each patch is from the nearest normal patches."""

from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from ._validation import as_patch_grid, check_features
from .bank import build_bank
from .containers import AnomalyMaps, MemoryBank, Patches
from .surprise import N_CONTEXT, fit_expectation


class RoutedKNNScorer(TransformerMixin, BaseEstimator):
    """Score each patch by its mean distance to the nearest entries of the memory bank.

    Parameters
    ----------
    n_neighbors : int, default=5
        Number of nearest bank entries whose distances are averaged.
    routing : None, default=None
        Which sub-banks an image is compared with. None: the whole bank.
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
    random_state : int, RandomState instance or None, default=0
        Assigns images to folds.

    Attributes
    ----------
    bank_ : MemoryBank
        The bank that patches are compared with.
    index_ : NeighborIndex
        The bank, prepared for search.
    expectation_ : DistanceExpectation or None
        Which distances are normal for which content, learned by `fit_transform` from the
        held-out training scores. None after `fit` alone and with ``calibration="in-sample"``:
        the maps have no `surprise` then.
    n_features_in_ : int
        Number of features of a patch.

    See Also
    --------
    StructCoreScorer : Turns the maps into calibrated image scores.

    Notes
    -----
    ``fit_transform(X)`` is not ``fit(X).transform(X)``: training images are scored as if they
    had not been in the bank (see `calibration`), all others with the whole bank.

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
        "routing": [None],
        "calibration": [
            StrOptions({"leave-one-image-out", "leave-one-group-out", "k-fold", "in-sample"})
        ],
        "metric": [StrOptions({"euclidean", "sqeuclidean"})],
        "n_folds": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_neighbors=5,
        routing=None,
        calibration="leave-one-image-out",
        *,
        metric="euclidean",
        n_folds=5,
        random_state=0,
    ):
        self.n_neighbors = n_neighbors
        self.routing = routing
        self.calibration = calibration
        self.metric = metric
        self.n_folds = n_folds
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
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
    def fit_transform(self, X, y=None):
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
            return self._maps(patches, *self._score(patches))
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
        return self._maps(patches, *self._score_held_out(patches))

    def transform(self, X):
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

    def transform_held_out(self, X):
        """Score changed copies of training images as if those had not been in the bank.

        Parameters
        ----------
        X : Patches
            With the groups that the images have in ``bank_.groups``; `fit_transform` must
            have learned what distances are normal.

        Returns
        -------
        maps : AnomalyMaps of shape (n_images, h, w)
        """
        check_is_fitted(self)
        if self.expectation_ is None or X.groups is None:
            raise ValueError(
                "transform_held_out needs patches with groups, and an expectation_ that "
                "fit_transform learns unless calibration='in-sample'."
            )
        patches = self._as_patches(X, reset=False)
        return self._maps(patches, *self._score(patches, held_out=True))

    def score_samples(self, X):
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
        self.bank_ = patches.bank
        self.index_ = self._index(self.bank_)
        self.expectation_ = None
        return patches

    def _index(self, bank):
        from .neighbors import NeighborIndex

        if self.n_neighbors > len(bank):
            raise ValueError(
                f"n_neighbors={self.n_neighbors} is larger than the bank, which has "
                f"{len(bank)} entries: use fewer neighbours or a larger ratio."
            )
        return NeighborIndex(bank.values, groups=bank.groups)

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

    def _score(self, patches, held_out=False):
        """Return distances ``(n, h, w)`` to the whole bank, and their surprise or None."""
        distances = np.empty(patches.shape[:3], dtype=np.float32)
        surprise = None if self.expectation_ is None else np.empty_like(distances)
        for images, values, neighbors in self._search(patches, self.index_, held_out):
            distances[images] = values.reshape(distances[images].shape)
            if surprise is not None:
                judged = self.expectation_.surprise(values, neighbors)
                surprise[images] = judged.reshape(distances[images].shape)
        return distances, surprise

    def _score_held_out(self, patches):
        """The same for training images, each scored without its group; learn the expectation."""
        n_patches = int(np.prod(patches.shape[:3]))
        distances = np.empty(n_patches, dtype=np.float32)
        neighbors = np.empty((n_patches, self._n_context()), dtype=np.int32)
        per_image = n_patches // len(patches)
        for images, values, nearest in self._search(patches, self.index_, held_out=True):
            rows = slice(images.start * per_image, images.stop * per_image)
            distances[rows], neighbors[rows] = values, nearest
        if self.calibration == "k-fold":
            distances = self._k_fold_distances(patches).ravel()
        self.expectation_, surprise = fit_expectation(
            distances, neighbors, np.repeat(patches.groups, per_image), len(self.bank_)
        )
        return distances.reshape(patches.shape[:3]), surprise.reshape(patches.shape[:3])

    def _search(self, patches, index, held_out=False):
        """Yield, a batch at a time, the images, their distances and their nearest entries.

        `held_out` leaves the entries of each image's own group out.
        """
        n_features = patches.shape[-1]
        done = 0
        for batch in patches.iter_batches():
            images = slice(done, done + len(batch))
            rows = batch.reshape(-1, n_features)
            own = np.repeat(patches.groups[images], len(rows) // len(batch)) if held_out else None
            squared, neighbors = index.query(rows, self._n_context(), exclude=own)
            yield images, self._mean_distance(squared[:, : self.n_neighbors]), neighbors
            done += len(batch)

    def _n_context(self):
        """How many entries are looked up: the neighbours, and enough to tell the content."""
        return min(max(self.n_neighbors, N_CONTEXT), len(self.bank_))

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

    def _k_fold_distances(self, patches):
        groups = np.unique(patches.groups)
        if self.n_folds > len(groups):
            raise ValueError(
                f"n_folds={self.n_folds} is more than the {len(groups)} training images (or "
                "groups) there are: use fewer folds or calibration='leave-one-image-out'."
            )
        rng = check_random_state(self.random_state)
        fold_of_group = rng.permutation(np.arange(len(groups)) % self.n_folds)
        folds = fold_of_group[np.searchsorted(groups, patches.groups)]
        maps = np.empty(patches.shape[:3], dtype=np.float32)
        for fold in range(self.n_folds):
            bank = self._bank_of(patches[folds != fold], rng)
            held_out = patches[folds == fold]
            found = self._search(held_out, self._index(bank))
            scored = np.concatenate([distances for _, distances, _ in found])
            maps[folds == fold] = scored.reshape(held_out.shape[:3])
        return maps

    def _bank_of(self, patches, rng):
        """Build a bank of the fitted size from the training images in `patches`."""
        available = len(patches) * patches.shape[1] * patches.shape[2]
        bank, _ = build_bank(
            patches.values,
            groups=patches.groups,
            routes=np.zeros(len(patches), dtype=np.int64),
            route_names=("all",),
            n_patches=min(len(self.bank_), available),
            random_state=rng,
            dtype=self.bank_.values.dtype,
        )
        return bank

    def _maps(self, patches, values, surprise):
        if not np.isfinite(values).all():
            bad = int(np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))[0])
            raise ValueError(
                f"The anomaly map of image {bad} is not finite: its features are NaN or "
                "infinite. Check the backbone's weights and dtype."
            )
        return AnomalyMaps(
            values, groups=patches.groups, geometry=patches.geometry, surprise=surprise
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
