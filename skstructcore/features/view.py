"""How values of images become levels: found in the training images, asked of a fitted pipeline."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from ..images.reading import Intensity, as_channels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal

    from ..images.image_list import ImageList

__all__ = ["training_intensity", "view_of"]


def training_intensity(
    images: ImageList, window: Literal["auto"] | Sequence[float], channels: object
) -> Intensity:
    """The intensity that all images of a model are seen through.

    With the `window` "auto", deep training images are decoded: it is that of the bit depth that
    holds all of their values, or None if no image is deep.
    """
    find = isinstance(window, str)
    given = Intensity(None if find else (float(window[0]), float(window[1])), as_channels(channels))
    deep = [i for i in range(len(images)) if images.check(i, given) != "levels"]
    if not find or not deep:
        return given
    with ThreadPoolExecutor() as pool:
        return replace(given, window=max(pool.map(images.bit_depth_window, deep)))


def view_of(pipe: Any, *, channels: bool = True) -> Intensity | None:
    """How a fitted pipeline sees values of images; None where that is nothing special.

    Parameters
    ----------
    channels : bool, default=True
        Whether its channels count: not in copies that it is to see again.
    """
    first = pipe.steps[0][1] if getattr(pipe, "steps", None) else None
    if not hasattr(first, "_picture"):
        return None
    view = first._picture().intensity
    view = view if channels or view.channels == "bgr" else Intensity(view.window)
    return None if view == Intensity() else view
