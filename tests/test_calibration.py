import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skstructcore import StructCoreScorer
from skstructcore.containers import TrainingImages
from skstructcore.scoring.calibration import (
    NORMS,
    combine,
    fit_calibration,
    location_and_scale,
    shares,
)
from skstructcore.scoring.conformal import conformal_p_values, conformal_threshold
from skstructcore.scoring.evidence import Evidence


def test_location_and_scale_are_those_of_standard_scaler():
    phi = np.array([[1.0, 7.0], [3.0, 7.0]])
    location, scale = location_and_scale(phi)
    np.testing.assert_array_equal(location, [2, 7])
    np.testing.assert_array_equal(scale, [1, 1])  # a constant column gets 1


def test_signed_sum_counts_what_norms_cannot_see():
    # One image as far above normal as the other is below: the norms take them for equal.
    z = np.array([[2.0, 2.0], [-2.0, -2.0]])
    assert combine(z, "sum").tolist() == [4, -4]
    for norm in ("l2", "linf"):
        above, below = combine(z, norm)
        assert above == below


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.floats(-6, 6), st.floats(0, 1))
def test_p_values_fall_with_the_score_and_stay_in_their_range(calibration, score, step):
    p = conformal_p_values([score, score + step], calibration)
    assert 1 / (len(calibration) + 1) - 1e-12 <= p[1] <= p[0] <= 1


def test_p_value_is_the_rank_that_the_image_would_have():
    scores = np.arange(1.0, 100.0)
    p = conformal_p_values([99.5, 98.5, 50.5, 0.5, 98.0], scores)
    # Above 99 of 99; above 98; above 50; above none; at the second highest, which counts.
    np.testing.assert_allclose(p, [0.01, 0.02, 0.50, 1.0, 0.03])


@pytest.mark.parametrize("n", [7, 31, 210])
def test_p_values_of_good_images_are_never_too_small_between_the_ranks_either(n):
    # Exactly: the new image takes each of the n + 1 places among n others alike often.
    places = np.arange(n + 1)
    calibration = [np.delete(places, place) for place in places]
    p = np.array([conformal_p_values([i], c)[0] for i, c in zip(places, calibration, strict=True)])
    for level in (0.005, 0.01, 0.05, 1.5 / (n + 1), 0.3):
        assert (p <= level).mean() <= level
        alarms = [i > conformal_threshold(c, level)[0] for i, c in enumerate(calibration)]
        promised = conformal_threshold(calibration[0], level)[1]
        assert np.mean(alarms) <= promised + 1e-12
        assert promised <= level or promised == pytest.approx(1 / (n + 1))


def test_p_value_and_threshold_agree():
    rng = np.random.default_rng(1)
    calibration, groups = rng.normal(size=60), rng.integers(0, 20, size=60)
    scores = np.concatenate([rng.normal(size=1000), calibration])
    for level in (0.07, 0.2, 0.5):
        threshold, promised = conformal_threshold(calibration, level, groups)
        assert level - 1 / 21 < promised <= level
        p = conformal_p_values(scores, calibration, groups)
        np.testing.assert_array_equal(scores > threshold, p <= level + 1e-12)


@pytest.mark.parametrize(("level", "kept"), [(0.013, 0.01), (0.05, 0.05), (0.123, 0.12)])
def test_false_alarm_rate_is_the_highest_rank_within_the_one_asked_for(level, kept):
    # 199 images tell multiples of 1/200 apart, and no more than asked is kept: 2/200, 24/200.
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(1500):
        threshold, promised = conformal_threshold(rng.standard_exponential(199), level)
        rates.append(np.exp(-threshold))  # P(a new score is above)
    assert promised == pytest.approx(kept)
    # The rate is the k-th smallest of 199 uniform numbers: a Beta variable with this error.
    error = np.sqrt(kept * (1 - kept) / 201 / 1500)
    assert np.mean(rates) == pytest.approx(kept, abs=4 * error)


def test_groups_keep_the_promise_that_single_images_break():
    # Ten groups of twenty images that are nearly the same: ten independent values, not 200.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 20)
    with_groups, without = [], []
    for _ in range(1000):
        scores = rng.normal(size=10)[groups] + 0.01 * rng.normal(size=200)
        new = rng.normal(size=50)
        threshold, promised = conformal_threshold(scores, 0.02, groups)
        with_groups.append((new > threshold).mean())
        threshold, claimed = conformal_threshold(scores, 0.02)
        without.append((new > threshold).mean())
    assert promised == 1 / 11 and claimed == 4 / 201
    assert np.mean(with_groups) < 1.1 * promised
    assert np.mean(without) > 3 * claimed


def test_equal_calibration_scores_make_an_equal_image_normal():
    p = conformal_p_values([1.0, 2.0], [1.0, 1.0, 1.0])
    np.testing.assert_allclose(p, [1.0, 0.25])


def test_groups_of_the_wrong_length_are_an_error():
    with pytest.raises(ValueError, match="calibration_scores has 3, groups has 2"):
        conformal_p_values([1.0], [1.0, 2.0, 3.0], groups=[0, 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": [1, 2]}, "calibration_scores has 3, weights has 2"),
        ({"weights": [-1, 1, 1]}, "weights must hold numbers that are at least 0"),
        ({"level": 5}, "level must be"),
    ],
)
def test_weights_and_levels_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        conformal_threshold([1, 2, 3], **{"level": 0.1, **options})


@pytest.mark.parametrize("scores", [[], [1.0, np.nan]])
def test_without_scores_or_with_one_that_is_none_nothing_is_promised(scores):
    with pytest.raises(ValueError, match=r"0 sample|calibration_scores contains NaN"):
        conformal_threshold(scores, 0.1)
    with pytest.raises(ValueError, match=r"0 sample|calibration_scores contains NaN"):
        conformal_p_values([1.0], scores)


def test_too_few_images_for_the_rate_say_what_can_be_guaranteed():
    base = np.arange(31.0)
    data = Evidence(base, base[:, np.newaxis])
    calibration = fit_calibration(data, false_alarm_rate=0.01, threshold="guaranteed")
    assert calibration.decision.asked_rate == 0.01 and calibration.decision.rate == 1 / 32
    assert calibration.decision.threshold == calibration.decision.scores.max()
    message = calibration.decision.shortage
    assert re.search(r"takes 99 .* 31 training images .* 3\.1%", message)
    # The rate that the message recommends is one that can be guaranteed, and so is the other rule.
    assert "false_alarm_rate=0.032, or use threshold='expected'" in message
    for settings in ({"false_alarm_rate": 0.032, "threshold": "guaranteed"}, {}):
        assert fit_calibration(data, **settings).decision.shortage is None
    images = TrainingImages(np.arange(31) % 3)
    data = replace(data, images=images, image_index=np.arange(31))
    grouped = fit_calibration(data, false_alarm_rate=0.032, threshold="guaranteed")
    assert "31 training images in 3 groups" in grouped.decision.shortage


@pytest.mark.parametrize(
    ("norm", "combined", "each"),
    [("sum", -1, [3, -4]), ("l2", 5, [1.8, 3.2]), ("linf", 4, [0, 4])],
)
def test_the_norms_and_their_shares_by_hand(norm, combined, each):
    z = np.array([[3.0, -4.0]])
    np.testing.assert_allclose(combine(z, norm), [combined])
    np.testing.assert_allclose(shares(z, norm), [each])


@pytest.mark.parametrize("norm", NORMS)
def test_the_shares_of_descriptors_are_what_they_are_combined_to(norm):
    z = np.random.default_rng(0).normal(size=(50, 4))
    z[0] = 0
    parts = shares(z, norm)
    np.testing.assert_allclose(parts.sum(axis=1), combine(z, norm))
    np.testing.assert_array_equal(parts.argmax(axis=1), (abs(z) if norm != "sum" else z).argmax(1))


def test_the_part_that_raises_the_score_most_decides():
    rng = np.random.default_rng(0)
    data = Evidence(rng.normal(size=40), rng.normal(size=(40, 2)))
    calibration = fit_calibration(data, weights=[0.5, 0.1])
    new = replace(
        calibration, base_location=0.0, base_scale=2.0, location=np.zeros(2), scale=np.ones(2)
    )
    new = replace(new, lam=2.0)  # the score is base + z_0 + 0.2 z_1
    images = Evidence(np.array([3.0, 3.0, -2.0]), np.array([[2.0, 9.0], [4.0, 9.0], [-3.0, 2.0]]))
    assert new.judge(images).decided_by.tolist() == [0, 1, 2]
    # Of the norm sqrt(1 + 0.81), times 2, the second image has 2 * 4 / sqrt(4.81) by the first.
    assert replace(new, norm="l2").judge(images).decided_by.tolist() == [0, 1, 1]


@pytest.mark.parametrize("descriptors", [[], {"std": 0.0}])
def test_a_score_of_nothing_is_refused(descriptors):
    maps = np.random.default_rng(0).random((20, 4, 4))
    with pytest.raises(ValueError, match="no descriptor has a weight other than 0"):
        StructCoreScorer(descriptors=descriptors, lam="struct-only").fit(maps)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("lam", ["auto", "struct-only", 0.5])
def test_score_is_base_plus_lam_times_d_struct(norm, lam):
    rng = np.random.default_rng(0)
    base, phi = rng.normal(size=40), rng.normal(size=(40, 3))
    data = Evidence(base, phi)
    calibration = fit_calibration(data, norm=norm, lam=lam, false_alarm_rate=0.1)
    judged = calibration.judge(data)
    score, d_struct, z = judged.score, judged.d_struct, judged.z[:, 1:]
    weight = {"auto": base.std() / d_struct.std(), "struct-only": 1.0}.get(lam, lam)
    if lam == "auto" and norm.startswith("sum"):
        weight = base.std()
    assert calibration.lam == pytest.approx(weight)
    np.testing.assert_allclose(score, (lam != "struct-only") * base + weight * d_struct)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_array_equal(calibration.decision.scores, score)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_two_images_are_equally_unusual_and_the_base_score_counts(norm):
    for seed in range(4):  # rounding is lucky for some
        maps = np.random.default_rng(seed).random((2, 8, 8))
        scorer = StructCoreScorer(norm=norm, threshold="quantile").fit(maps)
        assert scorer.calibration_.lam == 0


def test_without_descriptors_any_norm_leaves_the_base_score():
    maps = np.random.default_rng(0).random((20, 8, 8))
    for norm in ("sum", "l2", "linf"):
        scorer = StructCoreScorer(norm=norm, descriptors=[]).fit(maps)
        np.testing.assert_allclose(-scorer.score_samples(maps), maps.max(axis=(1, 2)), rtol=1e-6)
