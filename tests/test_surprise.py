import numpy as np
import pytest

from skstructcore import CoresetBank, Patches, RoutedKNNScorer
from skstructcore.knn import surprise as surprises
from skstructcore.knn.surprise import Lesson, fit_expectation


def test_location_is_the_shrunk_mean_log_distance_around_an_entry(monkeypatch):
    monkeypatch.setattr(surprises, "PRIOR", 2.0)
    distances = np.exp([1.0, 3.0, 5.0, 7.0])
    neighbors = np.array([[0], [0], [1], [1]])
    expectation, _ = fit_expectation(Lesson(distances, neighbors, np.arange(4)), n_entries=3)
    # The mean of all is 4. Entry 0: (1 + 3 + 2 * 4) / 4; entry 2 has nothing but the mean.
    np.testing.assert_allclose(expectation.location, [3, 5, 4])


def test_training_patches_are_judged_by_the_other_groups(monkeypatch):
    monkeypatch.setattr(surprises, "PRIOR", 2.0)
    distances = np.exp([1.0, 3.0, 5.0, 7.0])
    neighbors = np.array([[0], [0], [1], [1]])
    expectation, surprise = fit_expectation(Lesson(distances, neighbors, np.array([0, 1, 2, 2])), 2)
    # Patch 0 sees patch 1 alone: (3 + 2 * 4) / 3; patches 2 and 3 are one group and see none
    # around their entry: 4.
    expected = np.array([11 / 3, (1 + 8) / 3, 4, 4])
    squares = (np.array([1, 3, 5, 7]) - expected) ** 2
    scale = np.sqrt((squares.reshape(2, 2).sum(axis=1) + 2 * squares.mean()) / 4)
    np.testing.assert_allclose(expectation.scale, scale)
    # The same for the scale: patch 0 is judged by the square of patch 1 and the mean.
    own = np.sqrt([*((squares[[1, 0]] + 2 * squares.mean()) / 3), *[squares.mean()] * 2])
    np.testing.assert_allclose(surprise, (np.array([1, 3, 5, 7]) - expected) / own, rtol=1e-6)


def test_a_group_does_not_widen_the_scale_that_it_is_judged_by():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 20)
    distances = rng.lognormal(sigma=0.1, size=200)
    distances[groups == 0] *= 10
    neighbors = np.zeros((200, 1), dtype=int)
    _, surprise = fit_expectation(Lesson(distances, neighbors, groups), 1)
    # The scale with the group in it would give 3.3 at most: log(10) over 0.7.
    within = np.log(distances).std()
    assert surprise[groups == 0].mean() > 1.5 * np.log(10) / within


def test_content_that_is_always_far_away_surprises_less():
    rng = np.random.default_rng(0)
    neighbors = np.repeat([[0], [1]], 500, axis=0)
    distances = np.repeat([1.0, 10.0], 500) * rng.lognormal(sigma=0.1, size=1000)
    expectation, held_out = fit_expectation(Lesson(distances, neighbors, np.arange(1000) % 20), 2)
    assert abs(held_out[:500].mean()) < 0.5 and abs(held_out[500:].mean()) < 0.5
    plain, coarse = expectation.surprise(np.array([10.0, 10.0]), np.array([[0], [1]]))
    assert plain > 10 and abs(coarse) < 1


def test_missing_neighbours_are_left_out_of_the_average():
    expectation, surprise = fit_expectation(
        Lesson(np.exp([1.0, 2.0]), np.array([[0, -1], [-1, -1]]), np.arange(2)), 2
    )
    assert np.isfinite(surprise).all()
    both, one, none = expectation.surprise(
        np.exp([2.0, 2.0, 2.0]), np.array([[0, 0], [0, -1], [-1, -1]])
    )
    assert both == one
    assert none == pytest.approx((2 - expectation.location.mean()) / expectation.scale.mean())


@pytest.mark.parametrize("distances", [np.zeros(4), np.full(4, 2.0)])
def test_equal_distances_give_no_surprise(distances):
    neighbors = np.array([[0], [0], [1], [1]])
    expectation, surprise = fit_expectation(Lesson(distances, neighbors, np.arange(4)), 2)
    np.testing.assert_allclose(surprise, 0, atol=1e-6)
    assert np.isfinite(expectation.surprise(np.array([5.0]), np.array([[1]]))).all()


@pytest.mark.parametrize("calibration", ["leave-one-image-out", "k-fold"])
def test_maps_carry_surprise_once_held_out_scores_are_known(calibration):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(10, 3, 4, 6)).astype(np.float32)
    patches = CoresetBank(0.3, random_state=0).fit_transform(images)
    scorer = RoutedKNNScorer(1, calibration=calibration)
    held_out = scorer.fit_transform(patches)
    assert held_out.surprise.shape == held_out.shape == (10, 3, 4)
    assert abs(held_out.surprise.mean()) < 0.5
    new = scorer.transform(patches[:2])
    odd = scorer.transform(Patches(10 * images[:2], patches.bank))
    assert new.surprise.shape == (2, 3, 4)
    assert odd.surprise.mean() > held_out.surprise.max()
    np.testing.assert_array_equal(new[1].surprise, new.surprise[1:])


def test_surprise_needs_held_out_scores():
    images = np.random.default_rng(0).random((10, 2, 2, 3))
    patches = CoresetBank(0.3, random_state=0).fit_transform(images)
    scorer = RoutedKNNScorer(1, calibration="in-sample")
    assert scorer.fit_transform(patches).surprise is None
    assert scorer.transform(patches).surprise is None
