"""Splitters for models that are trained on good images only, for `cv=` of scikit-learn.

Anomalous images are always for testing. `y` is read by `skstructcore.images.labels.is_anomalous`;
an `ImageSet` brings labels, groups and splits, so that ``split(images)`` is enough.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from sklearn.model_selection import BaseCrossValidator, KFold, ShuffleSplit, StratifiedGroupKFold
from sklearn.utils import check_random_state

from .._utils.typing import ArrayLike, NDArray
from .._utils.validation import check_labels
from ..datasets import ImageSet
from ..images.labels import is_anomalous, required_labels


class _OneClassSplitter:
    """Reads labels and groups, and checks what the subclass splits."""

    def split(
        self, X: ImageSet | ArrayLike, y: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Generate indices of good training images, and of good and anomalous test images.

        Parameters
        ----------
        X : ImageSet or array-like of shape (n, ...)
            The images, of which only the number matters.
        y : array-like of shape (n,), default=None
            Labels; None: `X.y`.
        groups : array-like of shape (n,), default=None
            Which images belong together, for group-aware splitters; None: `X.groups`.

        Yields
        ------
        train, test : ndarray of int64
        """
        y = required_labels(X, y)
        anomalous = is_anomalous(y, both=True)
        if "groups" in self.get_metadata_routing().split.requests:
            groups = getattr(X, "groups", None) if groups is None else groups
            if groups is None:
                name = type(self).__name__
                raise ValueError(f"{name} needs groups: pass groups=, or an ImageSet with groups.")
            groups = check_labels(groups, len(anomalous), "groups")
        else:
            groups = np.arange(len(anomalous))
        folds = list(self._folds(X, anomalous, np.asarray(y).astype(str), groups))
        for number, (train, test) in enumerate(folds):
            n_anomalous = int(anomalous[test].sum())
            if not len(train) or not 0 < n_anomalous < len(test):
                raise ValueError(
                    f"Split {number} of {self!r} has {len(train)} training images, "
                    f"{len(test) - n_anomalous} good and {n_anomalous} anomalous test images; "
                    "each must be at least 1: use fewer or larger splits."
                )
        yield from folds


class OneClassKFold(_OneClassSplitter, KFold):
    """K folds; each is tested on its good and anomalous images, the good others train.

    Every image is tested exactly once. Good images are cut into consecutive folds as in
    `KFold`; anomalous images are dealt out so that each fold has its share of each type.

    Parameters
    ----------
    n_splits, shuffle, random_state : see `sklearn.model_selection.KFold`

    Examples
    --------
    >>> from skstructcore.model_selection import OneClassKFold
    >>> y = ["good", "good", "crack", "good", "crack", "good"]
    >>> for train, test in OneClassKFold(2).split(y, y):
    ...     print(train, test)
    [3 5] [0 1 2]
    [0 1] [3 4 5]
    """

    def _folds(self, X, anomalous, types, groups):
        # One generator for good and anomalous images, so that a seed fixes both.
        rng = check_random_state(self.random_state) if self.shuffle else None
        folds = KFold(self.n_splits, shuffle=self.shuffle, random_state=rng)
        good, bad = np.flatnonzero(~anomalous), np.flatnonzero(anomalous)
        bad = rng.permutation(bad) if self.shuffle else bad
        bad = bad[np.argsort(types[bad], kind="stable")]
        for number, (train, test) in enumerate(folds.split(good)):
            yield good[train], np.sort(np.r_[good[test], bad[number :: self.n_splits]])


class OneClassGroupKFold(OneClassKFold):
    """K folds that keep groups together, each tested on its good and anomalous images.

    A group (one part under several exposures, say) is in one fold with all its images. Folds get
    about equal numbers of good and anomalous ones, by `StratifiedGroupKFold`.

    Parameters
    ----------
    n_splits, shuffle, random_state : see `sklearn.model_selection.StratifiedGroupKFold`
        There are at most as many folds as groups; `shuffle` shuffles these.

    Examples
    --------
    >>> from skstructcore.model_selection import OneClassGroupKFold
    >>> y = ["good", "good", "crack", "good", "crack", "good"]
    >>> for train, test in OneClassGroupKFold(2).split(y, y, groups=[0, 0, 0, 1, 1, 1]):
    ...     print(train, test)
    [3 5] [0 1 2]
    [0 1] [3 4 5]
    """

    __metadata_request__split = {"groups": True}

    def _folds(self, X, anomalous, types, groups):
        seed = self.random_state
        folds = StratifiedGroupKFold(self.n_splits, shuffle=self.shuffle, random_state=seed)
        for train, test in folds.split(groups, anomalous, groups):
            yield train[~anomalous[train]], test


class OneClassShuffleSplit(_OneClassSplitter, ShuffleSplit):
    """Random splits of the good images; all anomalous images are in each test set.

    Parameters
    ----------
    n_splits, test_size, train_size, random_state : see `sklearn.model_selection.ShuffleSplit`
        Sizes are shares, or numbers, of the good images.

    Examples
    --------
    >>> from skstructcore.model_selection import OneClassShuffleSplit
    >>> y = ["good", "good", "crack", "good", "crack", "good"]
    >>> for train, test in OneClassShuffleSplit(1, test_size=0.5, random_state=0).split(y, y):
    ...     print(train, test)
    [0 1] [2 3 4 5]
    """

    def _folds(self, X, anomalous, types, groups):
        with_good = np.unique(groups[~anomalous])
        for fitted, held_out in ShuffleSplit.split(self, with_good):
            train = np.isin(groups, with_good[fitted])
            test = np.isin(groups, with_good[held_out]) | (anomalous & ~train)
            yield np.flatnonzero(train & ~anomalous), np.flatnonzero(test)


class OneClassGroupShuffleSplit(OneClassShuffleSplit):
    """Random splits of groups of good images, tested on images of other groups.

    Groups that have good images are split; the test set has the good images of the groups
    that are held out, and every anomalous image whose group is not trained on.

    Parameters
    ----------
    n_splits, test_size, train_size, random_state : see `sklearn.model_selection.ShuffleSplit`
        Sizes are shares, or numbers, of the groups with good images.

    Examples
    --------
    >>> from skstructcore.model_selection import OneClassGroupShuffleSplit
    >>> y = ["good", "good", "crack", "good", "crack", "good"]
    >>> splitter = OneClassGroupShuffleSplit(1, test_size=0.5, random_state=0)
    >>> for train, test in splitter.split(y, y, groups=[0, 0, 0, 1, 1, 1]):
    ...     print(train, test)
    [0 1] [3 4 5]
    """

    __metadata_request__split = {"groups": True}


class MVTecSplit(_OneClassSplitter, BaseCrossValidator):
    """The one split that a data set comes with: trained on "train", tested on "test".

    Anomalous images of the training part, where a data set has any, are left out.

    Parameters
    ----------
    splits : array-like of shape (n,), default=None
        "train" or "test" for each image; None takes `X.splits`, as the loaders set it.

    Examples
    --------
    >>> from skstructcore.model_selection import MVTecSplit
    >>> y = ["good", "good", "crack", "good"]
    >>> splitter = MVTecSplit(splits=["train", "train", "test", "test"])
    >>> for train, test in splitter.split(y, y):
    ...     print(train, test)
    [0 1] [2 3]
    """

    def __init__(self, splits: ArrayLike | None = None) -> None:
        self.splits = splits

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """Return 1; the arguments are ignored."""
        return 1

    def _folds(self, X, anomalous, types, groups):
        splits = getattr(X, "splits", None) if self.splits is None else self.splits
        if splits is None:
            raise ValueError("MVTecSplit needs splits: pass splits=, or an ImageSet that has them.")
        splits = check_labels(splits, len(anomalous), "splits")
        train, test = splits == "train", splits == "test"
        if not (train | test).all():
            raise ValueError(f'splits must hold "train" and "test", got {np.unique(splits)}.')
        yield np.flatnonzero(train & ~anomalous), np.flatnonzero(test)
