"""Peak memory and processor time of reading one very large file, by format.

    python benchmarks/bench_large_files.py [--size 12000 16384] [--formats jpg lzw.tif ...]

Each case runs in a process of its own, which is what a peak is measured above. *Reduced* is the
whole picture at an eighth of its sides, *cut* a part of 1024 x 1024 pixels at full resolution,
*tiles* all of it, tile by tile of 1024 pixels, as `tile_size` reads it. With --whole no file is
read in parts, as where the format does not allow it.
"""

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
from _measure import peak_above, reset_peak, table

FORMATS = {
    "jpg": None,
    "npy": None,
    "tif": {"rowsperstrip": 16},
    "lzw.tif": {"compression": "lzw", "predictor": True, "rowsperstrip": 16},
    "deflate-tiles.tif": {"compression": "deflate", "tile": (256, 256)},
}
TILE = 1024


def write(path, kind, size):
    """A smooth colour image with noise; its rows repeat, so that writing takes little memory."""
    rng = np.random.default_rng(0)
    columns = 120 + 60 * np.sin(np.arange(size[1])[:, np.newaxis] / [300, 200, 500])
    rows = (columns + rng.normal(0, 3, (64, *columns.shape))).astype(np.uint8)
    image = np.resize(rows, (*size, 3))
    if kind.endswith("tif"):
        import tifffile

        tifffile.imwrite(path, image, photometric="rgb", **FORMATS[kind])
    elif kind == "npy":
        np.save(path, image)
    else:
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = None
        Image.fromarray(image).save(path)


def read(path, size, what, whole):
    """Read in this process; peak MB above before, and processor seconds."""
    from skstructcore.images import as_images, raster
    from skstructcore.images.geometry import Framing
    from skstructcore.images.intensity import Intensity

    if whole:
        raster.LARGE = np.inf
    images = as_images([path], max_pixels=size[0] * size[1])
    before, start = reset_peak(), time.process_time()
    if what == "reduced":
        images.pixels(0, Framing((size[0] // 8, size[1] // 8)))
    elif what == "cut":
        top, left = size[0] // 2, size[1] // 2
        images.pixels(0, Framing((TILE, TILE), region=(left, top, left + TILE, top + TILE)))
    else:
        pixels = images.sliceable_pixels(0, Framing(size), Intensity())
        for top in range(0, size[0] - TILE + 1, TILE):
            for left in range(0, size[1] - TILE + 1, TILE):
                pixels[top : top + TILE, left : left + TILE]
    return peak_above(before), time.process_time() - start


def rows(kinds, size, whole):
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, f"large.{kind}"))
            cells = [f"{kind}"]
            with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
                pool.apply(write, (path, kind, size))
                for what in ("reduced", "cut", "tiles"):
                    peak, seconds = pool.apply(read, (path, size, what, whole))
                    cells.append(f"{peak:,.0f} MB, {seconds:.1f} s")
            yield cells


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--size", type=int, nargs=2, default=(12_000, 16_384))
    options.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS)
    options.add_argument("--whole", action="store_true")
    given = options.parse_args()
    table(
        f"Reading {given.size[0]:,} x {given.size[1]:,} pixels in colour",
        ("format", "reduced", "cut", "tiles"),
        rows(given.formats, tuple(given.size), given.whole),
    )
