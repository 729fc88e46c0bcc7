"""Defects painted into good images, wherever defects are needed and there are none.

Every kind of defect is one small function in `DEFECTS`: it gets an image as floats, a random
generator, the severity and the size (or None), and returns the image as it would look if the
defect were everywhere, and the opacity of the defect at each pixel. `paint_defect` blends the two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from sklearn.utils import check_random_state

from .._utils.typing import ArrayLike, NDArray, RandomState
from .._utils.validation import check_number
from ..images.image_list import ImagesLike, as_images
from .image_set import ImageSet

# An opacity above this counts as defect in the mask: about where the eye puts the edge.
_MASK_LEVEL = 0.4
# A defect whose mean change is below so many grey levels would be invisible: it is redrawn.
_VISIBLE = 10.0


def paint_defect(
    image: ArrayLike,
    kind: str,
    random_state: RandomState = None,
    severity: float = 1.0,
    *,
    size: float | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Paint one defect of a given kind at a random place into a good image.

    Size, place and shape are random; the contrast follows that of the image. A defect that
    changes the image too little to be seen is drawn again at another place, at most 12 times.

    Parameters
    ----------
    image : ndarray of shape (h, w) or (h, w, 3), dtype uint8
        A good image of at least 8 x 8 pixels. It is not changed.
    kind : str
        One of `DEFECTS`: "spot" (small, dark or bright), "scratch" (thin curve), "stain" (wide
        and faint), "texture" (blurred, stretched or of more contrast), "missing" (filled with
        the colour around it), "noise" (burst of noise).
    random_state : int, RandomState instance or None, default=None
        Same seed, same defect.
    severity : float, default=1.0
        Factor on the contrast of the defect; above 0.
    size : float, default=None
        Longest extent of the defect in pixels, from 1 to the shorter side of the image; it is off
        by at most 2 pixels or a tenth, whichever is more. None: random, by the kind.

    Returns
    -------
    painted : ndarray of the shape of `image`, dtype uint8
    mask : ndarray of shape (h, w), dtype bool
        True where the defect is; never empty.

    Raises
    ------
    ValueError, TypeError
        If `kind` is unknown, `severity` is not positive, `size` does not fit into the image or
        the image is of another shape or dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore.datasets import paint_defect
    >>> good = np.full((64, 64), 120, dtype=np.uint8)
    >>> painted, mask = paint_defect(good, "spot", random_state=0)
    >>> painted.shape, mask.dtype, bool((painted != good)[mask].all())
    ((64, 64), dtype('bool'), True)
    """
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise TypeError(f"image must be of dtype uint8, got {image.dtype}")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ValueError(f"image must be of shape (h, w) or (h, w, 3), got {image.shape}")
    if min(image.shape[:2]) < 8:
        raise ValueError(f"image must have at least 8 x 8 pixels, got {image.shape[:2]}")
    if kind not in DEFECTS:
        raise ValueError(f"kind must be one of {sorted(DEFECTS)}, got {kind!r}")
    check_number(severity, "severity", 0)
    if size is not None:
        check_number(size, "size", 1, min(image.shape[:2]), closed="both")

    rng = check_random_state(random_state)
    pixels = image.astype(np.float32).reshape(*image.shape[:2], -1)
    best = (-1.0, None, None)
    for _ in range(12):
        defect, opacity = DEFECTS[kind](pixels, rng, severity, size)
        blended = pixels + opacity[..., None] * (defect - pixels)
        painted = np.clip(np.rint(blended), 0, 255)
        # A thin shape between pixels may stay under the level: its core is the defect then.
        mask = opacity >= min(_MASK_LEVEL, opacity.max())
        change = float(np.abs(painted - pixels).max(axis=2)[mask].mean())
        if change > best[0]:
            best = (change, painted, mask)
        if change >= _VISIBLE * min(severity, 1.0):
            break
    _, painted, mask = best
    return painted.astype(np.uint8).reshape(image.shape), mask


def _spot(pixels, rng, severity, size):
    opacity = _blob(pixels.shape, rng, size, rng.uniform(0.03, 0.06), roughness=0.25)
    return _shifted(pixels, opacity, rng, severity * rng.uniform(0.9, 1.3)), opacity


def _scratch(pixels, rng, severity, size):
    side = min(pixels.shape[:2])
    start = rng.uniform(0.15, 0.85, 2) * pixels.shape[:2]
    angle, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-0.8, 0.8)
    steps = np.linspace(0, 1, 4 * side)
    heading = angle + bend * steps
    length = rng.uniform(0.3, 0.7) * side
    path = start + np.cumsum(np.c_[np.sin(heading), np.cos(heading)], 0) * length / len(steps)
    width = max(0.6, rng.uniform(0.005, 0.011) * side)
    if size is not None:
        path, width = _resized(path, size, pixels.shape[:2]), max(0.6, width * size / length)
    # The pressure of the tip varies along the scratch and fades at both ends.
    wobble = ndimage.gaussian_filter1d(rng.normal(size=len(steps)), len(steps) / 12)
    half_width = width * (1 + 0.3 * wobble / max(wobble.std(), 1e-6)) * np.sin(np.pi * steps) ** 0.3
    opacity = np.zeros(pixels.shape[:2], np.float32)
    rows, cols = np.rint(path).astype(int).T
    inside = (rows >= 0) & (rows < opacity.shape[0]) & (cols >= 0) & (cols < opacity.shape[1])
    on_path = np.ones(opacity.shape, bool)
    on_path[rows[inside], cols[inside]] = False
    distance, (near_row, near_col) = ndimage.distance_transform_edt(on_path, return_indices=True)
    width_at = np.zeros(opacity.shape)
    np.maximum.at(width_at, (rows[inside], cols[inside]), half_width[inside])
    opacity = np.clip(width_at[near_row, near_col] + 0.7 - distance, 0, 1).astype(np.float32)
    return _shifted(pixels, opacity, rng, severity * rng.uniform(0.8, 1.2)), opacity


def _resized(path, size, shape):
    """A path whose ends are `size` pixels apart, inclusive, pushed into the image."""
    path = path[0] + (path - path[0]) * (size - 1) / np.hypot(*(path[-1] - path[0]))
    path -= np.minimum(path.min(axis=0), 0)
    return path - np.maximum(path.max(axis=0) - (np.array(shape) - 1), 0)


def _stain(pixels, rng, severity, size):
    opacity = _blob(pixels.shape, rng, size, rng.uniform(0.13, 0.24), roughness=0.5, edge=0.25)
    return _shifted(pixels, opacity, rng, severity * rng.uniform(0.55, 0.85)), opacity


def _texture(pixels, rng, severity, size):
    opacity = _blob(pixels.shape, rng, size, rng.uniform(0.11, 0.2), roughness=0.4)
    side = min(pixels.shape[:2])
    change = rng.choice(["blur", "stretch", "contrast"], p=[0.2, 0.4, 0.4])
    smooth = ndimage.gaussian_filter(pixels, (0.02 * side * severity,) * 2 + (0,))
    if change == "blur":
        return smooth, opacity
    if change == "contrast":
        return smooth + (1 + 2.5 * severity) * (pixels - smooth), opacity
    # Stretched along one direction, about the centre of the defect.
    centre = np.array(ndimage.center_of_mass(opacity))
    angle, factor = rng.uniform(0, np.pi), 1 + 2 * severity
    axis = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shrink = axis @ np.diag([1 / factor, 1.0]) @ axis.T
    return resample(pixels, shrink, centre - shrink @ centre), opacity


def _missing(pixels, rng, severity, size):
    opacity = _blob(pixels.shape, rng, size, rng.uniform(0.09, 0.15), roughness=0.3)
    around = ndimage.maximum_filter(opacity, size=5) > 0
    around &= opacity < _MASK_LEVEL
    colour = np.median(pixels[around], axis=0) if around.any() else np.median(pixels, (0, 1))
    flat = colour + rng.normal(scale=2.0, size=(*pixels.shape[:2], 1)).astype(np.float32)
    return pixels + min(severity, 1.0) * (flat - pixels), opacity


def _noise(pixels, rng, severity, size):
    opacity = _blob(pixels.shape, rng, size, rng.uniform(0.07, 0.13), roughness=0.4, edge=0.2)
    scale = severity * max(18.0, 0.6 * float(pixels.std()))
    burst = rng.normal(scale=scale, size=(*pixels.shape[:2], 1)).astype(np.float32)
    return pixels + burst, opacity


DEFECTS = {
    "spot": _spot,
    "scratch": _scratch,
    "stain": _stain,
    "texture": _texture,
    "missing": _missing,
    "noise": _noise,
}


def _blob(shape, rng, size, radius, roughness, edge=0.0):
    """Opacity of an irregular round shape, `size` pixels long or by a share of the shorter side."""
    height, width = shape[:2]
    side = min(height, width)
    radius = max(1.5, radius * side) if size is None else size / 2
    margin = min(radius, (0.4 if size is None else 0.5) * side)
    row, col = rng.uniform(margin, height - margin), rng.uniform(margin, width - margin)
    rows, cols = np.ogrid[:height, :width]
    tilt, stretch = rng.uniform(0, np.pi), rng.uniform(0.65, 1.0)
    along = (rows - row) * np.cos(tilt) + (cols - col) * np.sin(tilt)
    across = (cols - col) * np.cos(tilt) - (rows - row) * np.sin(tilt)
    distance = np.hypot(along, across / stretch)
    waves = [
        (frequency, 0.5 * roughness * rng.normal() / frequency, rng.uniform(0, 2 * np.pi))
        for frequency in range(2, 6)
    ]
    softness = max(1.0, edge * radius / 0.5)
    if size is not None:
        # The mask reaches a little beyond the middle of a soft edge.
        radius = size * (1 - 0.2 * edge) / _longest_extent(waves, stretch)
    inside = radius * _outline(waves, np.arctan2(across, along)) - distance
    return np.clip(inside / softness + 0.5, 0, 1).astype(np.float32)


def _outline(waves, angle):
    """How far the edge is from the centre in each direction, as a multiple of the radius."""
    outline = np.ones_like(angle)
    for frequency, share, phase in waves:
        outline += share * np.cos(frequency * angle + phase)
    return np.maximum(outline, 0.35)


def _longest_extent(waves, stretch):
    """Largest distance between opposite points of the edge, in radii."""
    angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    edge = _outline(waves, angle) / np.hypot(np.cos(angle), np.sin(angle) / stretch)
    return float((edge + np.roll(edge, 180)).max())


def _shifted(pixels, opacity, rng, strength):
    """The image darker or brighter by a contrast that stands out from its own."""
    offset = strength * max(45.0, 1.6 * float(pixels.std()))
    level = float((pixels.mean(axis=2) * opacity).sum() / max(opacity.sum(), 1e-6))
    room = {-1: level, 1: 255 - level}
    sign = rng.choice([-1, 1])
    if room[sign] < offset:
        sign = max(room, key=room.get)
    tint = rng.uniform(0.6, 1.0, size=pixels.shape[2]) if pixels.shape[2] == 3 else 1.0
    # Some of the texture shows through.
    local = ndimage.gaussian_filter(pixels, (1.5, 1.5, 0))
    return 0.4 * pixels + 0.6 * local + np.float32(sign * offset) * np.asarray(tint, np.float32)


def by_channel(function, pixels):
    """What a function of one channel `(h, w)` makes of all of an image's `(h, w, n)`."""
    return np.stack([function(channel) for channel in np.moveaxis(pixels, -1, 0)], axis=-1)


def resample(pixels, matrix, offset, **options):
    """An image `(h, w, n)` at other places; see `scipy.ndimage.affine_transform`."""
    options = {"order": 1, "mode": "reflect", **options}
    return by_channel(lambda c: ndimage.affine_transform(c, matrix, offset, **options), pixels)


def paint_copies(
    images: ImagesLike,
    *,
    kinds: Sequence[str] = tuple(DEFECTS),
    severity: float = 1.0,
    size: float | None = None,
    random_state: RandomState = 0,
) -> ImageSet:
    """Paint one defect into a copy of each image.

    The defect follows from the content of the image and the seed alone: an image has the same
    copy in every fold, chunk and process. Copies are arrays in memory; paint many in chunks.

    Parameters
    ----------
    images : folder, sequence of paths, PIL images or arrays, ndarray, or ImageSet
        Good images, in any form that `as_images` takes.
    kinds : sequence of str, default=all of `DEFECTS`
        Kinds of defects; each copy gets one of them, at random.
    severity, size : see `paint_defect`
    random_state : int, RandomState instance or None, default=0
        Seed. Copies that are compared with each other need the same int.

    Returns
    -------
    copies : ImageSet
        In the order of `images`: the kind of each defect as label, its pixels as mask, and the
        groups, categories, splits and parts of `images`. Images are upright uint8 arrays, (h, w)
        where the original is grey and (h, w, 3) otherwise.

    Raises
    ------
    ValueError
        If `kinds` is empty or has an unknown kind, an image cannot be read or the defect does
        not fit into it; the message names the image.

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
    """
    unknown = sorted(set(kinds) - set(DEFECTS))
    if unknown or not len(kinds):
        raise ValueError(f"kinds must hold some of {sorted(DEFECTS)}, got {list(kinds)!r}")
    images, seed = as_images(images), random_state
    if not isinstance(seed, (int, np.integer)):
        seed = check_random_state(seed).randint(2**31)
    copies = [_painted(images, i, kinds, severity, size, seed) for i in range(len(images))]
    pixels, masks, painted_kinds = zip(*copies, strict=True)
    others = {name: values for name, values in vars(images.annotations).items() if name != "labels"}
    return ImageSet(pixels, painted_kinds, masks=masks, **others)


def _painted(images, i, kinds, severity, size, seed):
    # 32 bits, as RandomState takes them.
    rng = np.random.RandomState((int(images.digest(i)[:8], 16) ^ int(seed)) & 0xFFFFFFFF)
    pixels = np.asarray(images.read(i))
    if images.intensity is not None and images.intensity.channels == "bgr":
        pixels = pixels[..., ::-1]  # as the model takes arrays
    if (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    kind = kinds[rng.randint(len(kinds))]
    try:
        return *paint_defect(pixels, kind, rng, severity, size=size), kind
    except ValueError as error:
        raise ValueError(f"nothing can be painted on {images.name(i)}: {error}") from error
