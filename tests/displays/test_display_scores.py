"""Pictures of scores: base against whole score, histograms, descriptors."""

import numpy as np
import pytest

from skstructcore import AnomalyMaps, StructCoreScorer
from skstructcore.display import DescriptorDisplay, ScoreHistogramDisplay, ScoreShiftDisplay


def test_score_shift_counts_who_crosses_over_and_writes_it_into_the_regions(texts, labels):
    # good: one only the score rejects; defects: two gained, one lost.
    base, hybrid = [1, 1, 1, 1, 3, 3], [1, 5, 5, 5, 1, 5]
    kinds = ["good", "good", "dent", "crack", "dent", "dent"]
    display = ScoreShiftDisplay(base, hybrid, 2, 4, kinds)
    assert display.counts().loc["defects"].tolist() == [1, 2, 1, 0]
    assert display.counts().loc["good"].tolist() == [0, 1, 0, 1]
    ax = display.plot().ax_
    written = "\n".join(texts(ax))
    for words in ("+2 defects found\n+1 false alarms", "−1 defects lost\n−0 false alarms"):
        assert words in written
    assert labels(ax)[:3] == ["good (2)", "dent (3)", "crack (1)"]
    vertical, horizontal = ax.lines
    assert vertical.get_xdata()[0] == 2 and horizontal.get_ydata()[0] == 4


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_score_shift_refuses_what_lies_nowhere(value):
    with pytest.raises(ValueError, match="base must be finite"):
        ScoreShiftDisplay([1.0, value], [1.0, 1.0], 0, 0)
    with pytest.raises(ValueError, match="scores must be finite"):
        ScoreShiftDisplay([1.0, 1.0], [1.0, value], 0, 0)


def test_labels_of_a_display_may_be_numbers():
    histograms = ScoreHistogramDisplay([1.0, 2.0], 3, [0, 1]).histograms()
    assert {name: values.tolist() for name, values in histograms.items()} == {
        "good": [1], "defects": [2],
    }  # fmt: skip
    shift = ScoreShiftDisplay([1.0, 3.0], [1.0, 3.0], 2, 2, [0, 1])
    assert shift.counts().sum(axis=1).to_dict() == {"good": 1, "defects": 1}


def test_score_shift_of_routes_puts_all_products_on_one_scale():
    rng = np.random.default_rng(0)
    maps = AnomalyMaps(
        rng.random((60, 4, 4)) * np.repeat([1, 50], 30)[:, None, None],
        route=np.repeat(["nut", "bolt"], 30),
        route_distance=np.exp(0.1 * rng.normal(size=60)),
    )
    scorer = StructCoreScorer(false_alarm_rate=0.1).fit(maps)
    parts = scorer.describe(maps)
    display = ScoreShiftDisplay.from_predictions(parts, scorer)
    for name in ("nut", "bolt"):
        mine = (parts["nearest_route"] == name).to_numpy()
        limit = scorer.routes_[name].calibration.base_decision.threshold
        np.testing.assert_allclose(display.base[mine], parts["base"][mine] / limit)
    assert (display.base_threshold, display.threshold) == (1.0, 1.0)


def test_histogram_shows_shares_of_each_kind_in_common_bins(scorer, labels):
    parts = scorer.describe(np.random.default_rng(1).random((6, 4, 4)))
    display = ScoreHistogramDisplay.from_predictions(parts, scorer, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(
        display.histograms()["good, calibration"], scorer.calibration_.decision.scores
    )
    ax = display.plot().ax_
    assert labels(ax) == [*["good (3)", "defects (3)", "good, calibration (19)", "threshold"]]
    for patch in ax.patches:  # the outline of a histogram: its tops over widths are 1 in all
        xy = patch.get_xy()
        width = np.diff(display.edges)[0]
        steps = xy[1 : 2 * len(display.edges) - 1 : 2, 1]
        assert steps.sum() == pytest.approx(1) and width > 0


def test_descriptors_are_those_that_the_score_adds_up(pipe, images):
    display = DescriptorDisplay.from_estimator(pipe, images[8:])
    parts = pipe[-1].describe(pipe[:-1].transform(images[8:]))
    assert list(display.z) == ["max", *pipe[-1].descriptors_]
    np.testing.assert_array_equal(display.z["std"], parts["z_std"])
    median = display.quantiles().loc[("max", "good"), "50%"]
    assert median == pytest.approx(np.median(parts["z_max"][:4]))
    ticks = [tick.get_text() for tick in display.plot().ax_.get_yticklabels()]
    assert ticks == list(display.z)


def test_a_base_score_that_is_among_the_descriptors_has_one_row(scorer):
    parts = scorer.describe(np.random.default_rng(1).random((3, 4, 4)))
    display = DescriptorDisplay.from_predictions(parts, scorer)
    assert list(display.z) == ["max"] and len(display.quantiles()) == 1
    assert len(display.plot().ax_.get_yticklabels()) == 1


def test_a_route_whose_images_are_all_alike_can_be_drawn():
    maps = AnomalyMaps(
        np.repeat([0.0, 1.0], 20)[:, None, None] * np.random.default_rng(0).random((40, 4, 4)),
        route=np.repeat(["still", "moving"], 20),
        route_distance=np.exp(0.1 * np.random.default_rng(1).normal(size=40)),
    )
    scorer = StructCoreScorer(false_alarm_rate=0.1, threshold="guaranteed").fit(maps)
    display = ScoreShiftDisplay.from_predictions(scorer.describe(maps), scorer)
    assert np.isfinite(display.base).all()
