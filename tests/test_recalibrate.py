import copy

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, binom, norm
from scipy.stats import t as student_t
from sklearn.pipeline import make_pipeline

from skstructcore import (
    ConvFeatures,
    CoresetBank,
    DriftMonitor,
    RoutedKNNScorer,
    StructCoreScorer,
    audit,
    load,
    make_structcore,
    operating_points,
    recalibrate,
    save,
    update,
)
from skstructcore.datasets import ImageSet
from skstructcore.lifecycle.recalibrate import _fresh_decision, _moved, _with_scores
from skstructcore.scoring.conformal import conformal_p_values, conformal_threshold
from skstructcore.scoring.decision import RULES, HeldOut, decide
from skstructcore.scoring.predictive import DEGREES_OF_FREEDOM, weighted_quantiles
from skstructcore.scoring.summary import what_it_rejects

pytestmark = pytest.mark.filterwarnings("ignore:false_alarm_rate=", "ignore:Fewer than")


def patches(n, seed, scale=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    return (shift + scale * rng.normal(size=(n, 3, 4, 6))).astype(np.float32)


def steps(threshold="guaranteed", **knn):
    return make_pipeline(
        CoresetBank(0.2, random_state=0),
        RoutedKNNScorer(2, **knn),
        StructCoreScorer(false_alarm_rate=0.1, threshold=threshold),
    )


@pytest.fixture(scope="module")
def pipe():
    return steps().fit(patches(60, 0))


@pytest.fixture(scope="module")
def routed():
    images = np.concatenate([patches(30, 0), patches(30, 1, shift=20)])
    return steps(routing="auto").fit(images, coresetbank__categories=["a"] * 30 + ["b"] * 30)


def snapshot(pipe, images):
    table = pipe[-1].describe(pipe[:-1].transform(images))
    return table.to_csv(), pipe[-1].offset_, pipe[-1].false_alarm_rate


def test_threshold_is_the_conformal_one_of_the_fresh_scores_alone(pipe):
    fresh = patches(49, 1, scale=1.1)
    later = recalibrate(pipe, fresh)
    scores = -pipe.score_samples(fresh)
    np.testing.assert_allclose(-later.score_samples(fresh), scores)
    # A tenth of 49 + 1 places is five: four fresh images lie above the threshold.
    assert -later[-1].offset_ == np.sort(scores)[-5]
    new = patches(20, 2)
    found = later[-1].describe(later[:-1].transform(new))["p_value"]
    np.testing.assert_allclose(found, conformal_p_values(-pipe.score_samples(new), scores))


def test_the_promise_is_exact_on_a_line_that_is_not_the_one_of_the_fit(pipe):
    """Simulation: 300 times 19 fresh images, then one more; at 10 % two of 20 places reject."""
    maps = pipe[:-1].transform(patches(300 * 20, 3, scale=1.3))
    table = pipe[-1].describe(maps)
    scores = table["anomaly_score"].to_numpy().reshape(300, 20)
    fresh = np.zeros(300, dtype=bool)
    table = table.assign(raw_score=table["anomaly_score"], group=np.arange(len(table)))
    for i in range(300):
        mine = table.iloc[20 * i : 20 * i + 19]
        calibration = _with_scores(pipe[-1].calibration_, mine, 0.0)
        fresh[i] = scores[i, 19] > calibration.decision.threshold
    # Without recalibration nearly everything is rejected; with it exactly 2 of 20 on average.
    assert (scores[:, 19] > pipe[-1].calibration_.decision.threshold).mean() > 0.5
    low, high = binom.ppf([0.0005, 0.9995], 300, 0.1)
    assert low <= fresh.sum() <= high


def test_the_false_alarm_rate_of_one_calibration_follows_its_beta_distribution():
    # Of n scores with k above the threshold, the rate is Beta(k + 1, n - k): mean level.
    rng, rates = np.random.default_rng(0), []
    for _ in range(500):
        threshold, _ = conformal_threshold(rng.standard_exponential(49), 0.1)
        rates.append(np.exp(-threshold))
    expected = beta(5, 45)
    assert np.mean(rates) == pytest.approx(expected.mean(), abs=4 * expected.std() / 500**0.5)
    assert np.mean(np.array(rates) > 0.15) == pytest.approx(expected.sf(0.15), abs=0.05)


def test_old_pipeline_is_untouched_and_the_other_steps_are_shared(pipe):
    new = patches(10, 2)
    before = snapshot(pipe, new)
    later = recalibrate(pipe, patches(30, 1, scale=1.1), false_alarm_rate=0.2)
    assert snapshot(pipe, new) == before
    assert not hasattr(pipe[-1], "recalibration_")
    assert later[0] is pipe[0] and later[1] is pipe[1]
    assert later[-1].get_params()["false_alarm_rate"] == 0.2


def test_report_says_what_has_changed(pipe):
    fresh = patches(49, 1, scale=1.1)
    later = recalibrate(pipe, fresh)
    report = later[-1].recalibration_
    (row,) = report.thresholds.itertuples()
    assert (row.route, row.n_images, row.n_groups) == ("all", 49, 49)
    assert (row.old_threshold, row.new_threshold) == (-pipe[-1].offset_, -later[-1].offset_)
    assert row.old_rate == pytest.approx(6 / 61) and row.new_rate == pytest.approx(0.1)
    decisions = report.decisions
    np.testing.assert_array_equal(decisions["was_anomalous"], pipe.predict(fresh) == -1)
    np.testing.assert_array_equal(decisions["is_anomalous"], later.predict(fresh) == -1)
    assert decisions["changed"].sum() == (pipe.predict(fresh) != later.predict(fresh)).sum() > 0


@pytest.mark.parametrize("rule", RULES)
def test_another_rate_needs_no_images_and_is_what_a_fit_with_it_gives(rule):
    images = patches(60, 0)
    pipe = steps(rule).fit(images)
    other = recalibrate(pipe, false_alarm_rate=0.2)
    refitted = steps(rule).set_params(structcorescorer__false_alarm_rate=0.2).fit(images)
    new = patches(20, 1)
    assert snapshot(other, new) == snapshot(refitted, new)
    nothing = other[-1].recalibration_.decisions
    assert nothing.empty
    assert [*nothing] == [*recalibrate(pipe, new)[-1].recalibration_.decisions]
    back = recalibrate(other, false_alarm_rate=0.1)
    assert snapshot(back, new) == snapshot(pipe, new)


def test_the_rate_of_a_plain_threshold_moves_as_a_plain_one():
    pipe = steps("quantile", calibration="in-sample").fit(patches(60, 0))
    other = recalibrate(pipe, false_alarm_rate=0.3)
    assert -other[-1].offset_ == np.quantile(pipe[-1].calibration_.decision.scores, 0.7)
    assert np.isnan(operating_points(other, false_alarm_rates=[0.3])["rate"][0])


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_old_images_count_as_much_as_they_are_told_to(pipe, weight):
    fresh = patches(39, 1, scale=1.05)
    later = recalibrate(pipe, fresh, weight_old=weight)
    old, new = pipe[-1].calibration_.decision.scores, -pipe.score_samples(fresh)
    score = np.median(new)
    at_least = weight * (old >= score).sum() + (new >= score).sum()
    (p,) = later[-1].calibration_.decision.p_values([score])
    assert p == pytest.approx((1 + at_least) / (1 + weight * 60 + 39))
    assert later[-1].false_alarm_rate_ <= 0.1 + 1e-12
    again = recalibrate(later, patches(39, 2), weight_old=0.5)
    assert again[-1].calibration_.decision.held_out.weights.sum() == 0.5 * (weight * 60 + 39) + 39


def test_images_of_one_lot_count_as_one(pipe):
    lots = np.repeat(np.arange(10), 4)
    later = recalibrate(pipe, patches(40, 1), groups=lots, false_alarm_rate=0.2)
    assert later[-1].calibration_.decision.held_out.n_independent == 10
    assert later[-1].recalibration_.thresholds["n_groups"].tolist() == [10]


def test_only_routes_with_fresh_images_change(routed):
    fresh = patches(30, 5, scale=1.05, shift=20)
    later = recalibrate(routed, fresh, categories="b")
    old, new = routed[-1].routes_, later[-1].routes_
    assert new["a"] is old["a"]
    assert new["b"].calibration.decision.threshold != old["b"].calibration.decision.threshold
    scores = later[-1].recalibration_.decisions["anomaly_score"]
    assert new["b"].calibration.decision.scores.tolist() == scores.tolist()
    of_a = patches(10, 6)
    np.testing.assert_array_equal(later.score_samples(of_a), routed.score_samples(of_a))
    decided = later[-1].recalibration_.decisions["is_anomalous"]
    np.testing.assert_array_equal(decided, later.predict(fresh) == -1)
    assert later[-1].recalibration_.thresholds["n_images"].tolist() == [0, 30]


def test_a_recalibrated_pipeline_is_saved_and_loaded(pipe, tmp_path):
    later = recalibrate(pipe, patches(30, 1), weight_old=0.5)
    save(later, tmp_path / "model")
    loaded, new = load(tmp_path / "model"), patches(5, 2)
    np.testing.assert_array_equal(loaded.predict(new), later.predict(new))
    assert repr(loaded[-1].recalibration_) == repr(later[-1].recalibration_)


def test_too_few_fresh_images_for_a_guarantee_are_not_called_training_images(pipe):
    decision = recalibrate(pipe, patches(5, 7), force=True)[-1].calibration_.decision
    assert "with 5 good images the best guarantee is 16.7%" in decision.shortage


def test_few_fresh_images_move_scores_a_fiftieth_of_the_way_each():
    old = HeldOut(np.arange(101.0))  # location 50, spread 30.3 (to the middle of a step)
    one = _moved(old, HeldOut(np.array([60.0]), np.zeros(1)), 0.0)
    np.testing.assert_allclose(one.scores, old.scores + 10 / 50)  # the spread stays
    # Twenty of location 60 and spread 30.3, which is a little small for so few.
    fresh = HeldOut(60 + 30.3 * (np.arange(20) - 9.5) / 6.0, np.arange(20))
    moved = _moved(old, fresh, 0.0).scores
    assert np.median(moved) == pytest.approx(50 + 10 * 20 / 50)
    factor = np.exp(1.5**2 / 20 / 2 * 20 / 50)
    np.testing.assert_allclose(moved - np.median(moved), factor * (old.scores - 50))


def test_scores_of_a_line_far_off_move_to_within_a_standard_error():
    old, ranks = HeldOut(np.arange(101.0)), (np.arange(20) - 9.5) / 6.0
    error = 1.5 / np.sqrt(20)
    moved = _moved(old, HeldOut(1000 + 30 * ranks, np.arange(20)), 0.0).scores
    spread = weighted_quantiles(moved, np.ones(101), 0.8) - np.median(moved)
    assert np.median(moved) == pytest.approx(1000 - error * spread)
    wide = _moved(old, HeldOut(50 + 3000 * ranks, np.arange(20)), 0.0).scores
    spread = weighted_quantiles(wide, np.ones(101), 0.8) - np.median(wide)
    assert np.log(spread) == pytest.approx(np.log(3000) + error**2 / 2 - error)


@pytest.mark.parametrize("n", [3, 5, 7, 10])
def test_one_odd_image_among_few_fresh_ones_moves_the_threshold_little(n):
    """Simulation: a spread that one of five images decides would lead from 1.9 to 4.8."""
    thresholds = []
    for seed in range(30):
        random = np.random.default_rng(seed)
        old, fresh = decide(HeldOut(random.normal(size=200)), 0.05), random.normal(size=n)
        fresh[0] = 6
        now = _fresh_decision(old, fresh, np.arange(n), 0.0)
        thresholds.append(now.threshold - old.threshold)
    assert np.mean(thresholds) < 0.5


@pytest.mark.parametrize("n", [3, 4, 5])
def test_a_line_far_off_does_not_reject_all_once_three_images_of_it_are_known(n):
    random, rates = np.random.default_rng(0), []
    old = decide(HeldOut(random.normal(size=200)), 0.05)
    for _ in range(30):
        fresh = 8 + random.normal(size=n)
        now = _fresh_decision(old, fresh, np.arange(n), 0.0)
        rates.append(norm.sf(now.threshold - 8))
    assert np.mean(rates) < 0.25  # 100 % by the threshold of before


@pytest.mark.parametrize("n", [3, 5, 10])
def test_calibrating_an_unchanged_line_again_and_again_changes_nothing(n):
    """Simulation: 40 times with `n` images of the same line; with a spread that is too small on
    average the rate would creep up to 11 % (of 5 images) and 8 %."""
    rates = []
    for seed in range(30):
        random = np.random.default_rng(seed)
        decision = decide(HeldOut(random.normal(size=200)), 0.05)
        for _ in range(40):
            decision = _fresh_decision(decision, random.normal(size=n), np.arange(n), 0.0)
        rates.append(norm.sf(decision.threshold))
    assert np.mean(rates) < 0.06


@pytest.mark.parametrize("weight", [0.0, 0.3])
@pytest.mark.parametrize(("shift", "scale"), [(8, 1), (0, 2.5)])
def test_one_more_fresh_image_is_no_jump(shift, scale, weight):
    random = np.random.default_rng(0)
    old, fresh = decide(HeldOut(random.normal(size=200)), 0.05), random.normal(size=50)
    now = [
        _fresh_decision(old, shift + scale * fresh[:n], np.arange(n), weight).threshold
        for n in (49, 50)
    ]
    assert abs(now[1] - now[0]) < 0.5  # a fourth of a standard deviation: was 4 and more


@pytest.mark.parametrize(("weight_old", "kept"), [(0.0, 49 / 50), (1.0, 60 / 61)])
def test_the_tail_becomes_that_of_fresh_scores_as_they_come_to_count(weight_old, kept):
    """One image in the middle, and 60 of before: the location stays, and the width nearly does."""
    known = steps("expected").fit(patches(60, 0), coresetbank__groups=None)[-1].calibration_
    old = known.decision
    fresh = pd.DataFrame({"raw_score": [np.median(old.scores)], "base": [1.0], "group": [0]})
    now = _with_scores(known, fresh, weight_old).decision
    assert now.held_out.fresh == pytest.approx(1 - kept)
    if weight_old == 0:
        reach = [decision.threshold - decision.tail.location for decision in (old, now)]
        assert reach[1] / reach[0] == pytest.approx(1.1 ** (1 / 50), rel=1e-3)


@pytest.mark.parametrize(
    ("n", "shift"), [(1, 1), (3, 1), (20, 1), (3, 8), (5, 8), (20, 8), (40, 8)]
)
def test_the_interval_holds_the_rate_of_a_line_that_has_changed(n, shift):
    """Simulation: 60 images of the fit, and n fresh ones that score some scales higher."""
    truth, random = student_t(DEGREES_OF_FREEDOM), np.random.default_rng(0)
    held = 0
    for _ in range(200):
        old = decide(truth.rvs(60, random_state=random), 0.05)
        fresh = shift + truth.rvs(n, random_state=random)
        now = _fresh_decision(old, fresh, np.arange(n), 0.0)
        low, high = now.interval
        held += low <= truth.sf(now.threshold - shift) <= high
    assert held >= 0.9 * 200


def test_the_interval_is_that_of_fresh_images_and_of_old_ones_at_their_weight():
    scores = np.random.default_rng(0).normal(size=63)
    old = decide(scores[:60], 0.05)
    fresh = scores[60:], np.arange(3)
    for weight, n_known in ((0.0, 3), (0.5, 33), (1.0, 63)):
        now = _fresh_decision(old, *fresh, weight)
        assert now.interval == now.tail.interval(now.threshold, n_known)
        assert now.at(0.01).interval == now.tail.interval(now.at(0.01).threshold, n_known)
    again = _fresh_decision(_fresh_decision(old, *fresh, 0.0), *fresh, 1.0)
    assert again.held_out.n_known == 6
    many = _fresh_decision(old, np.arange(50.0), np.arange(50), 0.0)
    assert many.interval == many.tail.interval(many.threshold, 50)


def test_in_sample_scores_at_next_to_no_weight_count_next_to_nothing():
    scores = np.random.default_rng(0).normal(size=220)
    old = decide(HeldOut(scores[:200], in_sample=True), 0.05)
    fresh = 3 + scores[200:], np.arange(20)
    alone, at_little = (_fresh_decision(old, *fresh, w) for w in (0.0, 1e-9))
    assert at_little.threshold == pytest.approx(alone.threshold)
    assert at_little.held_out.in_sample


def test_few_fresh_images_of_one_group_count_as_one():
    known = steps("expected").fit(patches(60, 0), coresetbank__groups=None)[-1].calibration_
    raw = np.median(known.decision.scores) + np.array([0.5, 0.6, 0.7, 0.8, 0.9])

    def moved(raw, groups):
        fresh = pd.DataFrame({"raw_score": raw, "base": raw, "group": groups})
        return _with_scores(known, fresh, 0.0).decision

    shots, one = moved(raw, ["part"] * 5), moved([np.median(raw)], ["part"])
    assert (shots.threshold, shots.held_out.fresh) == (one.threshold, one.held_out.fresh)
    assert moved(raw, np.arange(5)).threshold > shots.threshold > known.decision.threshold


def test_one_fresh_image_moves_next_to_nothing():
    pipe = steps("expected").fit(patches(60, 0), coresetbank__groups=None)
    later = recalibrate(pipe, patches(1, 9))
    spread = pipe[-1].calibration_.decision.scores.std()
    assert abs(later[-1].offset_ - pipe[-1].offset_) < 0.3 * spread
    assert later[-1].false_alarm_rate_ == pipe[-1].false_alarm_rate_


def test_fresh_images_of_equal_base_scores_have_a_decision_too():
    # One patch of each image is alike far from those of all others, and no other patch is as far.
    X = np.zeros((28, 1, 3, 32), np.float32)
    X[np.arange(28), 0, 0, np.arange(28)] = 8
    X[:, 0, 1:, 28:] = np.random.default_rng(0).normal(50, 1, size=(28, 2, 4))
    rows = CoresetBank(1.0, random_state=0), RoutedKNNScorer(1), StructCoreScorer()
    pipe = make_pipeline(*rows).fit(X[:20])
    assert pipe[-1].calibration_.base_decision.rule == "quantile"
    moved = recalibrate(pipe, X[20:], force=True)[-1].calibration_
    assert (moved.decision.rule, moved.base_decision.rule) == ("expected", "quantile")


def test_too_few_images_for_the_level_are_said(pipe):
    with pytest.warns(UserWarning, match="best guarantee is 25.0%"):
        later = recalibrate(pipe, patches(3, 1))
    assert later[-1].false_alarm_rate_ == 0.25


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (None, {}, "fresh good images, a false_alarm_rate, or both"),
        ([], {}, "list of images is empty"),
        (patches(0, 0), {}, "list of images is empty"),
        (None, {"false_alarm_rate": "0.9"}, "false_alarm_rate must be a float .*, got '0.9'"),
        (None, {"false_alarm_rate": 0}, "false_alarm_rate must be a float in the range .*, got 0"),
        (None, {"false_alarm_rate": 0.2, "parts": ["a", "a", "b"]}, "are about fresh images"),
        (None, {"false_alarm_rate": 0.2, "weight_old": 0.5}, "are about fresh images"),
        (patches(5, 1), {"categories": "nut"}, "categories='nut' tells products apart, but"),
        (patches(5, 1), {"weight_old": np.nan}, "weight_old must be a float in the range"),
        (patches(5, 1), {"weight_old": -1}, "weight_old must be a float in the range .*, got -1"),
        (patches(5, 1), {"groups": [1, 2]}, "groups must have one entry per image"),
        (patches(5, 1)[..., :3], {}, "features"),
        (np.zeros((5, 6, 6, 6), np.float32), {}, "fitted with 3 x 4"),
        (np.r_[patches(5, 1), patches(3, 1, shift=9)], {},
         r"3 of 8 images \(at position 5, 6, 7\) are anomalous by a wide margin.*force=True"),
    ],
)  # fmt: skip
def test_what_cannot_be_good_images_is_refused_and_nothing_changes(pipe, images, options, message):
    new = patches(5, 2)
    before = snapshot(pipe, new)
    with pytest.raises(ValueError, match=message):
        recalibrate(pipe, images, **options)
    assert snapshot(pipe, new) == before


def test_images_of_the_bank_are_not_fresh_even_by_force(pipe):
    images = np.concatenate([patches(5, 1), patches(60, 0)[7:8]])
    with pytest.raises(ValueError, match=r"1 of 6 images are in the bank already \(the first at"):
        recalibrate(pipe, images, force=True)


def test_another_camera_is_refused():
    rng = np.random.default_rng(0)
    train, fresh = (rng.integers(0, 256, (n, 64, 48, 3), dtype=np.uint8) for n in (12, 6))
    features = ConvFeatures("efficientnet_lite0", image_size=64)
    pipe = make_structcore(features, bank__ratio=0.1, structcore__false_alarm_rate=0.2).fit(train)
    before = -pipe[-1].offset_
    with pytest.raises(ValueError, match=r"6 of 6 .* another size .* 128 x 48 pixels.* 64 to 64"):
        recalibrate(pipe, np.repeat(fresh, 2, axis=1))
    with pytest.raises(ValueError, match="of another size"):
        update(pipe, np.repeat(fresh, 2, axis=1))
    assert -pipe[-1].offset_ == before
    forced = recalibrate(pipe, np.repeat(fresh, 2, axis=1), force=True)
    assert forced[-1].recalibration_.thresholds["n_images"].tolist() == [6]
    recalibrate(pipe, fresh, force=True)


def test_force_takes_what_was_refused(pipe):
    later = recalibrate(pipe, patches(40, 1, shift=9), force=True)
    assert (later.predict(patches(40, 2, shift=9)) == 1).mean() > 0.7


@pytest.mark.parametrize(
    ("images", "categories", "message"),
    [
        (patches(9, 5, shift=-20), "auto", "9 of 9 images .* of no product that the pipeline"),
        (patches(9, 5), "b", "9 of 9 .* was called 'b' and looks like 'a'"),
        (patches(9, 5), "c", "knows no 'c', only 'a', 'b'"),
        (patches(9, 5), ["a"] * 3, "categories must have one entry per image"),
    ],
)
def test_images_of_another_product_are_refused(routed, images, categories, message):
    before = snapshot(routed, patches(5, 2))
    with pytest.raises(ValueError, match=message):
        recalibrate(routed, images, categories=categories)
    assert snapshot(routed, patches(5, 2)) == before


@pytest.mark.parametrize("change", [recalibrate, update])
def test_copies_among_fresh_images_count_as_one(pipe, change):
    fresh = patches(5, 1)
    fresh[2:] = fresh[1]
    later = change(pipe, fresh)
    groups = later[-1].calibration_.decision.held_out.groups
    assert len(np.unique(groups)) == (2 if change is recalibrate else 62)


@pytest.mark.parametrize("change", [recalibrate, update])
def test_near_duplicates_among_fresh_images_count_as_one(change, caplog):
    random = np.random.default_rng(0)
    shots = [np.repeat(random.normal(size=(n, 4, 4, 8)), 3, axis=0) for n in (20, 9)]
    old, new = (shot + 0.02 * random.normal(size=shot.shape) for shot in shots)
    pipe = make_structcore(bank__ratio=0.5)[2:].fit(old)
    order = random.permutation(27)
    triples = np.unique(order // 3, return_inverse=True)[1]

    def n_groups(images, groups):
        later = change(pipe, images, groups=groups, force=True)
        if change is update:
            return len(np.unique(later[-1].training_.groups[len(old) :]))
        return later[-1].recalibration_.decisions["group"].nunique()

    assert n_groups(new[order], triples) == n_groups(new[order], "auto") == 9
    assert "Route 'all': 27 good images look alike in clusters" in caplog.text
    assert n_groups(new[order], None) == 27
    assert n_groups(random.normal(size=(30, 4, 4, 8)), "auto") == 30


@pytest.mark.parametrize(
    ("field", "use"),
    [
        ("weights", lambda pipe: audit(pipe)),
        ("weights", lambda pipe: recalibrate(pipe, patches(9, 1))),
        ("weights", lambda pipe: update(pipe, patches(3, 1))),
        ("scores", lambda pipe: DriftMonitor(pipe)),
        ("scores", lambda pipe: operating_points(pipe, false_alarm_rates=[0.1])),
    ],
    ids=["audit", "recalibrate", "update", "monitor", "operating_points"],
)
def test_a_damaged_model_judges_nothing(pipe, field, use):
    damaged = copy.deepcopy(pipe)
    calibration = damaged[-1].calibration_
    getattr(calibration if field == "weights" else calibration.decision, field)[...] = np.nan
    with pytest.raises(ValueError, match="scores that are not finite numbers"):
        use(damaged)


def test_with_force_images_recalibrate_the_product_that_was_said(routed):
    like_b = patches(30, 5, shift=20)
    later = recalibrate(routed, like_b, categories="a", force=True)
    table = later[-1].recalibration_.thresholds.set_index("route")
    assert table["n_images"].to_dict() == {"a": 30, "b": 0}
    assert table.loc["b", "old_threshold"] == table.loc["b", "new_threshold"]
    # Compared with the bank of a, images of b are far off.
    assert table.loc["a", "new_threshold"] > 5 * table.loc["a", "old_threshold"]


def test_categories_that_images_carry_count_as_those_that_are_passed():
    random = np.random.default_rng(0)
    nuts, bolts = (random.integers(n, n + 60, (24, 32, 32, 3), dtype=np.uint8) for n in (0, 190))
    pipe = make_structcore("efficientnet_lite0", features__image_size=32, bank__ratio=0.2)
    known = ImageSet(np.r_[nuts[:12], bolts[:12]], categories=["nut"] * 12 + ["bolt"] * 12)
    pipe.fit(known)

    def of_one(category):
        return ImageSet(nuts[12:], categories=[category] * 12)

    with pytest.raises(ValueError, match="was called 'bolt' and looks like 'nut'"):
        recalibrate(pipe, of_one("bolt"))
    with pytest.raises(ValueError, match="knows no 'screw'"):
        update(pipe, of_one("screw"))
    table = recalibrate(pipe, of_one("bolt"), force=True)[-1].recalibration_.thresholds
    assert table.set_index("route")["n_images"].to_dict() == {"bolt": 12, "nut": 0}
    # Where the fit did not ask for them, they say nothing of the routes that it found.
    pipe = pipe.set_params(bank__n_routes=2).fit(known)
    new = ImageSet(np.r_[nuts[12:], bolts[12:]], categories=known.categories)
    assert update(pipe, new, force=True)["bank"].n_images_ == 48
    table = recalibrate(pipe, new, force=True)[-1].recalibration_.thresholds
    assert table["n_images"].tolist() == [12, 12]


@pytest.mark.parametrize("force", [False, True])
def test_categories_may_be_numbers(force):
    images = np.concatenate([patches(30, 0), patches(30, 1, shift=20)])
    pipe = steps(routing="auto").fit(images, coresetbank__categories=[0] * 30 + [1] * 30)
    later = recalibrate(pipe, patches(9, 5, shift=20), categories=[1] * 9, force=force)
    assert later[-1].recalibration_.thresholds["n_images"].tolist() == [0, 9]


def test_scores_of_images_compared_with_themselves_promise_nothing_until_all_are_fresh():
    pipe = steps("expected", calibration="in-sample").fit(patches(60, 0))
    (sentence,) = what_it_rejects(pipe[-1])
    assert "an unknown share of" in sentence and "in-sample" in sentence
    with pytest.raises(ValueError, match="at least 5 good images"):
        recalibrate(pipe, patches(4, 1), force=True)
    for fresh in (patches(20, 1), patches(60, 1)):
        later = recalibrate(pipe, fresh, force=True)
        np.testing.assert_array_equal(
            later[-1].calibration_.decision.scores, -pipe.score_samples(fresh)
        )  # not moved: these alone
        assert later.predict(patches(200, 2)).mean() > 0.6
        assert operating_points(later, false_alarm_rates=[0.1])["rate"][0] == 0.1
        mixed = recalibrate(pipe, fresh, weight_old=0.1, force=True)
        assert np.isnan(operating_points(mixed, false_alarm_rates=[0.1])["rate"][0])
        assert "an unknown share of" in str(mixed[-1].calibration_.decision)
    assert what_it_rejects(update(later, patches(6, 3), force=True)[-1]) == [sentence]


@pytest.mark.parametrize("n", [1, 4, 20])
def test_a_small_weight_of_old_images_does_not_switch_the_protection_off(n):
    pipe = steps("expected").fit(patches(60, 0))
    fresh = patches(n, 5, scale=1.3)
    thresholds = [
        -recalibrate(pipe, fresh, weight_old=weight, force=True)[-1].offset_
        for weight in (0, 0.001, 0.05, 0.5, 0.999, 1)
    ]
    steps_between = np.diff(thresholds) * np.sign(thresholds[-1] - thresholds[0])
    assert (steps_between > -1e-9).all()


def test_it_is_told_that_fresh_images_decide_by_another_rule_than_the_plain_one(caplog):
    pipe = steps("quantile").fit(patches(60, 0))
    assert recalibrate(pipe, patches(30, 1))[-1].calibration_.decision.rule == "guaranteed"
    assert "'guaranteed' instead of 'quantile'" in caplog.text


def test_a_lot_among_the_old_images_counts_as_one_where_few_fresh_ones_move_the_scores():
    # 60 images of a normal line, and a lot of 90 exposures of one image that scores 4.
    random = np.random.default_rng(0)
    scores = np.concatenate([random.normal(size=60), 4 + 0.01 * random.normal(size=90)])
    old = decide(HeldOut(scores, np.r_[np.arange(60), np.full(90, 60)]), 0.05)
    new = _fresh_decision(old, random.normal(size=20), np.arange(20), 0.0)
    assert new.rejects(random.normal(size=10_000)).mean() < 0.12


def test_many_fresh_images_after_few_are_known_of_as_many_as_there_were():
    random = np.random.default_rng(0)
    old = decide(HeldOut(random.normal(size=200)), 0.05)
    few = _fresh_decision(old, np.array([0.1]), np.zeros(1), 0.0)
    many = _fresh_decision(few, random.normal(size=60), np.arange(60), 1.0)
    # The one fresh image, and 60 more.
    assert many.held_out.n_known == 61
