"""Patch features that are computed when they are needed."""

from __future__ import annotations

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils.validation import check_is_fitted

from .._utils.copies import with_attributes
from .._utils.rows import ContainerOutputMixin, LazyRows, image_key, materialize
from .._utils.typing import Self
from ..images.geometry import Geometry
from ..images.image_list import Annotations, ImageList, ImagesLike, as_images
from ..images.raster import SliceablePixels
from ._extraction import extraction_memory
from ._picture import Picture, is_background, warn_if_swapped

if TYPE_CHECKING:
    from ._backbone import PatchFeatures

_N_LOOKED_AT = 8

_logger = logging.getLogger(__name__)


class LazyFeatures(LazyRows):
    """Patch features of a list of images; the backbone runs when they are asked for.

    The object looks like a float32 array of shape `(n_images, height, width, n_features)`.
    Its shape is known without any computation; `numpy.asarray` computes and returns the
    whole of it, iteration gives it batch by batch. Nothing is kept: asking twice runs the
    backbone twice (unless the feature estimator has a `memory`).

    A fitted feature estimator, the `backbone`, computes them; `functions` are applied to each batch
    one after the other, see `map`, and the last gives `n_features`. `categories` are what each
    image shows, as far as `ignore` depends on that; see `showing`.

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

    def __init__(self, images: ImageList, backbone: LazyTransformer) -> None:
        self.images = images
        self.backbone = backbone
        self.functions = ()
        self.n_features = backbone.n_features_out_
        self.categories = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.images), *self.backbone.grid_shape_, self.n_features)

    def __repr__(self) -> str:
        return f"LazyFeatures(shape={self.shape}, dtype={self.dtype})"

    def __getitem__(
        self, index: int | slice | Sequence[int] | NDArray[Any]
    ) -> NDArray[np.float32] | LazyFeatures:
        """One image's features as an array for an int, else the lazy features of a subset."""
        index = image_key(index, "LazyFeatures")
        if isinstance(index, int):
            return np.asarray(self[[index]])[0]
        categories = None if self.categories is None else self.categories[index]
        return with_attributes(self, images=self.images[index], categories=categories)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return self.iter_batches()

    def iter_batches(self) -> Iterator[NDArray[np.float32]]:
        """Yield float32 arrays `(n_in_batch, height, width, n_features)`, in order.

        The features of ignored patches are NaN.
        """
        picture, images, backgrounds, done = self.backbone.picture_, self.images, {}, 0

        def find_background(i, pixels):
            if isinstance(pixels, SliceablePixels):  # a large image, of which tiles read parts
                pixels = picture.pixels(images, i)
            backgrounds[i] = is_background(pixels, self.shape[1:3])

        on_read = find_background if picture.no_background else None
        for batch in self.backbone._iter_features(images, on_read):
            for function in self.functions:
                batch = function(batch)
            batch = np.asarray(batch, dtype=np.float32)
            rows = range(done, done + len(batch))
            part, done = self[rows.start : rows.stop], rows.stop
            masks = [backgrounds.pop(i) for i in rows] if on_read else None
            finite = np.isfinite(batch).all(axis=(1, 2, 3))
            if not finite.all():  # NaN is for patches that are ignored
                raise ValueError(
                    f"The features of image {part.images.place(int(np.argmin(finite)))} are not "
                    "finite. Check the backbone's weights and dtype (float16 overflows where "
                    "bfloat16 does not)."
                )
            picture.mark_ignored(batch, part.images, part.categories, masks)
            yield batch

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("Lazy features have to be computed: they cannot avoid a copy.")
        if self.waits_for_categories:
            raise ValueError(
                "An array cannot hold what ignore says, because that depends on the category of "
                "each image: pass on the lazy features themselves."
            )
        return materialize(self, self.dtype if dtype is None else dtype)

    def map(
        self, function: Callable[[NDArray[np.floating]], NDArray[np.floating]], n_features: int
    ) -> LazyFeatures:
        """Lazy features to which `function`, which can be pickled, is applied, batch by batch.

        It takes an array `(n_in_batch, height, width, n)` and returns one with `n_features` last.
        """
        functions = (*self.functions, function)
        return with_attributes(self, functions=functions, n_features=int(n_features))

    def showing(self, categories: ArrayLike | None) -> LazyFeatures:
        """The same features, for images of these categories, one an image.

        Patches that `ignore` takes out of images of that category are NaN. None is an error if
        `ignore` depends on categories.
        """
        if not self.waits_for_categories:
            return self
        if categories is None:
            raise ValueError(
                "ignore is a dict of categories, so fit has to know the category of each image: "
                "pass bank__categories= to the pipeline's fit, or an ImageSet with categories."
            )
        categories, picture = np.asarray(categories).astype(str), self.backbone.picture_
        unknown = sorted(set(picture.ignored) - set(categories.tolist()))
        if unknown:  # no error: `add_category` comes with the images of one category
            _logger.warning("ignore has regions of %s, of which there is no image", unknown)
        picture.check_ignored(self.images, self.backbone.grid_shape_, categories)
        return with_attributes(self, categories=categories)

    def memory(self, **changes: int) -> tuple[int, int, int]:
        """See `extraction_memory`; `changes` are other parameters: `batch_size` or `n_jobs`."""
        backbone = self.backbone._frozen()
        for part in backbone.backbones:
            part.set_params(**changes)
        return extraction_memory(backbone, self.images, self.n_features)

    def ignored_share(self) -> float:
        """Share of patches that are ignored, as some of the images tell."""
        picture = self.backbone.picture_
        if picture.ignored is None and not picture.no_background:
            return 0.0
        some = self[np.unique(np.linspace(0, len(self) - 1, _N_LOOKED_AT).astype(int))]
        marked = np.zeros((len(some), *self.shape[1:3], 1), np.float32)
        picture.mark_ignored(marked, some.images, some.categories)
        return float(np.isnan(marked).mean())

    @property
    def annotations(self) -> Annotations:
        """What came with the images: the labels, groups and categories of an `ImageSet`."""
        return self.images.annotations

    @property
    def waits_for_categories(self) -> bool:
        """Whether what is ignored depends on the category of each image, which is not known yet."""
        return self.categories is None and self.backbone.picture_.by_category

    def mark_ignored(
        self, features: NDArray[np.floating], rows: NDArray[np.integer], categories: Sequence[str]
    ) -> None:
        """Turn what `ignore` takes out of images `rows`, each of its category, into NaN, in place.

        `features` are theirs, ``(n, h, w, d)``.
        """
        self.backbone.picture_.mark_ignored(features, self.images[rows], categories)

    @property
    def geometry(self) -> Geometry:
        """`Geometry` of all images; reads the headers of the files, runs no backbone."""
        return self.backbone.picture_.geometry(self.images)


class LazyTransformer(ContainerOutputMixin, TransformerMixin, BaseEstimator, ABC):
    """Base of all that turns images into lazy features, which need the attributes below."""

    picture_: Picture  # what the networks get to see of images
    grid_shape_: tuple[int, int]
    n_features_out_: int
    backbones: Sequence[PatchFeatures]  # the estimators with one network each

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: ImagesLike, y: object = None) -> Self:
        """Check images and weights, and find size, window and regions; no weight is trained.

        Parameters
        ----------
        X : folder, sequence of paths, PIL images or arrays, or ndarray
            Images in any form that `skstructcore.images.as_images` takes. The headers of all
            files are read, so that what is no image is found before the backbone runs.
        y : ignored

        Returns
        -------
        self : object
        """
        self._fit(as_images(X))
        return self

    def transform(self, X: ImagesLike) -> LazyFeatures:
        """Patch features of images.

        Parameters
        ----------
        X : see `fit`

        Returns
        -------
        features : LazyFeatures of shape (n_images, height, width, n_features), float32
            Computed batch by batch when they are used.
        """
        check_is_fitted(self)
        self._check_recipe()
        images = as_images(X)
        first = self.backbones[0]
        if first.channels is None:
            warn_if_swapped(images, first.colours_)
        # A copy: what happens to this estimator later must not change what it has given.
        return LazyFeatures(images, self._frozen())

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _frozen(self) -> Self:
        """A copy that no later change of parameters reaches."""
        frozen = object.__new__(type(self))  # no pickle's state: a module stays one
        for name, value in vars(self).items():  # a list may be changed in place
            vars(frozen)[name] = copy.copy(value) if isinstance(value, (list, dict)) else value
        return frozen

    @abstractmethod
    def _fit(self, images):
        """Set the attributes that are declared above, from an `ImageList`."""

    @abstractmethod
    def _check_recipe(self):
        """Raise ValueError if the parameters are no longer those of the fit."""

    @abstractmethod
    def _iter_features(self, images, on_read=None):
        """Compute features of images, batch by batch; see `Extraction` for `on_read`."""
