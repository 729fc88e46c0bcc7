"""Image sets whose training images are not independent, cut from photographs."""

import numpy as np

from skstructcore.datasets import DEFECTS, ImageSet, paint_defect
from skstructcore.datasets.photographs import PHOTOGRAPHS, _blocks, _enlarge, _read

#: Photographs that can be cut from left to right.
SCANNED = tuple(name for name in PHOTOGRAPHS if name not in ("faces", "chessboard"))
KINDS = ("good",) * 40 + tuple(kind for kind in DEFECTS for _ in range(8))


def scan(name, seed=1):
    """Tiles in scan order with overlap from the left of a photograph, tested on the right.

    84 training tiles in six rows of 14, to the right and back; consecutive tiles overlap.
    """
    rng = np.random.RandomState(seed)
    photograph = PHOTOGRAPHS[name]
    pixels = _read(name)
    if photograph.box is not None:
        top, left, bottom, right = photograph.box
        pixels = pixels[top:bottom, left:right]
    pixels = _rgb(_enlarge(pixels, photograph.scale))
    if pixels.shape[0] > pixels.shape[1]:
        pixels = pixels.transpose(1, 0, 2)
    size, border = _tile_size(name), int(0.6 * pixels.shape[1])
    left, right = pixels[:, :border], pixels[:, border:]
    rows = np.linspace(0, left.shape[0] - size, 6).astype(int)
    columns = np.linspace(0, border - size, 14).astype(int)
    train = [
        _photographed(left[r : r + size, c : c + size], rng)
        for i, r in enumerate(rows)
        for c in (columns if i % 2 == 0 else columns[::-1])
    ]
    test = []
    for kind in KINDS:
        r, c = (rng.randint(side - size + 1) for side in right.shape[:2])
        tile = _photographed(right[r : r + size, c : c + size], rng)
        test.append(tile if kind == "good" else paint_defect(tile, kind, rng)[0])
    return _image_set(train, test)


def lots(name, seed=2):
    """Ten lots of six tiles: one place with a little jitter, a brightness of each lot."""
    rng = np.random.RandomState(seed)
    size = _tile_size(name)
    parts = [_rgb(block) for block in _blocks(name, size)]
    order = rng.permutation(len(parts))
    n_train = max(1, round(0.6 * len(parts)))

    def tiles(places, n_lots, n_each):
        cut = []
        for lot in range(n_lots):
            block = parts[places[lot % len(places)]]
            room = np.array(block.shape[:2]) - size
            corner = rng.uniform(0, 1, 2) * room
            gain, offset = 1 + 0.12 * rng.uniform(-1, 1), 8 * rng.uniform(-1, 1)
            for _ in range(n_each):
                r, c = np.clip(corner + rng.uniform(-4, 4, 2), 0, room).astype(int)
                cut.append(_photographed(block[r : r + size, c : c + size], rng, gain, offset))
        return cut

    train, places = tiles(order[:n_train], 10, 6), order[n_train:]
    good, bad = tiles(places, 40, 1), tiles(places, len(KINDS) - 40, 1)
    kinds = list(KINDS[40:])
    rng.shuffle(kinds)
    bad = [paint_defect(tile, kind, rng)[0] for tile, kind in zip(bad, kinds, strict=True)]
    return _image_set(train, good + bad, ["good"] * 40 + kinds)


def _image_set(train, test, kinds=KINDS):
    y = ["good"] * len(train) + list(kinds)
    splits = ["train"] * len(train) + ["test"] * len(test)
    return ImageSet(train + test, y, splits=splits)


def _tile_size(name):
    return 192 if name in ("hubble", "retina") else 128


def _rgb(pixels):
    return np.stack([pixels] * 3, axis=-1) if pixels.ndim == 2 else pixels[..., :3]


def _photographed(tile, rng, gain=1.0, offset=0.0):
    tile = tile.astype(np.float32) * gain * (1 + 0.03 * rng.uniform(-1, 1)) + offset
    tile = tile + rng.normal(scale=1.0, size=(*tile.shape[:2], 1))
    return np.clip(np.rint(tile), 0, 255).astype(np.uint8)
