import numpy as np
import pytest
from scipy.stats import beta
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from skstructcore import ConvFeatures, make_structcore, operating_points, recalibrate
from skstructcore.datasets import ImageSet, make_photographs
from skstructcore.lifecycle.operating_points import _smallest_size
from skstructcore.scoring.decision import RULES

pytestmark = pytest.mark.filterwarnings("ignore:false_alarm_rate=")


@pytest.fixture(scope="module")
def photographs():
    return make_photographs("brick", n_train=24, n_test_good=12, n_test_defect=2, random_state=0)


@pytest.fixture(scope="module")
def pipe(photographs):
    features = ConvFeatures("efficientnet_lite0", image_size=64)
    model = make_structcore(features, bank__ratio=0.05, structcore__false_alarm_rate=0.1)
    return model.fit(photographs.train)


def with_rule(pipe, rule):
    """The same fitted bank and maps, judged by another rule."""
    scorer = clone(pipe[-1]).set_params(threshold=rule)
    scorer.__dict__.update({k: v for k, v in vars(pipe[-1]).items() if k.endswith("_")})
    scorer.calibrate()
    return Pipeline([*pipe.steps[:-1], ("structcore", scorer)])


def test_a_new_rate_alone_makes_no_promise_of_in_sample_scores(pipe, photographs):
    in_sample = clone(pipe).set_params(knn__calibration="in-sample").fit(photographs.train)
    table = operating_points(recalibrate(in_sample, false_alarm_rate=0.2), false_alarm_rates=[0.1])
    assert table[["rate", "rate_low", "rate_high"]].isna().all(axis=None)


@pytest.mark.parametrize("rule", RULES)
def test_thresholds_and_rates_are_those_of_a_recalibration(pipe, rule):
    pipe = with_rule(pipe, rule)
    table = operating_points(pipe, false_alarm_rates=[0.005, 0.1, 0.3])
    assert list(table) == [
        *["route", "false_alarm_rate", "rate", "rate_low", "rate_high", "threshold"]
    ]
    for row in table.itertuples():
        moved = recalibrate(pipe, false_alarm_rate=row.false_alarm_rate)[-1].calibration_
        assert row.threshold == moved.decision.threshold
        if rule != "quantile":
            assert row.rate == moved.decision.rate
    if rule == "expected":  # what is asked for, and its limits around it
        assert table["rate"].tolist() == [0.005, 0.1, 0.3]
        assert (table["rate_low"] < table["rate"]).all()
        assert (table["rate"] < table["rate_high"]).all()
    else:
        assert table[["rate_low", "rate_high"]].isna().all(axis=None)
    if rule == "guaranteed":  # n independent images guarantee 1 in n + 1 at best
        n_images = pipe[-1].calibration_.decision.held_out.n_independent
        assert table["rate"][0] == pytest.approx(1 / (n_images + 1))
        assert (table["rate"][1:] <= table["false_alarm_rate"][1:]).all()
    if rule == "quantile":  # nothing is known of it
        assert table["rate"].isna().all()


def test_painted_and_labelled_defects_say_what_is_found(pipe, photographs):
    test = photographs.test
    table = operating_points(
        pipe, test, false_alarm_rates=[0.05, 0.3], sizes=[0.05, 0.6], n_painted=8, severity=2.0
    )
    of_each = table[["painted_0.05", "painted_0.6"]]
    np.testing.assert_allclose(table["painted_found"], of_each.mean(axis=1))
    assert table["painted_found"].is_monotonic_increasing
    found = pipe[-1].describe(pipe[:-1].transform(test))["p_value"] <= 0.05
    bad = test.y != "good"
    assert table["found"][0] == found[bad].mean()
    assert table["false_alarms"][0] == found[~bad].mean()
    hits, n = found[bad].sum(), bad.sum()
    assert table["found_low"][0] == pytest.approx(beta.ppf(0.025, hits, n - hits + 1))


def test_training_images_are_no_evidence_of_false_alarms_and_their_copies_are_held_out(
    pipe, photographs
):
    train, test = photographs.train, photographs.test
    both = ImageSet([*train.paths, *test.paths], [*train.y, *test.y])
    options = {"false_alarm_rates": [0.2], "sizes": [0.3], "n_painted": 4}
    assert operating_points(pipe, both, **options)["false_alarms"].tolist() == (
        operating_points(pipe, test, **options)["false_alarms"].tolist()
    )
    good = test[test.y == "good"]  # all of them
    assert operating_points(pipe, good, **options)["false_alarms"].notna().all()
    # A copy with a defect that cannot be seen scores as its original did, held out.
    faint = operating_points(pipe, train, **{**options, "n_painted": 24}, severity=1e-3)
    decision = pipe[-1].calibration_.decision.at(0.2)
    assert faint["painted_found"][0] == pytest.approx(
        decision.rejects(decision.scores).mean(), abs=0.15
    )


def test_smallest_size_must_hold_for_all_larger_ones():
    assert _smallest_size([1, 10, 100], [0.95, 0.5, 1.0]) == pytest.approx(10 * 10**0.8)
    assert _smallest_size([1, 10], [0.9, 1.0]) == 1
    assert np.isnan(_smallest_size([1, 10], [1.0, 0.89]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"false_alarm_rates": 0.1}, "false_alarm_rates must be a list of numbers"),
        (
            {"false_alarm_rates": [0.1, 0.1]},
            "false_alarm_rates must be a list of numbers, each once",
        ),
        ({"false_alarm_rates": ["0.1"]}, "false_alarm_rates must be a float"),
        ({"sizes": []}, "sizes must be a list of numbers"),
        ({"sizes": [5.0]}, "sizes must be a float in the range"),
        ({"severity": np.inf}, "severity must be a float in the range"),
        ({"n_painted": -1}, "n_painted must be an int in the range"),
        (
            {"false_alarm_rates": [0.0]},
            r"false_alarm_rates must be a float in the range \(0.0, 1.0\), got 0.0",
        ),
        ({"y": ["good"]}, "y labels images"),
        (
            {"images": np.zeros((2, 64, 64), np.uint8), "y": ["good"]},
            "y must have one entry per image",
        ),
        ({"images": np.zeros((2, 64, 64), np.uint8), "y": ["bad", "defect"]}, "no good image"),
    ],
)
def test_what_makes_no_sense_is_refused(pipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        operating_points(pipe, **arguments)
