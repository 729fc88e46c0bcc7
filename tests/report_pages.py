"""A small report that several test modules look at: eight good images, two kinds of defects."""

import numpy as np
from PIL import Image

from skstructcore import make_structcore
from skstructcore.datasets import ImageSet
from skstructcore.report import report

KINDS = ["good"] * 8 + ["dent"] * 3 + ["stain"] * 2


def write_images(folder, seed=0):
    """Files of `KINDS`; a dent is a bright square, a stain a grey one."""
    rng = np.random.default_rng(seed)
    paths, masks = [], []
    for i, kind in enumerate(KINDS):
        pixels = rng.integers(90, 110, (48, 64, 3), dtype=np.uint8)
        mask = np.zeros((48, 64), bool)
        if kind != "good":
            mask[8:24, 8 : 24 + i] = True
            pixels[mask] = 250 if kind == "dent" else 60
        paths.append(str(folder / f"{kind}_{i:02d}.png"))
        Image.fromarray(pixels).save(paths[-1])
        masks.append(mask if mask.any() else None)
    return ImageSet(paths, KINDS, masks=masks)


def fit_pipe(parts=None, **settings):
    train = np.random.default_rng(9).integers(90, 110, (19, 48, 64, 3), dtype=np.uint8)
    pipe = make_structcore(
        "efficientnet_lite0",
        features__image_size=48,
        bank__ratio=0.1,
        structcore__false_alarm_rate=0.1,
        **settings,
    )
    return pipe.fit(train, bank__parts=parts)


def write_report(folder, pipe=None, images=None, **options):
    images = write_images(folder) if images is None else images
    return report(fit_pipe() if pipe is None else pipe, images, folder / "report.html", **options)
