"""How values of images become levels: the window of deep images, and the channels."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .decoding import PixelType

FULL_RANGE = (0.0, 65535.0)
_DEPTHS = (8, 10, 12, 14, 16)
_USES_THE_RANGE = 2**13  # from here on a single deep image is taken for one of 16 bits


@dataclass(frozen=True)
class Intensity:
    """How the values of an image become levels of red, green and blue."""

    # The values of deep images that become 0 and 255; those beyond become the same. None decides
    # for each image alone, see `own_window`. Images of 8 bits are left as they are.
    window: tuple[float, float] | None = None
    # Which three channels are red, green and blue, or the weights of all channels for each of them.
    # None takes one as grey and three as they come. "bgr": arrays hold blue, green and red, as
    # OpenCV gives them; files say themselves what they hold.
    channels: tuple[Any, ...] | str | None = None

    @classmethod
    def of(cls, window: object, channels: object) -> Intensity:
        """What the parameters of a feature estimator ask for; its window "auto" is None here."""
        if isinstance(window, str) and window == "auto":
            return cls(None, _as_channels(channels))
        numbers = isinstance(window, (tuple, list)) and all(isinstance(v, Real) for v in window)
        if not numbers or len(window) != 2 or not -np.inf < window[0] < window[1] < np.inf:
            raise ValueError(
                "window must be 'auto' or (low, high), the values of deep images that are black "
                f"and white, low below high; got {window!r}."
            )
        return cls((float(window[0]), float(window[1])), _as_channels(channels))

    def check(self, pixels: PixelType) -> None:
        """Raise ValueError if such images cannot be taken."""
        if pixels.values == "floats" and self.window is None:
            raise ValueError(
                "its values are floating-point numbers, of a range that is not known; convert it "
                "to uint8 (values from 0 to 1: multiply by 255 first), or give the feature "
                "estimator window=(low, high), the values that are black and white"
            )
        if self.channels is None or self.channels == "bgr":
            if pixels.n_channels not in ((1, 3, 4) if pixels.values == "levels" else (1, 3)):
                raise ValueError(
                    f"it has {pixels.n_channels} channels of {pixels.values}; expected 1 or 3 (or "
                    "4 of uint8: with alpha), the last axis. Give the feature estimator "
                    "channels=(i, j, k), those to take as red, green and blue; where channels "
                    "stand first move the axis: np.moveaxis(image, 0, -1)"
                )
            return
        needed = len(self.channels[0]) if self.is_weighted else max(self.channels) + 1
        if (needed != pixels.n_channels) if self.is_weighted else (needed > pixels.n_channels):
            raise ValueError(
                f"it has {pixels.n_channels} channels, but channels={self.channels} is for "
                f"{'' if self.is_weighted else 'at least '}{needed}"
            )

    @property
    def is_weighted(self) -> bool:
        """Whether channels are mixed by weights."""
        return self.channels is not None and isinstance(self.channels[0], tuple)

    def levels(self, values: NDArray[Any]) -> NDArray[np.uint8] | NDArray[np.float32]:
        """Levels of values `(h, w)` or `(h, w, n_channels)`, as uint8 if all are whole numbers."""
        if values.dtype != np.uint8:
            values = self._windowed(values)
        if self.channels is not None:
            values = values if values.ndim == 3 else values[..., np.newaxis]
            if self.is_weighted:
                values = np.clip(values @ np.array(self.channels, np.float32).T, 0, 255)
            else:
                values = values[..., list(self.channels)]
        if values.dtype == np.uint8:
            return values
        whole = values.astype(np.uint8)
        return whole if np.array_equal(whole, values) else values

    def _windowed(self, values):
        if bad := np.count_nonzero(~np.isfinite(values)):
            raise ValueError(
                f"{bad} of its {values.size} values are NaN or infinite; replace them first"
            )
        low, high = self.window or own_window(values.min(), values.max())
        levels = (values.astype(np.float64) - low) * (255 / (high - low))
        return np.clip(levels, 0, 255).astype(np.float32)


def bit_depth_window(low: float, high: float) -> tuple[float, float]:
    """The window of 8, 10, 12, 14 or 16 bits, as few as hold integers from `low` to `high`."""
    if low < 0 or high > FULL_RANGE[1]:
        raise ValueError(
            f"its values from {low} to {high} do not fit 16 bits; convert it to 8 or 16 bits, or "
            "give the feature estimator window=(low, high), the values that are black and white"
        )
    return 0.0, next(2.0**depth for depth in _DEPTHS if high < 2**depth) - 1


def own_window(low: float, high: float) -> tuple[float, float]:
    """The window of a deep image of which nothing is known but its lowest and highest value.

    Up to 255 it holds 8 bits, from 8192 on 16. What lies between may be of any depth: an error.
    """
    window = bit_depth_window(low, high)
    if window[1] > 255 and high < _USES_THE_RANGE:
        raise ValueError(
            f"its integers end at {high}: whether they are of {round(np.log2(window[1] + 1))} "
            "bits, or of 16 and dark, cannot be told, as no training image had more than 8 bits. "
            f"Fit with window=(0, {window[1]:.0f}) or (0, 65535), or on such images"
        )
    return FULL_RANGE if window[1] > 255 else window


def _as_channels(channels):
    """`channels` in the form that `Intensity` takes; ValueError if it is something else."""
    if channels is None or (isinstance(channels, str) and channels == "bgr"):
        return channels
    try:
        values = np.array(channels)
    except ValueError:  # rows of different lengths
        values = np.array(None)
    if values.shape == (3,) and values.dtype.kind in "iu" and values.min() >= 0:
        return tuple(values.tolist())
    is_weights = values.ndim == 2 and len(values) == 3 and values.dtype.kind in "iuf"
    if is_weights and np.isfinite(values).all() and values.any():
        return tuple(map(tuple, values.astype(float).tolist()))
    raise ValueError(
        "channels must be three channels, counted from 0, three rows of a weight for each "
        f"channel, not all 0, or 'bgr'; got {channels!r}."
    )
