"""
A part that varies by design
============================

A printed number raises alarms until it is ignored.

Tiles of a photograph of bricks carry a number that differs from tile to tile. The same pipeline is
fitted with and without a polygon around it. Both find a defect beside the number, but only one
leaves the number alone.
"""

# %%
# Forty good tiles with a number each. The test tiles were printed with another font colour or with
# other characters, and the last one has a defect.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skstructcore import ConvFeatures, make_structcore, regions
from skstructcore.datasets import make_photographs, paint_defect

warnings.simplefilter("ignore", UserWarning)  # of few training images


def print_number(tile, number, fill="white"):
    image = Image.fromarray(tile)
    ImageDraw.Draw(image).text((12, 10), number, fill=fill, font=ImageFont.load_default(24))
    return np.asarray(image)


tiles = make_photographs("brick", n_train=40, n_test_good=4, n_test_defect=0, random_state=0)
train = [print_number(tile, f"{1100 + i}") for i, tile in enumerate(tiles.train)]
prints = [("1141", "white"), ("SN7K", "black"), ("#@&%", "white"), ("1127", "white")]
test = [print_number(tile, *marks) for marks, tile in zip(prints, tiles.test, strict=True)]
test[3], _ = paint_defect(test[3], "spot", random_state=3, size=24)

# %%
# The polygon has a margin, because patches beside the number see a part of it.

number = [(0, 0), (100, 0), (100, 52), (0, 52)]  # x and y
figure, axes = plt.subplots(2, 4, figsize=(9, 4.8), layout="constrained")
for row, (name, ignore) in zip(
    axes, {"nothing ignored": None, "number ignored": [number]}.items(), strict=True
):
    pipe = make_structcore(
        ConvFeatures(image_size=256, ignore=ignore),
        projection__n_components=128,
        structcore__false_alarm_rate=0.1,
    ).fit(train, bank__groups=tiles.train.groups)
    maps = pipe[:-1].transform(test)
    parts, found, heat = pipe[-1].describe(maps), regions(pipe, maps), pipe.transform(test)
    for i, (ax, image) in enumerate(zip(row, test, strict=True)):
        extent = (0, image.shape[1], image.shape[0], 0)
        ax.imshow(image, extent=extent)
        ax.imshow(heat[i], cmap="inferno", alpha=0.45, extent=extent, vmin=0, vmax=1.2)
        for polygon in found["polygon"][found["image"] == f"image {i}"]:
            ax.fill(*polygon.T, fill=False, edgecolor="cyan")
        decision = "rejected" if parts["is_anomalous"][i] else "accepted"
        ax.set_title(f"{decision}, p = {parts['p_value'][i]:.2f}", fontsize=9)
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name)
plt.show()
