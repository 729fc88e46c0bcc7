"""Choosing and evaluating descriptors: numbers that anomaly maps are summed up by.

A name in :data:`DESCRIPTORS`, ``"top<r>"`` for any percentage ``r``, or any function of maps is
one. With ``surprise_`` before its name it looks at the surprise map instead of the distances.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .map_functions import DESCRIPTORS, LOOK_AROUND, top_mean

#: A name, or a function of maps ``(n, h, w)`` that returns ``(n,)``.
DescriptorLike = str | Callable[[NDArray[np.floating]], ArrayLike]
#: Several, each with weight 1, or with weights.
DescriptorsLike = Sequence[DescriptorLike] | Mapping[DescriptorLike, float]

TOP = re.compile(r"top(\d+(?:\.\d+)?)")

#: Before the name of a descriptor: it looks at the surprise, see `skstructcore.knn.surprise`.
SURPRISE = "surprise_"

#: phi by default, and how much each counts beside the base score, which counts 1: distances and
#: surprise about the same. ``docs/scoring_study.md`` has the measurements.
DEFAULT_PHI = {
    "std": 0.5,
    "top1": 0.25,
    "surprise_max": 0.25,
    "surprise_top1": 0.25,
    "surprise_smoothmax": 0.25,
    "surprise_contrast": 0.25,
    "surprise_component": 0.25,
    "surprise_moran": 0.25,
}

#: The base score, of the distances: max pooling.
BASE = "max"

#: phi of the StructCore paper.
PAPER_PHI = ("std", "top1", "tv")


def resolve_descriptor(
    descriptor: DescriptorLike,
) -> tuple[str, Callable[[NDArray[np.floating]], ArrayLike]]:
    """Return the name and the function, which is the same of the distances and of the surprise."""
    if callable(descriptor):
        name = getattr(descriptor, "__name__", type(descriptor).__name__)
        if name in (BASE, *PAPER_PHI) and descriptor is not DESCRIPTORS.get(name):
            raise ValueError(
                f"The name {name!r} belongs to a descriptor of the package: give your function "
                "another name."
            )
        return name, descriptor
    plain = str(descriptor).removeprefix(SURPRISE)
    if plain in DESCRIPTORS:
        return descriptor, DESCRIPTORS[plain]
    match = TOP.fullmatch(plain)
    if match and 0 < float(match[1]) <= 100:
        return descriptor, partial(top_mean, percent=float(match[1]))
    raise ValueError(
        f"Unknown descriptor {descriptor!r}. Known are {', '.join(DESCRIPTORS)}, 'top<r>' with a "
        "percentage 0 < r <= 100 such as 'top5', and functions of maps (n, h, w) that return (n,)."
    )


def looks_at_surprise(descriptor: DescriptorLike) -> bool:
    """Whether a descriptor looks at the surprise map, not at the distances."""
    return isinstance(descriptor, str) and descriptor.startswith(SURPRISE)


def weighted(descriptors: Literal["default"] | DescriptorsLike) -> dict[DescriptorLike, float]:
    """Descriptors with their weights, as `StructCoreScorer` takes them; ValueError else."""
    if isinstance(descriptors, str):
        return dict(DEFAULT_PHI)
    descriptor_names(descriptors)
    if hasattr(descriptors, "items"):
        weights = np.asarray(list(descriptors.values()))
        if weights.dtype.kind not in "biuf" or not np.isfinite(weights).all():
            raise ValueError(f"Weights must be finite numbers, got {weights.tolist()!r}.")
        return dict(zip(descriptors, weights.astype(np.float64).tolist(), strict=True))
    return dict.fromkeys(descriptors, 1.0)


def shown(descriptors: Iterable[DescriptorLike]) -> list[DescriptorLike]:
    """Descriptors that count, then those of the paper, whose ``z`` is shown in any case."""
    names = descriptor_names(descriptors)
    return [*descriptors, *(name for name in PAPER_PHI if name not in names)]


def without_surprise(weights: Mapping[DescriptorLike, float]) -> dict[DescriptorLike, float]:
    """The descriptors for maps that have distances only, each once, with its first weight."""
    plain = {}
    for name, weight in weights.items():
        plain.setdefault(name.removeprefix(SURPRISE) if isinstance(name, str) else name, weight)
    return plain


def descriptor_names(descriptors: Iterable[DescriptorLike]) -> list[str]:
    """Names of the descriptors, in order; ValueError if two have the same."""
    names = [resolve_descriptor(descriptor)[0] for descriptor in descriptors]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"Descriptors need distinct names; found twice: {', '.join(duplicates)}. Leave "
            "one out; a function has the name that its __name__ says."
        )
    return names


def compute_descriptors(
    maps: ArrayLike,
    descriptors: Sequence[DescriptorLike] = PAPER_PHI,
    *,
    surprise: ArrayLike | None = None,
    ignored: NDArray[np.bool_] | None = None,
    first: int = 0,
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
    first : int, default=0
        What messages call the first image, where the maps are part of a longer stack.

    Returns
    -------
    phi : ndarray of shape (n, len(descriptors)), float64

    Raises
    ------
    ValueError
        If the maps are not 3-D, are empty or not finite; if a descriptor is unknown, there twice,
        needs a surprise that is not given, or returns anything but ``n`` finite numbers.

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
        computed = function(stack) if ignored is None else _of_counted(function, stack, ignored)
        values = np.asarray(computed)
        if values.dtype.kind not in "biuf":
            raise ValueError(f"Descriptor {name!r} must return real numbers; found {values.dtype}.")
        if values.shape != (len(stack),):
            raise ValueError(
                f"Descriptor {name!r} must return one number an image, shape ({len(stack)},); "
                f"found shape {values.shape}."
            )
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise ValueError(
                f"Descriptor {name!r} returned {values[bad[0]]} for image {first + bad[0]}; it "
                "must be finite."
            )
        phi[:, column] = values
    return phi


def _of_counted(descriptor, maps, ignored):
    """A descriptor of the pixels that are not ignored."""
    values = []
    for image, out in zip(maps[:, np.newaxis], ignored[:, np.newaxis], strict=True):
        if not out.any():
            value = descriptor(image)
        elif descriptor in LOOK_AROUND:
            value = descriptor(image, out)
        else:
            value = descriptor(image[~out].reshape(1, 1, -1))
        values.append(np.ravel(value))  # one number, or as many as the caller will complain of
    return np.concatenate(values)


def check_map_stack(maps: ArrayLike, name: str = "maps") -> NDArray[np.floating]:
    """Return `maps` as a finite floating-point stack ``(n, h, w)``, or raise ValueError."""
    maps = np.asarray(maps)
    if maps.ndim != 3 or maps.size == 0:
        raise ValueError(f"{name} must be a non-empty array (n, h, w); found shape {maps.shape}.")
    if maps.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers; found dtype {maps.dtype}.")
    if maps.dtype not in (np.float32, np.float64):
        maps = maps.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(maps).all(axis=(1, 2)))
    if len(bad):
        raise ValueError(
            f"{name} holds NaN or infinity in {len(bad)} of {len(maps)} images, first in "
            f"image {bad[0]}; the features of that image are the place to look."
        )
    return np.ascontiguousarray(maps)  # sums depend on the order in memory, in their last digits
