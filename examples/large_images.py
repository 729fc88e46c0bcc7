"""
Twelve megapixels in bounded memory
===================================

``python examples/large_images.py out.jpg`` looks for a defect of 48 pixels on 12 megapixels.

Makes photographs of a brick surface of 4000 x 3000 pixels (from the one that scikit-image brings
along), fits a pipeline on them as files, and looks for a small painted defect: once with the image
scaled to 256 x 256, as is the default, and once at half of its resolution in tiles. With more
training images than these their patches would be streamed (`bank__max_memory`), so that memory
does not grow with them. Prints what is found, the time and the peak memory, and draws both.
"""

import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from skstructcore import ConvFeatures, make_structcore, regions
from skstructcore.datasets import paint_defect

HEIGHT, WIDTH = 3000, 4000
PLACE = np.s_[1800:2056, 2700:2956]  # where the defect is painted
WAYS = {
    "scaled to 256 x 256": {},
    "2048 x 1536, in tiles": {"image_size": (1536, 2048), "tile_size": 512, "tile_overlap": 64},
}


def photograph(rng):
    """The brick surface, mirrored at its borders, at a random place and brightness."""
    texture = np.kron(data.brick(), np.ones((2, 2), np.uint8))
    offset = rng.integers(0, 1024, size=2)
    ends = np.array([HEIGHT, WIDTH]) + offset
    padded = np.pad(texture, [(0, end - 1024) for end in ends], mode="symmetric")
    image = padded[offset[0] : ends[0], offset[1] : ends[1]] * rng.uniform(0.95, 1.05)
    return np.clip(image + rng.normal(scale=2, size=image.shape), 0, 255).astype(np.uint8)


def main(picture):
    warnings.simplefilter("ignore", UserWarning)  # of few training images, and of the stream
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        train = [str(Path(folder) / f"good{i:02}.jpg") for i in range(12)]
        for path in train:
            Image.fromarray(photograph(rng)).save(path, quality=95)
        bad, defect = str(Path(folder) / "bad.jpg"), photograph(rng)
        defect[PLACE], mask = paint_defect(defect[PLACE], "spot", random_state=1, size=48)
        Image.fromarray(defect).save(bad, quality=95)
        rows, cols = np.nonzero(mask)
        print(f"defect: row {rows.mean() + 1800:.0f}, column {cols.mean() + 2700:.0f}")
        drawings = {}
        for name, params in WAYS.items():
            start = time.perf_counter()
            pipe = make_structcore(
                ConvFeatures(**params),
                projection__n_components=128,
                bank__n_patches=2000,
                bank__max_memory=2**29,
                structcore__quantile=0.9,
            ).fit(train)
            fitted = time.perf_counter()
            maps = pipe[:-1].transform([bad])
            found = regions(pipe, maps)
            parts = pipe[-1].describe(maps).iloc[0]
            print(f"\n{name}: fit {fitted - start:.0f} s, one image ", end="")
            print(f"{time.perf_counter() - fitted:.1f} s; p-value {parts['p_value']:.3f}")
            print(found[["region", "area", "peak", "peak_row", "peak_col", "p_value"]].to_string())
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"peak memory of the process so far: {peak:.0f} MB")
            drawings[name] = maps.values[0], found
        if picture is not None:
            draw(defect, drawings, (rows.mean() + 1800, cols.mean() + 2700), picture)


def draw(image, drawings, place, picture):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    small, extent = Image.fromarray(image).resize((800, 600)), (0, WIDTH, HEIGHT, 0)
    for axis, (name, (heat, found)) in zip(figure.subplots(1, 2), drawings.items(), strict=True):
        axis.imshow(small, cmap="gray", extent=extent)
        axis.imshow(heat, cmap="inferno", alpha=0.5, extent=extent)
        for polygon in found["polygon"]:
            axis.fill(*polygon.T, fill=False, edgecolor="cyan", linewidth=1)
        axis.plot(place[1], place[0], "o", ms=16, mfc="none", mec="white")
        axis.set_title(f"{name}: {len(found)} region(s)", loc="left", fontsize=10)
        axis.set_axis_off()
    figure.savefig(picture, dpi=90)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
