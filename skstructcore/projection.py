"""Fixed random projection of patch features."""

from __future__ import annotations

from functools import partial
from itertools import product
from numbers import Integral
from typing import Literal

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.random_projection import GaussianRandomProjection
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from ._utils.computing import slices, thread_pool
from ._utils.rows import ContainerOutputMixin, LazyRows, check_features
from ._utils.typing import ArrayLike, NDArray, RandomState, Self

_BLOCK_ROWS = 4096
_WIDEST = 512  # of "auto"


class RandomProjection(
    ContainerOutputMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Project the last axis of patch features with a fixed Gaussian random matrix.

    The matrix depends on `random_state` and the number of features only, never on the
    data. Squared distances are preserved in expectation (Johnson-Lindenstrauss), with a
    relative standard deviation of ``sqrt(2 / n_components)``.

    Parameters
    ----------
    n_components : int, "auto" or None, default="auto"
        Number of dimensions to project to. None leaves the features as they are. "auto": 512 of
        more than 512; a projection to fewer costs accuracy (``docs/scoring.md``).
    random_state : int, RandomState instance or None, default=0
        Seed of the matrix, which is that of
        :class:`~sklearn.random_projection.GaussianRandomProjection`, on every platform.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features), float32
        The matrix; None where the features are left as they are.
    n_features_in_ : int
        Number of features seen by `fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import RandomProjection
    >>> patches = np.ones((2, 4, 4, 100), dtype=np.float32)
    >>> RandomProjection(n_components=8).fit_transform(patches).shape
    (2, 4, 4, 8)
    """

    components_: NDArray[np.float32] | None

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"}), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: int | Literal["auto"] | None = "auto",
        *,
        random_state: RandomState = 0,
    ) -> None:
        self.n_components = n_components
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: LazyRows | ArrayLike, y: object = None) -> Self:
        """Draw the matrix for the number of features of `X`.

        Parameters
        ----------
        X : LazyFeatures or array-like of shape (n_images, h, w, n_features) or \
                (n_samples, n_features)
            Only its last axis matters.
        y : Ignored

        Returns
        -------
        self : RandomProjection
        """
        X = check_features(self, X, reset=True)
        n_components = self.n_components
        if n_components == "auto":
            n_components = _WIDEST if self.n_features_in_ > _WIDEST else None
        self.components_, self._n_features_out = None, n_components or self.n_features_in_
        if n_components is not None:
            generator = GaussianRandomProjection(n_components, random_state=self.random_state)
            # The generator looks at the shape of its input only.
            generator.fit(np.zeros((1, self.n_features_in_), dtype=np.float32))
            self.components_ = generator.components_.astype(np.float32)
        return self

    def transform(self, X: LazyRows | ArrayLike) -> LazyRows | NDArray[np.floating]:
        """Project the last axis of `X`, see `fit`.

        Returns
        -------
        projected : LazyFeatures or ndarray of shape (..., n_components)
            Lazy if `X` is lazy. Arrays keep float32 and float64. Features of an image do not depend
            on which others there are; a row of a table may, in its last digits.
        """
        check_is_fitted(self)
        X = check_features(self, X, reset=False)
        if self.components_ is None:
            return X
        project = partial(_project, self.components_)  # lazy features keep it after another fit
        return X.map(project, self._n_features_out) if isinstance(X, LazyRows) else project(X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _project(components, values):
    # Image by image: the last digits of a product may depend on how many rows it has.
    n_features = values.shape[-1]
    images = values.reshape(len(values) if values.ndim > 2 else 1, -1, n_features)
    matrix = components.T.astype(values.dtype, copy=False)
    projected = np.empty((*images.shape[:2], len(components)), dtype=values.dtype)
    blocks = list(product(range(len(images)), slices(images.shape[1], _BLOCK_ROWS)))

    def project(block):
        projected[block] = images[block] @ matrix

    with thread_pool(most=len(blocks)) as run_all:
        run_all(project, blocks)
    return projected.reshape(*values.shape[:-1], len(components))
