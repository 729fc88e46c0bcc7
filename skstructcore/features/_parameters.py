"""The parameters that feature estimators have alike: their types and constraints."""

import os
from collections.abc import Sequence
from numbers import Integral
from typing import Any, Literal, TypeAlias

import joblib
import numpy as np
from sklearn.utils._param_validation import HasMethods, Interval, RealNotInt, StrOptions

from .._utils.files import StrPath
from ..images.ignoring import RegionLike

ImageSize: TypeAlias = int | float | Literal["native"] | tuple[int, int]
Crop: TypeAlias = bool | int | Sequence[Any]
Window: TypeAlias = Literal["auto"] | tuple[float, float]
Channels: TypeAlias = Sequence[int] | Sequence[Sequence[float]] | Literal["bgr"] | None
Ignore: TypeAlias = RegionLike | dict[str, RegionLike] | None
Precision: TypeAlias = Literal["auto", "float32", "float16", "bfloat16"]
Memory: TypeAlias = StrPath | joblib.Memory | None

_POSITIVE = Interval(Integral, 1, None, closed="left")
_SHARE = Interval(RealNotInt, 0, 1, closed="right")
# Features depend on these; not on `ignore`, which marks patches afterwards.
DECIDING = ("image_size", "crop", "tile_size", "tile_overlap", "window", "channels")
CONSTRAINTS = {
    "image_size": [_POSITIVE, _SHARE, StrOptions({"native"}), tuple, list],
    "tile_size": [_POSITIVE, tuple, list, None],
    "tile_overlap": [Interval(Integral, 0, None, closed="left")],
    "ignore": [str, os.PathLike, np.ndarray, list, tuple, dict, None],
    "crop": ["boolean", _POSITIVE, tuple, list, np.ndarray],
    "mean": [None, tuple, list],
    "std": [None, tuple, list],
    "batch_size": [_POSITIVE],
    "device": [str],
    "dtype": [StrOptions({"auto", "float32", "float16", "bfloat16"})],
    "n_jobs": [None, Interval(Integral, None, -1, closed="right"), _POSITIVE],
    "memory": [None, str, os.PathLike, HasMethods("cache")],
    "verbose": ["verbose"],
}
