import json

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, binom, kstest
from sklearn.pipeline import Pipeline, make_pipeline

from skstructcore import (
    CoresetBank,
    DriftMonitor,
    RoutedKNNScorer,
    StructCoreScorer,
    recalibrate,
)
from skstructcore.lifecycle import DriftAlarm, _drift_tests
from skstructcore.lifecycle._drift_tests import CHANGED, HIGHER, REJECTS, RouteTests
from skstructcore.lifecycle._martingale import (
    ANY_CHANGE,
    OnlineRanks,
    StartMixture,
    log_beta_bets,
    log_count_bets,
)
from skstructcore.scoring.conformal import conformal_p_values
from skstructcore.scoring.decision import decide

pytestmark = pytest.mark.filterwarnings("ignore:false_alarm_rate=", "ignore:Fewer than 8")


def patches(n, seed, shift=0.0, patch=None):
    X = np.random.default_rng(seed).normal(size=(n, 3, 4, 6)).astype(np.float32)
    if patch is None:
        return X + np.float32(shift)
    X[(slice(None), *patch)] += shift
    return X


def fitted(**fit_params):
    pipe = make_pipeline(
        CoresetBank(0.2, random_state=0),
        RoutedKNNScorer(2),
        StructCoreScorer(false_alarm_rate=0.05),
    )
    return pipe.fit(patches(80, 0), **fit_params)


@pytest.fixture(scope="module")
def pipe():
    return fitted()


def test_rank_counts_what_is_above_and_orders_equals_by_the_tie():
    ranks = OnlineRanks([1.0, 2.0, 2.0])
    # One of four places is above 1.5 for certain: two values are, of 3 + itself.
    assert ranks.add(1.5, 0.5) == (2 + 0.5) / 4
    # 2.0 equals two of four values: anywhere in the three places they share.
    assert ranks.add(2.0, 0.0) == 0.0
    assert ranks.values == [1.0, 1.5, 2.0, 2.0, 2.0]


def test_ranks_of_p_values_with_one_calibration_set_are_uniform_and_independent():
    # The p-values themselves are neither: their mean differs from set to set.
    rng = np.random.default_rng(0)
    found = []
    for _ in range(2000):
        calibration, new = rng.normal(size=15), rng.normal(size=4)
        ranks = OnlineRanks(1e-9 - conformal_p_values(calibration, calibration))
        p_values = conformal_p_values(new, calibration)
        found.append([ranks.add(-p, tie) for p, tie in zip(p_values, rng.random(4), strict=True)])
    found = np.array(found)
    for column in found.T:
        assert kstest(column, "uniform").pvalue > 0.001
    correlation = np.corrcoef(found.T)[np.triu_indices(4, 1)]
    assert np.abs(correlation).max() < 4 / np.sqrt(2000)


def test_no_bet_gains_on_average_while_nothing_changes():
    for rank in (0.01, 0.3, 0.99):  # densities have mean 1 under uniform ranks
        expected = [beta.logpdf(rank, a, b) for a, b in ANY_CHANGE]
        np.testing.assert_allclose(log_beta_bets(rank, ANY_CHANGE), expected)
    gain = 0.1 * np.exp(log_count_bets(True, 0.1)) + 0.9 * np.exp(log_count_bets(False, 0.1))
    np.testing.assert_allclose(gain, 1)


def test_capital_is_that_of_all_starts_together():
    rng = np.random.default_rng(0)
    factors = rng.uniform(0.5, 1.6, size=(6, 2))
    mixture = StartMixture(2)
    logs = [mixture.add(np.log(row), i) for i, row in enumerate(factors)]
    shares = np.log(2) / np.log(np.arange(8) + 2.0)
    for t in range(6):
        laid = shares[: t + 1] - shares[1 : t + 2]
        grown = [np.prod(factors[start : t + 1], axis=0).mean() for start in range(t + 1)]
        expected = shares[t + 1] + laid @ np.array(grown)
        assert logs[t] == pytest.approx(np.log(expected))


def test_start_is_where_the_best_stretch_begins():
    mixture = StartMixture(1)
    for image, gain in zip([10, 11, 14, 17, 18], [0.5, -1.0, -0.5, 0.3, 0.4], strict=True):
        mixture.add([gain], image)
    assert mixture.start == 17
    assert mixture.gain[0] == pytest.approx(0.7)


def simulate(n_streams, n_images, alpha, defects=0.0, level=0.05, rule="guaranteed", n=60):
    """Kinds of alarms of unchanged streams, each with a calibration of its own."""
    rng, alarms = np.random.default_rng(0), []
    for _ in range(n_streams):
        decision = decide(rng.normal(size=n), level, rule)
        scores = rng.normal(size=n_images)
        scores[rng.random(n_images) < defects] = 9.0
        p_values = decision.p_values(scores)
        tests = RouteTests(decision, alpha, "auto")
        ties = rng.random((n_images, 2))
        alarms.append(
            {
                found["kind"]
                for i, p in enumerate(p_values)
                for found in tests.add(i, p, None, ties[i])
            }
        )
    return alarms


@pytest.mark.parametrize(
    ("rule", "level", "n", "defects"),
    [
        ("guaranteed", 0.05, 60, 0.05), ("guaranteed", 0.2, 60, 0.05), ("expected", 0.2, 60, 0.0),
        ("quantile", 0.1, 30, 0.0),
    ],
)  # fmt: skip
def test_unchanged_streams_alarm_no_more_often_than_alpha(rule, level, n, defects):
    alarms = simulate(80, 120, alpha=0.3, defects=defects, level=level, rule=rule, n=n)
    # One-sided bound at 1 in 1,000: a real rate of 0.3 or less passes.
    assert sum(map(bool, alarms)) <= binom.ppf(0.999, 80, 0.3)


def test_less_than_the_false_alarms_that_may_come_cannot_be_tolerated(pipe):
    often = recalibrate(pipe, false_alarm_rate=0.3)
    with pytest.raises(ValueError, match=r"less than the false alarms .* up to 0\.\d+ with 80 "):
        DriftMonitor(often, tolerated_rejects=0.1)
    # Of 80 images 24 or so are above: the upper limit at 0.01 / 4 is about 0.3 + 2.8 * 0.05.
    assert DriftMonitor(often, tolerated_rejects=0.5).update(patches(100, 1)) == []
    assert DriftMonitor(often).update(patches(100, 1)) == []


def test_a_threshold_below_all_scores_is_no_crash(pipe):
    monitor = DriftMonitor(recalibrate(pipe, false_alarm_rate=0.999))
    assert set(monitor.evidence()["n_images"]) == {0} and monitor.update(patches(30, 1)) == []


def test_another_rate_makes_in_sample_scores_no_reference(caplog):
    pipe = make_pipeline(
        CoresetBank(0.2, random_state=0),
        RoutedKNNScorer(2, calibration="in-sample"),
        StructCoreScorer(false_alarm_rate=0.1),
    ).fit(patches(60, 0))
    changed = recalibrate(pipe, false_alarm_rate=0.2)
    assert set(DriftMonitor(changed).evidence()["kind"]) == {CHANGED}
    fresh = recalibrate(pipe, patches(60, 7), force=True)
    assert set(DriftMonitor(fresh).evidence()["kind"]) == {HIGHER, CHANGED, REJECTS}


@pytest.mark.parametrize("n", [1, 20])
def test_few_fresh_images_of_a_line_say_little_of_it(pipe, n):
    """Of a line that is 1.5 times as wide, moved scores are still too low: that is no news."""
    for seed in range(5):
        fresh = recalibrate(pipe, 1.5 * patches(n, 100 + seed), force=True)
        monitor = DriftMonitor(fresh, alpha=0.1)
        assert set(monitor.evidence()["kind"]) == {CHANGED, REJECTS}
        assert monitor.update(1.5 * patches(100, 200 + seed)) == []
        with pytest.raises(ValueError, match=f"with {n} calibration images"):
            DriftMonitor(fresh, tolerated_rejects=0.1)


def test_no_images_are_no_p_values(pipe):
    monitor = DriftMonitor(pipe)
    assert monitor.update([]) == []  # no p-values: nothing happened
    with pytest.raises(ValueError, match="0 sample"):
        monitor.update(patches(0, 1))


def test_an_unchanged_line_gives_no_alarm_and_a_changed_one_does(pipe):
    monitor = DriftMonitor(pipe)
    assert monitor.update(patches(150, 1)) == []
    (first, *_) = monitor.update(patches(60, 2, shift=1.0))
    assert first.kind in (HIGHER, CHANGED, REJECTS)
    assert first.route == "all" and 150 <= first.image < 210
    assert 140 <= first.since <= first.image
    assert first.evidence >= 3 / monitor.alpha
    assert first.descriptor.startswith("z_") and first.shift > 3
    assert "since about image" in str(first)
    assert monitor.alarms_[0] is first


def test_a_change_from_the_first_image_on_is_seen_by_calibration(pipe):
    monitor = DriftMonitor(recalibrate(pipe, patches(300, 4), false_alarm_rate=0.02, force=True))
    # Nothing came before that could be compared, and few images are rejected.
    assert HIGHER in {alarm.kind for alarm in monitor.update(patches(120, 2, shift=0.8))}


def test_scores_that_fall_are_a_change_too(pipe):
    monitor = DriftMonitor(pipe)
    monitor.update(patches(150, 1))
    kinds = {alarm.kind for alarm in monitor.update(0.5 * patches(150, 2))}
    assert kinds == {CHANGED}


def test_a_line_that_rejects_everything_alarms(pipe):
    monitor = DriftMonitor(pipe)
    alarms = monitor.update(patches(20, 1, shift=9.0))
    assert {alarm.kind for alarm in alarms} == {REJECTS}


def test_the_place_of_a_shift_is_found(pipe):
    monitor = DriftMonitor(pipe)
    monitor.update(patches(100, 1))
    alarms = monitor.update(patches(100, 2, shift=2.0, patch=(2, 1)))
    # Row 2 of 3, column 1 of 4: its centre is at 5/6 of the height and 3/8 of the width.
    assert alarms[0].place == pytest.approx((5 / 6, 3 / 8))


def test_tables_and_images_and_p_values_say_the_same(pipe):
    images = np.concatenate([patches(100, 1), patches(60, 2, shift=1.0)])
    table = pipe[-1].describe(pipe[:-1].transform(images))
    by = [DriftMonitor(pipe) for _ in range(3)]
    alarms = [
        [(alarm.kind, alarm.image, alarm.since) for alarm in monitor.update(X)]
        for monitor, X in zip(by, (images, table, table["p_value"].to_numpy()), strict=True)
    ]
    assert alarms[0] == alarms[1] == alarms[2] != []


@pytest.mark.parametrize("through", ["json", "joblib"])
def test_a_saved_monitor_goes_on_as_if_it_had_not_been_saved(pipe, tmp_path, through, monkeypatch):
    monkeypatch.setattr(_drift_tests, "_WINDOW", 30)
    first, then = patches(90, 1), patches(60, 2, shift=1.0)
    whole = DriftMonitor(pipe)
    whole.update(first)
    if through == "json":
        saved = DriftMonitor.from_dict(pipe, json.loads(json.dumps(whole.to_dict())))
    else:
        joblib.dump(whole, tmp_path / "monitor.joblib")
        saved = joblib.load(tmp_path / "monitor.joblib")
    assert saved.update(then) == whole.update(then) != []
    pd.testing.assert_frame_equal(saved.evidence(), whole.evidence())


def test_numbers_of_numpy_are_parameters_that_can_be_saved(pipe):
    shares = {"alpha": np.float32(0.01), "tolerated_rejects": np.float32(0.5)}
    monitor = DriftMonitor(pipe, **shares, random_state=np.int64(3))
    again = DriftMonitor.from_dict(pipe, json.loads(json.dumps(monitor.to_dict())))
    assert again.random_state == 3
    pd.testing.assert_frame_equal(again.evidence(), monitor.evidence(), check_exact=True)


def test_state_of_another_calibration_is_refused(pipe):
    other = fitted(coresetbank__groups=np.arange(80) // 2)
    with pytest.raises(ValueError, match="belongs to another pipeline"):
        DriftMonitor.from_dict(other, DriftMonitor(pipe).to_dict())


def test_of_a_lot_only_the_first_image_counts(pipe):
    monitor = DriftMonitor(pipe)
    lots = np.repeat(["a", "b", "c"], 20)
    monitor.update(patches(60, 1), groups=lots)
    monitor.update(patches(5, 3), groups=["c"] * 5)
    assert set(monitor.evidence()["n_images"]) <= {2, 3}
    assert monitor.n_images_ == 65


def test_each_route_is_watched_by_itself():
    images = np.concatenate([patches(40, 0), patches(40, 1, shift=20.0)])
    pipe = make_pipeline(
        CoresetBank(0.2, random_state=0),
        RoutedKNNScorer(2, routing="auto"),
        StructCoreScorer(false_alarm_rate=0.1),
    ).fit(images, coresetbank__categories=["a"] * 40 + ["b"] * 40)
    monitor = DriftMonitor(pipe)
    monitor.update(np.concatenate([patches(100, 2), patches(100, 3, shift=20.0)]))
    assert monitor.alarms_ == []
    alarms = monitor.update(np.concatenate([patches(40, 4, shift=0.3), patches(80, 5, shift=21.5)]))
    assert {alarm.route for alarm in alarms} == {"b"}
    with pytest.raises(ValueError, match="has the routes all, but the pipeline knows"):
        monitor.update([0.5])


def test_in_sample_scores_are_no_reference(caplog):
    pipe = make_pipeline(
        CoresetBank(0.2, random_state=0), RoutedKNNScorer(2, calibration="in-sample"),
        StructCoreScorer(false_alarm_rate=0.1),
    ).fit(patches(60, 0))  # fmt: skip
    monitor = DriftMonitor(pipe)
    assert "calibrated in-sample" in caplog.text
    assert set(monitor.evidence()["kind"]) == {CHANGED}  # it rejects most good images
    assert monitor.update(patches(20, 1)) == []


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([0.5, 1.5], "p-values must be between 0 and 1, got 1.5 for image 1"),
        (pd.DataFrame({"p_value": [0.5, np.nan]}), "got nan for image 1. Leave out images that"),
        (pd.DataFrame({"p_value": [7.0]}), "p-values must be between 0 and 1, got 7"),
        (pd.DataFrame({"p_value": ["high"]}), "p-values must be between 0 and 1"),
        (pd.DataFrame({"base": [1.0]}), "without p_value"),
        ([0.1, None], "between 0 and 1, got nan for image 1"),
        (
            pd.DataFrame({"p_value": [0.5, 0.4], "is_anomalous": pd.array([False, None])}),
            "is_anomalous must be True or False, got <NA> for image 1",
        ),
        (
            pd.DataFrame({"p_value": [0.5], "is_anomalous": ["False"]}),
            "is_anomalous must be True or False, got 'False' for image 0",
        ),
        (
            pd.DataFrame({"p_value": [0.5, 2.0]}, index=[7, 8]),
            "between 0 and 1, got 2.0 for image 1",
        ),
        (pd.DataFrame({"p_value": [0.5], "nearest_route": ["nut"]}), "has the routes nut"),
    ],
)
def test_what_is_no_stream_is_refused_and_changes_nothing(pipe, X, message):
    monitor = DriftMonitor(pipe)
    monitor.update([0.5])
    before = json.dumps(monitor.to_dict())
    with pytest.raises(ValueError, match=message):
        monitor.update(X)
    assert json.dumps(monitor.to_dict()) == before


@pytest.mark.parametrize("groups", [["a"], "ab", [None, None], [np.nan, 1.0]])
def test_lots_that_are_none_are_refused(pipe, groups):
    with pytest.raises(ValueError, match=r"groups (must|has no)"):
        DriftMonitor(pipe).update([0.5, 0.4], groups=groups)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("alpha", value) for value in (0, 1.5, np.nan, "0.1")),
        ("tolerated_rejects", 1),
        *(("random_state", value) for value in (-1, "x")),
    ],
)
def test_parameters_out_of_range_are_named(pipe, name, value):
    with pytest.raises(ValueError, match=f"{name} must be an? .*, got"):
        DriftMonitor(pipe, **{name: value})


@pytest.mark.parametrize("state", [None, [], 3, {}, {"version": 1}, {"version": 3}, {"version": 4}])
def test_what_is_no_state_is_named(pipe, state):
    with pytest.raises(ValueError, match=r"state is no state|belongs to another"):
        DriftMonitor.from_dict(pipe, state)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.update(n_images=-5),
        lambda state: state.update(alarms=None),
        lambda state: state.update(routes={}),
        lambda state: state.pop("generator"),
        lambda state: state["routes"]["all"].update(capital={}),
        lambda state: state["routes"]["all"]["ranks"]["changed scores"]["values"].pop(),
    ],
)
def test_a_state_that_was_changed_is_refused(pipe, change):
    monitor = DriftMonitor(pipe)
    monitor.update([0.5, 0.4])
    state = json.loads(json.dumps(monitor.to_dict()))
    assert DriftMonitor.from_dict(pipe, state).n_images_ == 2
    change(state)
    with pytest.raises(ValueError, match="not as it was written"):
        DriftMonitor.from_dict(pipe, state)


def test_an_alarm_is_one_line_whatever_the_product_is_called():
    assert str(DriftAlarm("=a\n\x1b[2J", HIGHER, 9, 5, 100.0)).startswith(
        r"$'=a\x0a\x1b[2J': higher"
    )


def test_pictures_of_different_sizes_are_watched():
    from skstructcore import make_structcore

    photos = np.random.default_rng(0).integers(0, 256, (6, 64, 64), dtype=np.uint8)
    pipe = make_structcore("efficientnet_lite0", features__image_size=64, bank__ratio=0.1)
    monitor = DriftMonitor(pipe.fit(photos))
    monitor.update([photos[0], np.tile(photos[1], (2, 2))])
    assert monitor.n_images_ == 2


def test_only_products_with_fresh_scores_are_compared_with_calibration():
    rng = np.random.default_rng(0)
    bank = CoresetBank(0.2, random_state=0)
    knn = RoutedKNNScorer(1, routing="top1", calibration="in-sample")
    scorer = StructCoreScorer(false_alarm_rate=0.2, descriptors=["max"], threshold="guaranteed")
    X = rng.normal(size=(120, 4)) + 30 * np.repeat(np.eye(4)[:2], 60, axis=0)
    pipe = Pipeline([("bank", bank), ("knn", knn), ("structcore", scorer)])
    pipe.fit(X, bank__categories=np.repeat(["nut", "bolt"], 60))
    fresh = rng.normal(size=(60, 4)) + 30 * np.eye(4)[0]
    later = recalibrate(pipe, fresh, categories="nut", force=True)
    tests = DriftMonitor(later).evidence().groupby("route")["kind"].apply(set)
    assert tests["bolt"] == {CHANGED} and tests["nut"] == {HIGHER, CHANGED, REJECTS}
