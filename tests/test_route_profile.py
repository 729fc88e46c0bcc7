import numpy as np
import pytest
from scipy.stats import t as student_t
from sklearn.covariance import LedoitWolf

from skstructcore.routing import fit_profile, fit_tail, held_out_distances


def test_profile_distance_is_the_mahalanobis_distance_of_ledoit_and_wolf():
    rng = np.random.default_rng(0)
    for n_images, n_features in ((40, 5), (6, 12)):
        pooled = rng.normal(size=(n_images, n_features)) @ rng.normal(size=(n_features, n_features))
        new = 3 * rng.normal(size=(4, n_features))
        found = fit_profile(pooled, rng.normal(size=(20, n_features))).distance(new)
        expected = np.sqrt(LedoitWolf().fit(pooled).mahalanobis(new))
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_held_out_distances_leave_whole_groups_out():
    rng = np.random.default_rng(1)
    pooled, groups = rng.normal(size=(9, 3)), np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    found = held_out_distances(pooled, groups, np.zeros(9), np.zeros(9, dtype=bool))
    for group in range(3):
        out = groups == group
        expected = np.sqrt(LedoitWolf().fit(pooled[~out]).mahalanobis(pooled[out]))
        np.testing.assert_allclose(found[out], expected, rtol=1e-6)


def test_nothing_is_learned_from_images_that_contamination_left_out():
    rng = np.random.default_rng(1)
    pooled, groups = rng.normal(size=(30, 3)), np.repeat(np.arange(15), 2)
    left_out = np.isin(np.arange(30), [4, 5, 9])  # a group of two, and one of another group
    pooled[left_out] += 50
    found = held_out_distances(pooled, groups, np.zeros(30), left_out)
    kept = ~left_out
    alone = held_out_distances(pooled[kept], groups[kept], np.zeros(27), left_out[kept])
    np.testing.assert_array_equal(found[kept], alone)
    expected = np.sqrt(LedoitWolf().fit(pooled[kept]).mahalanobis(pooled[[4, 5]]))
    np.testing.assert_allclose(found[[4, 5]], expected, rtol=1e-6)


def test_identical_images_have_distance_zero_and_any_other_is_far():
    profile = fit_profile(np.ones((4, 3)), np.eye(3))
    near, far = profile.distance(np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 1.001]]))
    assert near == 0 and far > 1e6


def test_tail_p_values_are_those_of_student_for_the_logarithms():
    logs = np.array([0.0, 1.0, 2.0, 3.0])
    tail = fit_tail(np.exp(logs))
    # A new observation against mean and deviation of four: t with 3 degrees of freedom.
    z = (4.0 - 1.5) / (logs.std(ddof=1) * np.sqrt(1.25))
    assert tail.p_values(np.exp([4.0])) == pytest.approx([student_t.sf(z, 3)])
    assert tail.z(np.exp([4.0])) == pytest.approx([z])
    assert student_t.sf(tail.critical_z(0.01), 3) == pytest.approx(0.01)


def test_tail_keeps_its_level_on_new_images():
    rng = np.random.default_rng(0)
    rejected = [
        fit_tail(np.exp(rng.normal(size=12))).p_values(np.exp(rng.normal(size=200))) <= 0.05
        for _ in range(100)
    ]
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.015)


def test_images_of_one_group_count_as_one_in_the_tail():
    distances = np.exp([0.0, 0.1, 1.0, 1.1])
    single, grouped = fit_tail(distances), fit_tail(distances, [0, 0, 1, 1])
    assert grouped.p_values([9.0]) > single.p_values([9.0])


def test_unequal_groups_keep_the_level():
    # One group of 200 images that are nearly the same, and nine single images.
    rng = np.random.default_rng(0)
    groups = np.concatenate([np.zeros(200, dtype=int), np.arange(1, 10)])
    unknown = []
    for _ in range(2000):
        logs = rng.normal(size=10)[groups] + 0.01 * rng.normal(size=209)
        tail = fit_tail(np.exp(logs), groups)
        unknown.append(tail.p_values(np.exp(rng.normal(size=20))) < 0.02)
    assert np.mean(unknown) == pytest.approx(0.02, abs=0.004)


def test_equal_groups_of_one_are_the_plain_mean_and_deviation():
    logs = np.random.default_rng(0).normal(size=12)
    tail = fit_tail(np.exp(logs))
    assert (tail.location, tail.scale) == pytest.approx((logs.mean(), logs.std(ddof=1)))
