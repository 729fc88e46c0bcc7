"""The memory bank: a coreset of the patches of normal images."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, get_args

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._utils.device import find_device
from .._utils.lazy import is_lazy
from .._utils.output import ContainerOutputMixin
from .._utils.typing import Storage
from .._utils.validation import as_patch_grid, check_features
from .._utils.warning import warn_user
from ..containers import Patches
from ..routing.grouping import check_routes, choose_routes
from ..routing.pooling import pool_patches
from .build import build_bank, codes_of, materialize, most_unlike, profiles_of
from .dependence import find_groups_of_routes
from .memory import check_room
from .record import record_of
from .stream import stream_bank
from .training import training_images

if TYPE_CHECKING:
    from typing import Literal

    from .._utils.lazy import LazyRows
    from .._utils.typing import ArrayLike, NDArray, RandomState, Self


class CoresetBank(ContainerOutputMixin, TransformerMixin, BaseEstimator):
    """Keep the few patches of normal images that cover all of them.

    Patches are selected by greedy k-center (farthest first): each pick is the patch that is
    farthest from all picks before it.

    Parameters
    ----------
    ratio : "auto" or float in (0, 1], default="auto"
        Share of all training patches to keep, at least one. "auto": 5 %, which are at most
        8,192 patches, or 1 % where that is more: a small bank of few images is a lottery
        (``docs/decisions.md``). Ignored if `n_patches` is given.
    n_patches : int or None, default=None
        Number of patches to keep, in each route where there are several.
    n_routes : int, "auto" or None, default=None
        For images of several products without labels: group them by k-means on their mean
        patches, each group with a bank of its own, named ``"route0"``, ``"route1"``, … "auto"
        finds the number of groups, see `skstructcore.routing.choose_routes`. None: one bank for
        all, or one for each of the `categories` that `fit` gets.
    n_prototypes : int, default=16
        Size of the routing bank of each route.
    dtype : {"float32", "float16"}, default="float32"
        How the bank is stored. float16 halves its size.
    device : str, default="auto"
        Where patches are selected: "auto" (a CUDA GPU where there is one, else the processor),
        "cpu", or a torch device ("cuda:1", "mps", …). A GPU sums distances in float32, so that
        picks may differ where two patches are equally far up to rounding.
    random_state : int, RandomState instance or None, default=None
        Chooses the first pick, from which all others follow, and the images that are kept for
        calibration when features are streamed.
    contamination : float in [0, 0.5), default=0.0
        Share of the training images that stay out of the bank: those that are most unlike the
        others when held out. For training images among which defects are suspected that nobody
        can look for (`audit` names suspects). Thresholds are learned from all images all the same.
    lots : {"report", "hold-out"}, default="report"
        What is done where training images come in lots, along the sequence that they are given in.
        "report": the scorer tells how many good images of a lot that training never saw would be
        rejected (`StructCoreScorer.lots_`). "hold-out": lots are held out like groups, so that
        thresholds are set for such lots; they are cautious for all others, and less is found.
    max_memory : int, default=2147483648
        Bytes that the training patches may take at once. Lazy features that need more are
        streamed: the bank is then a merge-and-reduce coreset (see `StreamingCoreset`). Half of
        the memory, or more for a large bank, holds its buffers (as `dtype`), and the rest the
        patches of training images drawn at random, which `fit_transform` returns for
        calibration. A warning says so: thresholds differ somewhat from those of a fit in memory.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    bank_ : MemoryBank
        The selected patches and the training image that each was cut from.
    radius_ : ndarray of shape (n_routes,), float64
        No training patch lies farther than this from the bank of its route. Exact, but an
        upper bound after streaming; up to the rounding of float16.
    groups_ : ndarray of shape (n_images,)
        Group of each good training image, given or found.
    dependence_ : dict of str to Dependence, or None
        For each route how its images depend on each other, where ``groups="auto"`` found out.
    left_out_ : ndarray of int64
        Positions of the training images that `contamination` kept out of the bank.
    images_ : TrainingRecord
        Digest, group, route and size of each training image.
    n_images_per_route_ : ndarray of shape (n_routes,), int64
        Number of good training images of each route.
    n_images_ : int
        Number of all good training images.
    n_features_in_ : int
        Number of features of a patch.

    See Also
    --------
    RoutedKNNScorer : Compares patches with the bank.

    Notes
    -----
    As with :class:`~sklearn.preprocessing.TargetEncoder`, ``fit_transform(X)`` is not
    ``fit(X).transform(X)``: only the first returns patches that know which training image they
    belong to, so that the next step can score each training image without its own patches.

    References
    ----------
    Gonzalez, T. F. (1985). Clustering to minimize the maximum intercluster distance.
    Roth, K. et al. (2022). Towards total recall in industrial anomaly detection (PatchCore).

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import CoresetBank
    >>> X = np.array([[0.0], [0.1], [1.0], [9.0], [9.1]])
    >>> bank = CoresetBank(n_patches=3, random_state=0).fit(X).bank_
    >>> sorted(bank.image_index.tolist())
    [0, 2, 4]
    """

    _parameter_constraints = {
        "ratio": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="right")],
        "n_patches": [Interval(Integral, 1, None, closed="left"), None],
        "n_routes": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"}), None],
        "n_prototypes": [Interval(Integral, 1, None, closed="left")],
        "dtype": [StrOptions(set(get_args(Storage)))],
        "device": [str],
        "random_state": ["random_state"],
        "contamination": [Interval(Real, 0, 0.5, closed="left")],
        "lots": [StrOptions({"report", "hold-out"})],
        "max_memory": [Interval(Integral, 1, None, closed="left")],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        ratio: float | Literal["auto"] = "auto",
        n_patches: int | None = None,
        *,
        n_routes: int | Literal["auto"] | None = None,
        n_prototypes: int = 16,
        dtype: Storage = "float32",
        device: str = "auto",
        contamination: float = 0.0,
        lots: Literal["report", "hold-out"] = "report",
        max_memory: int = 2 * 2**30,
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        self.ratio = ratio
        self.n_patches = n_patches
        self.n_routes = n_routes
        self.n_prototypes = n_prototypes
        self.dtype = dtype
        self.device = device
        self.contamination = contamination
        self.lots = lots
        self.max_memory = max_memory
        self.random_state = random_state
        self.verbose = verbose

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
            Labels (see `skstructcore.images.labels`). Images they call anomalous are left out, so
            that a search that refits on all images does not put defects into the bank. None:
            the labels of the `ImageSet` that the features come from, if they come from one. For
            a table, labels that are not strings are ignored, as scikit-learn's detectors do.
        groups : array-like of shape (n_images,), "auto" or None, default="auto"
            The part, shot or series that each image shows. Images of one group are left out
            together when training images are scored. "auto": those of the `ImageSet` that the
            features come from, if it has any, or the `parts`; else near-duplicates are found (not
            in a table), and other images stay their own. None: each image is a group of its own.
        categories : array-like of shape (n_images,), "auto" or None, default="auto"
            The product that each image shows. Each gets a bank of its own, and a routing bank
            that tells its images from others. Excludes `n_routes`. "auto": those of the
            `ImageSet`, if it has two or more and `n_routes` is None; images that are all of one
            category get one bank and no routing. None: one bank for all.
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

        Parameters
        ----------
        X, y, groups, categories, parts : see `fit`

        Returns
        -------
        patches : Patches
        """
        X = check_features(self, X, reset=True)
        # A table has one patch an image: too little to tell what depends on what.
        find = isinstance(groups, str) and X.ndim == 4
        training = training_images(X, y, groups, categories, parts, n_routes=self.n_routes)
        shape = check_room(self, training)
        X, groups, categories, names, parts = training
        if getattr(X, "ignored_by_category", None) is not None:
            X = X.showing(categories)
        n_images, find = len(X), find and groups is None
        groups, _ = codes_of(groups, n_images)
        images = np.arange(n_images)
        streamed = is_lazy(X) and shape.streamed
        if streamed and self.contamination > 0:
            raise ValueError(
                f"contamination={self.contamination:g} compares all training images with each "
                "other, which have to fit into max_memory: raise it, or set contamination=0."
            )
        values = X if streamed else materialize(X)
        is_routed = categories is not None or self.n_routes is not None
        pooled = pool_patches(values) if is_routed else None
        if self.n_routes is None:
            routes, route_names = codes_of(categories, n_images, default="all")
        else:
            routes = choose_routes(pooled, self.n_routes, random_state=self.random_state)
            route_names = tuple(f"route{i}" for i in range(routes.max() + 1))
        if is_routed:
            check_routes(routes, route_names, groups, names)
        how = dict(
            groups=groups,
            routes=routes,
            route_names=route_names,
            n_patches=self.n_patches,
            ratio=self.ratio,
            random_state=self.random_state,
            dtype=self.dtype,
            device=find_device(self.device),
            verbose=self.verbose,
        )
        if streamed:
            bank, self.radius_, values, images = stream_bank(X, max_memory=self.max_memory, **how)
            warn_user(
                f"The patches of {n_images} training images take {shape.all_patches} bytes, more "
                f"than max_memory={self.max_memory}: the bank was selected from a stream, and "
                f"{len(images)} images drawn at random are left to set thresholds with."
            )
        else:
            bank, self.radius_ = build_bank(values, **how)
        self.dependence_, lots = None, None
        if find:
            groups, lots, self.dependence_ = find_groups_of_routes(values, images, routes, bank)
            if lots is not None and self.lots == "hold-out":
                groups, lots = lots, None
            bank = replace(bank, groups=groups[bank.image_index])
        self.left_out_ = np.empty(0, dtype=np.int64)
        if self.contamination > 0:
            self.left_out_ = most_unlike(values, routes, bank, self.contamination)
            kept = np.setdiff1d(images, self.left_out_)
            how |= {"groups": groups[kept], "routes": routes[kept], "image_index": kept}
            bank, self.radius_ = build_bank(values[kept], **how)
        if is_routed:
            profiles = profiles_of(bank, values, routes[images], pooled, routes, self.n_prototypes)
            bank = replace(bank, profiles=profiles)
        self.bank_ = bank
        self.images_ = record_of(X, groups, routes, pooled)
        self.n_images_ = n_images
        self.n_images_per_route_ = np.bincount(routes, minlength=len(route_names))
        geometry = getattr(X, "geometry", None)
        geometry = geometry if geometry is None else geometry[images]
        parts, lots, names = (
            part if part is None else part[images] for part in (parts, lots, self.images_.names)
        )
        of_images = images, groups[images], routes[images], geometry, parts, lots, names
        return Patches(values, self.bank_, *of_images)

    @property
    def groups_(self) -> NDArray[np.int64]:
        return self.images_.groups

    def transform(self, X: LazyRows | ArrayLike) -> Patches:
        """Pair the patches of images with the bank.

        Parameters
        ----------
        X : LazyFeatures or array-like of shape (n_images, h, w, n_features) or \
                (n_samples, n_features)

        Returns
        -------
        patches : Patches
            Lazy if `X` is lazy.
        """
        check_is_fitted(self)
        X = check_features(self, X, reset=False)
        values = X if is_lazy(X) else as_patch_grid(X)
        return Patches(values, self.bank_, geometry=getattr(X, "geometry", None))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
