import shutil
import subprocess
import sys

import joblib
import numpy as np
import pytest
from PIL import Image
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skstructcore import (
    ConvFeatures,
    DinoFeatures,
    StructCoreScorer,
    describe,
    estimate_memory,
    make_structcore,
    save,
)
from skstructcore.datasets import ImageSet, make_photographs
from skstructcore.evaluation import evaluate
from skstructcore.inference import score_images
from skstructcore.lifecycle import operating_points
from skstructcore.model_selection.scorers import image_auroc_scorer
from skstructcore.report import report


@pytest.fixture(scope="module")
def photographs():
    return make_photographs(
        "brick",
        tile_size=64,
        n_train=16,
        n_test_good=6,
        n_test_defect=1,
        severity=3,
        random_state=0,
    )


@pytest.fixture
def pipe():
    return make_structcore("efficientnet_lite0", features__image_size=64, bank__ratio=0.1)


@pytest.fixture(scope="module")
def fitted(photographs):
    pipe = make_structcore("efficientnet_lite0", features__image_size=64, bank__ratio=0.1)
    return pipe.fit(photographs.train.paths)


def test_the_memory_of_parameters_that_are_none_is_not_estimated():
    pipe = make_structcore("efficientnet_lite0", bank__ratio=())
    with pytest.raises(ValueError, match="'ratio' parameter of CoresetBank"):
        estimate_memory(pipe, np.zeros((3, 64, 64), np.uint8))


@pytest.mark.parametrize("features", [None, 3, ConvFeatures])
def test_features_that_are_none_are_refused(features):
    with pytest.raises(TypeError, match="features must be a name or a feature estimator, got"):
        make_structcore(features)


def test_defects_score_lower_than_good_images(fitted, photographs):
    test = photographs.test
    scores = fitted.score_samples(test.paths)
    assert scores.shape == (12,) and scores.dtype == np.float64
    assert scores[test.y == "good"].mean() > scores[test.y != "good"].mean()


def test_signs_follow_scikit_learns_outlier_detectors(fitted, photographs):
    images = photographs.test.paths
    decision = fitted.decision_function(images)
    np.testing.assert_allclose(decision, fitted.score_samples(images) - fitted[-1].offset_)
    np.testing.assert_array_equal(fitted.predict(images), np.where(decision < 0, -1, 1))


def test_describe_agrees_with_score_samples(fitted, photographs):
    images = photographs.test.paths
    parts = fitted[-1].describe(fitted[:-1].transform(images))
    np.testing.assert_allclose(parts["anomaly_score"], -fitted.score_samples(images), rtol=1e-6)
    np.testing.assert_array_equal(parts["is_anomalous"], fitted.predict(images) == -1)


def test_pixel_maps_have_the_size_that_the_backbone_saw(fitted, photographs):
    maps = fitted.transform(photographs.test.paths)
    assert maps.shape == (12, 64, 64) and maps.dtype == np.float32
    assert np.isfinite(maps).all()


def test_folder_list_and_arrays_give_the_same_scores(fitted, photographs, tmp_path):
    from PIL import Image

    tiles = photographs.test.paths[:3]
    for position, tile in enumerate(tiles):
        Image.fromarray(tile).save(tmp_path / f"{position}.png")
    expected = fitted.score_samples(np.stack(tiles))
    paths = sorted(tmp_path.iterdir())
    for images in (tmp_path, paths, tiles, [Image.fromarray(tile) for tile in tiles]):
        np.testing.assert_allclose(fitted.score_samples(images), expected, rtol=1e-6)


@pytest.mark.slow
def test_saved_pipeline_gives_bit_identical_scores_in_a_new_process(fitted, photographs, tmp_path):
    model, images, scores = (tmp_path / name for name in ("m.joblib", "i.npy", "s.npy"))
    joblib.dump(fitted, model)
    np.save(images, np.stack(photographs.test.paths))
    code = (
        "import sys, joblib, numpy as np; model, images, scores = sys.argv[1:]; "
        "np.save(scores, joblib.load(model).score_samples(np.load(images)))"
    )
    subprocess.run([sys.executable, "-c", code, model, images, scores], check=True)
    np.testing.assert_array_equal(
        np.load(scores), fitted.score_samples(np.stack(photographs.test.paths))
    )


def test_saved_pipeline_holds_no_backbone_weights(fitted, tmp_path):
    joblib.dump(fitted, tmp_path / "model.joblib")
    # The bank has 102 patches of 128 float32; the backbone's weights alone would be 17 MB.
    assert (tmp_path / "model.joblib").stat().st_size < 300_000


def test_groups_reach_the_bank(pipe, photographs):
    train = photographs.train
    pipe.fit(train.paths, bank__groups=train.groups)
    bank = pipe["bank"].bank_
    codes = np.unique(train.groups, return_inverse=True)[1]
    np.testing.assert_array_equal(bank.groups, codes[bank.image_index])


def test_grid_search_over_three_steps_runs(pipe, photographs):
    train, test = (np.flatnonzero(photographs.splits == name) for name in ("train", "test"))
    grid = {
        "bank__ratio": [0.05, 0.1],
        "knn__n_neighbors": [1, 3],
        "structcore__norm": ["l2", "linf"],
    }
    # Features are computed once; the sweep is over the tail of the pipeline.
    features = np.asarray(pipe[:2].fit_transform(photographs.paths))
    search = GridSearchCV(
        pipe[2:], grid, scoring=image_auroc_scorer, cv=[(train, test)], error_score="raise"
    )
    search.fit(features, photographs.y)
    assert len(search.cv_results_["params"]) == 8
    assert search.best_score_ > 0.5


def test_clone_and_set_params_reach_every_step(pipe):
    copy = clone(pipe).set_params(features__image_size=96, structcore__norm="linf")
    assert copy["features"].image_size == 96 and pipe["features"].image_size == 64


def test_html_repr_renders(fitted):
    html = fitted._repr_html_()
    for name in ("ConvFeatures", "RandomProjection", "CoresetBank", "StructCoreScorer"):
        assert name in html


def test_paper_preset_is_the_published_recipe():
    pipe = make_structcore(preset="paper")
    assert pipe["features"].crop == 448 and pipe["features"].image_size == 392
    assert pipe["projection"].n_components == 512 and pipe["projection"].random_state == 42
    assert pipe["knn"].calibration == "in-sample" and pipe["structcore"].norm == "l2"


def test_paper_preset_keeps_its_crop_in_proportion_at_other_sizes():
    pipe = make_structcore("efficientnet_lite0", preset="paper")
    assert pipe["features"].image_size == 256 and pipe["features"].crop == 293


@pytest.mark.parametrize(
    ("size", "crop"), [(64, 73), ((224, 448), 256), ([448, 224], 256), (392, 448)]
)
def test_paper_preset_crops_in_proportion_to_the_size_that_is_asked_for(size, crop):
    pipe = make_structcore("efficientnet_lite0", preset="paper", features__image_size=size)
    assert pipe["features"].image_size == size and pipe["features"].crop == crop
    pipe = make_structcore(
        "efficientnet_lite0", preset="paper", features__image_size=size, features__crop=False
    )
    assert pipe["features"].crop is False


def test_paper_preset_refuses_a_size_that_follows_from_the_images():
    settings = {"preset": "paper", "features__image_size": "native"}
    with pytest.raises(ValueError, match=r"preset='paper' crops.*image_size='native' excludes"):
        make_structcore("efficientnet_lite0", **settings)
    pipe = make_structcore("efficientnet_lite0", **settings, features__crop=False)
    assert pipe["features"].crop is False


def test_a_feature_estimator_keeps_its_crop_with_the_paper_preset():
    assert make_structcore(ConvFeatures(crop=300), preset="paper")["features"].crop == 300


def test_a_feature_estimator_can_be_passed():
    features = ConvFeatures(image_size=96)
    assert make_structcore(features)["features"] is features


def test_parameters_of_a_feature_estimator_leave_it_as_it_was():
    features = ConvFeatures("efficientnet_lite0", image_size=64)
    other = make_structcore(features, features__image_size=96)["features"]
    assert (features.image_size, other.image_size) == (64, 96)


def test_unknown_preset_and_parameter_are_errors():
    with pytest.raises(ValueError, match="preset must be one of"):
        make_structcore(preset="papr")
    with pytest.raises(ValueError, match="ratios"):
        make_structcore("efficientnet_lite0", bank__ratios=0.1)


def test_empty_list_is_an_error(pipe):
    with pytest.raises(ValueError, match="empty"):
        pipe.fit([])


@pytest.mark.parametrize("name", ["resnet50", "dinov2_vitb15", "efficientnet_lite9"])
def test_an_unknown_name_is_an_error_with_the_names_there_are(name):
    with pytest.raises(
        ValueError, match=rf"'{name}' is unknown.*efficientnet_lite0.*dinov2_vits14"
    ):
        make_structcore(name)


def test_a_repository_on_the_hub_is_a_dinov2_model():
    pipe = make_structcore("facebook/dinov2-base")
    assert isinstance(pipe["features"], DinoFeatures)
    assert pipe["features"].model == "facebook/dinov2-base"


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_random_state_reaches_every_step_and_wins_over_the_preset(preset):
    pipe = make_structcore("efficientnet_lite0", preset=preset, random_state=7)
    seeds = {n: v for n, v in pipe.get_params().items() if n.endswith("__random_state")}
    assert {"projection", "bank"} <= {name.partition("__")[0] for name in seeds}
    assert set(seeds.values()) == {7}
    pipe = make_structcore("efficientnet_lite0", random_state=7, bank__random_state=8)
    assert pipe["bank"].random_state == 8
    pipe = make_structcore(preset=preset, random_state=7, projection="passthrough")
    assert pipe["projection"] == "passthrough" and pipe["bank"].random_state == 7


def test_a_folder_that_grows_while_it_is_scored_has_the_names_of_before(
    fitted, photographs, tmp_path, monkeypatch
):
    for i, pixels in enumerate(photographs.test.paths[:3], start=1):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    names, judge = sorted(map(str, tmp_path.iterdir())), StructCoreScorer.describe

    def growing(self, maps):
        shutil.copy(names[0], tmp_path / "0.png")  # the first of the folder now
        return judge(self, maps)

    monkeypatch.setattr(StructCoreScorer, "describe", growing)
    assert describe(fitted, tmp_path)["image"].tolist() == names


def test_a_table_of_features_is_described_behind_any_first_step():
    X = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
    pipe = make_pipeline(PCA(8), *make_structcore(bank__ratio=0.2)[2:].named_steps.values()).fit(X)
    assert describe(pipe, X[:2])["image"].tolist() == ["image 0", "image 1"]


def test_set_output_changes_nothing(fitted, photographs):
    images = photographs.test.paths[:2]
    expected = fitted.score_samples(images)
    pandas = make_structcore("efficientnet_lite0", features__image_size=64, bank__ratio=0.1)
    pandas = pandas.set_output(transform="pandas").fit(photographs.train.paths)
    np.testing.assert_array_equal(pandas.score_samples(images), expected)
    with config_context(transform_output="pandas"):
        pipe = clone(fitted).fit(photographs.train.paths)
        np.testing.assert_array_equal(pipe.score_samples(images), expected)
        assert isinstance(pipe.transform(images), np.ndarray)


def test_what_takes_images_says_so_of_a_pipeline_that_takes_features(tmp_path):
    X = np.random.default_rng(0).normal(size=(12, 4, 4, 8)).astype(np.float32)
    pipe = make_structcore(bank__ratio=0.2)[2:].fit(X)
    data = ImageSet(np.zeros((4, 32, 32), np.uint8), ["good", "good", "crack", "crack"])
    save(pipe, tmp_path / "model.structcore")
    for call in (
        lambda: score_images(pipe, X),
        lambda: score_images(tmp_path / "model.structcore", data),
        lambda: evaluate(pipe, data),
        lambda: operating_points(pipe, X),
        lambda: report(pipe, X, tmp_path / "report.html"),
    ):
        with pytest.raises(TypeError, match=r"takes images.*CoresetBank.*describe\(pipe"):
            call()
