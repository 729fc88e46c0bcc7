"""The patch features of several networks on one grid."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack, closing
from itertools import chain, islice, zip_longest

import numpy as np
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import check_is_fitted

from .._utils.computing import slices
from .._utils.typing import NDArray, Self
from ..images.geometry import upsample_maps
from ._backbone import PatchFeatures
from ._extraction import keep_networks
from ._lazy import LazyTransformer
from ._picture import asked_framing


class JoinedFeatures(_BaseComposition, LazyTransformer):
    """Patch features of several networks, joined.

    The features of each are scaled to the finest of the grids (bilinear) and concatenated.
    They are cached one by one, each by its own `memory`.

    Parameters
    ----------
    features : sequence of feature estimators
        `ConvFeatures`, `DinoFeatures` or `TimmFeatures`, fitted in place as the steps of a
        pipeline are. Their `image_size` and `crop` must be the same, so that they see
        the same part of each image. Their parameters go by their position:
        ``set_params(features__0__batch_size=8)`` in a pipeline whose step is called "features".
        Give `ignore` to the first; it holds for all.

    Attributes
    ----------
    grid_shape_, n_features_out_, picture_, model_checksum_, model_source_ : see `ConvFeatures`
        The finest grid, the picture of the first, and the others of all networks together.

    See Also
    --------
    ConvFeatures : Patch features of one convolutional network.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import ConvFeatures, JoinedFeatures
    >>> fine = ConvFeatures(layers=["_blocks.2"], image_size=64)
    >>> coarse = ConvFeatures(layers=["_blocks.10"], image_size=64)
    >>> JoinedFeatures([fine, coarse]).fit_transform(np.zeros((2, 80, 80), np.uint8))
    LazyFeatures(shape=(2, 16, 16, 136), dtype=float32)
    """

    _parameter_constraints = {"features": [list, tuple]}

    def __init__(self, features: Sequence[PatchFeatures]) -> None:
        self.features = features

    @property
    def _named(self):
        """The estimators by their position, as scikit-learn's compositions name them."""
        return [(str(position), part) for position, part in enumerate(self.features)]

    @_named.setter
    def _named(self, named):
        self.features = type(self.features)(part for _, part in named)

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """Parameters, with `deep` those of the estimators too, ``<position>__<parameter>``."""
        return self._get_params("_named", deep=deep)

    def set_params(self, **params: object) -> Self:
        """Set ``features``, an estimator by its position, or ``<position>__<parameter>``.

        Names of a pipeline, ``features__<position>__<parameter>``, mean the same here.
        """
        self.features = params.pop("features", self.features)
        params = {name.removeprefix("features__"): value for name, value in params.items()}
        return self._set_params("_named", **params)

    def _fit(self, images):
        self._check_parts()
        for part in self.features:
            part.fit(images)
        grids = [part.grid_shape_ for part in self.features]
        self.grid_shape_ = max(grids, key=lambda grid: grid[0] * grid[1])
        self.n_features_out_ = sum(part.n_features_out_ for part in self.features)
        checksums = " ".join(part.model_checksum_ for part in self.features)
        self.model_checksum_ = hashlib.sha256(checksums.encode()).hexdigest()
        self.recipe_ = _recipe_of(self.features)
        self.model_source_ = " + ".join(part.model_source_ for part in self.features)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Names `(n_features_out_,)`: the position of their estimator and what it calls them.

        `input_features` is ignored.
        """
        check_is_fitted(self)
        parts = enumerate(self.features)
        names = [f"{k}__{name}" for k, part in parts for name in part.get_feature_names_out()]
        return np.array(names, dtype=object)

    def _check_parts(self):
        others = [part for part in self.features if not isinstance(part, PatchFeatures)]
        if others or not self.features:
            given = f"{type(others[0]).__name__} among them" if others else "none"
            raise ValueError(
                "features must be feature estimators, ConvFeatures for instance, at least one; "
                f"got {given}."
            )
        first = self.features[0]
        for position, part in enumerate(self.features[1:], start=1):
            if any(part is other for other in self.features[:position]):
                raise ValueError(f"features[{position}] is there twice: pass a clone of it.")
            of_first, of_part = (asked_framing(p.image_size, p.crop) for p in (first, part))
            if of_first != of_part:
                name = "crop" if of_first.size == of_part.size else "image_size"
                raise ValueError(
                    f"{name} must be the same for all joined features: features[0] has "
                    f"{getattr(first, name)}, features[{position}] {getattr(part, name)}."
                )
            if part.ignore is not None:
                raise ValueError(
                    f"features[{position}]: give ignore to features[0] only; it holds for all."
                )

    def _check_recipe(self):
        for part in self.features:
            check_is_fitted(part)
            part._check_recipe()
        if self.recipe_ != _recipe_of(self.features):
            raise ValueError(
                "features are not those that JoinedFeatures was fitted with, or in another order: "
                "the bank holds other features. Set them back, or fit again."
            )

    def _frozen(self):
        frozen = super()._frozen()
        frozen.features = [part._frozen() for part in self.features]
        return frozen

    @property
    def backbones(self) -> Sequence[PatchFeatures]:
        """The estimators with a network of their own."""
        return self.features

    @property
    def picture_(self):
        return self.features[0].picture_

    def _iter_features(self, images, on_read=None):
        keep_networks(len(self.features))
        n = min(1 if part.tile_size else part.batch_size for part in self.features)
        readers = zip_longest(self.features, [on_read])  # the first alone is asked what it reads
        streams = [part._iter_features(images, read) for part, read in readers]
        with ExitStack() as stack:  # an error in one of them keeps the others: they are closed
            # Image by image, as the batches of the parts may be of different lengths.
            by_image = [chain.from_iterable(stack.enter_context(closing(s))) for s in streams]
            for rows in slices(len(images), n):
                batch = [np.stack(list(islice(s, rows.stop - rows.start))) for s in by_image]
                yield np.concatenate([_at_grid(b, self.grid_shape_) for b in batch], axis=-1)


def _at_grid(features, grid):
    """Features `(n, h, w, d)` at another grid, bilinear."""
    n, *shape, d = features.shape
    if tuple(shape) == tuple(grid):
        return features
    maps = np.moveaxis(features, -1, 1).reshape(n * d, *shape)
    return np.moveaxis(upsample_maps(maps, grid).reshape(n, d, *grid), 1, -1)


def _recipe_of(features):
    """What the features of fitted estimators, one behind the other, are made of."""
    return [[part.model_checksum_, part.recipe_] for part in features]
