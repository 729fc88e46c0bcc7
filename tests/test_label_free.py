from functools import partial

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV, KFold

from skstructcore import make_structcore
from skstructcore.datasets import ImageSet
from skstructcore.images import as_images
from skstructcore.model_selection import painted_defects_scorer


class Contrast(BaseEstimator):
    """Scores an image by how far its pixels are from a level; remembers what it has seen."""

    def __init__(self, weight=1):
        self.weight = weight

    def fit(self, X, y=None):
        return self

    def score_samples(self, X):
        images = as_images(X)
        self.seen_ = [np.asarray(images.read(i)) for i in range(len(images))]
        return np.array([-self.weight * np.ptp(pixels.astype(float)) for pixels in self.seen_])


@pytest.fixture
def good():
    return np.random.default_rng(0).integers(118, 122, (20, 48, 48), dtype=np.uint8)


@pytest.mark.parametrize(("weight", "expected"), [(1, 1.0), (0, 0.5), (-1, 0.0)])
def test_criterion_is_the_auroc_against_painted_copies(good, weight, expected):
    # Any defect widens the range of grey values of an almost flat image.
    scorer = partial(painted_defects_scorer, kinds=("spot", "noise"), severities=(1.0, 2.0))
    assert scorer(Contrast(weight), good) == expected


def test_an_image_has_the_same_copies_in_every_fold(good):
    def seen(images, **options):
        painted_defects_scorer(estimator := Contrast(), images, severities=(1.0,), **options)
        return np.array(estimator.seen_)

    copies = seen(good[:12])
    np.testing.assert_array_equal(seen(good[7:11]), copies[7:11])
    assert (seen(good[:12], random_state=1) != copies).any()


def test_defects_on_grey_images_are_grey(good):
    estimator = Contrast()
    grey = np.repeat(good[:1, ..., np.newaxis], 3, axis=3)
    painted_defects_scorer(estimator, [*grey], kinds=("spot",), severities=(1.0,))
    [painted] = estimator.seen_
    assert (painted != grey[0]).any() and (painted == painted[..., :1]).all()


@pytest.mark.parametrize("y", [["good"] * 20, [0] * 20, [1] * 20, None])
def test_labels_that_call_all_images_good_are_fine(good, y):
    assert 0 <= painted_defects_scorer(Contrast(), good, y) <= 1


@pytest.mark.parametrize("severities", [1.0, []])
def test_severities_are_a_list_of_numbers(good, severities):
    with pytest.raises(ValueError, match="severities must be one number at least"):
        painted_defects_scorer(None, good, severities=severities)


def test_real_defects_and_features_instead_of_images_are_errors(good):
    with pytest.raises(ValueError, match="y calls some images anomalous"):
        painted_defects_scorer(Contrast(), good, ["good"] * 19 + ["crack"])
    with pytest.raises(ValueError, match="y calls some images anomalous"):
        painted_defects_scorer(Contrast(), ImageSet(good, ["good"] * 19 + ["crack"]))
    with pytest.raises(ValueError, match="image <ndarray>"):
        painted_defects_scorer(Contrast(), np.zeros((4, 8, 8, 5), np.float32))


def test_a_search_on_good_images_alone_runs(tmp_path, good):
    pipe = make_structcore(
        "efficientnet_lite0",
        features__image_size=48,
        features__memory=tmp_path,
        bank__ratio=0.1,
    )
    search = GridSearchCV(
        pipe,
        {"knn__n_neighbors": [1, 3]},
        scoring=painted_defects_scorer,
        cv=KFold(2),
        error_score="raise",
    )
    search.fit(good[:10])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_["bank"].n_images_ == 10


def test_labels_of_other_images_are_refused(good):
    with pytest.raises(ValueError, match="images has 20, y has 1"):
        painted_defects_scorer(Contrast(), good, ["good"])
