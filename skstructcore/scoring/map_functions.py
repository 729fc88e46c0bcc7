"""What an anomaly map says about its image: small functions on stacks of maps.

Each takes finite maps ``(n, h, w)`` of ``m = h * w`` pixels, float32 or float64, and returns one
float64 number an image, ``(n,)``, whatever other images are in the stack. Higher has to mean more
anomalous. A new one is a function here and a line in :data:`DESCRIPTORS`; one that belongs to a
project of yours needs neither, pass the function.

Ignored pixels do not count. What looks at a pixel's neighbours, one of :data:`LOOK_AROUND`, takes
``ignored``, a boolean stack like the maps; any other gets the pixels that are left as one row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def max_value(maps: NDArray[np.floating]) -> NDArray[np.float64]:
    """Largest pixel, ``max S``: max pooling, the base score. Range that of the map; O(m)."""
    return maps.max(axis=(1, 2)).astype(np.float64)


def std(maps: NDArray[np.floating]) -> NDArray[np.float64]:
    """Standard deviation over the pixels, ``sqrt(mean (S - mean S)^2)``. Range [0, inf); O(m)."""
    return maps.std(axis=(1, 2), dtype=np.float64)


def mean(maps: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean over the pixels. Range that of the map; O(m)."""
    return maps.mean(axis=(1, 2), dtype=np.float64)


def median(maps: NDArray[np.floating]) -> NDArray[np.float64]:
    """Median over the pixels: the level of the background. Range that of the map; O(m)."""
    return np.median(maps, axis=(1, 2)).astype(np.float64)


def top_mean(maps: NDArray[np.floating], percent: float = 1.0) -> NDArray[np.float64]:
    """Mean of the ``max(1, round(percent / 100 * m))`` largest pixels. Range of the map; O(m)."""
    flat = maps.reshape(len(maps), -1)
    k = max(1, round(percent / 100 * flat.shape[1]))
    return np.partition(flat, -k, axis=1)[:, -k:].mean(axis=1, dtype=np.float64)


def total_variation(
    maps: NDArray[np.floating], ignored: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Anisotropic total variation a pixel.

    ``(sum |S[i+1, j] - S[i, j]| + sum |S[i, j+1] - S[i, j]|) / m``. Range [0, inf); O(m).
    """
    vertical, horizontal = np.abs(np.diff(maps, axis=1)), np.abs(np.diff(maps, axis=2))
    n_pixels, total = maps.shape[1] * maps.shape[2], {"axis": (1, 2), "dtype": np.float64}
    if ignored is not None:
        vertical[ignored[:, 1:] | ignored[:, :-1]] = 0
        horizontal[ignored[:, :, 1:] | ignored[:, :, :-1]] = 0
        n_pixels = (~ignored).sum(axis=(1, 2))
    return (vertical.sum(**total) + horizontal.sum(**total)) / n_pixels


def contrast(maps: NDArray[np.floating]) -> NDArray[np.float64]:
    """Peak above the background, ``max S - median S``. Range [0, inf); O(m)."""
    return max_value(maps) - median(maps)


def smooth_max(
    maps: NDArray[np.floating], ignored: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Largest value after a 3 x 3 mean (edges repeated). Range that of the map; O(m).

    A lone noisy patch counts a ninth, a defect that covers several patches in full. Beside ignored
    patches the mean is one of fewer.
    """
    values, around = maps.astype(np.float64), {"size": (0, 3, 3), "mode": "nearest"}
    if ignored is None:
        return ndimage.uniform_filter(values, **around).max(axis=(1, 2))
    counted = (~ignored).astype(np.float64)
    total = ndimage.uniform_filter(values * counted, **around)
    share = ndimage.uniform_filter(counted, **around)
    smooth = np.where(ignored, -np.inf, total / np.where(ignored, 1, share))
    return smooth.max(axis=(1, 2))


def moran(
    maps: NDArray[np.floating], ignored: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Spatial autocorrelation, Moran's I over pixels that share an edge.

    With ``c = S - mean S``: the mean of ``c[p] c[q]`` over all neighbouring pixels over the mean
    of ``c^2``; 0 for a constant map. From about -1 to 1: near 0 for noise, near 1 for one smooth
    blob; O(m).
    """
    counted = True if ignored is None else ~ignored
    mean = maps.mean(axis=(1, 2), keepdims=True, dtype=np.float64, where=counted)
    centred = maps - mean
    variance = np.square(centred).mean(axis=(1, 2), where=counted)
    # Rounding leaves a tiny spread where all values are equal.
    varies = variance > np.square(10 * np.finfo(np.float64).eps * mean[:, 0, 0])
    height, width = maps.shape[1:]
    n_pairs = (height - 1) * width + height * (width - 1)
    if ignored is not None:
        centred[ignored] = 0
        pairs = [counted[:, 1:] & counted[:, :-1], counted[:, :, 1:] & counted[:, :, :-1]]
        n_pairs = sum(pair.sum(axis=(1, 2)) for pair in pairs)
    products = [
        (centred[:, 1:] * centred[:, :-1]).sum(axis=(1, 2)),
        (centred[:, :, 1:] * centred[:, :, :-1]).sum(axis=(1, 2)),
    ]
    scale = n_pairs * np.where(varies, variance, 1.0)
    return np.where(varies, sum(products) / np.maximum(scale, 1e-300), 0.0)


def component(
    maps: NDArray[np.floating], ignored: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Size of the largest connected region, ``log(1 + number of its pixels)``.

    The region is one of pixels above ``mean S + 2 std S`` that touch at a side or a corner. Range
    [0, log(1 + m / 4)]; O(m).
    """
    counted = True if ignored is None else ~ignored
    where = {"axis": (1, 2), "dtype": np.float64, "keepdims": True, "where": counted}
    over_limit = (maps > maps.mean(**where) + 2 * maps.std(**where)) & counted
    labels = [ndimage.label(over, structure=np.ones((3, 3)))[0] for over in over_limit]
    return np.log1p([np.bincount(label.ravel())[1:].max(initial=0) for label in labels])


#: Name -> descriptor. ``top<r>``, the mean of the largest ``r`` %, is understood as well.
DESCRIPTORS = {
    "max": max_value,
    "std": std,
    "tv": total_variation,
    "mean": mean,
    "median": median,
    "contrast": contrast,
    "smoothmax": smooth_max,
    "moran": moran,
    "component": component,
}

#: Those for which it matters where a pixel is.
LOOK_AROUND = frozenset({total_variation, smooth_max, moran, component})
