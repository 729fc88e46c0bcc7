"""What a grid search costs beside its own arithmetic: 24 settings x 3 folds.

Two ways to run the same search over bank, neighbours and score:

* tail: project the features of all images once, then search over ``pipe[2:]``;
* memory: search over the whole pipeline with ``features__memory``. The network runs once an
  image; each setting and fold then reads and projects its images again.

The arithmetic is the tail's search. What the features cost beside it is measured by itself, as
the difference of two long searches would drown in their variation.

    python benchmarks/bench_sweep.py magnetic_tile/ --n-images 100
"""

import argparse
import tempfile
import time
import warnings

import numpy as np
from _measure import table
from sklearn.model_selection import GridSearchCV

from skstructcore import make_structcore
from skstructcore.datasets import load_mvtec_ad
from skstructcore.model_selection import OneClassGroupKFold
from skstructcore.model_selection.scorers import image_auroc_scorer

GRID = {
    "bank__ratio": [0.005, 0.01, 0.02, 0.03],
    "knn__n_neighbors": [1, 3, 5],
    "structcore__norm": ["l2", "linf"],
}


CV = OneClassGroupKFold(3, shuffle=True, random_state=0)


def search(pipe, X, images):
    GridSearchCV(
        pipe, GRID, scoring=image_auroc_scorer, cv=CV, refit=False, error_score="raise"
    ).fit(X, images.y, groups=images.groups, bank__groups=images.groups)


def features_of_one_setting(pipe, images):
    """What each setting has to do before its own arithmetic: features of all folds."""
    for fold in CV.split(images):
        for part in fold:
            np.asarray(pipe[:2].fit_transform(images[part]))


def seconds(function, *args):
    """Wall-clock and processor seconds; the latter mind other programs less."""
    wall, processor = time.perf_counter(), time.process_time()
    function(*args)
    return np.array([time.perf_counter() - wall, time.process_time() - processor])


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folder", help="laid out as MVTec AD is, with groups.csv")
    options.add_argument("--n-images", type=int, default=100, help="a part, at random")
    options.add_argument("--image-size", type=int, default=256)
    options = options.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # of few training images

    images = load_mvtec_ad(options.folder, check=False)
    chosen = np.random.default_rng(0).permutation(len(images))[: options.n_images]
    images = images[np.sort(chosen)]
    pipe = make_structcore("efficientnet_lite0", features__image_size=options.image_size)
    pipe.fit(images[:4].paths).score_samples(images[:4])  # what is loaded and compiled once
    extraction = seconds(lambda: np.asarray(pipe[:2].fit_transform(images)))
    with tempfile.TemporaryDirectory() as cache:
        pipe.set_params(features__memory=cache)
        X = np.asarray(pipe[:2].fit_transform(images))
        passes = 24 * seconds(features_of_one_setting, pipe, images)
    arithmetic = seconds(search, pipe[2:], X, images)

    rows = [
        ["one extraction", extraction, ""],
        ["arithmetic of the search", arithmetic, ""],
        ["tail, in all", extraction + arithmetic, "1.0"],
        [
            "memory, in all",
            extraction + passes + arithmetic,
            f"{1 + (passes / extraction)[1]:.1f}",
        ],
    ]
    table(
        f"{len(images)} images, {X.shape[1]} x {X.shape[2]} patches, 24 settings x 3 folds",
        ["", "wall s", "processor s", "beside the arithmetic, in extractions"],
        ([name, *(f"{value:.1f}" for value in spent), ratio] for name, spent, ratio in rows),
    )


if __name__ == "__main__":
    main()
