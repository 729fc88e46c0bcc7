"""Patch features that are computed when they are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from numpy.typing import DTypeLike, NDArray

    from ..images.annotations import Annotations
    from ..images.geometry import Geometry
    from ..images.image_list import ImageList
    from ._backbone import PatchFeatures


class LazyFeatures:
    """Patch features of a list of images; the backbone runs when they are asked for.

    The object looks like a float32 array of shape `(n_images, height, width, n_features)`.
    Its shape is known without any computation; `numpy.asarray` computes and returns the
    whole of it, iteration gives it batch by batch. Nothing is kept: asking twice runs the
    backbone twice (unless the feature estimator has a `memory`).

    Parameters
    ----------
    images : ImageList
        The images.
    backbone : fitted feature estimator
        What computes the features, `ConvFeatures` for instance.
    functions : tuple of callables, default=()
        Applied to each batch one after the other.
    n_features : int, default=None
        Length of the last axis after `functions`; None means that of the backbone.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import ConvFeatures
    >>> photos = np.zeros((3, 64, 48), np.uint8)
    >>> lazy = ConvFeatures(image_size=64).fit_transform(photos)
    >>> lazy
    LazyFeatures(shape=(3, 8, 8, 152), dtype=float32)
    >>> lazy[1:].map(np.abs, n_features=152).shape
    (2, 8, 8, 152)
    >>> lazy[0].shape
    (8, 8, 152)
    """

    dtype = np.dtype(np.float32)
    ndim = 4

    def __init__(
        self,
        images: ImageList,
        backbone: PatchFeatures,
        functions: Sequence[Callable[[NDArray[np.floating]], NDArray[np.floating]]] = (),
        n_features: int | None = None,
    ) -> None:
        self.images = images
        self.backbone = backbone
        self.functions = tuple(functions)
        self.n_features = backbone.n_features_out_ if n_features is None else int(n_features)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.images), *self.backbone.grid_shape_, self.n_features)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"LazyFeatures(shape={self.shape}, dtype={self.dtype})"

    @overload
    def __getitem__(self, index: int) -> NDArray[np.float32]: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | NDArray[Any]) -> LazyFeatures: ...

    def __getitem__(
        self, index: int | slice | Sequence[int] | NDArray[Any]
    ) -> NDArray[np.float32] | LazyFeatures:
        """One image's features as an array for an int, else the lazy features of a subset."""
        subset = LazyFeatures(self.images[index], self.backbone, self.functions, self.n_features)
        if isinstance(index, (int, np.integer)):
            return np.asarray(subset)[0]
        return subset

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return self.iter_batches()

    def iter_batches(self) -> Iterator[NDArray[np.float32]]:
        """Yield float32 arrays `(n_in_batch, height, width, n_features)`, in order."""
        for batch in self.backbone._iter_features(self.images):
            for function in self.functions:
                batch = function(batch)
            yield np.asarray(batch, dtype=np.float32)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("Lazy features have to be computed: they cannot avoid a copy.")
        values = np.empty(self.shape, dtype=self.dtype if dtype is None else dtype)
        start = 0
        for batch in self.iter_batches():
            values[start : start + len(batch)] = batch
            start += len(batch)
        return values

    def map(
        self, function: Callable[[NDArray[np.floating]], NDArray[np.floating]], n_features: int
    ) -> LazyFeatures:
        """Lazy features to which `function` is applied, batch by batch.

        Parameters
        ----------
        function : callable
            Takes an array `(n_in_batch, height, width, n)` and returns one with `n_features`
            in the last axis. It has to be picklable for the lazy features to be.
        n_features : int
            Length of the last axis of the result.

        Returns
        -------
        mapped : LazyFeatures
        """
        return LazyFeatures(self.images, self.backbone, (*self.functions, function), n_features)

    @property
    def annotations(self) -> Annotations:
        """What came with the images: the labels, groups and categories of an `ImageSet`."""
        return self.images.annotations

    @property
    def geometry(self) -> Geometry:
        """`Geometry` of all images; reads the headers of the files, runs no backbone."""
        return self.backbone._geometry(self.images)
