"""What tests of displays draw: images, a fitted pipeline, a scorer of random maps."""

import numpy as np
import pytest

from skstructcore import StructCoreScorer, make_structcore
from skstructcore.datasets import ImageSet


@pytest.fixture(scope="session")
def images():
    """Twelve good images, and four with a bright square and its mask."""
    pixels = np.random.default_rng(0).integers(90, 110, (16, 48, 48, 3), dtype=np.uint8)
    pixels[12:, 8:24, 8:24] = 250
    mask = np.zeros((48, 48), bool)
    mask[8:24, 8:24] = True
    return ImageSet(list(pixels), ["good"] * 12 + ["spot"] * 4, masks=[None] * 12 + [mask] * 4)


@pytest.fixture(scope="session")
def pipe(images):
    options = {"features__image_size": 48, "bank__ratio": 0.1}
    pipe = make_structcore("efficientnet_lite0", structcore__false_alarm_rate=0.2, **options)
    return pipe.fit(images[:8])


@pytest.fixture(scope="session")
def scorer():
    maps = np.random.default_rng(0).random((19, 4, 4))
    scorer = StructCoreScorer(false_alarm_rate=0.1, descriptors=["max"], threshold="guaranteed")
    return scorer.fit(maps)


@pytest.fixture
def texts():
    return lambda ax: [text.get_text() for text in ax.texts]


@pytest.fixture
def labels():
    return lambda ax: ax.get_legend_handles_labels()[1]
