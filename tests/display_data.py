"""What tests of displays draw: images, a fitted pipeline, a scorer of random maps."""

from functools import cache

import numpy as np

from skstructcore import StructCoreScorer, make_structcore
from skstructcore.datasets import ImageSet


@cache
def labelled_images():
    """Twelve good images, and four with a bright square and its mask."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(90, 110, (16, 48, 48, 3), dtype=np.uint8)
    masks = [None] * 12
    for i in range(12, 16):
        pixels[i, 8:24, 8:24] = 250
        mask = np.zeros((48, 48), bool)
        mask[8:24, 8:24] = True
        masks.append(mask)
    return ImageSet(list(pixels), ["good"] * 12 + ["spot"] * 4, masks=masks)


@cache
def fitted_pipe():
    pipe = make_structcore(
        "efficientnet_lite0",
        features__image_size=48,
        bank__ratio=0.1,
        structcore__false_alarm_rate=0.2,
    )
    return pipe.fit(labelled_images()[:8])


@cache
def fitted_scorer():
    maps = np.random.default_rng(0).random((19, 4, 4))
    scorer = StructCoreScorer(false_alarm_rate=0.1, descriptors=["max"], threshold="guaranteed")
    return scorer.fit(maps)


def texts(ax):
    return [text.get_text() for text in ax.texts]


def labels(ax):
    return ax.get_legend_handles_labels()[1]
