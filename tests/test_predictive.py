import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import norm
from scipy.stats import t as student_t

from skstructcore.scoring import predictive
from skstructcore.scoring.predictive import DEGREES_OF_FREEDOM, fit_predictive_tail

UPPER, FIRST, TRIMMED = predictive.UPPER, predictive._FIRST, predictive._TRIMMED
# n times the variance of the median, by the density of the tail there.
OF_MEDIAN = 0.25 / student_t.pdf(0, DEGREES_OF_FREEDOM) ** 2

scores_ = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=5, max_size=40)


def weighted_quantile(scores, weights, share):
    """By hand: the distribution rises by its weight at each score, linear between the middles."""
    target, below, last = share * sum(weights), 0.0, None
    for score, weight in sorted(zip(scores, weights, strict=True)):
        middle = below + weight / 2
        if middle >= target:
            if last is None:
                return score
            part = (target - last[1]) / (middle - last[1])
            return last[0] + part * (score - last[0])
        below, last = below + weight, (score, middle)
    return last[0]


def tail_by_hand(scores, weights, upper, n):
    """Student's t of the next score, by scipy."""
    median = weighted_quantile(scores, weights, 0.5)
    high = weighted_quantile(scores, weights, upper)
    scale = (high - median) / student_t.ppf(upper, DEGREES_OF_FREEDOM)
    degrees = 1 / (1 / DEGREES_OF_FREEDOM + 0.75 / n)
    return scale, student_t(degrees, median, scale * np.sqrt(1 + OF_MEDIAN / n))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [5, 6, 31, 200])
def test_the_tail_is_students_t_about_the_median(n, weighted):
    rng = np.random.default_rng(n)
    scores = np.append(rng.normal(3, 2, n - 1), 99.0)  # one defect
    weights = rng.uniform(0.2, 1, n) if weighted else np.ones(n)
    tail = fit_predictive_tail(scores, weights if weighted else None)
    n_independent = weights.sum()
    _, first = tail_by_hand(scores, weights, FIRST, n_independent)
    kept = scores <= first.isf(TRIMMED)
    assert not kept[-1] or n < 10
    scale, expected = tail_by_hand(scores[kept], weights[kept], UPPER, n_independent)
    assert tail.location == pytest.approx(expected.median())
    assert tail.scale == pytest.approx(scale)
    assert tail.n_independent == pytest.approx(n_independent)
    new = np.linspace(-5, 30, 50)
    np.testing.assert_allclose(tail.sf(new), expected.sf(new), rtol=1e-3)
    for rate in (1e-4, 0.01, 0.2, 0.7):
        assert tail.isf(rate) == pytest.approx(expected.isf(rate), rel=1e-3)


def test_without_weights_the_median_is_the_median():
    for scores in ([1.0, 2.0, 7.0, 8.0, 9.0], [1.0, 2.0, 7.0, 8.0, 9.0, 10.0]):
        assert fit_predictive_tail(scores).location == np.median(scores)


@given(scores_, st.floats(0.001, 1000), st.floats(-1000, 1000), st.floats(0.001, 0.5))
def test_thresholds_follow_shifts_and_scales_of_the_scores(scores, factor, shift, rate):
    assume(np.ptp(scores) > 0.01)
    plain = fit_predictive_tail(scores).isf(rate)
    moved = fit_predictive_tail(factor * np.array(scores) + shift).isf(rate)
    size = abs(factor) * (1 + np.abs(scores).max()) + abs(shift)
    assert moved == pytest.approx(factor * plain + shift, rel=1e-6, abs=1e-6 * size)


@pytest.mark.parametrize("weight", [0.25, 0.5, 4.0])
def test_scores_that_count_less_say_less_about_the_next_one(weight):
    for scores in np.random.default_rng(0).normal(size=(50, 30)):
        plain = fit_predictive_tail(scores)
        weighted = fit_predictive_tail(scores, np.full(len(scores), weight))
        assert weighted.n_independent == weight * len(scores)
        assert (weighted.isf(0.01) > plain.isf(0.01)) == (weight < 1)


@given(scores_, st.floats(1e-6, 0.999), st.floats(1e-6, 0.999))
def test_lower_rates_have_higher_thresholds_and_are_what_lies_above_them(scores, one, other):
    assume(np.ptp(scores) > 0.01)
    tail, (low, high) = fit_predictive_tail(scores), sorted([one, other])
    assert tail.isf(low) >= tail.isf(high)
    assert tail.sf(tail.isf(low)) == pytest.approx(low, rel=1e-6)


@pytest.mark.parametrize("n", [10, 40, 200])
def test_a_few_defects_in_training_do_not_carry_the_threshold_away(n):
    rng = np.random.default_rng(0)
    good = rng.normal(size=n)
    spoiled = good.copy()
    spoiled[np.argsort(good)[-n // 10 :]] = 1e6  # the upper tenth are defects, however large
    plain, moved = fit_predictive_tail(good), fit_predictive_tail(spoiled)
    assert abs(moved.isf(0.01) - plain.isf(0.01)) < 0.5 * (plain.isf(0.01) - plain.location)
    assert moved.sf(1e6) < 1e-6


@pytest.mark.parametrize("n", [12, 50])
def test_the_expected_rate_of_normal_scores_is_near_the_one_asked_for(n):
    """Simulation; these have a lighter tail than is assumed."""
    rng, rate = np.random.default_rng(0), 0.05
    rates = [
        norm.sf(fit_predictive_tail(scores).isf(rate)) for scores in rng.normal(size=(2000, n))
    ]
    assert 0.5 * rate < np.mean(rates) < 1.6 * rate


@pytest.mark.parametrize("n", [30, 100])
def test_the_interval_holds_the_true_rate_nine_times_in_ten(n):
    """Simulation with scores of just that tail."""
    truth, rng = student_t(DEGREES_OF_FREEDOM), np.random.default_rng(0)
    held = 0
    for scores in truth.rvs(size=(1000, n), random_state=rng):
        tail = fit_predictive_tail(scores, fresh=1.0)
        threshold = tail.isf(0.05)
        low, high = tail.interval(threshold)
        assert 0 <= low < high <= 1
        held += low <= truth.sf(threshold) <= high
    assert 0.82 < held / 1000 < 0.97


def test_more_images_say_it_more_exactly():
    rng, widths = np.random.default_rng(0), []
    for n in (10, 100, 1000):
        tail = fit_predictive_tail(rng.normal(size=n))
        low, high = tail.interval(tail.isf(0.05))
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)


def test_where_most_scores_are_equal_all_of_them_say_how_wide_it_is():
    scores = [1.0] * 19 + [2.0]
    tail = fit_predictive_tail(scores)
    assert tail.location == 1 and tail.scale == pytest.approx(np.std(scores))
    assert 1 < tail.isf(0.02) < 2  # the one that differs is rejected


def test_equal_scores_are_an_error():
    with pytest.raises(ValueError, match=r"All 7 held-out scores are equal \(3\)"):
        fit_predictive_tail([3.0] * 7)
