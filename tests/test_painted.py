import numpy as np
import pytest
from sklearn.pipeline import Pipeline

from skstructcore import make_structcore
from skstructcore.datasets import make_photographs, paint_defect
from skstructcore.scoring.painted import learn_from_painted_defects

pytestmark = pytest.mark.filterwarnings("ignore:quantile=.* asks for")


@pytest.fixture(scope="module")
def images():
    return make_photographs("brick", tile_size=64, n_train=12, n_test_good=6, random_state=0)


@pytest.fixture(scope="module")
def pipe(images):
    pipe = make_structcore(
        "efficientnet_lite0", features__image_size=64, bank__ratio=0.1, knn__n_neighbors=2
    )
    return pipe.fit(images.train, bank__groups=images.train.groups)


def test_learned_score_is_the_weighted_sum_of_z(images, pipe):
    groups = images.train.groups
    scorer = learn_from_painted_defects(pipe, images.train, groups=groups, random_state=0)
    maps = pipe[:-1].transform(images.test)
    assert len(scorer.weights) == 1 + len(pipe[-1].descriptors)
    assert np.abs(scorer.weights).sum() == pytest.approx(1)
    expected = scorer.standardise(maps) @ scorer.weights
    np.testing.assert_allclose(-scorer.score_samples(maps), expected)
    whole = Pipeline([*pipe.steps[:-1], ("structcore", scorer)])
    np.testing.assert_allclose(-whole.score_samples(images.test), expected)


def test_training_scores_are_those_that_the_pipeline_was_calibrated_with(images, pipe):
    scorer = learn_from_painted_defects(
        pipe, images.train, groups=images.train.groups, random_state=0
    )
    base = pipe[-1].calibration_
    learned = scorer.calibration_
    assert learned.base_location == pytest.approx(base.base_location, rel=1e-4)
    np.testing.assert_allclose(learned.location[1:], base.location, rtol=0.2, atol=0.2)


def test_weights_favour_parts_that_react_to_defects(images, pipe):
    scorer = learn_from_painted_defects(
        pipe, images.train, groups=images.train.groups, severity=2.0, random_state=0
    )
    assert np.sum(scorer.weights) > 0
    painted = [paint_defect(image, "spot", 0, 2.0)[0] for image in images.test.paths[:6]]
    good = scorer.score_samples(pipe[:-1].transform(images.test.paths[:6]))
    assert scorer.score_samples(pipe[:-1].transform(painted)).mean() < good.mean()


def test_groups_of_the_wrong_length_are_an_error(images, pipe):
    with pytest.raises(ValueError, match="groups has 3 entries for 12 images"):
        learn_from_painted_defects(pipe, images.train, groups=[0, 1, 2])
