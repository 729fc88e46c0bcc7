"""What each false-alarm rate costs and brings, as a picture."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from sklearn.pipeline import make_pipeline

from skstructcore import CoresetBank, RoutedKNNScorer, StructCoreScorer
from skstructcore.display import OperatingPointDisplay
from skstructcore.lifecycle import operating_points


def band(shares, n_good, **options):
    asked = np.full(len(shares), 0.1)
    return OperatingPointDisplay(asked, false_alarms=shares, n_good=n_good, **options)


def test_the_band_is_the_interval_of_clopper_and_pearson():
    display = band([0, 3 / 20], 20, n_independent=10)
    # At the ends of the interval of 1.5 false alarms in 10, the tails hold 2.5 %.
    assert display.false_alarms_low[0] == 0
    assert (1 - display.false_alarms_high[0]) ** 10 == pytest.approx(0.025)
    whole = band([3 / 20], 20)
    assert binom.sf(2, 20, whole.false_alarms_low[0]) == pytest.approx(0.025)
    assert binom.cdf(3, 20, whole.false_alarms_high[0]) == pytest.approx(0.025)
    assert band([1.0], 20).false_alarms_high[0] == 1
    assert display.false_alarms_high[1] > whole.false_alarms_high[0]


def test_false_alarms_are_of_good_images_and_the_band_of_their_groups(scorer, labels):
    parts = scorer.describe(1.02 * np.random.default_rng(1).random((40, 4, 4)))
    y = ["good"] * 30 + ["dent"] * 10
    groups = np.repeat(np.arange(10), 4)
    display = OperatingPointDisplay.from_predictions(
        parts, scorer, y, false_alarm_rates=[0.1], groups=groups
    )
    assert display.false_alarms == parts["is_anomalous"][:30].mean()
    assert (display.n_good, display.n_independent) == (30, 8)
    assert display.smallest_rate == pytest.approx(0.05)
    assert "95 % interval (30 images, 8 groups)" in labels(display.ax_)
    with pytest.raises(ValueError, match="No good image is among them"):
        OperatingPointDisplay.from_predictions(parts, scorer, ["dent"] * 40)


def test_without_labels_all_images_are_good_and_nothing_is_said_of_defects(scorer, labels):
    parts = scorer.describe(1.02 * np.random.default_rng(1).random((40, 4, 4)))
    display = OperatingPointDisplay.from_predictions(parts, scorer)
    assert display.found is None and display.n_good == 40
    assert "defects found" not in labels(display.ax_)
    display.figure_.draw_without_rendering()


def test_operating_points_are_shares_of_defects_and_of_good_images(scorer):
    parts = scorer.describe(1.02 * np.random.default_rng(1).random((40, 4, 4)))
    anomalous = np.arange(40) >= 30
    display = OperatingPointDisplay.from_predictions(
        parts, scorer, anomalous, false_alarm_rates=[0.1, 0.5]
    )
    table = display.table()
    assert table.loc[0, "found"] == parts["is_anomalous"][30:].mean()
    assert table.loc[0, "false_alarms"] == parts["is_anomalous"][:30].mean()
    assert display.asked_rate == pytest.approx(0.1)
    with pytest.raises(ValueError, match="must be shares between 0 and 1"):
        OperatingPointDisplay([0.0], [0.0])


def test_the_smallest_size_found_is_a_curve_of_its_own(labels):
    display = OperatingPointDisplay([0.01, 0.1], [0.2, 0.4], smallest_found=[0.3, 0.1]).plot()
    drawn = [line.get_ydata().tolist() for line in display.ax_.lines]
    assert [0.3, 0.1] in drawn
    assert "smallest painted defect found, of the shorter side" in labels(display.ax_)


def test_operating_points_of_the_lifecycle_can_be_drawn():
    table = pd.DataFrame(
        {
            "route": ["a", "b"] * 2,
            "false_alarm_rate": [0.01, 0.01, 0.1, 0.1],
            "painted_found": [0.2, 0.2, 0.6, 0.6],
            "smallest_found": [np.nan, np.nan, 0.08, 0.08],
        }
    )
    display = OperatingPointDisplay.from_table(table, asked_rate=0.1)
    assert display.false_alarm_rate.tolist() == [0.01, 0.1] and display.found.tolist() == [0.2, 0.6]
    assert display.false_alarms is None and display.smallest_found[1] == 0.08
    measured = OperatingPointDisplay.from_table(table.assign(found=0.5, false_alarms=0.1))
    assert measured.found.tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="with images"):
        OperatingPointDisplay.from_table(table[["route", "false_alarm_rate"]])


def test_tables_of_the_lifecycle_are_drawn_as_from_the_pipeline(labels):
    options = {"false_alarm_rate": 0.1, "threshold": "guaranteed"}
    fitted = make_pipeline(CoresetBank(1.0), RoutedKNNScorer(), StructCoreScorer(**options))
    fitted.fit(np.random.default_rng(0).normal(size=(19, 4)))
    table = operating_points(fitted, false_alarm_rates=[0.1, 0.001])
    columns = {"found": 0.5, "false_alarms": 0.1}
    limits = {"false_alarms_low": [0.05, 0.0], "false_alarms_high": [0.3, 0.2]}
    display = OperatingPointDisplay.from_table(table.assign(**columns, **limits))
    assert display.smallest_rate == pytest.approx(0.05)  # of 19 images, as in `from_estimator`
    asked = display.ax_.lines[-1].get_ydata()
    np.testing.assert_allclose(asked, [0.05, 0.1])
    assert display.false_alarms_high.tolist() == [0.2, 0.3] and "95 % interval" in labels(
        display.ax_
    )


def test_false_alarms_far_above_what_was_asked_for_are_in_the_picture():
    display = OperatingPointDisplay([0.01, 0.05], None, [0.3, 0.5], n_good=20).plot()
    low, high = display.ax_.get_ylim()
    assert low == 0 and 0.5 < high < 0.6
    low, high = OperatingPointDisplay([0.01, 0.05], None, [0, 0], n_good=20).plot().ax_.get_ylim()
    assert high == 0.1


@pytest.mark.parametrize("rates", [[], [0.0], [2.0, -1.0], [np.nan], 0.1])
def test_rates_that_are_none_are_refused(scorer, rates):
    parts = scorer.describe(np.random.default_rng(1).random((4, 4, 4)))
    with pytest.raises(ValueError, match="false_alarm_rates must be shares between 0 and 1"):
        OperatingPointDisplay.from_predictions(parts, scorer, false_alarm_rates=rates)


@pytest.mark.parametrize("share", [-1, 4, np.nan])
def test_false_alarms_are_shares_of_good_images(share):
    with pytest.raises(ValueError, match="false_alarms must be shares"):
        band([share], 3)
    with pytest.raises(ValueError, match="No good image"):
        band([0.0], 0)


def test_less_than_can_be_guaranteed_is_the_least_that_can(scorer):
    # 19 training images guarantee 1 in 20 at best.
    parts = scorer.describe(np.random.default_rng(1).random((300, 4, 4)) * 1.02)
    display = OperatingPointDisplay.from_predictions(parts, scorer, false_alarm_rates=[0.001, 0.05])
    few, least = display.false_alarms
    assert few == least > 0


def test_rates_are_drawn_in_their_order():
    display = OperatingPointDisplay([0.3, 0.001, 0.1], [0.9, 0.1, 0.5])
    assert display.table().to_numpy().tolist() == [[0.001, 0.1], [0.1, 0.5], [0.3, 0.9]]
