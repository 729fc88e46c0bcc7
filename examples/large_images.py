"""
Twelve megapixels in bounded memory
===================================

A defect of 48 pixels on images of 4000 × 3000 pixels: lost when the image is scaled to 256 × 256,
found when it is cut into tiles at half of its resolution.
"""

# %%
# Twelve photographs of a brick surface as files (the one that scikit-image brings along, mirrored
# at its borders, at random places), and one with a small painted defect.

import tempfile
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from skimage import data
from skstructcore import ConvFeatures, make_structcore, regions
from skstructcore.datasets import paint_defect

warnings.simplefilter("ignore", UserWarning)  # of few training images, and of the stream
HEIGHT, WIDTH = 3000, 4000
place = np.s_[1800:2056, 2700:2956]  # where the defect is painted


def photograph(rng):
    texture = np.kron(data.brick(), np.ones((2, 2), np.uint8))
    offset = rng.integers(0, 1024, size=2)
    ends = np.array([HEIGHT, WIDTH]) + offset
    padded = np.pad(texture, [(0, end - 1024) for end in ends], mode="symmetric")
    image = padded[offset[0] : ends[0], offset[1] : ends[1]] * rng.uniform(0.95, 1.05)
    return np.clip(image + rng.normal(scale=2, size=image.shape), 0, 255).astype(np.uint8)


rng = np.random.default_rng(0)
folder = tempfile.TemporaryDirectory()
train = [f"{folder.name}/good{i:02}.jpg" for i in range(12)]
for path in train:
    Image.fromarray(photograph(rng)).save(path, quality=95)
bad, image = f"{folder.name}/bad.jpg", photograph(rng)
image[place], mask = paint_defect(image[place], "spot", random_state=1, size=48)
Image.fromarray(image).save(bad, quality=95)
row, column = (np.nonzero(mask)[axis].mean() + (1800, 2700)[axis] for axis in (0, 1))

# %%
# With more training images than these their patches would be streamed (`bank__max_memory`), so that
# memory does not grow with them.

figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
small, extent = Image.fromarray(image).resize((800, 600)), (0, WIDTH, HEIGHT, 0)
for ax, (name, settings) in zip(
    axes,
    {
        "scaled to 256 × 256": {},
        "2048 × 1536, in tiles": {
            "image_size": (1536, 2048),
            "tile_size": 512,
            "tile_overlap": 64,
        },
    }.items(),
    strict=True,
):
    start = time.perf_counter()
    pipe = make_structcore(
        ConvFeatures(**settings),
        projection__n_components=128,
        bank__ratio=2000,
        bank__max_memory=2**29,
        structcore__false_alarm_rate=0.1,
    ).fit(train)
    maps = pipe[:-1].transform([bad])
    found, p_value = regions(pipe, maps), pipe[-1].describe(maps)["p_value"][0]
    print(f"{name}: {time.perf_counter() - start:.0f} s, {len(found)} regions, p = {p_value:.2f}")
    ax.imshow(small, cmap="gray", extent=extent)
    ax.imshow(maps.values[0], cmap="inferno", alpha=0.5, extent=extent)
    for polygon in found["polygon"]:
        ax.fill(*polygon.T, fill=False, edgecolor="cyan", linewidth=1)
    ax.plot(column, row, "o", ms=16, mfc="none", mec="white")
    ax.set_title(name, loc="left", fontsize=10)
    ax.set_axis_off()
plt.show()
folder.cleanup()
