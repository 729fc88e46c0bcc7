"""Small data sets, cut from the photographs that scikit-image (extra "demo") brings along."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from sklearn.utils import check_random_state

from .._utils.typing import RandomState
from .._utils.versions import import_extra
from ..images.labels import GOOD
from .image_set import ImageSet
from .painting import DEFECTS, by_channel, paint_defect, resample

# A block is this much wider than a tile, so that tiles of one block differ in place.
_BLOCK = 1.25


class _Photograph(NamedTuple):
    """Which part of a photograph is used, and how much it is enlarged before cutting."""

    file: str
    box: tuple = (...,)  # rows and columns
    scale: float = 2.0
    is_stack: bool = False  # of small pictures: the first half are faces, the others are not


PHOTOGRAPHS = {
    "brick": _Photograph("brick.png"),
    "chessboard": _Photograph("chessboard_GRAY.png", scale=4.0),
    "coins": _Photograph("coins.png", scale=3.0),
    "faces": _Photograph("lfw_subset.npy", is_stack=True),
    "grass": _Photograph("grass.png"),
    "gravel": _Photograph("gravel.png"),
    "handwriting": _Photograph("text.png", scale=3.0),
    "hubble": _Photograph("hubble_deep_field.jpg", scale=1.0),
    "ihc": _Photograph("ihc.png"),
    "moon": _Photograph("moon.png"),
    "page": _Photograph("page.png", box=np.s_[36:191, 0:384], scale=3.0),
    "retina": _Photograph("retina.jpg", box=np.s_[250:1160, 250:1160], scale=1.0),
}


def make_photographs(
    name: str = "brick",
    *,
    tile_size: int = 128,
    n_train: int = 40,
    n_test_good: int = 20,
    n_test_defect: int = 5,
    defects: Sequence[str] = tuple(DEFECTS),
    severity: float = 1.0,
    random_state: RandomState = None,
) -> ImageSet:
    """Cut a photograph into training tiles, good test tiles and test tiles with defects.

    Blocks of the photograph that do not overlap are either for training or for testing, so no
    pixel is on both sides. A tile is cut at a random place of a block, turned by up to 3 degrees,
    made up to 8 % brighter or darker, and gets a little sensor noise. Tiles of one block overlap:
    they are a group.

    Parameters
    ----------
    name : str, default="brick"
        One of `PHOTOGRAPHS`.
    tile_size : int, default=128
        Height and width of a tile in pixels.
    n_train, n_test_good : int, default=40, 20
        Number of good tiles.
    n_test_defect : int, default=5
        Number of test tiles for each kind of defect.
    defects : sequence of str, default=all of `DEFECTS`
    severity : float, default=1.0
        Kinds and contrast of the defects, see `paint_defect`.
    random_state : int, RandomState instance or None, default=None
        Same seed, same tiles.

    Returns
    -------
    images : ImageSet
        uint8 arrays of shape (tile_size, tile_size, 3) with `y` ("good" or the kind of the
        defect), `masks`, `groups`, `categories` (all `name`) and `splits`.

    Raises
    ------
    ValueError
        If `name` is unknown or the photograph is too small for tiles of this size.
    ImportError
        If scikit-image is not installed.

    Examples
    --------
    >>> from skstructcore.datasets import make_photographs
    >>> images = make_photographs("gravel", tile_size=64, n_train=10, n_test_good=5,
    ...                           n_test_defect=1, random_state=0)
    >>> images.train, images.test
    (ImageSet(n_images=10, good=10, anomalous=0), ImageSet(n_images=11, good=5, anomalous=6))
    """
    if name not in PHOTOGRAPHS:
        raise ValueError(f"name must be one of {sorted(PHOTOGRAPHS)}, got {name!r}")
    rng = check_random_state(random_state)
    blocks = _blocks(name, tile_size)
    order = rng.permutation(len(blocks))
    n_blocks_train = max(1, round(0.6 * len(blocks)))
    train_blocks, test_blocks = order[:n_blocks_train], order[n_blocks_train:]

    wanted = [("train", GOOD)] * n_train + [("test", GOOD)] * n_test_good
    wanted += [("test", kind) for kind in defects for _ in range(n_test_defect)]
    tiles, masks, groups = [], [], []
    for position, (split, kind) in enumerate(wanted):
        blocks_of_split = train_blocks if split == "train" else test_blocks
        # In turn rather than at random, so that all blocks are used before one repeats.
        block = int(blocks_of_split[position % len(blocks_of_split)])
        tile, mask = _cut_tile(blocks[block], tile_size, rng), None
        if kind != GOOD:
            tile, mask = paint_defect(tile, kind, rng, severity)
        tiles.append(np.stack([tile] * 3, axis=-1) if tile.ndim == 2 else tile)
        masks.append(mask)
        groups.append(block)
    splits, y = zip(*wanted, strict=True)
    columns = {"groups": groups, "categories": [name] * len(tiles), "splits": splits}
    return ImageSet(tiles, y, masks=masks, **columns)


def _blocks(name, tile_size):
    """Parts of the photograph that do not overlap, each a little larger than a tile."""
    pixels, photograph = _read(name), PHOTOGRAPHS[name]
    side = round(_BLOCK * tile_size)
    if photograph.is_stack:
        zoom = side / pixels.shape[1]
        return [_enlarge(patch, zoom) for patch in pixels]
    pixels = _enlarge(pixels[photograph.box], photograph.scale)
    n_rows, n_cols = pixels.shape[0] // side, pixels.shape[1] // side
    if n_rows * n_cols < 4:
        grids = ((2, 2), (1, 4), (4, 1))
        largest = max(min(pixels.shape[0] // r, pixels.shape[1] // c) for r, c in grids)
        raise ValueError(
            f"tile_size={tile_size} is too large for the photograph {name!r}: at most "
            f"{int(largest / _BLOCK)} gives the four blocks that are needed"
        )
    # The blocks share the whole area; what does not divide evenly goes to their margins.
    rows = np.linspace(0, pixels.shape[0], n_rows + 1).astype(int)[1:-1]
    cols = np.linspace(0, pixels.shape[1], n_cols + 1).astype(int)[1:-1]
    return [block for row in np.split(pixels, rows) for block in np.split(row, cols, axis=1)]


def _read(name):
    """The photograph as a uint8 array: (h, w), (h, w, 3) or, of a stack, (n, s, s)."""
    skimage_io = import_extra("skimage.io", "demo", "A photograph")
    path = Path(skimage_io.__file__).parents[1] / "data" / PHOTOGRAPHS[name].file
    if PHOTOGRAPHS[name].is_stack:
        patches = np.load(path)
        return np.rint(255 * patches[: len(patches) // 2]).astype(np.uint8)
    return skimage_io.imread(path)


def _enlarge(pixels, zoom):
    if zoom == 1:
        return pixels
    if pixels.ndim == 3:
        return by_channel(lambda channel: _enlarge(channel, zoom), pixels)
    enlarged = ndimage.zoom(pixels.astype(np.float32), zoom, order=3, mode="reflect")
    return np.clip(np.rint(enlarged), 0, 255).astype(np.uint8)


def _cut_tile(block, tile_size, rng):
    room = np.array(block.shape[:2]) - tile_size
    corner = rng.uniform(0, 1, 2) * room
    angle = np.deg2rad(3.0 * rng.uniform(-1, 1))
    gain = 1 + 0.08 * rng.uniform(-1, 1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.full(2, (tile_size - 1) / 2)
    offset = corner + centre - turn @ centre
    channels = block.astype(np.float32).reshape(*block.shape[:2], -1)
    shape = (tile_size, tile_size)
    tile = resample(channels, turn, offset, output_shape=shape)
    tile = gain * tile + rng.normal(scale=1.0, size=(*shape, 1))
    return np.clip(np.rint(tile), 0, 255).astype(np.uint8).reshape(*shape, *block.shape[2:])
