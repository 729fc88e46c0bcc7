"""What all feature estimators share: parameters, fit, and the way of images to features."""

from __future__ import annotations

import functools
import json
from abc import abstractmethod
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin

from .._utils.computing import find_device
from ._cache import FeatureCache, to_json
from ._extraction import Extraction, TiledExtraction, Tiling, n_threads_for, shared_network
from ._lazy import LazyTransformer
from ._parameters import CONSTRAINTS, DECIDING
from ._picture import digest_of, find_picture, mean_colours

if TYPE_CHECKING:
    import torch

    from ._networks import Network

#: Mean and standard deviation of the pixels, between 0 and 1, of ImageNet's photographs.
IMAGENET_SCALING = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class PatchFeatures(ClassNamePrefixFeaturesOutMixin, LazyTransformer):
    """Base of the estimators around one network.

    It owns the picture, the grid, the tiles, what is ignored, and the cache. A subclass has a
    constructor with the parameters of `_parameters.py` and those of its network, and the three
    abstract methods.
    """

    _parameter_constraints = CONSTRAINTS
    _side_step = 8  # sides that are found for "native" and the like are multiples of it
    _other_sizes = ""  # what else may be done where the network takes no such size

    def _store_parameters(self, given: dict[str, Any]) -> None:
        """Store the parameters of a constructor, which are its local variables."""
        vars(self).update({name: value for name, value in given.items() if name != "self"})

    @abstractmethod
    def _weights(self) -> tuple[str, str]:
        """Digest of the weights, without building the network if possible, and their origin."""

    @abstractmethod
    def _network_recipe(self) -> dict[str, Any]:
        """The parameters of the network that decide over features, as `to_json` can write them."""

    @abstractmethod
    def _load(self, device: torch.device, dtype: torch.dtype) -> Network:
        """Build the network, with its weights, on a device."""

    #: What makes features differ by rounding, beside device and precision.
    _computation: dict[str, Any] = {}
    #: What tells apart networks with the same weights and recipe in one process.
    _identity: Hashable = None
    #: File name of the cached shape, with what `network` checks: that is skipped if it is there.
    _shape_name = "shape"

    def _fit(self, images):
        self.picture_, self.scale_ = find_picture(images, self, self._side_step)
        self.model_checksum_, self.model_source_ = self._weights()
        self.recipe_ = self._recipe()
        cache = self._cache()
        shape = cache.shape(self._find_shape, self._shape_name) if cache else self._find_shape()
        self.grid_shape_, self.n_features_out_ = shape[:2], shape[2]
        self.colours_ = mean_colours(self.picture_, images)
        self.picture_.check_ignored(images, self.grid_shape_)

    @property
    def backbones(self) -> list[PatchFeatures]:
        """The estimators with a network of their own: this one."""
        return [self]

    @property
    def tiling(self) -> Tiling | None:
        """How images are cut, once fitted; None if the network sees them as a whole."""
        size, tile = self.picture_.framing.size, self.picture_.tile
        if tile is None:
            return None
        steps = (side // cells for side, cells in zip(size, self.grid_shape_, strict=True))
        return Tiling(size, tile, self.tile_overlap, tuple(steps))

    @property
    def _n_features_out(self) -> int:  # by which scikit-learn names the features
        return self.n_features_out_

    @property
    def input_size_(self) -> tuple[int, int]:
        """Height and width that the network sees, with tiles all of them together."""
        return self.picture_.framing.size

    @property
    def window_(self) -> tuple[float, float] | None:
        """The values of deep images that become black and white."""
        return self.picture_.intensity.window

    def _recipe(self):
        """The parameters that must stay as they were in `fit`: those that decide over features.

        Weights are compared when the network is loaded, with a message of their own.
        """
        parameters = {name: getattr(self, name) for name in DECIDING}
        recipe = {**parameters, "ignore": digest_of(self.ignore), **self._network_recipe()}
        return json.loads(to_json(recipe))

    def _check_recipe(self):
        self._validate_params()
        for name, now in self._recipe().items():
            if now != self.recipe_.get(name):
                raise ValueError(
                    f"{name} is {now!r}, but {type(self).__name__} was fitted with "
                    f"{self.recipe_.get(name)!r}: the bank holds other features. Set it back, or "
                    "fit again."
                )

    def _cache_recipe(self):
        """What the features of one image on disk depend on; ignored patches are marked later."""
        return {
            "estimator": type(self).__name__,
            "weights": self.model_checksum_,
            "dtype": str(_device_and_dtype(self.device, self.dtype)[1]),
            **self.picture_.recipe(self.tile_overlap),
            **self._network_recipe(),
            **self._computation,
        }

    def _cache(self):
        location = getattr(self.memory, "location", self.memory)
        return None if location is None else FeatureCache(location, self._cache_recipe())

    def network(self) -> Network:
        """The loaded network; estimators that describe the same one share it."""
        checksum, source = self._weights()
        if checksum != self.model_checksum_:
            raise ValueError(
                f"The weights of {type(self).__name__} ({source}) have the checksum "
                f"{checksum[:12]}..., but it was fitted with {self.model_source_}, checksum "
                f"{self.model_checksum_[:12]}... Bring the same weights back, or fit again."
            )
        device, dtype = _device_and_dtype(self.device, self.dtype)
        described = to_json([checksum, self._network_recipe(), self._computation])
        key = type(self), described, self._identity, device, dtype
        return shared_network(key, lambda: self._load(device, dtype))

    def _find_shape(self):
        """Height, width and number of features of the grid of an image."""
        size, tile = self.picture_.framing.size, self.picture_.tile
        shape = self._shape_of(*self.picture_.network_size)
        if tile is None:
            return shape
        doubled = self._shape_of(2 * tile[0], 2 * tile[1])
        tiling = Tiling.of_grids(size, tile, self.tile_overlap, shape[:2], doubled[:2])
        return *tiling.grid_shape, shape[2]

    def _shape_of(self, height, width):
        network = self.network()
        try:
            return tuple(int(n) for n in network.output_shape(height, width))
        except (AssertionError, RuntimeError) as error:  # about sizes within the network
            name = "image_size" if self.tile_size is None else "tile_size"
            raise ValueError(
                f"The network cannot take images of 3 channels and {height} x {width} pixels "
                f"({name}): {str(error).rstrip('.')}. Choose another {name}"
                f"{self._other_sizes}, if that is about the size."
            ) from error

    def _iter_features(self, images, on_read=None):
        picture, tiling = self.picture_, self.tiling
        on_cpu = _device_and_dtype(self.device, self.dtype)[0].type == "cpu"
        options = {
            "read": picture.pixels if tiling is None else picture.sliceable_pixels,
            "network": functools.cache(self.network),
            "cache": self._cache(),
            "on_cpu": on_cpu,
            "n_threads": n_threads_for(self.n_jobs, on_cpu),
            "on_read": on_read,
        }
        run = Extraction if tiling is None else functools.partial(TiledExtraction, tiling=tiling)
        extraction = run(images, (*self.grid_shape_, self.n_features_out_), **options)
        return extraction.iter_batches(self.batch_size, self.verbose)


def check_layers(layers, is_one, what):
    """The layers asked for, as a list; ValueError unless all are `what` a network has."""
    layers = list(layers)
    if not layers or not all(map(is_one, layers)) or len(set(layers)) < len(layers):
        raise ValueError(f"layers must be {what}, at least one and each once; got {layers!r}.")
    return layers


def pixel_scaling(mean, std, default=IMAGENET_SCALING):
    """Mean and std of the pixels of three channels, as floats; of what is None the default."""
    mean = default[0] if mean is None else mean
    std = default[1] if std is None else std
    try:
        scaling = tuple(map(float, mean)), tuple(map(float, std))
    except (TypeError, ValueError):
        scaling = (), ()
    if [len(part) for part in scaling] != [3, 3] or not (
        np.isfinite(scaling).all() and min(scaling[1]) > 0
    ):
        raise ValueError(
            f"mean and std must be three numbers each, std positive; got {mean!r} and {std!r}."
        )
    return scaling


def _device_and_dtype(device, dtype):
    import torch

    device = torch.device(find_device(device, among=("cuda", "mps")).removeprefix("torch:"))
    if dtype == "auto":
        dtype = "float32"
        if device.type == "cuda":
            dtype = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return device, getattr(torch, dtype)
