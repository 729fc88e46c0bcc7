"""The memory bank: a coreset of the patches of normal images."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from ._validation import as_patch_grid, check_features, check_per_image
from .containers import MemoryBank, Patches


class CoresetBank(TransformerMixin, BaseEstimator):
    """Keep the few patches of normal images that cover all of them.

    Patches are selected by greedy k-center (farthest first): each pick is the patch that is
    farthest from all picks before it.

    Parameters
    ----------
    ratio : float in (0, 1], default=0.01
        Share of all training patches to keep, at least one. Ignored if `n_patches` is given.
    n_patches : int or None, default=None
        Number of patches to keep, in each category where there are categories.
    dtype : {"float32", "float16"}, default="float32"
        How the bank is stored. float16 halves its size.
    random_state : int, RandomState instance or None, default=None
        Chooses the first pick; all others follow from it.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    bank_ : MemoryBank
        The selected patches and the training image that each was cut from.
    n_images_ : int
        Number of training images.
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
        "ratio": [Interval(Real, 0, 1, closed="right")],
        "n_patches": [Interval(Integral, 1, None, closed="left"), None],
        "dtype": [StrOptions({"float32", "float16"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self, ratio=0.01, n_patches=None, *, dtype="float32", random_state=None, verbose=0
    ):
        self.ratio = ratio
        self.n_patches = n_patches
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y=None, *, groups=None, categories=None):
        """Select the bank from the patches of normal images.

        Parameters
        ----------
        X : LazyFeatures or array-like of shape (n_images, h, w, n_features) or \
                (n_samples, n_features)
            Patch features of normal images; a table is n images of one patch each.
        y : Ignored
        groups : array-like of shape (n_images,), default=None
            The part, shot or series that each image shows. Images of one group are left out
            together when training images are scored.
        categories : array-like of shape (n_images,), default=None
            The product that each image shows. Each gets a bank of its own.

        Returns
        -------
        self : CoresetBank
        """
        self.fit_transform(X, y, groups=groups, categories=categories)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X, y=None, *, groups=None, categories=None):
        """Fit, and return the training patches with the image that each belongs to.

        Parameters
        ----------
        X, y, groups, categories : see `fit`

        Returns
        -------
        patches : Patches
        """
        X = check_features(self, X, reset=True)
        n_images = len(X)
        groups = _codes(groups, n_images, "groups")[0]
        routes, route_names = _codes(categories, n_images, "categories", default="all")
        geometry = getattr(X, "geometry", None)
        values = materialize(X)
        self.bank_ = build_bank(
            values,
            groups=groups,
            routes=routes,
            route_names=route_names,
            n_patches=self.n_patches,
            ratio=self.ratio,
            random_state=self.random_state,
            dtype=self.dtype,
            verbose=self.verbose,
        )
        self.n_images_ = n_images
        return Patches(values, self.bank_, np.arange(n_images), groups, routes, geometry)

    def transform(self, X):
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
        values = X if hasattr(X, "iter_batches") else as_patch_grid(X)
        return Patches(values, self.bank_, geometry=getattr(X, "geometry", None))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def materialize(X):
    """Return lazy or given features as one float32 array ``(n, h, w, d)``."""
    if not hasattr(X, "iter_batches"):
        return as_patch_grid(np.asarray(X, dtype=np.float32))
    values = np.empty(X.shape, dtype=np.float32)
    start = 0
    for batch in X.iter_batches():
        values[start : start + len(batch)] = batch
        start += len(batch)
    return values


def build_bank(
    values,
    *,
    groups,
    routes,
    route_names,
    n_patches=None,
    ratio=0.01,
    image_index=None,
    random_state=None,
    dtype="float32",
    verbose=0,
):
    """Select a bank from patch features, route by route.

    Parameters
    ----------
    values : ndarray of shape (n_images, h, w, n_features), float32
    groups, routes : ndarray of shape (n_images,), int64
        Group code and route of each image.
    route_names : tuple of str
    n_patches : int, sequence of int (one a route) or None
        How many patches to keep of each route; None: `ratio` of them.
    ratio : float
    image_index : ndarray of shape (n_images,), default=None
        Position of each image in the training set; None: its row.
    random_state : int, RandomState instance or None
    dtype : {"float32", "float16"}
    verbose : int

    Returns
    -------
    bank : MemoryBank

    Raises
    ------
    ValueError
        If a route has fewer patches than it should keep.
    """
    from .coreset import greedy_k_center

    rng = check_random_state(random_state)
    image_index = np.arange(len(values)) if image_index is None else image_index
    per_image = values.shape[1] * values.shape[2]
    parts = []
    for route, name in enumerate(route_names):
        images = np.flatnonzero(routes == route)
        # The usual case of one route must not copy all patches.
        chosen = values if len(images) == len(values) else values[images]
        rows = chosen.reshape(-1, values.shape[-1])
        wanted = n_patches if np.ndim(n_patches) == 0 else n_patches[route]
        wanted = max(1, round(ratio * len(rows))) if wanted is None else int(wanted)
        if wanted > len(rows):
            raise ValueError(
                f"n_patches={wanted} is larger than the {len(rows)} patches there are "
                f"in route {name!r}: choose fewer, or give more images."
            )
        picks, _ = greedy_k_center(rows, wanted, start=int(rng.randint(len(rows))), verbose=verbose)
        parts.append((rows[picks].astype(dtype), images[picks // per_image]))
    kept = np.concatenate([images for _, images in parts])
    return MemoryBank(
        values=np.concatenate([entries for entries, _ in parts]),
        image_index=image_index[kept],
        groups=groups[kept],
        routes=routes[kept],
        route_names=tuple(route_names),
    )


def _codes(labels, n_images, name, default=None):
    """Number the distinct labels; without labels each image is its own, or all are one."""
    if labels is not None:
        names, codes = np.unique(check_per_image(labels, n_images, name), return_inverse=True)
        return codes.astype(np.int64), tuple(str(label) for label in names)
    if default is None:
        return np.arange(n_images, dtype=np.int64), None
    return np.zeros(n_images, dtype=np.int64), (default,)
