"""Small defects on large images: seen scaled down, whole, and in tiles.

Images of one texture (a photograph of scikit-image, mirrored at its borders, shifted, flipped,
brighter or darker, with sensor noise) as a large camera sees it. Training and test images show the
same texture: what is compared are ways of seeing it, not how well they generalise. Each defective
image has one painted defect of a given longest extent in pixels of the image. A defect is *found*
if a region of the map, above what 1 in (training images + 1) good images reach anywhere, overlaps
it; the image is *rejected* if `predict` says so.

    python benchmarks/bench_tiling.py --side 2048
    python benchmarks/bench_tiling.py --side 4096 --textures brick --n-train 10 --n-good 10
"""

import argparse
import time
import warnings

import numpy as np
from _measure import measure, table
from skimage import data as skdata

from skstructcore import ConvFeatures, make_structcore, regions
from skstructcore.datasets import paint_defect

SIZES = (8, 16, 32, 64)
KINDS = ("spot", "scratch", "missing")
WINDOW = 256  # the part of an image that a defect is painted into


def large_image(texture, side, rng):
    """One image of the texture; nothing repeats at the same place in two images."""
    offset = rng.integers(0, 2 * np.array(texture.shape))
    flipped = texture[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    before, after = offset, side + np.array(texture.shape)
    padded = np.pad(flipped, list(zip(before, after, strict=True)), mode="symmetric")
    image = padded[:side, :side].astype(np.float32) * rng.uniform(0.95, 1.05)
    image += rng.normal(scale=2, size=image.shape).astype(np.float32)
    return np.clip(image, 0, 255).astype(np.uint8)


def with_defect(image, kind, size, rng):
    """A copy with one defect, and its mask."""
    row, col = rng.integers(0, image.shape[0] - WINDOW, size=2)
    place = np.s_[row : row + WINDOW, col : col + WINDOW]
    painted, mask = image.copy(), np.zeros(image.shape, dtype=bool)
    painted[place], mask[place] = paint_defect(image[place], kind, rng.integers(2**31), size=size)
    return painted, mask


def settings(side):
    """Name -> parameters of ConvFeatures."""
    tiles = {"tile_size": 512, "tile_overlap": 64}
    ways = {
        "scaled to 256": {"image_size": 256},
        "scaled to 1024": {"image_size": 1024},
        f"whole, {side}": {"image_size": side},
        f"{side}, tiles of 256": {"image_size": side, "tile_size": 256},
        f"{side}, tiles of 512 + 64": {"image_size": side, **tiles},
    }
    if side > 2048:  # whole images take gigabytes
        del ways[f"whole, {side}"], ways[f"{side}, tiles of 256"]
        ways["scaled to 2048, tiles of 512 + 64"] = {"image_size": 2048, **tiles}
    return ways


def score(pipe, images, level):
    """Rejected or not, and the boxes of regions, image by image: maps of few are in memory."""
    for image in images:
        maps = pipe[:-1].transform([image])
        rejected = pipe[-1].predict(maps)[0] < 0
        yield rejected, regions(pipe, maps, false_alarm_rate=level)


def overlaps(found, mask):
    rows, cols = np.nonzero(mask)
    return any(
        ((rows >= r.top) & (rows < r.bottom) & (cols >= r.left) & (cols < r.right)).any()
        for r in found.itertuples()
    )


def study(params, textures, options):
    """Found and rejected by size, false alarms, seconds and megabytes of one image."""
    found = {size: [] for size in SIZES}
    rejected = {size: [] for size in SIZES}
    with_region, false_alarms, spent = [], [], []
    level = 1 / (options.n_train + 1) + 1e-9
    for name in textures:
        rng = np.random.default_rng(0)
        photograph = getattr(skdata, name)()
        train = [large_image(photograph, options.side, rng) for _ in range(options.n_train)]
        pipe = make_structcore(
            ConvFeatures(**params),
            projection__n_components=64,
            bank__ratio=options.n_patches,
            structcore__false_alarm_rate=level,
            structcore__threshold="guaranteed",
        ).fit(train)
        good = [large_image(photograph, options.side, rng) for _ in range(options.n_good)]
        for is_rejected, table_ in score(pipe, good, level):
            false_alarms.append(is_rejected)
            with_region.append(len(table_) > 0)
        for size in SIZES:
            for i in range(options.n_defects):
                image = large_image(photograph, options.side, rng)
                image, mask = with_defect(image, KINDS[i % len(KINDS)], size, rng)
                ((is_rejected, table_),) = score(pipe, [image], level)
                rejected[size].append(is_rejected)
                found[size].append(overlaps(table_, mask))
        spent.append(measure(lambda: pipe.predict(train[:1]), 3))  # noqa: B023
    return found, rejected, with_region, false_alarms, spent[-1]


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--side", type=int, default=2048)
    options.add_argument("--textures", nargs="+", default=["brick", "gravel"])
    options.add_argument("--n-train", type=int, default=14)
    options.add_argument("--n-good", type=int, default=14)
    options.add_argument("--n-defects", type=int, default=6, help="of each size and texture")
    options.add_argument("--n-patches", type=int, default=2000, help="size of the bank")
    options = options.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # of few training images

    def rows():
        for name, params in settings(options.side).items():
            start = time.perf_counter()
            found, rejected, with_region, alarms, spent = study(params, options.textures, options)
            yield [
                name,
                *(f"{np.mean(found[s]):.2f} / {np.mean(rejected[s]):.2f}" for s in SIZES),
                f"{np.mean(with_region):.2f} / {np.mean(alarms):.2f}",
                f"{spent.seconds:.2f}",
                f"{spent.cpu_seconds:.2f}",
                f"{spent.peak:.0f}",
                f"{time.perf_counter() - start:.0f}",
            ]

    image = [large_image(skdata.brick(), options.side, np.random.default_rng(0))]

    def features():
        whole = {f"whole, {options.side}": {"image_size": options.side}}
        for name, params in (settings(options.side) | whole).items():
            lazy = ConvFeatures(**params).fit_transform(image)
            np.asarray(lazy)  # what is loaded once
            spent = measure(lambda: sum(len(part) for part in lazy), 3)  # noqa: B023
            row = spent.seconds, spent.cpu_seconds, spent.peak
            yield [name, " x ".join(map(str, lazy.shape[1:])), *(f"{value:.2f}" for value in row)]

    table(
        "Features of one image alone",
        ["seen", "grid", "s an image", "processor s", "peak MB"],
        features(),
    )
    n_each = options.n_defects * len(options.textures)
    table(
        f"{options.side} x {options.side} pixels, {', '.join(options.textures)}: "
        f"{n_each} defects of each size; found / image rejected",
        [
            "seen",
            *(f"{size} px" for size in SIZES),
            f"good images ({options.n_good * len(options.textures)})",
            "s an image",
            "processor s",
            "peak MB",
            "run s",
        ],
        rows(),
    )


if __name__ == "__main__":
    main()
