"""Small pictures of images, maps and masks, as text that a page can hold."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

# A finer map is reduced; every pixel of a map costs 1.33 bytes of the page.
_MOST_PATCHES = 64
_MASK_SIDE = 128
_WEBP_SIDE = 16383  # longer pictures cannot be written


def image_uri(image: Image.Image, side: int, quality: int = 60) -> str:
    """Return an image, reduced to a longer side of `side` pixels, as a data URI (WebP).

    Examples
    --------
    >>> image_uri(Image.new("RGB", (400, 200)), 100)[:23]
    'data:image/webp;base64,'
    """
    image = image.copy()
    side = min(side, _WEBP_SIDE)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=quality)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def reduce_map(heat: NDArray[np.floating]) -> NDArray[np.float32]:
    """Reduce a map to at most 64 pixels a side, keeping the largest value of every block.

    Examples
    --------
    >>> reduce_map(np.eye(3)).shape, reduce_map(np.ones((130, 10))).shape
    ((3, 3), (44, 4))
    """
    step = -(-max(heat.shape) // _MOST_PATCHES)
    return _largest_of_blocks(heat.astype(np.float32), step, -np.inf)


def _largest_of_blocks(values, step, filling):
    rows, columns = (-(-side // step) for side in values.shape)
    padded = np.full((rows * step, columns * step), filling, dtype=values.dtype)
    padded[: values.shape[0], : values.shape[1]] = values
    return padded.reshape(rows, step, columns, step).max(axis=(1, 3))


def encode_map(heat: NDArray[np.floating], low: float, high: float) -> dict[str, Any]:
    """Pack a map into bytes: 0 is `low` and less, 255 is `high` and more.

    Examples
    --------
    >>> encode_map(np.array([[0.0, 1.0, 2.0]]), 0, 2)
    {'w': 3, 'h': 1, 'v': 'AID/'}
    """
    scaled = np.clip((heat - low) / (high - low), 0, 1)
    packed = np.rint(255 * scaled).astype(np.uint8)
    return {"w": heat.shape[1], "h": heat.shape[0], "v": base64.b64encode(packed).decode()}


def encode_mask(mask: NDArray[np.bool_]) -> dict[str, Any] | None:
    """Pack a mask, reduced to at most 128 pixels a side, into the lengths of its runs.

    Runs go along the rows, from one row into the next, and begin with one of background. A mask
    without a pixel is None.

    Examples
    --------
    >>> encode_mask(np.array([[False, True], [True, False]]))
    {'w': 2, 'h': 2, 'r': [1, 2, 1]}
    """
    if not mask.any():
        return None
    step = -(-max(mask.shape) // _MASK_SIDE)
    mask = _largest_of_blocks(mask, step, False)  # a thin defect must not vanish
    flat = mask.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.r_[0, ends, flat.size]).tolist()
    if flat[0]:
        runs = [0, *runs]
    return {"w": mask.shape[1], "h": mask.shape[0], "r": runs}
