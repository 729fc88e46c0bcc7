"""What a grid search costs beside its own arithmetic: 24 settings x 3 folds.

Three ways to run the same search over bank, neighbours and score:

* tail: project the features of all images once, then search over ``pipe[2:]``;
* memory: search over the whole pipeline with ``features__memory``, from an empty cache;
* again: the same with the cache that the run before has filled.

"arithmetic" is the tail's search alone. The overhead of a way is its time without that, in
units of one run of the backbone over all images.

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
from skstructcore.features import _extraction
from skstructcore.model_selection import OneClassGroupKFold
from skstructcore.scorers import image_auroc_scorer

GRID = {
    "bank__ratio": [0.005, 0.01, 0.02, 0.03],
    "knn__n_neighbors": [1, 3, 5],
    "structcore__norm": ["l2", "linf"],
}


def search(pipe, X, images):
    grid = GridSearchCV(
        pipe,
        GRID,
        scoring=image_auroc_scorer,
        cv=OneClassGroupKFold(3, shuffle=True, random_state=0),
        refit=False,
        error_score="raise",
    )
    start = time.perf_counter()
    grid.fit(X, images.y, groups=images.groups, bank__groups=images.groups)
    return time.perf_counter() - start, grid.best_score_


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folder", help="laid out as MVTec AD is, with groups.csv")
    options.add_argument("--n-images", type=int, default=100, help="a part, at random")
    options.add_argument("--image-size", type=int, default=128)
    options = options.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # of few training images

    images = load_mvtec_ad(options.folder, check=False)
    chosen = np.random.default_rng(0).permutation(len(images))[: options.n_images]
    images = images[np.sort(chosen)]
    with tempfile.TemporaryDirectory() as cache:
        pipe = make_structcore("efficientnet_lite0", features__image_size=options.image_size)
        whole = make_structcore(
            "efficientnet_lite0",
            features__image_size=options.image_size,
            features__memory=cache,
        )
        np.asarray(pipe[:2].fit_transform(images[:4]))  # what is compiled and loaded once
        pipe.fit(images[:4].paths)

        start = time.perf_counter()
        X = np.asarray(pipe[:2].fit_transform(images))
        extraction = time.perf_counter() - start
        arithmetic, best = search(pipe[2:], X, images)
        _extraction._networks.clear()
        memory, best_memory = search(whole, images, images)
        again, _ = search(whole, images, images)
    assert np.isclose(best, best_memory), "all ways must find the same"

    rows = [
        [name, f"{seconds:.1f}", f"{(seconds - arithmetic) / extraction:.2f}"]
        for name, seconds in (
            ("one extraction", extraction + arithmetic),
            ("memory, empty", memory),
            ("memory, filled", again),
        )
    ]
    rows[0][0] = "tail on features computed once"
    print(
        f"{len(images)} images, {X.shape[1]} x {X.shape[2]} patches; one extraction "
        f"{extraction:.1f} s; arithmetic of 24 settings x 3 folds {arithmetic:.1f} s"
    )
    table("Cost of the whole search", ["way", "s", "overhead, in extractions"], rows)


if __name__ == "__main__":
    main()
