"""What the maps of images say, before it is known what is normal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from .._utils.columns import OF_WHOLE, columns_of, join_rows, take_rows
from .._utils.rows import check_counted
from ..containers import AnomalyMaps, OfTrainingImages, TrainingImages
from ..images.geometry import ignored_pixels, upsample_counted, upsample_maps
from .descriptors import (
    BASE,
    DescriptorLike,
    check_map_stack,
    compute_descriptors,
    looks_at_surprise,
)

_PIXELS_AT_ONCE = 2**21
#: Of the Gaussian that smooths pixel maps, in pixels that the backbone saw; as in the paper.
SIGMA = 4.0


def check_maps(estimator: BaseEstimator, X: AnomalyMaps | ArrayLike, *, reset: bool) -> AnomalyMaps:
    """Validate maps; set or compare ``n_features_in_`` and ``map_shape_`` of the estimator.

    A table is maps of one row. With `reset` this is `fit`, which needs two images.
    """
    maps, name = X, type(estimator).__name__
    if isinstance(X, AnomalyMaps):
        check_map_stack(X.values)
    elif (X if hasattr(X, "ndim") else np.asarray(X)).ndim > 2:
        maps = AnomalyMaps(check_map_stack(X))
    else:
        table = validate_data(estimator, X, reset=reset, dtype=[np.float64, np.float32])
        maps = AnomalyMaps(table[:, np.newaxis, :])
    _check_columns(maps)
    if reset and len(maps) < 2:
        raise ValueError(
            f"{name} learns what is normal from at least 2 good training images, "
            f"got n_samples = {len(maps)}."
        )
    if reset:
        estimator.map_shape_ = maps.shape[1:]
        estimator.n_features_in_ = maps.shape[-1]
        return maps
    if maps.shape[1:] != estimator.map_shape_:
        given, fitted = (" x ".join(map(str, s)) for s in (maps.shape[1:], estimator.map_shape_))
        raise ValueError(
            f"The maps have {given} patches, but {name} was fitted with {fitted}: what is normal "
            "depends on the size. Fit again with maps of this size."
        )
    if estimator.uses_surprise_ and maps.surprise is None:
        raise ValueError(
            "The training maps carried surprise and these do not: score images with the "
            "RoutedKNNScorer whose fit_transform gave the training maps (with the whole "
            "pipeline)."
        )
    return maps


def _check_columns(maps):
    """Raise ValueError unless what comes with maps is there for each of them."""
    if (maps.route is None) != (maps.route_distance is None):
        raise ValueError("maps need both route and route_distance, or neither.")
    for name, column in columns_of(maps).items():
        if name in ("values", "geometry", "without_lot"):
            continue
        wanted = maps.shape if name in ("surprise", "ignored") else (len(maps),)
        if np.shape(column) != wanted:
            given = np.shape(column)
            raise ValueError(f"{name} of the maps must have the shape {wanted}, got {given}.")
    if maps.ignored is not None:
        check_counted(maps.ignored, np.arange(len(maps)))


def at_pixels(maps: AnomalyMaps) -> AnomalyMaps:
    """Bring maps to the size that the backbone saw, and smooth them, without what is ignored."""
    if maps.geometry is None:
        return maps
    size, ignored = maps.geometry.input_size, maps.ignored
    stacks = {"values": maps.values, "surprise": maps.surprise}
    stacks = {name: stack for name, stack in stacks.items() if stack is not None}
    if ignored is None:
        pixels = {name: upsample_maps(s, size, SIGMA) for name, s in stacks.items()}
        return replace(maps, **pixels)
    pixels = {name: upsample_counted(s, ignored, size, SIGMA) for name, s in stacks.items()}
    return replace(maps, **pixels, ignored=ignored_pixels(ignored, size))


def iter_seen(maps: AnomalyMaps, resolution: str) -> Iterator[tuple[int, AnomalyMaps]]:
    """Yield maps that descriptors look at, pixel maps a few at a time; and where these begin."""
    if resolution != "full" or maps.geometry is None:
        yield 0, maps
        return
    step = max(1, _PIXELS_AT_ONCE // math.prod(maps.geometry.input_size))
    for start in range(0, len(maps), step):
        yield start, at_pixels(maps if step >= len(maps) else maps[start : start + step])


@dataclass(frozen=True, eq=False)
class Evidence(OfTrainingImages):
    """What the maps of n images say, and what is known of the images, see `AnomalyMaps`."""

    base: NDArray[np.float64]  # (n,), the base score
    phi: NDArray[np.float64]  # (n, p), descriptors that count, then others that are `shown`
    image_index: NDArray[np.int64] | None = None
    images: TrainingImages | None = field(default=None, metadata=OF_WHOLE)
    route: NDArray[Any] | None = None
    route_distance: NDArray[np.float64] | None = None
    in_sample: bool = field(default=False, metadata=OF_WHOLE)  # compared with themselves

    def __len__(self) -> int:
        return len(self.base)

    def rows_of(self, route: str) -> NDArray[np.int64]:
        """Positions of the images of a route; all of them where there are no routes."""
        if self.route is None:
            return np.arange(len(self))
        return np.flatnonzero(self.route == route)

    def take(self, rows: NDArray[Any]) -> Evidence:
        """Some of the images, by position or mask."""
        return take_rows(self, rows)

    def join(self, other: Evidence) -> Evidence:
        """Both, one after the other, of the same training images."""
        return join_rows(self, other)


def collect_evidence(
    maps: AnomalyMaps, descriptors: Sequence[DescriptorLike], resolution: str = "grid"
) -> Evidence:
    """Evaluate the base score and the descriptors, each once; what is ignored does not count."""
    wanted = list(dict.fromkeys([BASE, *descriptors]))
    uses_surprise = any(map(looks_at_surprise, wanted))
    seen, values = maps if uses_surprise else replace(maps, surprise=None), []
    for start, some in iter_seen(seen, resolution):
        stacks = {"surprise": some.surprise, "ignored": some.ignored}
        values.append(compute_descriptors(some.values, wanted, first=start, **stacks))
    values = np.concatenate(values)
    return Evidence(
        base=np.ascontiguousarray(values[:, 0]),
        phi=values[:, [wanted.index(descriptor) for descriptor in descriptors]],
        image_index=maps.image_index,
        images=maps.images,
        route=maps.route,
        route_distance=maps.route_distance,
        in_sample=maps.image_index is not None and not maps.held_out,
    )
