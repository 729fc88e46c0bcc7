"""Masks of an image set, for pixel metrics: checked at once, and brought to the size of maps."""

from __future__ import annotations

import logging
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._utils.validation import check_same_length
from ..images.geometry import Geometry, ignored_pixels
from ..images.labels import GOOD
from ..images.masks import mask_as_seen
from .image_set import ImageSet

_logger = logging.getLogger(__name__)


class NoMasksError(ValueError):
    """No anomalous image has a mask with a defect in it, so that pixels cannot be judged."""


def review_masks(images: ImageSet, unreadable: Collection[int] = ()) -> list[str]:
    """List all that is wrong with masks, and log which contradict the label of their image.

    Wrong are anomalous images without a mask although others of their type (and category) have
    one, masks that cannot be read, and masks of another size than their image. Masks of images at
    `unreadable` positions are not read.
    """
    with_mask = [i for i, mask in enumerate(images.masks) if mask is not None]
    categories = [None] * len(images) if images.categories is None else images.categories
    types = list(zip(categories, images.y, strict=True))
    types_with_mask = {types[i] for i in with_mask if images.y[i] != GOOD}
    problems = [
        f"{images.name(i)}: no mask, but others of {key[1]!r} have"
        for i, key in enumerate(types)
        if key in types_with_mask and images.masks[i] is None
    ]
    with_mask = [i for i in with_mask if i not in unreadable]
    with ThreadPoolExecutor() as pool:
        checked = list(pool.map(lambda i: _look_at_mask(images, i), with_mask))
    odd = [images.name(i) for i, (_, fits) in zip(with_mask, checked, strict=True) if not fits]
    if odd and images.parts is None:  # a view has the label of its part
        _logger.warning(
            "%d masks contradict the label of their image: without a defect, or of a good image "
            "(the first: that of %s)",
            *(len(odd), odd[0]),
        )
    return problems + [problem for problem, _ in checked if problem]


def _look_at_mask(images, i):
    """What is wrong with a mask, and whether it marks a defect where there is one."""
    try:
        return None, images.load_mask(i).any() == (images.y[i] != GOOD)
    except ValueError as error:  # an ImageReadError among them
        name, reason = images.name(i), str(error)
        return (reason if name in reason else f"{name}: {reason}"), True


def check_masks(images: Any, anomalous: ArrayLike | None = None) -> None:
    """Raise an error that lists everything that is wrong with masks, before work is done.

    NoMasksError if `images` is no ImageSet, or no anomalous image has a mask; else ValueError.
    """
    anomalous = _which_are_anomalous(images, anomalous)
    if not any(images.masks[i] is not None for i in np.flatnonzero(anomalous)):
        raise _no_masks(anomalous)
    if problems := review_masks(images):
        raise ValueError(
            f"{len(problems)} problem(s) with the masks; mend them, or take all masks of a type "
            "away to leave it out of pixel metrics:\n" + "\n".join(f"- {p}" for p in problems)
        )


def _which_are_anomalous(images, anomalous):
    if not hasattr(images, "masks"):
        raise NoMasksError(
            f"pixel metrics need masks: pass the images as an ImageSet, not {type(images).__name__}"
        )
    return images.y != GOOD if anomalous is None else np.asarray(anomalous)


def _no_masks(anomalous):
    return NoMasksError(
        f"pixel metrics need masks, and none of the {int(np.sum(anomalous))} anomalous images has "
        "one with a defect in what counts"
    )


def judged_pixels(
    images: ImageSet,
    pixel_maps: NDArray[np.floating],
    geometry: Geometry | None = None,
    ignored: NDArray[np.bool_] | None = None,
    *,
    anomalous: ArrayLike | None = None,
) -> tuple[list[NDArray[np.bool_]], NDArray[np.floating], NDArray[np.bool_] | None]:
    """Masks, maps and ignored pixels of the images that count, as pixel metrics take them.

    Each mask is cut to the part that the backbone saw and scaled by taking the nearest pixel. Good
    images count with an empty mask, and so does one whose defect lies outside of that part.
    Anomalous images whose mask is empty or missing say nothing about pixels and are left out.

    Parameters
    ----------
    images : ImageSet of n images
    pixel_maps : ndarray of shape (n, h, w)
        Anomaly maps at the size that the backbone saw.
    geometry : Geometry, default=None
        What the backbone saw of each image, of `AnomalyMaps`; None: the whole images.
    ignored : ndarray of shape (n, rows, columns), dtype bool, default=None
        Ignored patches, of `AnomalyMaps`.
    anomalous : array-like of shape (n,), dtype bool, default=None
        Which images are anomalous; None: those that `images.y` calls so.

    Returns
    -------
    masks : list of n_judged ndarray of shape (h, w), dtype bool
    pixel_maps : ndarray of shape (n_judged, h, w)
    ignored : ndarray of shape (n_judged, h, w), dtype bool, or None

    Raises
    ------
    NoMasksError
        If `images` is no ImageSet, or no mask has a defect that was seen and is not ignored.
    ValueError
        If a mask cannot be read or is not of the size of its image.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore.datasets import ImageSet, judged_pixels
    >>> pictures = np.zeros((3, 4, 4), dtype=np.uint8)
    >>> images = ImageSet(pictures, ["good", "hole", "crack"],
    ...                   masks=[None, np.eye(4), np.zeros((4, 4))])
    >>> masks, pixel_maps, ignored = judged_pixels(images, np.zeros((3, 2, 2)))
    >>> pixel_maps.shape
    (2, 2, 2)
    >>> masks[1].astype(int)
    array([[1, 0],
           [0, 1]])
    """
    check_same_length(images=images, pixel_maps=pixel_maps)
    size, seen = pixel_maps.shape[1:], {}
    anomalous = _which_are_anomalous(images, anomalous)
    for i in range(len(images)):
        if not anomalous[i]:
            seen[i] = np.zeros(size, dtype=bool)
        elif (mask := images.load_mask(i)) is not None and mask.any():
            seen[i] = mask_as_seen(mask, size, None if geometry is None else geometry.boxes[i])
    judged, masks = [*seen], [*seen.values()]
    out = None if ignored is None else ignored_pixels(ignored[judged], size)
    if not any((mask if out is None else mask & ~out[i]).any() for i, mask in enumerate(masks)):
        raise _no_masks(anomalous)
    return masks, pixel_maps[judged], out
