"""Draw the pictures of displays.md from photographs that come with scikit-image.

python docs/draw_displays.py
"""

import tempfile
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.pipeline import make_pipeline

from skstructcore import CoresetBank, RoutedKNNScorer, StructCoreScorer, make_structcore
from skstructcore.cli.demo import write_images
from skstructcore.datasets import make_photographs
from skstructcore.display import (
    AnomalyMapDisplay,
    BankDisplay,
    DescriptorDisplay,
    DriftDisplay,
    OperatingPointDisplay,
    RegionOverlapDisplay,
    RoutingDisplay,
    ScoreHistogramDisplay,
    ScoreShiftDisplay,
)
from skstructcore.evaluation import evaluate

FOLDER = Path(__file__).parent / "displays"


def main():
    warnings.simplefilter("ignore")
    images = make_photographs(
        "gravel", n_train=120, n_test_good=60, n_test_defect=12, random_state=0
    )
    pipe = make_structcore("efficientnet_lite0", structcore__false_alarm_rate=0.1)
    pipe.fit(images.train, bank__groups=images.train.groups)
    evaluation = evaluate(pipe, images.test)
    described, labels = evaluation.scores, images.test.y
    scorer, groups = pipe[-1], images.test.groups
    displays = {
        "anomaly_map": AnomalyMapDisplay.from_evaluation(evaluation, n_cases=2),
        "score_shift": ScoreShiftDisplay.from_predictions(described, scorer, labels),
        "score_histogram": ScoreHistogramDisplay.from_predictions(described, scorer, labels),
        "operating_point": OperatingPointDisplay.from_predictions(
            described, scorer, labels, groups=groups
        ),
        "descriptor": DescriptorDisplay.from_predictions(described, scorer, labels),
        "bank": BankDisplay.from_estimator(pipe),
        "region_overlap": RegionOverlapDisplay.from_estimator(pipe, images.test),
        "drift": drift(),
        "routing": routing(),
    }
    front()
    FOLDER.mkdir(exist_ok=True)
    for name, display in displays.items():
        save(display.figure_, FOLDER / name, is_photograph=name == "anomaly_map")


def front():
    """Three new images with a defect, of those that `skstructcore demo --images` writes."""
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder) / "line3")
        pipe = make_structcore("efficientnet_lite0", structcore__false_alarm_rate=0.05)
        pipe.fit(Path(folder) / "line3" / "good")
        new = [Path(folder) / "line3" / "new" / f"{i:02}.png" for i in (2, 9, 6)]
        display = AnomalyMapDisplay.from_estimator(pipe, new)
    save(display.figure_, FOLDER.parent / "front", is_photograph=True)


def drift():
    """Rows of numbers in place of images, which shift after the hundredth."""
    rows = np.random.default_rng(0).normal(size=(300, 4))
    pipe = make_pipeline(
        CoresetBank(0.1, random_state=0), RoutedKNNScorer(), StructCoreScorer(descriptors=["max"])
    ).fit(rows[:150])
    return DriftDisplay.from_estimator(pipe, np.r_[rows[150:250], rows[250:] + 1.5])


def routing():
    """Three photographs as products, and a fourth that the pipeline does not know."""
    names = ("brick", "grass", "gravel", "coins")
    products = {
        name: make_photographs(name, n_train=40, n_test_good=15, n_test_defect=1, random_state=0)
        for name in names
    }
    known = {name: products[name].train for name in names[:3]}
    pipe = make_structcore("efficientnet_lite0", structcore__false_alarm_rate=0.1)
    pipe.fit(
        [tile for images in known.values() for tile in images],
        bank__categories=[name for name, images in known.items() for _ in images],
    )
    test = {name: images.test[images.test.y == "good"] for name, images in products.items()}
    return RoutingDisplay.from_estimator(
        pipe,
        [tile for images in test.values() for tile in images],
        [name for name, images in test.items() for _ in images],
    )


def save(figure, path, is_photograph):
    buffer = BytesIO()
    figure.savefig(buffer, dpi=75)
    image = Image.open(buffer).convert("RGB")
    if is_photograph:
        image.save(path.with_suffix(".jpg"), quality=85)
    else:  # few colours are enough, and a quarter of the size
        image.quantize(160).save(path.with_suffix(".png"), optimize=True)


if __name__ == "__main__":
    main()
