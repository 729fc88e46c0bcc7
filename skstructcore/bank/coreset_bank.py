"""The memory bank: a coreset of the patches of normal images."""

from __future__ import annotations

import logging
from dataclasses import replace
from numbers import Integral, Real
from typing import Literal

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._utils.computing import find_device
from .._utils.rows import (
    ContainerOutputMixin,
    LazyRows,
    as_patch_grid,
    check_counted,
    check_features,
    materialize,
)
from .._utils.typing import ArrayLike, NDArray, RandomState, Self
from ..containers import MemoryBank, Patches, TrainingImages
from ..routing import pool_patches
from .build import most_unlike, over_shards, profiles_of, select_bank, stream_bank
from .dependence import find_groups_of_routes
from .memory import shape_of_fit
from .training import good_images, is_auto, number_images, recognised, with_lots_as_groups

_logger = logging.getLogger(__name__)
_COUNT = Interval(Integral, 1, None, closed="left")


class CoresetBank(ContainerOutputMixin, TransformerMixin, BaseEstimator):
    """Keep the few patches of normal images that cover all of them.

    Patches are selected by greedy k-center: each pick is the patch farthest from all before it.

    Parameters
    ----------
    ratio : "auto", float in (0, 1] or int, default="auto"
        How many of the training patches of each route are kept. A float: this share of them, at
        least one. An int: so many. "auto": 5 %, but at most 8,192 patches, or 1 % where that is
        more: few images need more, as a small bank depends on chance (``docs/decisions.md``).
    n_routes : int, "auto" or None, default=None
        For images of several products without labels: group them by k-means on their mean
        patches, each group with a bank of its own, ``"route0"``, ``"route1"``, … "auto" finds the
        number, see `skstructcore.routing.choose_routes`. None: one bank for all, or one for each
        of the `categories` that `fit` gets.
    device : str, default="auto"
        Where patches are selected: "auto" (a CUDA GPU where there is one, else the processor),
        "cpu", or a torch device ("cuda:1", "mps", …); see `greedy_k_center`.
    contamination : float in [0, 0.5), default=0.0
        Share of the training images that stay out of the bank: those most unlike the others when
        held out, for training images with defects that nobody can look for (`audit` names
        suspects). All images, these too, set the thresholds. Of each route, images of two groups
        have to stay.
    lots : {"report", "hold-out"}, default="report"
        What is done where training images come in lots: a few folders, or along their sequence.
        "report": the scorer tells how many good images of a lot that training never saw would be
        rejected (`StructCoreScorer.lots_`). "hold-out": lots are held out like groups. Thresholds
        then hold for unseen lots; they are higher, so that fewer defects are found. Images of a
        route that are all of one lot keep their groups.
    max_memory : int, default=2147483648
        Bytes that the training patches may take at once. Lazy features that need more are
        streamed, with a warning: the bank is then a `StreamingCoreset`, whose buffers take half
        of the memory, or more for a large bank. The rest holds the patches of training images
        drawn at random, which `fit_transform` returns for calibration: thresholds differ somewhat.
    shard_size : int or None, default=None
        Images that a process of joblib's active backend works on at a time:
        ``joblib.parallel_config(backend="dask")`` is a cluster, whose machines read images by
        their path. The bank is that of a stream (see `max_memory`), and the same whoever works on
        how many shards. None: this process works on all.
    random_state : int, RandomState instance or None, default=None
        Chooses the first pick, and the images that a stream keeps for calibration.

    Attributes
    ----------
    bank_ : MemoryBank
        The selected patches and the training image that each was cut from.
    radius_ : ndarray of shape (n_routes,), float64
        No training patch lies farther than this from the bank of its route. Images that are left
        out do not count. An upper bound after streaming.
    groups_ : ndarray of shape (n_images,)
        Group of each good training image, given or found.
    dependence_ : dict of str to Dependence, or None
        For each route how its images depend on each other, where ``groups="auto"`` found out.
    left_out_ : ndarray of int64
        Positions, among the good training images (`images_`), of those that `contamination` kept
        out of the bank.
    images_ : TrainingImages
        What is known of each good training image.
    n_images_per_route_ : ndarray of shape (n_routes,), int64
        Number of good training images of each route.
    n_images_ : int
        Number of all good training images.
    n_features_in_ : int
        Number of features of a patch.

    See Also
    --------
    RoutedKNNScorer : Compares patches with the bank.

    References
    ----------
    Gonzalez, T. F. (1985). Clustering to minimize the maximum intercluster distance.
    Roth, K. et al. (2022). Towards total recall in industrial anomaly detection (PatchCore).

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import CoresetBank
    >>> X = np.array([[0.0], [0.1], [1.0], [9.0], [9.1]])
    >>> bank = CoresetBank(3, random_state=0).fit(X).bank_
    >>> sorted(bank.image_index.tolist())
    [0, 2, 4]
    """

    bank_: MemoryBank
    images_: TrainingImages

    _parameter_constraints = {
        "ratio": [StrOptions({"auto"}), Interval(RealNotInt, 0, 1, closed="right"), _COUNT],
        "n_routes": [_COUNT, StrOptions({"auto"}), None],
        "device": [str],
        "random_state": ["random_state"],
        "contamination": [Interval(Real, 0, 0.5, closed="left")],
        "lots": [StrOptions({"report", "hold-out"})],
        "max_memory": [_COUNT],
        "shard_size": [_COUNT, None],
    }

    def __init__(
        self,
        ratio: float | Literal["auto"] = "auto",
        *,
        n_routes: int | Literal["auto"] | None = None,
        device: str = "auto",
        contamination: float = 0.0,
        lots: Literal["report", "hold-out"] = "report",
        max_memory: int = 2 * 2**30,
        shard_size: int | None = None,
        random_state: RandomState = None,
    ) -> None:
        self.ratio = ratio
        self.n_routes = n_routes
        self.device = device
        self.contamination = contamination
        self.lots = lots
        self.max_memory = max_memory
        self.shard_size = shard_size
        self.random_state = random_state

    def fit(
        self,
        X: LazyRows | ArrayLike,
        y: ArrayLike | None = None,
        *,
        groups: ArrayLike | Literal["auto"] | None = "auto",
        categories: ArrayLike | Literal["auto"] | None = "auto",
        parts: ArrayLike | Literal["auto"] | None = "auto",
    ) -> Self:
        """Select the bank from the patches of normal images.

        Parameters
        ----------
        X : LazyFeatures or array-like of shape (n_images, h, w, n_features) or \
                (n_samples, n_features)
            Patch features of normal images; a table is n images of one patch each.
        y : array-like of shape (n_images,), default=None
            Labels (see `skstructcore.images.labels`). Images they call anomalous are left out.
            None: the labels of the `ImageSet` that the features come from, if there is one. Of a
            table, labels that are not strings are ignored, as scikit-learn's detectors do.
        groups : array-like of shape (n_images,), "auto" or None, default="auto"
            The part, shot or series that each image shows, which is held out as a whole. "auto":
            those of the `ImageSet` that the features come from, if it has any, or the `parts`; else
            near-duplicates are found (not in a table). Fewer than five groups of an `ImageSet`,
            of five images or more on average, are `lots`. None: each image, or part, is a group.
        categories : array-like of shape (n_images,), "auto" or None, default="auto"
            The product that each image shows. Each gets a bank of its own, and a profile that
            tells its images from others. Excludes `n_routes`. "auto": those of the `ImageSet`, if
            it has two or more and `n_routes` is None. None: one bank for all.
        parts : array-like of shape (n_images,), "auto" or None, default="auto"
            The part that each image is a view of, where several views are decided together: see
            `skstructcore.describe_parts`. "auto": those of the `ImageSet`, if it has any.

        Returns
        -------
        self : CoresetBank

        Raises
        ------
        ValueError
            If a category has fewer than two good images (groups), or is called "unknown".
        """
        self.fit_transform(X, y, groups=groups, categories=categories, parts=parts)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(
        self,
        X: LazyRows | ArrayLike,
        y: ArrayLike | None = None,
        *,
        groups: ArrayLike | Literal["auto"] | None = "auto",
        categories: ArrayLike | Literal["auto"] | None = "auto",
        parts: ArrayLike | Literal["auto"] | None = "auto",
    ) -> Patches:
        """Fit, and return the training patches with the image that each belongs to.

        `transform` does not know the images: only these patches can be scored held out.

        Parameters
        ----------
        X, y, groups, categories, parts : see `fit`
        """
        X = check_features(self, X, reset=True)
        good = good_images(X, y, groups, categories, parts, n_routes=self.n_routes)
        values, pooled = self._patches_of(good), None
        shard_size = self.shard_size if isinstance(values, LazyRows) else None
        if good.categories is not None or self.n_routes is not None:
            pooled = np.concatenate([*over_shards(pool_patches, shard_size, values, good.places)])
        table, names = number_images(good, self.n_routes, pooled, self.random_state)
        wanted = {"random_state": self.random_state, "device": find_device(self.device)}
        wanted["ratios"] = dict.fromkeys(names, self.ratio)
        if isinstance(values, LazyRows):
            wanted |= {"max_memory": self.max_memory, "shard_size": self.shard_size}
            selection = stream_bank(values, table, **wanted)
        else:
            selection = select_bank(values, table, **wanted)
        # The order matters: groups decide what `most_unlike` compares images with, and profiles
        # are learned from the images that stay.
        self.dependence_ = None
        # A table has one patch an image: too little to tell what depends on what.
        if is_auto(groups) and good.groups is None and X.ndim == 4:
            table, self.dependence_ = find_groups_of_routes(selection, table)
        if table.lots is not None and self.lots == "hold-out":
            table, of_one_lot = with_lots_as_groups(table, selection.bank)
            if len(of_one_lot):
                _logger.warning(
                    "All images of %s are of one lot: it cannot be held out, and how far images of "
                    "another lot lie is not known",
                    ", ".join(repr(names[route]) for route in of_one_lot),
                )
        if self.contamination > 0:
            left_out = most_unlike(values, table, selection.bank, self.contamination)
            table = replace(table, left_out=left_out)
            selection = select_bank(values, table, **wanted)
        bank, self.radius_ = selection.bank, selection.radius
        self.bank_ = replace(
            bank,
            groups=table.groups[bank.image_index],
            profiles=None if pooled is None else profiles_of(selection, table, pooled),
        )
        self.images_ = recognised(table, good.X, shard_size=shard_size)
        places, geometry = selection.images, getattr(good.X, "geometry", None)
        geometry = None if geometry is None else geometry[places]
        return Patches(selection.values, self.bank_, places, self.images_, geometry)

    def _patches_of(self, good):
        """Patches of all images in memory, or lazy ones where they have to be streamed."""
        if isinstance(good.X, LazyRows):
            shape = shape_of_fit(self, good)
            shape.advised("max_memory").check()
            if shape.streamed and self.contamination > 0:
                raise ValueError(
                    f"contamination={self.contamination:g} compares all training images with each "
                    "other, which have to fit into max_memory, without shards: raise it, or set "
                    "contamination=0."
                )
            if shape.streamed:
                return good.X.showing(good.categories)
        values = materialize(good.X, categories=good.categories)
        check_counted(np.isnan(values[..., 0]), good.places)
        return values

    @property
    def n_images_per_route_(self) -> NDArray[np.int64]:
        table, n_routes = self.images_, len(self.bank_.route_names)
        return np.bincount(table.routes[table.is_there], minlength=n_routes)

    @property
    def n_images_(self) -> int:
        return int(self.images_.is_there.sum())

    @property
    def left_out_(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.images_.left_out & self.images_.is_there)

    @property
    def groups_(self) -> NDArray[np.int64]:
        return self.images_.groups

    def transform(self, X: LazyRows | ArrayLike) -> Patches:
        """Pair the patches of images with the bank; they are lazy if `X` (see `fit`) is lazy."""
        check_is_fitted(self, "bank_")
        X = check_features(self, X, reset=False)
        values = X if isinstance(X, LazyRows) else as_patch_grid(X)
        return Patches(values, self.bank_, geometry=getattr(X, "geometry", None))
