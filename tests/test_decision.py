import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import t as student_t
from sklearn.pipeline import make_pipeline

from skstructcore import (
    AnomalyMaps,
    CoresetBank,
    RoutedKNNScorer,
    StructCoreScorer,
    operating_points,
    recalibrate,
)
from skstructcore.scoring import predictive
from skstructcore.scoring.conformal import conformal_p_values, conformal_threshold
from skstructcore.scoring.decision import MIN_IMAGES, RULES, HeldOut, decide
from skstructcore.scoring.table import rejections

scores_ = st.lists(st.integers(-20, 20).map(float), min_size=5, max_size=40)
rates_ = st.floats(0.001, 0.9)


def near(scores):
    """Scores, what lies just beside and far from them, and what is no number."""
    scores = np.asarray(scores, dtype=np.float64)
    between = np.linspace(scores.min() - 5, scores.max() + 50, 101)
    beside = [np.nextafter(scores, -np.inf), scores, np.nextafter(scores, np.inf)]
    return np.concatenate([*beside, between, [np.nan, np.inf, -np.inf]])


def patches(n, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    return (shift + rng.normal(size=(n, 3, 4, 6))).astype(np.float32)


def fitted(images, rule="expected", rate=0.1, **fit_params):
    pipe = make_pipeline(
        CoresetBank(0.2, random_state=0),
        RoutedKNNScorer(2, routing="auto"),
        StructCoreScorer(false_alarm_rate=rate, threshold=rule),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return pipe.fit(images, **fit_params)


# --- one decision -----------------------------------------------------------------------------


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("rule", RULES)
@given(scores=scores_, rate=rates_)
def test_p_values_are_at_most_the_rate_exactly_where_scores_are_rejected(
    rule, grouped, scores, rate
):
    assume(np.ptp(scores) > 0)
    groups = np.arange(len(scores)) // 2 if grouped else None
    decision = decide(HeldOut(np.array(scores), groups), rate, rule)
    new = near([*scores, decision.threshold])
    rejected = decision.rejects(new)
    p_values = decision.p_values(new)
    np.testing.assert_array_equal(p_values <= decision.rate, rejected)
    number = ~np.isnan(new)
    np.testing.assert_array_equal(rejected[number], new[number] > decision.threshold)
    assert rejected[~number].all()
    assert ((p_values >= 0) & (p_values <= 1)).all()
    in_order = p_values[number][np.argsort(new[number])]
    assert (np.diff(in_order) <= 1e-12).all()  # but for rounding
    assert decision.asked_rate == rate and decision.rate >= decision.smallest_rate


@pytest.mark.parametrize("rule", RULES)
@given(scores=scores_, one=rates_, other=rates_)
def test_another_rate_is_what_would_have_been_decided_with_it(rule, scores, one, other):
    assume(np.ptp(scores) > 0)
    groups, weights = np.arange(len(scores)) // 2, np.linspace(0.2, 1, len(scores))
    held_out = HeldOut(np.array(scores), groups, weights)
    moved, anew = decide(held_out, one, rule).at(other), decide(held_out, other, rule)
    assert (moved.threshold, moved.rate, moved.rule) == (anew.threshold, anew.rate, anew.rule)
    assert moved.asked_rate == other
    np.testing.assert_array_equal(moved.p_values(near(scores)), anew.p_values(near(scores)))
    # A lower rate never rejects what a higher one accepts.
    low, high = sorted([one, other])
    assert moved.at(low).threshold >= moved.at(high).threshold


@pytest.mark.parametrize("rule", RULES)
@given(
    scores=scores_, rate=rates_, factor=st.sampled_from([0.25, 3.0, 1e4]), shift=st.integers(-9, 9)
)
def test_decisions_follow_shifts_and_scales_of_the_scores(rule, scores, rate, factor, shift):
    assume(np.ptp(scores) > 0)
    plain = decide(scores, rate, rule)
    moved = decide(factor * np.array(scores) + shift, rate, rule)
    assert moved.rate == plain.rate
    assert moved.threshold == pytest.approx(
        factor * plain.threshold + shift, rel=1e-9, abs=1e-7 * factor
    )
    new = np.linspace(-30, 60, 31) + 0.123
    np.testing.assert_allclose(
        moved.p_values(factor * new + shift), plain.p_values(new), rtol=1e-6, atol=1e-12
    )


def test_the_expected_rule_by_the_formula_of_students_t():
    scores = np.random.default_rng(0).gamma(4, size=25)
    decision = decide(scores, 0.02)
    freedom = predictive.DEGREES_OF_FREEDOM
    of_median = 0.25 / student_t.pdf(0, freedom) ** 2  # 25 times its variance

    def tail_to(upper):
        middles = (np.arange(25) + 0.5) / 25
        median, high = np.interp([0.5, upper], middles, np.sort(scores))
        scale = (high - median) / student_t.ppf(upper, freedom) * np.sqrt(1 + of_median / 25)
        return student_t(1 / (1 / freedom + 0.75 / 25), median, scale)

    assert scores.max() < tail_to(predictive._FIRST).isf(predictive._TRIMMED)
    tail = tail_to(predictive.UPPER)
    assert decision.threshold == pytest.approx(tail.isf(0.02), rel=1e-3)
    np.testing.assert_allclose(decision.p_values(scores), tail.sf(scores), rtol=1e-3)
    low, high = decision.interval
    assert 0 < low < 0.02 < high < 1
    # Below 1 / (n + 1), which ranks cannot tell.
    assert decision.at(1e-4).threshold == pytest.approx(tail.isf(1e-4), rel=1e-3)
    assert decision.at(1e-4).threshold > scores.max()


def test_the_tail_of_fresh_scores_is_wider_at_every_rate():
    scores = np.random.default_rng(0).gamma(4, size=25)
    held_out, fresh = (decide(HeldOut(scores, fresh=share), 0.02) for share in (0.0, 1.0))
    location = held_out.tail.location
    for rate in (0.02, 0.3):
        reach = held_out.at(rate).threshold - location
        assert fresh.at(rate).threshold - location == pytest.approx(1.1 * reach)
    guaranteed = [decide(d.held_out, 0.1, "guaranteed").threshold for d in (held_out, fresh)]
    assert guaranteed[0] == guaranteed[1]


def test_the_guaranteed_rule_is_the_conformal_one():
    rng = np.random.default_rng(0)
    scores, groups, weights = rng.normal(size=40), np.arange(40) // 2, rng.uniform(0.1, 1, 40)
    for rate in (0.01, 0.1, 0.5):
        decision = decide(HeldOut(scores, groups, weights), rate, "guaranteed")
        expected = conformal_threshold(scores, rate, groups, weights)
        assert (decision.threshold, decision.rate) == expected
    np.testing.assert_allclose(
        decision.p_values(scores), conformal_p_values(scores, scores, groups, weights)
    )
    assert decision.held_out.n_independent == 20 and decision.interval is None


@pytest.mark.parametrize("rule", RULES)
def test_nothing_is_decided_by_scores_that_are_no_numbers(rule):
    scores = np.array([1.0, 2, 3, 4, 5, 6, np.nan])
    for held_out in (scores, HeldOut(scores), HeldOut(scores[:0])):
        with pytest.raises(ValueError, match=r"scores contains NaN|0 sample"):
            decide(held_out, 0.1, rule)


def test_a_decision_says_how_many_good_images_it_rejects():
    scores = np.arange(1.0, 11.0)
    assert str(decide(scores, 0.1, "guaranteed")) == "rejects at most 9.1 % of good images"
    assert str(decide(scores, 0.1)).startswith("rejects about 10 % of good images (")
    assert str(decide(scores, 0.01)).endswith("; extrapolated from 10 images)")
    unknown = "rejects an unknown share of good images"
    assert str(decide(scores, 0.1, "quantile")) == unknown
    for rule in RULES:
        text = str(decide(HeldOut(scores, in_sample=True), 0.1, rule))
        assert text == f"{unknown} (they were compared with themselves: in-sample)"


def test_the_plain_quantile_is_numpys_and_its_p_values_undo_it():
    scores = np.array([1.0, 1.0, 1.0, 2.0, 4.0])
    for rate in (0.1, 0.25, 0.4, 0.6):
        decision = decide(scores, rate, "quantile")
        assert decision.threshold == np.quantile(scores, 1 - rate)
        assert decision.smallest_rate == 0 and decision.interval is None
    # The quantiles at 0, 1/4, ..., 1 are 1, 1, 1, 2, 4: nothing rejects a score of 1.
    p_values = decision.at(0.01).p_values([0.0, 1.0, 1.5, 2.0, 3.0, 5.0])
    np.testing.assert_allclose(p_values, [1, 1, 0.375, 0.25, 0.125, 0])


@pytest.mark.parametrize("rule", ["expected", "guaranteed"])
def test_images_of_one_group_count_as_one(rule):
    rng = np.random.default_rng(0)
    lots = rng.normal(size=10)
    once = decide(lots, 0.2, rule)
    often = decide(HeldOut(np.repeat(lots, 3), np.repeat(np.arange(10), 3)), 0.2, rule)
    assert often.held_out.n_independent == once.held_out.n_independent == 10
    assert often.rate == pytest.approx(once.rate)
    if rule == "guaranteed":
        assert often.threshold == once.threshold
    else:  # ten independent images, not thirty
        assert often.tail.n_independent == pytest.approx(10)
        assert often.threshold > decide(np.repeat(lots, 3), 0.2, rule).threshold


def test_few_or_equal_scores_are_errors_that_say_what_helps():
    few = np.arange(MIN_IMAGES - 1.0)
    with pytest.raises(ValueError, match=r"at least 5 good .* n_samples = 4: .*'guaranteed'"):
        decide(few, 0.1)
    decide(np.arange(float(MIN_IMAGES)), 0.1)
    with pytest.raises(ValueError, match=r"All 9 held-out scores are equal \(2\)"):
        decide(np.full(9, 2.0), 0.1)
    for rule in ("guaranteed", "quantile"):
        assert decide(few, 0.5, rule).threshold <= few.max()
        assert decide(np.full(9, 2.0), 0.5, rule).threshold == 2


# --- the scorer asks it -----------------------------------------------------------------------


def test_few_or_equal_images_are_errors_of_fit():
    with pytest.raises(ValueError, match="at least 5 good images"):
        StructCoreScorer().fit(np.random.default_rng(0).random((4, 5, 5)))
    with pytest.raises(ValueError, match="scores are equal"):
        StructCoreScorer().fit(np.ones((8, 5, 5)))


def test_the_two_words_for_the_rate_must_agree():
    maps = np.random.default_rng(0).random((30, 5, 5))
    paper, ours = StructCoreScorer(quantile=0.9), StructCoreScorer(false_alarm_rate=0.1)
    assert paper.fit(maps).offset_ == ours.fit(maps).offset_
    assert paper.false_alarm_rate_ == ours.false_alarm_rate_ == 0.1
    both = StructCoreScorer(quantile=0.9, false_alarm_rate=0.1)
    assert both.fit(maps).offset_ == ours.offset_
    with pytest.raises(ValueError, match=r"quantile=0.9 and false_alarm_rate=0.2 say different"):
        StructCoreScorer(quantile=0.9, false_alarm_rate=0.2).fit(maps)


@pytest.mark.parametrize("rule", RULES)
def test_predict_tables_and_p_values_agree(rule):
    pipe = fitted(patches(40), rule)
    scorer, new = pipe[-1], np.concatenate([patches(60, 1), 1.3 * patches(60, 2)])
    parts = scorer.describe(pipe[:-1].transform(new))
    rejected = pipe.predict(new) == -1
    assert 0 < rejected.sum() < len(new)
    np.testing.assert_array_equal(parts["p_value"] <= scorer.false_alarm_rate_, rejected)
    np.testing.assert_array_equal(parts["is_anomalous"], rejected)
    np.testing.assert_array_equal(parts["anomaly_score"] > -scorer.offset_, rejected)
    for rate in (0.03, 0.1, 0.4):  # at another rate as a fit with that rate decides
        anew = fitted(patches(40), rule, rate).predict(new) == -1
        np.testing.assert_array_equal(rejections(parts, scorer, [rate]), [anew])


def test_the_next_number_above_the_threshold_of_another_rate_is_rejected():
    scorer = fitted(patches(40), "quantile")[-1]
    threshold = scorer.calibration_.decision.at(0.3).threshold
    scores = [threshold, np.nextafter(threshold, np.inf)]
    table = pd.DataFrame({"anomaly_score": scores, "route": "all"})
    assert rejections(table, scorer, [0.3]).tolist() == [[False, True]]


@pytest.mark.parametrize("rule", RULES)
def test_so_they_do_with_routes_and_unknown_products(rule):
    train = np.concatenate([patches(30), 3 * patches(12, 1) + 40])
    pipe = fitted(train, rule, coresetbank__categories=["a"] * 30 + ["b"] * 12)
    scorer = pipe[-1]
    assert set(scorer.routes_.decisions) == {"a", "b"}
    assert scorer.false_alarm_rate_ == max(d.rate for d in scorer.routes_.decisions.values())
    new = np.concatenate(
        [patches(40, 2), 1.3 * patches(40, 3), 3.3 * patches(40, 4) + 40, patches(9, 5) - 60]
    )
    maps = pipe[:-1].transform(new)
    maps = replace(maps, route_distance=np.append(maps.route_distance[:-1], np.nan))
    parts = scorer.describe(maps)
    rejected = scorer.predict(maps) == -1
    unknown = (parts["route"] == "unknown").to_numpy()
    assert unknown[-9:].all() and rejected[unknown].all() and 9 < rejected.sum() < len(new)
    own = parts["nearest_route"].map({n: d.rate for n, d in scorer.routes_.decisions.items()})
    np.testing.assert_array_equal(parts["p_value"] <= own, rejected)
    np.testing.assert_array_equal(parts["is_anomalous"], rejected)
    np.testing.assert_array_equal(~(parts["anomaly_score"] <= 1), rejected)
    for rate in (0.05, 0.3):
        anew = fitted(train, rule, rate, coresetbank__categories=["a"] * 30 + ["b"] * 12)
        np.testing.assert_array_equal(
            rejections(parts, scorer, [rate]), [anew[-1].predict(maps) == -1]
        )


def test_a_score_that_is_no_number_is_rejected_at_every_rate():
    scorer = StructCoreScorer(false_alarm_rate=0.1).fit(np.random.default_rng(0).random((40, 6, 6)))
    scorer.calibration_.weights[0] = np.nan  # a damaged model, say
    parts = scorer.describe(np.random.default_rng(1).random((3, 6, 6)))
    assert parts["anomaly_score"].isna().all() and parts["is_anomalous"].all()
    assert rejections(parts, scorer, [0.001]).all()


@pytest.mark.parametrize("rule", RULES)
def test_a_threshold_below_the_mean_of_the_scores_still_decides(rule):
    """One gross defect among the training images of a product carries the mean away."""
    train = patches(40)
    train[1::2] += 30
    train[0, 1, 1] += 200
    pipe = fitted(train, rule, rate=0.2, coresetbank__categories=["a", "b"] * 20)
    scorer, decision = pipe[-1], pipe[-1].routes_.decisions["a"]
    assert decision.threshold < decision.scores.mean()
    new = patches(60, 1)
    new[:30, 0, 0] += 6
    parts = scorer.describe(pipe[:-1].transform(new))
    assert (parts["nearest_route"] == "a").all()
    known = (parts["route"] == "a").to_numpy()
    raw = parts["base"] + scorer.routes_["a"].calibration.lam * parts["d_struct"]
    rejected = pipe.predict(new) == -1
    np.testing.assert_array_equal(rejected[known], (raw > decision.threshold)[known])
    np.testing.assert_array_equal(parts["p_value"] <= decision.rate, rejected)
    assert rejected[:30].mean() > 0.9
    table = operating_points(pipe, false_alarm_rates=[0.2]).set_index("route")
    assert table.loc["a", "threshold"] == decision.threshold


@pytest.mark.parametrize(
    ("knn", "rule"),
    [("leave-one-image-out", "quantile"), ("in-sample", "expected"), ("in-sample", "quantile")],
)
def test_operating_points_are_what_recalibrate_sets_and_claim_nothing_unknown(knn, rule):
    pipe = make_pipeline(
        CoresetBank(0.1, random_state=0),
        RoutedKNNScorer(2, calibration=knn),
        StructCoreScorer(threshold=rule),
    ).fit(patches(40))
    (row,) = operating_points(pipe, false_alarm_rates=[0.2]).itertuples()
    assert row.threshold == -recalibrate(pipe, false_alarm_rate=0.2)[-1].offset_
    assert np.isnan([row.rate, row.rate_low, row.rate_high]).all()


def test_a_new_rate_holds_for_products_without_fresh_images_too():
    train = patches(60)
    train[1::2] += 12
    pipe = fitted(train, coresetbank__categories=["a", "b"] * 30)
    later = recalibrate(pipe, patches(20, 1), false_alarm_rate=0.3)
    decisions = later[-1].routes_.decisions
    assert {name: d.asked_rate for name, d in decisions.items()} == {"a": 0.3, "b": 0.3}
    assert later[-1].false_alarm_rate_ == 0.3
    old, new = pipe[-1].routes_.decisions["b"], later[-1].routes_.decisions["b"]
    assert new.threshold == old.at(0.3).threshold < old.threshold
    moved, before = later[-1].routes_.decisions["a"], pipe[-1].routes_.decisions["a"].at(0.3)
    assert not np.array_equal(moved.scores, before.scores)
    table = later[-1].recalibration_.thresholds.set_index("route")
    assert table.loc["b", ["n_images", "new_rate"]].tolist() == [0, 0.3]


def test_unequal_maps_of_equal_base_score_have_a_decision():
    # It tells nothing, and regions are none.
    values = np.random.default_rng(0).random((20, 5, 5))
    values[:, 2, 2] = 1
    maps = AnomalyMaps(values)
    scorer = StructCoreScorer(descriptors=["std"]).fit(maps)
    assert scorer.calibration_.base_decision.rule == "quantile"
    assert np.isfinite(scorer.describe(maps)["p_value"]).all()


@pytest.mark.parametrize("rule", ["expected", "guaranteed"])
def test_one_other_image_among_copies_is_a_model(rule):
    rows = np.ones((41, 8))
    rows[-1] += 3
    scorer = StructCoreScorer(descriptors=["max"], threshold=rule)
    pipe = make_pipeline(CoresetBank(0.5, random_state=0), RoutedKNNScorer(1), scorer).fit(rows)
    assert pipe.predict(rows[:1]).tolist() == [1]


def test_a_rule_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"rule must be one of 'expected', .*, got 'foo'"):
        decide([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0.1, "foo")


@pytest.mark.parametrize("rule", RULES)
def test_what_no_decision_follows_from_is_refused(rule):
    scores = np.arange(20.0)
    for rate in (0, 1, 1.5, np.nan, "1 %"):
        with pytest.raises(ValueError, match="false_alarm_rate must be a float in the range"):
            decide(scores, rate, rule)
        with pytest.raises(ValueError, match="false_alarm_rate must be a float in the range"):
            decide(scores, 0.1, rule).at(rate)
    for bad in ([], [*scores, np.nan], [*scores, np.inf]):
        with pytest.raises(ValueError, match=r"0 sample|scores contains"):
            decide(bad, 0.1, rule)
