"""Write the models that later releases must read: run once for a release.

    PYTHONPATH=. python tests/make_model_fixture.py

Two are fitted on made-up patches, so that no network and no image decoder has a part in their
scores; one on made-up images, with the network that comes in a package.
"""

import json
import warnings
from pathlib import Path

import numpy as np
from sklearn.pipeline import make_pipeline

import skstructcore
from skstructcore import (
    CoresetBank,
    RandomProjection,
    RoutedKNNScorer,
    StructCoreScorer,
    make_structcore,
)

FOLDER = Path(__file__).parent / "data" / "models"


def patches(seed, n=40):
    """Patch features (n, 6, 6, 12) that every machine makes alike: small integers, scaled."""
    values = np.random.RandomState(seed).randint(-300, 300, (n, 6, 6, 12)) / 256
    return values.astype(np.float32)


def pictures(seed, n=24):
    """Images (n, 48, 64, 3) that every machine makes alike; every third has a spot if seed > 0."""
    random = np.random.RandomState(seed)
    coarse = random.randint(60, 190, (n, 6, 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
    images = (coarse + random.randint(-20, 21, (n, 48, 64, 3))).astype(np.uint8)
    if seed:
        images[::3, 16:28, 20:36] = 255
    return images


def inputs(path):
    """What a model of this name scores."""
    return pictures(1) if path.stem.endswith("_images") else patches(1)


def fitted(kind):
    if kind == "images":
        settings = {"projection__n_components": 16, "bank__ratio": 0.1}
        pipe = make_structcore(
            "efficientnet_lite0",
            features__image_size=64,
            structcore__false_alarm_rate=0.1,
            **settings,
        )
        return pipe.fit(pictures(0))
    pipe = make_pipeline(
        RandomProjection(6, random_state=0),
        CoresetBank(0.05, random_state=0),
        RoutedKNNScorer(routing="auto"),
        StructCoreScorer(false_alarm_rate=0.1),
    )
    categories = {"coresetbank__categories": ["a"] * 20 + ["b"] * 20} if kind == "routed" else {}
    return pipe.fit(patches(0), **categories)


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for kind in ("plain", "routed", "images"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pipe = fitted(kind)
        path = FOLDER / f"{skstructcore.__version__}_{kind}.structcore"
        skstructcore.save(pipe, path)
        expected = {
            "scores": pipe.score_samples(inputs(path)).tolist(),
            "predictions": pipe.predict(inputs(path)).tolist(),
            "info": skstructcore.info(path),
        }
        path.with_suffix(".json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
