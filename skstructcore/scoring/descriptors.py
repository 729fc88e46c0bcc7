"""What an anomaly map says about its image: small functions on stacks of maps.

A descriptor takes maps ``(n, h, w)``, float32 or float64, finite, and returns one float64 number
an image, ``(n,)``. Higher has to mean more anomalous. It looks at one map at a time: the result
for an image does not depend on which other images are in the stack. Costs are for one map of
``m = h * w`` pixels.

A name in :data:`DESCRIPTORS`, ``"top<r>"`` for any percentage ``r``, or any function of the same
kind selects a descriptor; :func:`compute_descriptors` evaluates several of them. With
``surprise_`` before its name, a descriptor looks at the surprise map instead of the distances.
A new descriptor is one function in this module and one line in the table; one that belongs to a
project of yours needs neither, pass the function.

Ignored pixels do not count. What looks at a pixel's neighbours takes ``ignored``, a boolean stack
like the maps, as a second argument; any other descriptor gets the pixels that are left as a map of
one row.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    #: A name, or a function of maps ``(n, h, w)`` that returns ``(n,)``.
    DescriptorLike = str | Callable[[NDArray[np.floating]], ArrayLike]

__all__ = [
    "DEFAULT_PHI",
    "DEFAULT_WEIGHTS",
    "DESCRIPTORS",
    "PAPER_PHI",
    "compute_descriptors",
    "default_weights",
    "descriptor_names",
    "resolve_descriptor",
]

_TOP = re.compile(r"top(\d+(?:\.\d+)?)")


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
    """Mean of the largest ``percent`` % of the pixels.

    ``k = max(1, round(percent / 100 * m))`` pixels count, so that a tiny map gives its
    maximum. Range that of the map; O(m) by partial sorting.
    """
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
    n_pixels = maps.shape[1] * maps.shape[2]
    if ignored is not None:
        vertical[ignored[:, 1:] | ignored[:, :-1]] = 0
        horizontal[ignored[:, :, 1:] | ignored[:, :, :-1]] = 0
        n_pixels = (~ignored).sum(axis=(1, 2))
    vertical = vertical.sum(axis=(1, 2), dtype=np.float64)
    horizontal = horizontal.sum(axis=(1, 2), dtype=np.float64)
    return (vertical + horizontal) / n_pixels


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
    values = maps.astype(np.float64)
    if ignored is None:
        return ndimage.uniform_filter(values, size=(0, 3, 3), mode="nearest").max(axis=(1, 2))
    counted = (~ignored).astype(np.float64)
    total, share = (
        ndimage.uniform_filter(part, size=(0, 3, 3), mode="nearest")
        for part in (values * counted, counted)
    )
    smooth = np.where(ignored, -np.inf, total / np.where(ignored, 1, share))
    return smooth.max(axis=(1, 2))


def moran(
    maps: NDArray[np.floating], ignored: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Spatial autocorrelation, Moran's I over pixels that share an edge.

    With ``c = S - mean S``: the mean of ``c[p] c[q]`` over all neighbouring pixels over the mean
    of ``c^2``; 0 for a constant map. Range [-1, 1], near 0 for noise and near 1 for one smooth
    blob; O(m).
    """
    counted = True if ignored is None else ~ignored
    centred = maps - maps.mean(axis=(1, 2), keepdims=True, dtype=np.float64, where=counted)
    variance = np.square(centred).mean(axis=(1, 2), where=counted)
    if ignored is not None:
        centred[ignored] = 0
    products = [
        (centred[:, 1:] * centred[:, :-1]).sum(axis=(1, 2)),
        (centred[:, :, 1:] * centred[:, :, :-1]).sum(axis=(1, 2)),
    ]
    height, width = maps.shape[1:]
    n_pairs = (height - 1) * width + height * (width - 1)
    if ignored is not None:
        pairs = [counted[:, 1:] & counted[:, :-1], counted[:, :, 1:] & counted[:, :, :-1]]
        n_pairs = sum(pair.sum(axis=(1, 2)) for pair in pairs)
    scale = n_pairs * np.where(variance > 0, variance, 1.0)
    return np.where(variance > 0, sum(products) / np.maximum(scale, 1e-300), 0.0)


def concentration(maps: NDArray[np.floating]) -> NDArray[np.float64]:
    """One minus the entropy of the map, ``1 + sum p log p / log m``.

    ``p`` is the map above its minimum, scaled to sum 1. Range [0, 1]: 0 for a constant map, 1
    where a single pixel stands out from a flat rest; O(m).
    """
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    above = flat - flat.min(axis=1, keepdims=True)
    total = above.sum(axis=1, keepdims=True)
    share = np.divide(above, total, out=np.full_like(above, 1 / above.shape[1]), where=total > 0)
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    return 1 + (share * logs).sum(axis=1) / np.log(max(flat.shape[1], 2))


def component(
    maps: NDArray[np.floating], ignored: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Size of the largest connected region, ``log(1 + number of its pixels)``.

    The region is one of pixels above ``mean S + 2 std S`` that touch at a side or a corner. The
    logarithm, because sizes differ by factors. Range [0, log(1 + m / 4)]; O(m).
    """
    if ignored is None:
        limit = mean(maps) + 2 * std(maps)
        over_limit = maps > limit[:, np.newaxis, np.newaxis]
    else:
        where = {"axis": (1, 2), "dtype": np.float64, "where": ~ignored}
        limit = maps.mean(**where) + 2 * maps.std(**where)
        over_limit = (maps > limit[:, np.newaxis, np.newaxis]) & ~ignored
    sizes = np.zeros(len(maps))
    for image, over in enumerate(over_limit):
        labels, n_regions = ndimage.label(over, structure=np.ones((3, 3)))
        if n_regions:
            sizes[image] = np.bincount(labels.ravel())[1:].max()
    return np.log1p(sizes)


#: Name -> descriptor. ``top<r>`` with another percentage than 1 is understood as well.
DESCRIPTORS = {
    "max": max_value,
    "std": std,
    "top": top_mean,
    "tv": total_variation,
    "mean": mean,
    "median": median,
    "contrast": contrast,
    "smoothmax": smooth_max,
    "moran": moran,
    "concentration": concentration,
    "component": component,
}

#: Before the name of a descriptor: it looks at the surprise, see `skstructcore.knn.surprise`.
SURPRISE = "surprise_"

#: phi by default, and how much each part counts beside the base score, which counts 1: the
#: distances and the surprise about the same. ``docs/scoring_study.md`` has the measurements.
DEFAULT_WEIGHTS = {
    "std": 0.5,
    "top1": 0.25,
    "surprise_max": 0.25,
    "surprise_top1": 0.25,
    "surprise_smoothmax": 0.25,
    "surprise_contrast": 0.25,
    "surprise_component": 0.25,
    "surprise_moran": 0.25,
}

#: phi by default.
DEFAULT_PHI = tuple(DEFAULT_WEIGHTS)

#: phi of the StructCore paper.
PAPER_PHI = ("std", "top", "tv")


def _top_percent(percent):
    def top(maps):
        return top_mean(maps, percent)

    return top


def resolve_descriptor(
    descriptor: DescriptorLike,
) -> tuple[str, Callable[[NDArray[np.floating]], ArrayLike]]:
    """Return ``(name, function)`` of a registered name, ``"top<r>"`` or a callable.

    The function is the same whether or not the name begins with ``surprise_``.

    Raises
    ------
    ValueError
        If the name is unknown, or the percentage of ``top<r>`` is not in (0, 100].
    """
    if callable(descriptor):
        return getattr(descriptor, "__name__", type(descriptor).__name__), descriptor
    if descriptor in DESCRIPTORS:
        return descriptor, DESCRIPTORS[descriptor]
    if looks_at_surprise(descriptor):
        return descriptor, resolve_descriptor(descriptor.removeprefix(SURPRISE))[1]
    match = _TOP.fullmatch(descriptor) if isinstance(descriptor, str) else None
    if match and 0 < float(match[1]) <= 100:
        return descriptor, _top_percent(float(match[1]))
    raise ValueError(
        f"Unknown descriptor {descriptor!r}. Known are {', '.join(DESCRIPTORS)}, 'top<r>' with a "
        "percentage 0 < r <= 100 such as 'top5', and functions of maps (n, h, w) that return (n,)."
    )


def looks_at_surprise(descriptor: DescriptorLike) -> bool:
    """Whether a descriptor looks at the surprise map, not at the distances."""
    return isinstance(descriptor, str) and descriptor.startswith(SURPRISE)


def without_surprise(descriptors: Sequence[DescriptorLike]) -> list[DescriptorLike]:
    """The descriptors for maps that have distances only, each once.

    Examples
    --------
    >>> without_surprise(["std", "surprise_max", "surprise_std"])
    ['std', 'max']
    """
    plain = [d.removeprefix(SURPRISE) if looks_at_surprise(d) else d for d in descriptors]
    return list(dict.fromkeys(plain))


def default_weights(descriptors: Sequence[DescriptorLike]) -> list[float]:
    """Weights of descriptors for which none are given: of the default rule, or all 1.

    The default rule keeps its weights on maps that have distances only.

    Examples
    --------
    >>> default_weights(["max", "tv"])
    [1.0, 1.0]
    >>> default_weights(DEFAULT_PHI) == list(DEFAULT_WEIGHTS.values())
    True
    >>> default_weights(without_surprise(DEFAULT_PHI))
    [0.5, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25]
    """
    if list(descriptors) == list(DEFAULT_PHI):
        return list(DEFAULT_WEIGHTS.values())
    if list(descriptors) == without_surprise(DEFAULT_PHI):
        weights = {}
        for name, weight in DEFAULT_WEIGHTS.items():
            weights.setdefault(name.removeprefix(SURPRISE), weight)
        return list(weights.values())
    return [1.0] * len(descriptors)


def descriptor_names(descriptors: Sequence[DescriptorLike]) -> list[str]:
    """Names of the descriptors, in order; callables go by their ``__name__``.

    Raises
    ------
    ValueError
        If one is unknown or two have the same name.
    """
    names = [resolve_descriptor(descriptor)[0] for descriptor in descriptors]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise ValueError(f"Descriptors need distinct names; found twice: {', '.join(duplicates)}.")
    return names


def compute_descriptors(
    maps: ArrayLike,
    descriptors: Sequence[DescriptorLike] = PAPER_PHI,
    *,
    surprise: ArrayLike | None = None,
    ignored: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Evaluate descriptors on a stack of anomaly maps.

    Parameters
    ----------
    maps : array-like of shape (n, h, w)
        Anomaly maps, higher is more anomalous.
    descriptors : sequence of str or callable, default=PAPER_PHI
        Registered names, ``"top<r>"``, ``"surprise_<name>"``, or functions of maps ``(n, h, w)``
        that return ``(n,)``. The default is phi of the StructCore paper.
    surprise : array-like of shape (n, h, w), default=None
        What the descriptors with ``surprise_`` before their name look at.
    ignored : ndarray of shape (n, h, w), dtype bool, default=None
        Pixels that do not count; at least one of each image does.

    Returns
    -------
    phi : ndarray of shape (n, len(descriptors)), float64

    Raises
    ------
    ValueError
        If the maps are not 3-D, are empty or hold NaN or infinity; if a descriptor is unknown,
        there twice, or needs a surprise that is not given; if one returns another shape than
        ``(n,)`` or a value that is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> maps = np.array([[[0, 0, 0], [0, 9, 0], [0, 0, 0]]])
    >>> compute_descriptors(maps, ["max", "tv", "mean"])
    array([[9., 4., 1.]])
    >>> compute_descriptors(maps, ["max", "surprise_max"], surprise=maps / 9)
    array([[9., 1.]])
    """
    names = descriptor_names(descriptors)
    stacks = {False: check_map_stack(maps)}
    if surprise is not None:
        stacks[True] = check_map_stack(surprise, "surprise")
    phi = np.empty((len(stacks[False]), len(names)))
    for column, (name, descriptor) in enumerate(zip(names, descriptors, strict=True)):
        stack = stacks.get(looks_at_surprise(descriptor))
        if stack is None:
            raise ValueError(
                f"Descriptor {name!r} looks at the surprise, and these maps have none: only a fit "
                "with held-out calibration learns it."
            )
        function = resolve_descriptor(descriptor)[1]
        found = function(stack) if ignored is None else _of_counted(function, stack, ignored)
        values = np.asarray(found, dtype=np.float64)
        if values.shape != (len(stack),):
            raise ValueError(
                f"Descriptor {name!r} must return one number an image, shape ({len(stack)},); "
                f"found shape {values.shape}."
            )
        if not np.isfinite(values).all():
            bad = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(
                f"Descriptor {name!r} returned {values[bad]} for image {bad}; it must be finite."
            )
        phi[:, column] = values
    return phi


def _of_counted(descriptor, maps, ignored):
    """A descriptor of the pixels that are not ignored."""
    looks_around = "ignored" in inspect.signature(descriptor).parameters
    values = np.empty(len(maps))
    for i, (image, out) in enumerate(zip(maps, ignored, strict=True)):
        if looks_around and out.any():
            found = descriptor(image[np.newaxis], out[np.newaxis])
        else:
            found = descriptor(image[~out].reshape(1, 1, -1) if out.any() else image[np.newaxis])
        values[i] = np.asarray(found).item()
    return values


def check_map_stack(maps: ArrayLike, name: str = "maps") -> NDArray[np.floating]:
    """Return `maps` as a finite floating-point stack ``(n, h, w)``, or raise ValueError."""
    maps = np.asarray(maps)
    if maps.ndim != 3 or maps.size == 0:
        raise ValueError(f"{name} must be a non-empty array (n, h, w); found shape {maps.shape}.")
    if maps.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers; found dtype {maps.dtype}.")
    if maps.dtype not in (np.float32, np.float64):
        maps = maps.astype(np.float64)
    finite = np.isfinite(maps).all(axis=(1, 2))
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise ValueError(
            f"{name} holds NaN or infinity in {len(bad)} of {len(maps)} images, first in "
            f"image {bad[0]}; the features of that image are the place to look."
        )
    return maps
