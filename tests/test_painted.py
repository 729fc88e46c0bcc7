import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from skstructcore import make_structcore
from skstructcore.datasets import ImageSet, make_photographs
from skstructcore.lifecycle import painted
from skstructcore.lifecycle.painted import learn_from_painted_defects

pytestmark = pytest.mark.filterwarnings("ignore:false_alarm_rate=")


@pytest.fixture(scope="module")
def images():
    return make_photographs("brick", tile_size=64, n_train=12, n_test_good=6, random_state=0)


@pytest.fixture(scope="module")
def pipe(images):
    pipe = make_structcore(
        "efficientnet_lite0", features__image_size=64, bank__ratio=0.1, knn__n_neighbors=2
    )
    return pipe.fit(images.train)


def weights(scorer):
    return np.array([*scorer.descriptors.values()])


def test_learned_score_is_the_weighted_sum_of_z(images, pipe):
    scorer = learn_from_painted_defects(pipe, images.train)
    maps = pipe[:-1].transform(images.test)
    assert list(scorer.descriptors) == ["max", *pipe[-1].descriptors_]
    assert np.abs(weights(scorer)).sum() == pytest.approx(1)
    expected = scorer.standardise(maps) @ weights(scorer)
    np.testing.assert_allclose(-scorer.score_samples(maps), expected)
    whole = Pipeline([*pipe.steps[:-1], ("structcore", scorer)])
    np.testing.assert_allclose(-whole.score_samples(images.test), expected)


def test_training_scores_are_those_that_the_pipeline_was_calibrated_with(images, pipe):
    scorer = learn_from_painted_defects(pipe, images.train, random_state=0)
    base = pipe[-1].calibration_
    learned = scorer.calibration_
    assert learned.base_location == pytest.approx(base.base_location, rel=1e-4)
    np.testing.assert_allclose(learned.location[1:], base.location, rtol=0.2, atol=0.2)


def test_parts_are_decided_as_the_pipeline_does(images, pipe):
    parts = np.arange(12) // 2
    pipe = clone(pipe).set_params(structcore__false_alarm_rate=0.2)
    pipe.fit(images.train, bank__parts=parts)
    backwards = images.train[np.arange(12)[::-1]]
    scorer = learn_from_painted_defects(pipe, backwards)
    assert scorer.training_.parts.tolist() == parts[::-1].tolist()
    assert scorer.part_decision_ is not None


def test_weights_follow_what_reacts_to_defects(images, pipe):
    # One part never reacts; of the two others one is minus the other, so that the penalty
    # divides the evidence evenly between them: weights 0, 1/2 and -1/2.
    pipe = clone(pipe).set_params(
        structcore__descriptors=[nothing, minus_max],
        structcore__threshold="guaranteed",  # unweighted, all scores are 0
    )
    scorer = learn_from_painted_defects(pipe.fit(images.train), images.train, severity=2.0)
    np.testing.assert_allclose(weights(scorer), [0.5, 0, -0.5], atol=1e-3)


def minus_max(maps):
    return -maps.max(axis=(1, 2))


def nothing(maps):
    return np.zeros(len(maps))


def test_a_labelled_defect_among_the_images_changes_nothing(images, pipe):
    train = images.train
    order = [*range(5), len(train), *range(5, len(train))]  # a defect in sixth place
    spot = images[images.y == "spot"][:1]
    mixed = ImageSet(
        [*train.paths, *spot.paths],
        [*train.y, *spot.y],
        groups=[*train.groups, *spot.groups],
        splits=["train"] * (len(train) + 1),
    )[order]
    expected = learn_from_painted_defects(pipe, train)
    found = learn_from_painted_defects(clone(pipe).fit(mixed), mixed)
    np.testing.assert_allclose(weights(found), weights(expected), rtol=1e-5)
    assert found.offset_ == pytest.approx(expected.offset_, rel=1e-5)


def test_copies_of_grey_images_are_grey(images, pipe, monkeypatch):
    seen = []
    paint = painted.paint_copies
    monkeypatch.setattr(
        painted,
        "paint_copies",
        lambda *args, **kwargs: seen.append(paint(*args, **kwargs)) or seen[0],
    )
    learn_from_painted_defects(pipe, images.train)  # brick is a grey photograph
    assert {copy.ndim for copy in seen[0]} == {2}


def test_the_same_seed_gives_the_same_weights_wherever_the_steps_are(images, pipe):
    renamed = Pipeline([("scaling", FunctionTransformer()), *[(f"{n}_", s) for n, s in pipe.steps]])
    first, second = (learn_from_painted_defects(p, images.train) for p in (pipe, renamed))
    assert first.descriptors == second.descriptors
    other = learn_from_painted_defects(pipe, images.train, random_state=1)
    assert other.descriptors != first.descriptors


def test_images_of_another_fit_are_an_error(images, pipe):
    with pytest.raises(ValueError, match="1 of 13 images are none that the pipeline was fitted"):
        learn_from_painted_defects(pipe, [*images.train.paths, images.test.paths[0]])


def test_a_pipeline_of_other_steps_is_an_error(images, pipe):
    with pytest.raises(ValueError, match="last steps are CoresetBank"):
        learn_from_painted_defects(pipe[:-1], images.train)


@pytest.mark.filterwarnings("ignore")
def test_with_routes_each_image_is_compared_with_its_own(images, monkeypatch):
    monkeypatch.setattr("skstructcore.scoring.routed.MIN_GROUPS", 3)
    train = ImageSet(images.train.paths, categories=["left"] * 6 + ["right"] * 6)
    pipe = make_structcore(
        "efficientnet_lite0",
        features__image_size=64,
        bank__ratio=0.1,
        knn__n_neighbors=2,
    ).fit(train)
    scorer = learn_from_painted_defects(pipe, train)
    assert set(scorer.routes_) == {"left", "right"}
    for name, route in scorer.routes_.items():
        # Six training images each, as in the fit; the nearest prototypes would mix them.
        assert len(route.calibration.scores) == 6 and route.tail is pipe[-1].routes_[name].tail


def test_each_image_is_found_in_the_bank_whatever_the_order(images, pipe):
    maps = {}
    for order in (slice(None), slice(None, None, -1)):
        scorer = learn_from_painted_defects(pipe, images.train[order], kinds=["spot"])
        maps[order.step] = scorer.training_.base
    # In another place, an image would be compared with its own patches.
    np.testing.assert_allclose(maps[-1], maps[None][::-1])
