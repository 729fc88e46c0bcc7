"""Small pictures of images, maps and masks, as text that a page can hold."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..display.style import overlay_colors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# A finer map is reduced, as its pixels cost space in the page.
_MOST_PATCHES = 64
_MASK_SIDE = 128
_N_COLORS = 64  # of a map: a palette that is small
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


def map_uri(heat: NDArray[np.floating], low: float, high: float) -> str:
    """A map in its colours, as a data URI (PNG): transparent at `low`, in full colour at `high`.

    Examples
    --------
    >>> map_uri(np.array([[0.0, 1.0, 2.0]]), 0, 2)[:22]
    'data:image/png;base64,'
    """
    scaled = np.clip((heat - low) / (high - low), 0, 1)
    image = Image.fromarray(np.rint((_N_COLORS - 1) * scaled).astype(np.uint8))
    colors = overlay_colors(_N_COLORS)
    image.putpalette(colors[:, :3].tobytes())
    buffer = BytesIO()
    image.save(buffer, "PNG", transparency=colors[:, 3].tobytes(), optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def outline(inside: NDArray[np.bool_], box: Sequence[float]) -> dict[str, str]:
    """Attributes of an SVG path around the cells of a grid that lies over a box of the original.

    The box is top, left, bottom, right.

    Examples
    --------
    >>> outline(np.array([[False, True]]), (0, 0, 10, 40))["d"]
    'M1 0h1M1 1h1M1 0v1M2 0v1'
    """
    padded, steps = np.pad(inside, 1), []
    crossings = padded[1:, 1:-1] != padded[:-1, 1:-1], (padded[1:-1, 1:] != padded[1:-1, :-1]).T
    for direction, edges in zip("hv", crossings, strict=True):
        ends = np.diff(np.pad(edges, ((0, 0), (1, 1))).astype(np.int8), axis=1)
        starts, stops = np.argwhere(ends == 1), np.argwhere(ends == -1)
        for (line, start), (_, stop) in zip(starts, stops, strict=True):
            x, y = (start, line) if direction == "h" else (line, start)
            steps.append(f"M{x} {y}{direction}{stop - start}")
    top, left, bottom, right = box
    scale = f"{(right - left) / inside.shape[1]:.6g} {(bottom - top) / inside.shape[0]:.6g}"
    transform = f"translate({left:.6g} {top:.6g}) scale({scale})"
    return {"d": "".join(steps), "transform": transform}


def reduce_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Reduce a mask to at most 128 pixels a side; a thin defect does not vanish."""
    return _largest_of_blocks(mask, -(-max(mask.shape) // _MASK_SIDE), False)
