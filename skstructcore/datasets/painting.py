"""Painted copies of good images: the same image and seed give the same copy, wherever it is.

The one painter for everything that needs defects where none are: criteria without labels,
weights learned without labels, and checks of what a fitted pipeline finds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils import check_random_state

from ..images.image_list import as_images
from .image_set import ImageSet
from .synthetic import DEFECTS, paint_defect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._utils.typing import RandomState
    from ..images.image_list import ImagesLike

__all__ = ["paint_copies"]


def paint_copies(
    images: ImagesLike,
    *,
    kinds: Sequence[str] = tuple(DEFECTS),
    severity: float = 1.0,
    size: float | None = None,
    random_state: RandomState = 0,
) -> ImageSet:
    """Paint one defect into a copy of each image.

    Kind, place and shape of the defect follow from the content of the image and the seed
    alone: an image has the same copy in every fold, chunk and process, and a feature cache
    knows it. The copies are arrays in memory; paint many images in chunks.

    Parameters
    ----------
    images : folder, sequence of paths, PIL images or arrays, ndarray, or ImageSet
        Good images, in any form that `as_images` takes.
    kinds : sequence of str, default=all of `DEFECTS`
        Kinds of defects; each copy gets one of them, at random.
    severity : float, default=1.0
        Contrast of the defects, see `paint_defect`.
    size : float, default=None
        Longest extent of each defect in pixels of the image, see `paint_defect`. None: random.
    random_state : int, RandomState instance or None, default=0
        Seed. Copies that are compared with each other need the same int.

    Returns
    -------
    copies : ImageSet
        In the order of `images`: the kind of each defect as label, its pixels as mask, and the
        groups, categories, splits and parts of `images` where it has them. Images are uint8 arrays,
        upright, (h, w) where the original is grey (a coloured defect would give itself away)
        and (h, w, 3) otherwise.

    Raises
    ------
    ValueError
        If `kinds` is empty or has an unknown kind, or the defect does not fit into an image;
        the message names the image.
    ImageReadError
        If an image cannot be read.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore.datasets import paint_copies
    >>> good = np.full((3, 48, 64), 120, dtype=np.uint8)
    >>> copies = paint_copies(good, kinds=["spot"], severity=0.5, size=9)
    >>> copies
    ImageSet(n_images=3, good=0, anomalous=3)
    >>> copies.y[0], copies.paths[0].shape, copies.masks[0].shape
    ('spot', (48, 64), (48, 64))
    >>> bool((copies[1:].paths[0] == paint_copies(good[1:], kinds=["spot"], severity=0.5,
    ...                                           size=9).paths[0]).all())
    True
    """
    unknown = sorted(set(kinds) - set(DEFECTS))
    if unknown or not len(kinds):
        raise ValueError(f"kinds must hold some of {sorted(DEFECTS)}, got {list(kinds)!r}")
    images, seed = as_images(images), random_state
    if not isinstance(seed, (int, np.integer)):
        seed = check_random_state(seed).randint(2**31)
    copies = [_painted(images, i, kinds, severity, size, seed) for i in range(len(images))]
    pixels, masks, painted_kinds = zip(*copies, strict=True)
    known = {name: values for name, values in vars(images.annotations).items() if name != "labels"}
    return ImageSet(pixels, painted_kinds, masks=masks, **known)


def _painted(images, i, kinds, severity, size, seed):
    # 32 bits, as RandomState takes them.
    rng = np.random.RandomState((int(images.digest(i)[:8], 16) ^ int(seed)) & 0xFFFFFFFF)
    pixels = np.asarray(images.read(i))
    if (
        images.intensity is not None and images.intensity.channels == "bgr"
    ):  # as the model takes arrays
        pixels = pixels[..., ::-1]
    if (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    kind = kinds[rng.randint(len(kinds))]
    try:
        return *paint_defect(pixels, kind, rng, severity, size=size), kind
    except ValueError as error:
        raise ValueError(f"nothing can be painted on {images.name(i)}: {error}") from error
