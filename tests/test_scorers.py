import pickle
from functools import partial

import numpy as np
import pytest
from PIL import Image
from sklearn.base import BaseEstimator, OutlierMixin, TransformerMixin
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.metrics import average_precision_score, fbeta_score
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_validate
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import Pipeline

from skstructcore.containers import AnomalyMaps
from skstructcore.datasets import ImageSet, judged_pixels
from skstructcore.images import Geometry
from skstructcore.images.masks import mask_as_seen
from skstructcore.metrics import aupro_score, image_auroc_score, pixel_auroc_score
from skstructcore.model_selection import MVTecSplit, OneClassKFold, scorers


class Distance(TransformerMixin, BaseEstimator):
    """Maps of how far each pixel of the centre of an image is from the mean of training."""

    n_transforms = 0

    def __init__(self, margin=0):
        self.margin = margin

    def fit(self, X, y=None):
        assert set(X.y) == {"good"}
        self.level_ = np.mean([np.mean(image) for image in X])
        return self

    def transform(self, X):
        type(self).n_transforms += 1
        pixels = np.array([np.asarray(image, np.float32) for image in X])
        n, height, width = pixels.shape
        m = self.margin
        box = [m, m, height - m, width - m]
        geometry = Geometry((height - 2 * m, width - 2 * m), [[height, width]] * n, [box] * n)
        maps = np.abs(pixels - self.level_)[:, m : height - m, m : width - m]
        return AnomalyMaps(maps, geometry=geometry)


class MaxScore(OutlierMixin, TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return np.asarray(X)

    def score_samples(self, X):
        return -np.asarray(X).max(axis=(1, 2))


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    pixels = rng.integers(100, 120, size=(24, 8, 8)).astype(np.uint8)
    y = np.array(["good"] * 16 + ["hole"] * 4 + ["crack"] * 4)
    masks = [None] * 16
    for i in range(16, 24):
        mask = np.zeros((8, 8), bool)
        mask[2:4, 2:5] = True
        # Half of the defects are so faint that noise hides them.
        pixels[i][mask] -= 5 if i % 2 else 60
        masks.append(mask)
    return ImageSet(list(pixels), y, masks=masks, splits=["train"] * 8 + ["test"] * 16)


@pytest.fixture
def model():
    Distance.n_transforms = 0
    return Pipeline([("distance", Distance()), ("score", MaxScore())])


def test_a_metric_is_a_function():
    with pytest.raises(TypeError, match="metric must be a function of"):
        scorers.make_anomaly_scorer("roc_auc")


def test_the_value_is_that_of_the_metric_on_anomaly_scores(model, images):
    model.fit(images.train)
    expected = image_auroc_score(images.test.y, -model.score_samples(images.test))
    assert 0.5 < expected < 1
    assert scorers.image_auroc_scorer(model, images.test, images.test.y) == expected
    assert scorers.image_auroc_scorer(model, images.test) == expected
    numbers = (images.test.y != "good").astype(int)
    assert scorers.image_auroc_scorer(model, images.test, numbers) == expected


def test_rates_of_errors_are_negative_as_greater_must_be_better(model, images):
    model.fit(images.train)
    value = scorers.fpr_at_tpr_scorer(model, images.test, images.test.y)
    assert -1 <= value < 0


@pytest.mark.parametrize("margin", [0, 1])
def test_pixel_metrics_compare_what_the_backbone_saw(model, images, margin):
    model.set_params(distance__margin=margin).fit(images.train)
    maps = model.transform(images.test)
    whole = [np.zeros((8, 8), bool) if m is None else m for m in images.test.masks]
    masks = [m[margin : 8 - margin, margin : 8 - margin] for m in whole]
    assert scorers.aupro_scorer(model, images.test) == aupro_score(masks, maps)
    assert scorers.pixel_auroc_scorer(model, images.test) == pixel_auroc_score(masks, maps)


def test_combined_scorers_run_the_model_once(model, images):
    model.fit(images.train)
    combined = scorers.combine_anomaly_scorers(
        auroc=scorers.image_auroc_scorer,
        f1=scorers.f1_max_scorer,
        aupro=scorers.aupro_scorer,
    )
    Distance.n_transforms = 0
    values = combined(model, images.test, images.test.y)
    assert Distance.n_transforms == 1
    assert values == {
        "auroc": scorers.image_auroc_scorer(model, images.test),
        "f1": scorers.f1_max_scorer(model, images.test),
        "aupro": scorers.aupro_scorer(model, images.test),
    }


def test_any_metric_becomes_a_scorer(model, images):
    model.fit(images.train)
    own = scorers.make_anomaly_scorer(average_precision_score)
    assert own(model, images.test) == scorers.image_ap_scorer(model, images.test)
    top = scorers.make_anomaly_scorer(aupro_score, on_maps=True, max_fpr=0.05)
    assert repr(top) == "make_anomaly_scorer(aupro_score, on_maps=True, max_fpr=0.05)"
    assert top(model, images.test) <= scorers.aupro_scorer(model, images.test)
    assert pickle.loads(pickle.dumps(top))(model, images.test) == top(model, images.test)


def test_a_metric_without_a_name_is_shown_and_nothing_cannot_be_combined():
    scorer = scorers.make_anomaly_scorer(partial(fbeta_score, beta=2))
    assert "fbeta_score" in repr(scorer)
    assert len({scorer, scorers.f1_max_scorer}) == 2  # as keys, for all their arguments
    with pytest.raises(ValueError, match="no scorer to combine"):
        scorers.combine_anomaly_scorers()
    for other in ("roc_auc", scorers.combine_anomaly_scorers(a=scorer)):
        with pytest.raises(TypeError, match="b must be made by make_anomaly_scorer"):
            scorers.combine_anomaly_scorers(a=scorer, b=other)


def test_searches_and_cross_validation_of_scikit_learn_take_them(model, images):
    grid = {"distance__margin": [0, 1, 3]}
    search = GridSearchCV(
        model,
        grid,
        scoring=scorers.image_auroc_scorer,
        cv=OneClassKFold(3, shuffle=True, random_state=0),
        error_score="raise",
        refit=False,
    ).fit(images, images.y)
    # With three pixels cut off at each side, the defects are outside, but for a corner.
    assert search.best_params_["distance__margin"] < 3
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()

    both = scorers.combine_anomaly_scorers(
        auroc=scorers.image_auroc_scorer, aupro=scorers.aupro_scorer
    )
    search = GridSearchCV(model, grid, scoring=both, refit=False, cv=MVTecSplit()).fit(
        images, images.y
    )
    assert "mean_test_aupro" in search.cv_results_

    scores = cross_validate(
        model,
        images,
        images.y,
        cv=OneClassKFold(2),
        scoring={"auroc": scorers.image_auroc_scorer, "pixels": scorers.pixel_auroc_scorer},
    )
    assert np.isfinite(scores["test_auroc"]).all() and np.isfinite(scores["test_pixels"]).all()


def test_halving_takes_them(model, images):
    search = HalvingGridSearchCV(
        model,
        {"distance__margin": [0, 1]},
        scoring=scorers.image_auroc_scorer,
        cv=OneClassKFold(2, shuffle=True, random_state=0),
        min_resources=12,
        random_state=0,
        error_score="raise",
        return_train_score=False,
        refit=False,
    ).fit(images, images.y)
    assert np.isfinite(search.best_score_)


@pytest.mark.parametrize(
    ("scorer", "X", "y", "message"),
    [
        ("image_auroc", lambda s: s.paths, None, "Labels are needed"),
        ("image_auroc", lambda s: s, ["good"] * 3, "images has 16, y has 3"),
        ("image_auroc", lambda s: s[s.y == "good"], None, "only normal labels"),
        ("aupro", lambda s: s.paths, ["good"] * 8 + ["hole"] * 8, "pass the images as an ImageSet"),
        ("aupro", lambda s: ImageSet(s.paths, s.y), None, "none of the 8 anomalous images"),
        (
            "pixel_auroc",
            lambda s: ImageSet(s.paths, s.y, masks=[*s.masks[:9], None, *s.masks[10:]]),
            None,
            r"1 problem\(s\)[\s\S]*image 9: no mask, but others of 'hole' have",
        ),
        (
            "pixel_auroc",
            lambda s: ImageSet(s.paths, s.y, masks=[*s.masks[:15], np.ones((8, 9))]),
            None,
            r"image 15: the mask has \(8, 9\) pixels, its image \(8, 8\)",
        ),
    ],
)
def test_mistakes_are_found_before_the_model_runs(model, images, scorer, X, y, message):
    model.fit(images.train)
    Distance.n_transforms = 0
    with pytest.raises(ValueError, match=message):
        getattr(scorers, f"{scorer}_scorer")(model, X(images.test), y)
    assert Distance.n_transforms == 0


def test_values_that_are_not_finite_are_errors(model, images):
    model.fit(images.train)
    bad = scorers.make_anomaly_scorer(lambda y, s: np.nan)
    with pytest.raises(ValueError, match="gave nan"):
        bad(model, images.test)
    model[0].level_ = np.nan
    with pytest.raises(ValueError, match="16 of 16 anomaly scores are not finite"):
        scorers.image_auroc_scorer(model, images.test)
    careless = scorers.make_anomaly_scorer(lambda y, s: np.mean(s[y] > 2))
    with pytest.raises(ValueError, match="16 of 16 anomaly scores are not finite"):
        careless(model, images.test)


def test_types_without_masks_and_empty_masks_do_not_count_as_pixels(images):
    images = images.test
    images.masks[12:] = [None] * 4  # cracks: no masks at all
    images.masks[8] = np.zeros((8, 8), bool)  # a hole whose mask is empty
    pixel_maps = np.arange(16)[:, np.newaxis, np.newaxis] * np.ones((4, 4))
    masks, judged, ignored = judged_pixels(images, pixel_maps)
    left_out = set(range(16)) - set(judged[:, 0, 0])
    assert left_out == {8, 12, 13, 14, 15} and ignored is None
    assert len(masks) == 11 and masks[0].shape == (4, 4)


def test_masks_are_read_from_files_whatever_their_coding(tmp_path):
    Image.new("RGB", (4, 2)).save(tmp_path / "part.png")
    values = np.zeros((2, 4), np.uint8)
    values[0, 1] = 1
    expected = values > 0
    Image.fromarray(values).save(tmp_path / "grey.png")
    palette = Image.fromarray(values, mode="P")
    palette.putpalette([0, 0, 0, 0, 0, 0])  # the defect is as black as the rest
    palette.save(tmp_path / "palette.png")
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "wide.png")
    rgba = np.zeros((2, 4, 4), np.uint8)
    rgba[..., 3] = 255
    rgba[0, 1, 0] = 255
    Image.fromarray(rgba).save(tmp_path / "colour.png")
    for name in ("grey", "palette", "wide", "colour"):
        images = ImageSet([tmp_path / "part.png"], ["hole"], masks=[tmp_path / f"{name}.png"])
        np.testing.assert_array_equal(images.load_mask(0), expected)
    np.testing.assert_array_equal(mask_as_seen(images.load_mask(0), (1, 2)), [[True, False]])
    with pytest.raises(ValueError, match=r"mask .*lost.png"):
        ImageSet([tmp_path / "part.png"], ["hole"], masks=[tmp_path / "lost.png"]).load_mask(0)


def test_a_reduced_mask_takes_the_pixels_at_the_centres_of_its_own():
    # Each pixel of the result is 3 x 2 of the mask; its centre lies in the second row, and on the
    # edge between both columns, of which the right one counts.
    mask = np.zeros((6, 4), bool)
    mask[1, 1] = mask[4, 3] = mask[4, 0] = True
    np.testing.assert_array_equal(mask_as_seen(mask, (2, 2)), [[True, False], [False, True]])
    # The same part of an image, and then one row and column further.
    np.testing.assert_array_equal(
        mask_as_seen(mask, (1, 1), box=(3, 2, 6, 4)), mask_as_seen(mask, (2, 2))[1:, 1:]
    )


def test_thin_defects_do_not_vanish_when_a_mask_is_reduced():
    line = np.zeros((100, 100), bool)
    line[17, 20:80] = True
    small = mask_as_seen(line, (10, 10))
    np.testing.assert_array_equal(np.argwhere(small), [[1, c] for c in range(2, 8)])
    # Out of the part that was seen, it is gone.
    assert not mask_as_seen(line, (10, 10), box=(50, 0, 100, 100)).any()
    # The part may reach beyond the image.
    assert mask_as_seen(~line, (4, 4), box=(-50, -50, 150, 150)).sum() == 4


def test_a_split_that_cannot_be_scored_costs_no_search():
    X, y = np.random.default_rng(0).normal(size=(30, 3)), ["good"] * 20 + ["bad"] * 10
    cv = [(np.arange(10), np.r_[10:15, 20:25]), (np.arange(10), np.arange(10, 15))]
    both = scorers.combine_anomaly_scorers(f1=scorers.f1_max_scorer, ap=scorers.image_ap_scorer)
    with pytest.warns(UserWarning, match="scores are NaN: All 5 images have only normal labels"):
        scores = cross_validate(LocalOutlierFactor(novelty=True), X, y, cv=cv, scoring=both)
    assert np.isfinite(scores["test_ap"]).tolist() == [True, False]


def test_a_combined_scorer_shows_what_it_combines():
    both = scorers.combine_anomaly_scorers(f1=scorers.f1_max_scorer, ap=scorers.image_ap_scorer)
    f1, ap = "make_anomaly_scorer(f1_max_score)", "make_anomaly_scorer(image_ap_score)"
    assert repr(both) == f"combine_anomaly_scorers(f1={f1}, ap={ap})"
