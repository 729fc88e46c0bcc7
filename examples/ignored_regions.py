"""
A part that varies by design
============================

A printed number raises alarms until it is ignored: ``python examples/ignored_regions.py out.jpg``.

Tiles of a photograph that scikit-image brings along carry a number that differs from tile to tile.
The same pipeline is fitted with and without a polygon around it; a defect beside the number is
found by both, but only the first one reports what is printed. Prints the p-values and the number of
regions, and draws the maps.
"""

import sys
import warnings

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from skstructcore import ConvFeatures, make_structcore, regions, to_coco
from skstructcore.datasets import make_photographs, paint_defect

# x and y. With a margin: patches beside the number see a part of it.
NUMBER = [(0, 0), (100, 0), (100, 52), (0, 52)]


def print_number(tile, number, fill="white"):
    image = Image.fromarray(tile)
    ImageDraw.Draw(image).text((12, 10), number, fill=fill, font=ImageFont.load_default(24))
    return np.asarray(image)


def main(picture):
    warnings.simplefilter("ignore", UserWarning)  # of few training images
    tiles = make_photographs("brick", n_train=40, n_test_good=4, n_test_defect=0, random_state=0)
    train = [
        print_number(np.asarray(tile), f"{number:04}")
        for number, tile in zip(range(1100, 1140), tiles.train.paths, strict=True)
    ]
    # Good tiles, but of another printer or with another mark; the last one has a defect.
    prints = [("1141", "white"), ("SN7K", "black"), ("#@&%", "white"), ("1127", "white")]
    test = [
        print_number(np.asarray(tile), *marks)
        for marks, tile in zip(prints, tiles.test.paths, strict=True)
    ]
    test[3], _ = paint_defect(test[3], "spot", random_state=3, size=24)
    drawings = {}
    for name, ignore in (("nothing ignored", None), ("number ignored", [NUMBER])):
        pipe = make_structcore(
            ConvFeatures(image_size=256, ignore=ignore),
            projection__n_components=128,
            structcore__quantile=0.9,
        ).fit(train, bank__groups=tiles.train.groups)
        maps = pipe[:-1].transform(test)
        found = regions(pipe, maps)
        parts = pipe[-1].describe(maps)
        print(f"\n{name}")
        print(parts[["p_value", "is_anomalous", "peak_row", "peak_col"]].round(2).to_string())
        print(f"{len(to_coco(found)['annotations'])} regions")
        drawings[name] = pipe.transform(test), parts, found
    if picture is not None:
        draw(test, drawings, picture)


def draw(images, drawings, picture):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.8), layout="constrained")
    axes = figure.subplots(len(drawings), len(images))
    for row, (name, (pixels, parts, found)) in zip(axes, drawings.items(), strict=True):
        for i, (axis, image) in enumerate(zip(row, images, strict=True)):
            extent = (0, image.shape[1], image.shape[0], 0)
            axis.imshow(image, extent=extent)
            axis.imshow(pixels[i], cmap="inferno", alpha=0.45, extent=extent, vmin=0, vmax=1.2)
            for polygon in found["polygon"][found["image"] == f"image {i}"]:
                axis.fill(*polygon.T, fill=False, edgecolor="cyan")
            verdict = "rejected" if parts["is_anomalous"][i] else "accepted"
            axis.set_title(f"{verdict}, p = {parts['p_value'][i]:.2f}", fontsize=9)
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(name)
    figure.savefig(picture, dpi=80)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
