"""A search of scikit-learn over the whole pipeline: cost, label codings, and the refit."""

import numpy as np
import pytest
from joblib import Parallel, delayed
from networks import LoggedBlocks
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skstructcore import ConvFeatures, make_structcore
from skstructcore.datasets import ImageSet, paint_defect
from skstructcore.features import _extraction
from skstructcore.model_selection import OneClassGroupKFold
from skstructcore.model_selection.scorers import image_auroc_scorer

# 4 x 3 x 2 = 24 candidates.
GRID = {
    "bank__ratio": [0.05, 0.1, 0.15, 0.2],
    "knn__n_neighbors": [1, 2, 3],
    "structcore__norm": ["l2", "linf"],
}


@pytest.fixture(scope="module")
def images():
    """Six groups of three good images and one with a defect."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(90, 130, (24, 40, 40), dtype=np.uint8)
    y = ["good", "good", "good", "hole"] * 6
    pictures = [
        paint_defect(picture, "spot", i, severity=3)[0] if kind == "hole" else picture
        for i, (picture, kind) in enumerate(zip(pictures, y, strict=True))
    ]
    return ImageSet(pictures, y, groups=np.repeat(list("abcdef"), 4))


@pytest.fixture
def pipe(tmp_path):
    features = ConvFeatures(
        LoggedBlocks, layers=("stage1", "stage2"), image_size=16, memory=tmp_path / "cache"
    )
    return make_structcore(features, projection__n_components=4)


def search_of(pipe, grid, **params):
    return GridSearchCV(
        pipe,
        grid,
        scoring=image_auroc_scorer,
        cv=OneClassGroupKFold(3),
        error_score="raise",
        **params,
    )


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_24_candidates_and_3_folds_run_the_network_once_an_image(pipe, images, network_log, n_jobs):
    if n_jobs == 2:
        # So that two processes do not both compute what neither has found in the cache.
        np.asarray(clone(pipe["features"]).fit_transform(images))
    search = search_of(pipe, GRID, n_jobs=n_jobs)
    search.fit(images, images.y, groups=images.groups, bank__groups=images.groups)
    assert len(search.cv_results_["params"]) == 24 and search.n_splits_ == 3
    assert network_log("image") == 24 + 1  # one for the shape of the features


def n_networks_for_a_fit(pipe, images):
    _extraction._networks.clear()  # the process may have worked for other tests
    pipe.fit(images).score_samples(images)
    return len(_extraction._networks)


def test_processes_that_find_all_features_in_the_cache_load_no_network(images, tmp_path):
    pipe = make_structcore(
        "efficientnet_lite0",
        features__image_size=64,
        features__memory=tmp_path,
        bank__ratio=0.1,
    )
    assert n_networks_for_a_fit(pipe, images) == 1
    jobs = [delayed(n_networks_for_a_fit)(clone(pipe), images)] * 2
    assert Parallel(n_jobs=2)(jobs) == [0, 0]


def test_the_tail_on_projected_features_finds_what_the_whole_pipeline_finds(
    pipe, images, network_log
):
    grid = {"bank__ratio": [0.05, 0.2], "knn__n_neighbors": [1, 3]}
    fit_params = dict(groups=images.groups, bank__groups=images.groups)
    whole = search_of(pipe, grid).fit(images, images.y, **fit_params)
    n_images = network_log("image")
    features = np.asarray(pipe[:2].fit_transform(images))
    tail = search_of(pipe[2:], grid, n_jobs=2).fit(features, images.y, **fit_params)
    np.testing.assert_allclose(
        tail.cv_results_["mean_test_score"], whole.cv_results_["mean_test_score"], rtol=1e-6
    )
    assert network_log("image") == n_images


CODINGS = {
    "strings": lambda bad: np.where(bad, "hole", "good"),
    "0 and 1": lambda bad: bad.astype(int),
    "booleans": lambda bad: bad,
    "+1 and -1": lambda bad: np.where(bad, -1, 1),
}


@pytest.mark.parametrize("part", ["whole", "tail"])
@pytest.mark.parametrize("coding", CODINGS.values(), ids=CODINGS)
def test_refit_trains_on_the_good_images_only(pipe, images, coding, part):
    good = images[images.y == "good"]
    X, X_good = images, good
    if part == "tail":
        X, X_good = (np.asarray(pipe[:2].fit_transform(some)) for some in (images, good))
        pipe = pipe[2:]
    search = search_of(pipe, {"bank__ratio": [0.1, 0.2]})
    y = coding(images.y != "good")
    search.fit(X, y, groups=images.groups, bank__groups=images.groups)

    expected = clone(pipe).set_params(**search.best_params_)
    expected.fit(X_good, bank__groups=good.groups)
    best = search.best_estimator_
    assert best["bank"].n_images_ == 18
    np.testing.assert_array_equal(best["bank"].bank_.values, expected["bank"].bank_.values)
    np.testing.assert_array_equal(best["bank"].bank_.groups, expected["bank"].bank_.groups)
    np.testing.assert_array_equal(search.score_samples(X), expected.score_samples(X))


def test_without_y_the_labels_of_the_image_set_keep_defects_out(pipe, images):
    pipe.fit(images, bank__groups=images.groups)
    assert pipe["bank"].n_images_ == 18
    pipe.fit(images.paths)
    assert pipe["bank"].n_images_ == 24
