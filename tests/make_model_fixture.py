"""Write the model that later releases must read: run once for a release.

    PYTHONPATH=. python tests/make_model_fixture.py

It is fitted on made-up patches, so that no network and no image decoder has a part in its scores.
"""

import json
import warnings
from pathlib import Path

import numpy as np
from sklearn.pipeline import make_pipeline

import skstructcore
from skstructcore import CoresetBank, RandomProjection, RoutedKNNScorer, StructCoreScorer

FOLDER = Path(__file__).parent / "data" / "models"


def patches(seed, n=40):
    """Patch features (n, 6, 6, 12) that every machine makes alike: small integers, scaled."""
    values = np.random.RandomState(seed).randint(-300, 300, (n, 6, 6, 12)) / 256
    return values.astype(np.float32)


def main():
    for kind, fit_params in (
        ("plain", {}),
        ("routed", {"coresetbank__categories": ["a"] * 20 + ["b"] * 20}),
    ):
        pipe = make_pipeline(
            RandomProjection(6, random_state=0),
            CoresetBank(0.05, random_state=0),
            RoutedKNNScorer(routing="auto"),
            StructCoreScorer(quantile=0.9),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pipe.fit(patches(0), **fit_params)
        path = FOLDER / f"{skstructcore.__version__}_{kind}.structcore"
        path.parent.mkdir(parents=True, exist_ok=True)
        skstructcore.save(pipe, path)
        expected = {
            "scores": pipe.score_samples(patches(1)).tolist(),
            "predictions": pipe.predict(patches(1)).tolist(),
            "info": skstructcore.info(path),
        }
        path.with_suffix(".json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
