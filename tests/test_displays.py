"""Displays: the numbers that they hold, and what of them is drawn. No pixels are compared."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from skstructcore import (
    AnomalyMaps,
    CoresetBank,
    RoutedKNNScorer,
    StructCoreScorer,
    make_structcore,
)
from skstructcore.datasets import ImageSet
from skstructcore.display import (
    AnomalyMapDisplay,
    BankDisplay,
    DependenceDisplay,
    DescriptorDisplay,
    DriftDisplay,
    OperatingPointDisplay,
    RegionOverlapDisplay,
    RoutingDisplay,
    ScoreHistogramDisplay,
    ScoreShiftDisplay,
)
from skstructcore.evaluation import evaluate
from skstructcore.images.labels import labels_of
from skstructcore.lifecycle import DriftMonitor
from skstructcore.metrics import aupro_score, pro_curve
from skstructcore.scoring.table import rejections


@pytest.fixture(scope="module")
def images():
    """Twelve good images, and four with a bright square and its mask."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(90, 110, (16, 48, 48, 3), dtype=np.uint8)
    masks = [None] * 12
    for i in range(12, 16):
        pixels[i, 8:24, 8:24] = 250
        mask = np.zeros((48, 48), bool)
        mask[8:24, 8:24] = True
        masks.append(mask)
    return ImageSet(list(pixels), ["good"] * 12 + ["spot"] * 4, masks=masks)


@pytest.fixture(scope="module")
def pipe(images):
    pipe = make_structcore(
        "efficientnet_lite0",
        features__image_size=48,
        bank__ratio=0.1,
        structcore__false_alarm_rate=0.2,
    )
    return pipe.fit(images[:8])


@pytest.fixture(scope="module")
def scorer():
    rng = np.random.default_rng(0)
    return StructCoreScorer(false_alarm_rate=0.1, descriptors=["max"], threshold="guaranteed").fit(
        rng.random((19, 4, 4))
    )


def texts(ax):
    return [text.get_text() for text in ax.texts]


def labels(ax):
    return ax.get_legend_handles_labels()[1]


EVERY = [
    AnomalyMapDisplay,
    DescriptorDisplay,
    OperatingPointDisplay,
    RegionOverlapDisplay,
    ScoreHistogramDisplay,
    ScoreShiftDisplay,
]


@pytest.mark.parametrize("display", EVERY)
def test_every_display_draws_what_a_pipeline_makes_of_images(display, pipe, images):
    drawn = display.from_estimator(pipe, images[8:])
    assert type(drawn) is display
    drawn.figure_.draw_without_rendering()


@pytest.mark.parametrize(
    "display",
    [
        ScoreShiftDisplay([1.0], [1.0], 0, 0),
        ScoreHistogramDisplay([1.0, 2.0], 1.5),
        OperatingPointDisplay([0.1], false_alarms=[0], n_good=3),
        OperatingPointDisplay([0.1, 0.2], [0.5, 0.6]),
        DescriptorDisplay(pd.DataFrame({"max": [1.0]})),
        BankDisplay([[0, 0]], [0]),
        DependenceDisplay([1, 2], [2.0, 1.0]),
        DriftDisplay(pd.DataFrame({"a": [0.0, 1.0]}), {"a": 2.0}),
        RegionOverlapDisplay([0, 1], [0, 1]),
        RoutingDisplay(["a"], [0.5], ["a"]),
    ],
    ids=lambda display: type(display).__name__,
)
def test_every_display_draws_into_given_axes_and_without_labels(display):
    from matplotlib.figure import Figure

    figure = Figure()
    ax = figure.add_subplot()
    assert display.plot(ax) is display
    assert display.ax_ is ax and display.figure_ is figure
    figure.draw_without_rendering()


def test_without_matplotlib_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"skstructcore\[plot\]"):
        DependenceDisplay([1], [1.0]).plot()


def test_lengths_that_differ_are_named():
    with pytest.raises(ValueError, match="base has 2, scores has 3"):
        ScoreShiftDisplay([1, 2], [1, 2, 3], 0, 0)


# --- inputs -----------------------------------------------------------------------------------


def test_labels_of_an_image_set_are_taken_unless_others_are_given(images):
    assert labels_of(images, None).tolist() == images.y.tolist()
    assert labels_of(images, [0] * 15 + [1]).tolist() == ["good"] * 15 + ["anomalous"]
    assert labels_of([1, 2], None) is None


def test_rejected_at_the_fitted_level_is_what_the_scorer_decides(scorer):
    parts = scorer.describe(np.random.default_rng(1).random((300, 4, 4)) * 1.02)
    assert 0 < parts["is_anomalous"].sum() < 300
    (rejected,) = rejections(parts, scorer, [0.1])
    np.testing.assert_array_equal(rejected, parts["is_anomalous"])


def test_rejected_at_less_than_can_be_guaranteed_is_at_the_least_that_can(scorer):
    # 19 training images guarantee 1 in 20 at best.
    parts = scorer.describe(np.random.default_rng(1).random((300, 4, 4)) * 1.02)
    few, least = rejections(parts, scorer, [0.001, 0.05])
    np.testing.assert_array_equal(few, least)
    assert few.any()


# --- anomaly maps -----------------------------------------------------------------------------


def test_maps_of_all_images_share_limits_that_hold_the_threshold():
    photo = np.zeros((4, 4, 3), np.uint8)
    maps = [np.zeros((4, 4)), np.full((4, 4), 0.5)]
    display = AnomalyMapDisplay([photo, photo], {"ours": maps}, thresholds={"ours": 1.0}).plot()
    assert display.limits["ours"] == (0.25, 1.375)  # the threshold at two thirds of the way
    limits = {image.get_clim() for ax in display.axes_[:, 1] for image in ax.images[1:]}
    assert limits == {(0.25, 1.375)}


def test_the_colour_bar_marks_the_threshold_and_the_legend_says_what_lines_mean():
    photo, heat = np.zeros((4, 4, 3), np.uint8), np.arange(16.0).reshape(4, 4)
    display = AnomalyMapDisplay(
        [photo], {"ours": [heat]}, masks=[heat > 12], thresholds={"ours": 9.0}
    ).plot()
    bar = display.figure_.axes[-1]
    assert bar.get_title() == "threshold" and bar.lines[0].get_xdata()[0] == 9.0
    (legend,) = display.figure_.legends
    assert [t.get_text() for t in legend.get_texts()] == ["true defect", "over the threshold"]


def test_our_map_is_in_units_of_the_threshold(pipe, images):
    display = AnomalyMapDisplay.from_estimator(
        pipe, images[11:13], others={"other": np.ones((2, 3, 3))}
    )
    maps = pipe[:-1].transform(images[11:13])
    (name, other) = display.maps
    ratio = maps.values.max(axis=(1, 2)) / pipe[-1].calibration_.base_decision.threshold
    # Between the patches the map is interpolated, so that its maximum can only be lower.
    for heat, most in zip(display.maps[name], ratio, strict=True):
        assert heat.shape == (48, 48)
        assert 0.8 * most < heat.max() <= most + 1e-6
    assert other == "other" and display.thresholds == {name: 1.0}
    assert display.masks[1].sum() == 256
    assert display.titles[1].startswith("spot, rejected")


def test_the_cases_of_an_evaluation_stand_under_their_headings(pipe, images):
    evaluation = evaluate(pipe, images[8:])
    display = AnomalyMapDisplay.from_evaluation(evaluation, n_cases=2)
    headings = [
        "hardest defects",
        "most suspicious good images",
        "clearest defects",
        "plainest good images",
    ]
    assert display.rows == [heading for heading in headings for _ in range(2)]
    score, defect = evaluation.scores["anomaly_score"], evaluation.scores["defect_type"] != "good"
    assert f"score {score[defect].min():.3g}" in display.titles[0]
    assert f"score {score[~defect].max():.3g}" in display.titles[2]
    display.plot()
    assert display.axes_.shape == (8, 2)
    drawn = [text for ax in display.figure_.axes for text in texts(ax)]
    assert [text for text in drawn if text in headings] == headings


def test_no_title_overlaps_another_title_or_heading(pipe, images):
    display = AnomalyMapDisplay.from_evaluation(evaluate(pipe, images[8:]), n_cases=2)
    for _ in range(2):  # titles find their place after the axes have found theirs
        display.figure_.draw_without_rendering()
    artists = [text for ax in display.figure_.axes for text in ax.texts]
    artists += [ax._left_title for ax in display.axes_[:, 0]]
    boxes = [artist.get_window_extent() for artist in artists]
    overlapping = [
        (artists[i].get_text(), artists[j].get_text())
        for i in range(len(boxes))
        for j in range(i)
        if boxes[i].overlaps(boxes[j])
    ]
    assert overlapping == []


def test_more_images_than_a_picture_can_show_are_refused_before_they_are_read():
    with pytest.raises(ValueError, match=r"No picture shows 101 images, 100 at most: choose some"):
        AnomalyMapDisplay.from_predictions(["nowhere.png"] * 101, {"a": np.ones((101, 2, 2))})


def test_maps_that_do_not_fit_their_image_are_refused():
    photo = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match=r"maps\['a'\]\[0\] has \(2, 2\) pixels"):
        AnomalyMapDisplay([photo], {"a": [np.zeros((2, 2))]})
    with pytest.raises(ValueError, match="2 maps for 1 images"):
        AnomalyMapDisplay([photo], {"a": [np.zeros((4, 4))] * 2})
    with pytest.raises(ValueError, match="no images to show"):
        AnomalyMapDisplay([], {})


# --- scores -----------------------------------------------------------------------------------


def test_score_shift_counts_who_crosses_over_and_writes_it_into_the_regions():
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


def test_histogram_shows_shares_of_each_kind_in_common_bins(scorer):
    parts = scorer.describe(np.random.default_rng(1).random((6, 4, 4)))
    display = ScoreHistogramDisplay.from_predictions(parts, scorer, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(
        display.histograms()["good, training (held out)"], scorer.calibration_.scores
    )
    ax = display.plot().ax_
    assert labels(ax) == [
        *["good (3)", "defects (3)", "good, training (held out) (19)", "threshold"]
    ]
    for patch in ax.patches:  # the outline of a histogram: its tops over widths are 1 in all
        xy = patch.get_xy()
        width = np.diff(display.edges)[0]
        steps = xy[1 : 2 * len(display.edges) - 1 : 2, 1]
        assert steps.sum() == pytest.approx(1) and width > 0


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


def test_false_alarms_are_of_good_images_and_the_band_of_their_groups(scorer):
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


def test_without_labels_all_images_are_good_and_nothing_is_said_of_defects(scorer):
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
    with pytest.raises(ValueError, match="above 0"):
        OperatingPointDisplay([0.0], [0.0])


def test_the_smallest_size_found_is_a_curve_of_its_own():
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


# --- bank, pixels, dependence, drift ----------------------------------------------------------


def test_bank_display_projects_the_entries_and_counts_them_by_image(pipe):
    display = BankDisplay.from_estimator(pipe)
    bank = pipe["bank"].bank_
    assert display.coordinates.shape == (len(bank), 2)
    assert display.entries_per_image().sum() == len(bank)
    centred = bank.values - bank.values.mean(axis=0)
    explained = (np.linalg.svd(centred, compute_uv=False) ** 2)[:2].sum() / (centred**2).sum()
    assert display.explained == pytest.approx(explained, rel=1e-3)
    (marks,) = display.plot().ax_.collections
    np.testing.assert_array_equal(marks.get_array(), bank.image_index)
    named = texts(display.plot_images().ax_)
    assert named[0] == str(display.entries_per_image().argmax())


def test_bank_of_one_feature_can_be_drawn():
    pipe = make_pipeline(CoresetBank(ratio=1.0), RoutedKNNScorer(), StructCoreScorer())
    pipe.fit(np.arange(9.0)[:, None])
    assert not BankDisplay.from_estimator(pipe).coordinates[:, 1].any()


def test_pro_curve_has_the_area_that_aupro_says():
    rng = np.random.default_rng(0)
    masks = rng.random((3, 12, 12)) > 0.7
    maps = np.round(rng.random((3, 12, 12)) + 0.3 * masks, 1)  # many equal scores
    rates, overlap = pro_curve(masks, maps)
    assert (np.diff(rates) >= 0).all() and (np.diff(overlap) >= 0).all()
    for most in (0.3, 1.0):
        inside = rates <= most
        x = np.r_[rates[inside], most]
        y = np.r_[overlap[inside], np.interp(most, rates, overlap)]
        area = np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2 / most
        assert area == pytest.approx(aupro_score(masks, maps, max_fpr=most))


def test_region_overlap_draws_the_curve_and_names_its_area():
    rng = np.random.default_rng(0)
    masks = [np.add.outer(np.arange(80), np.arange(80)) < 60]
    maps = [rng.random((80, 80)) + 0.5 * masks[0]]
    display = RegionOverlapDisplay.from_predictions(masks, maps, name="ours")
    assert display.aupro == pytest.approx(aupro_score(masks, maps))
    assert display.line_.get_ydata()[-1] == 1
    assert display.line_.get_label() == f"ours: AUPRO {100 * display.aupro:.1f} %"
    other = RegionOverlapDisplay([0, 1], [0, 1], name="chance").plot(display.ax_)
    assert other.line_.get_linestyle() == "--"


def test_region_overlap_shades_up_to_its_end_beside_lines_of_others():
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    ax.plot([0, 1], [0, 1])
    display = RegionOverlapDisplay([0, 0.5, 1], [0, 0.8, 1]).plot(ax)
    assert display.line_.get_linestyle() == "-"
    (shade,) = ax.collections
    # Up to 0.3, where the curve, straight up to (0.5, 0.8), has reached 0.48.
    np.testing.assert_allclose(shade.get_paths()[0].get_extents().max, [0.3, 0.48])


def test_a_notebook_shows_a_display_in_a_part_of_a_figure():
    from matplotlib.figure import Figure

    part = Figure().subfigures(1, 2)[0]
    display = DependenceDisplay([1, 2], [2.0, 1.0]).plot(part.subplots())
    assert "image/png" in display._repr_html_()

    photo = np.zeros((4, 4, 3), np.uint8)
    maps = AnomalyMapDisplay([photo], {"ours": [np.eye(4)]}).plot(
        part.subplots(1, 2, squeeze=False)
    )
    assert "image/png" in maps._repr_html_()


@pytest.mark.parametrize(
    "display",
    [
        BankDisplay(np.eye(3, 2), [0, 1, 2]),
        OperatingPointDisplay([0.1, 0.2], [0.5, 0.6], None, [0.3, 0.2]),
    ],
    ids=lambda display: type(display).__name__,
)
def test_drawing_again_takes_no_room_from_the_axes(display):
    ax = display.plot().ax_
    figure = ax.figure
    figure.draw_without_rendering()
    width = ax.get_position().width
    for _ in range(3):
        display.plot(ax)
        ax.get_legend() and ax.get_legend().remove()  # it has a line more each time
        figure.draw_without_rendering()
    assert ax.get_position().width == pytest.approx(width, rel=0.01)
    assert figure.axes == [ax]


def test_false_alarms_far_above_what_was_asked_for_are_in_the_picture():
    display = OperatingPointDisplay([0.01, 0.05], None, [0.3, 0.5], n_good=20).plot()
    low, high = display.ax_.get_ylim()
    assert low == 0 and 0.5 < high < 0.6
    low, high = OperatingPointDisplay([0.01, 0.05], None, [0, 0], n_good=20).plot().ax_.get_ylim()
    assert high == 0.1


def test_a_route_whose_images_are_all_alike_can_be_drawn():
    maps = AnomalyMaps(
        np.repeat([0.0, 1.0], 20)[:, None, None] * np.random.default_rng(0).random((40, 4, 4)),
        route=np.repeat(["still", "moving"], 20),
        route_distance=np.exp(0.1 * np.random.default_rng(1).normal(size=40)),
    )
    scorer = StructCoreScorer(false_alarm_rate=0.1, threshold="guaranteed").fit(maps)
    display = ScoreShiftDisplay.from_predictions(scorer.describe(maps), scorer)
    assert np.isfinite(display.base).all()


def test_lengths_of_what_routing_shows_are_compared():
    with pytest.raises(ValueError, match="One entry an image"):
        RoutingDisplay(["a", "a"], [0.5, 0.6], ["a"], ["x"])


def test_dependence_display_shades_a_block():
    display = DependenceDisplay([1, 2, 4], [5.0, 3.0, 1.0], limit=[1.5, 1.4, 1.2], block_length=3)
    ax = display.plot().ax_
    assert "blocks of 3" in labels(ax)
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [5, 3, 1])


def test_dependence_that_a_bank_has_found_is_drawn_by_its_route():
    found = SimpleNamespace(lags=np.arange(1, 40), ratio=np.ones(39), limit=1.2, block_length=1)
    X = np.random.default_rng(1).normal(size=(30, 4))
    pipe = make_pipeline(CoresetBank(0.5), RoutedKNNScorer(), StructCoreScorer()).fit(X)
    with pytest.raises(ValueError, match="did not look for dependence"):
        DependenceDisplay.from_estimator(pipe)
    pipe[0].dependence_ = {"nut": found}
    display = DependenceDisplay.from_estimator(pipe, route="nut")
    assert display.block_length is None  # no two images are of one block
    ticks = [tick.get_text() for tick in display.ax_.get_xticklabels()]
    assert ticks == ["1", "2", "4", "8", "16", "32"]
    assert DependenceDisplay.from_estimator(pipe).lags is display.lags  # the only route
    with pytest.raises(ValueError, match="one of 'nut'"):
        DependenceDisplay.from_estimator(pipe, route="bolt")


def test_drift_display_marks_alarms_and_needs_a_limit_for_every_test():
    evidence = pd.DataFrame({"a": [0.0, 2.5], "b": [0.0, 0.1]})
    ax = DriftDisplay(evidence, {"a": 2.0, "b": 2.0}, [(1, "a")]).plot().ax_
    assert "a: 1" in texts(ax) and texts(ax).count("alarm") == 1
    with pytest.raises(ValueError, match=r"no entry for the tests \['b'\]"):
        DriftDisplay(evidence, {"a": 2.0})


def test_drift_display_keeps_what_a_monitor_says_after_every_image():
    X = np.random.default_rng(1).normal(size=(220, 4))
    pipe = make_pipeline(
        CoresetBank(0.1, random_state=0), RoutedKNNScorer(), StructCoreScorer(descriptors=["max"])
    ).fit(X[:100])
    stream = np.r_[X[100:150], X[150:] + 2]
    display = DriftDisplay.from_estimator(pipe, stream)
    monitor = DriftMonitor(pipe)
    monitor.update(stream)
    assert display.alarms == [(alarm.image, alarm.kind) for alarm in monitor.alarms_]
    assert display.alarms and min(position for position, _ in display.alarms) >= 50
    last = monitor.evidence().set_index("kind")["log10_evidence"]
    np.testing.assert_allclose(display.log10_evidence.iloc[-1][last.index], last)
    display.plot().figure_.draw_without_rendering()
    with pytest.raises(ValueError, match="no images to watch"):
        DriftDisplay.from_predictions(pd.DataFrame(), monitor)


ODD = ["$x_{$", "$a$b$c$", "a\nb", "\udcff", "<b>|=1"]


@pytest.mark.parametrize("display", [AnomalyMapDisplay, ScoreShiftDisplay, ScoreHistogramDisplay])
def test_labels_are_no_formulas(display, pipe, images):
    drawn = display.from_estimator(pipe, images[8:13].paths, y=ODD)
    drawn.figure_.draw_without_rendering()


@pytest.mark.parametrize(
    "display",
    [
        RoutingDisplay(ODD, [0.5] * 5, ODD, ODD),
        BankDisplay(np.eye(5, 2), [0] * 5, routes=np.array(ODD)),
        DriftDisplay(
            pd.DataFrame({name: [0.0] for name in ODD}), dict.fromkeys(ODD, 2.0), [(0, ODD[0])]
        ),
        DescriptorDisplay(pd.DataFrame({name: [1.0] for name in ODD})),
    ],
    ids=lambda display: type(display).__name__,
)
def test_names_of_products_and_descriptors_are_no_formulas(display):
    display.plot().figure_.draw_without_rendering()


def test_types_of_an_evaluation_are_no_formulas(pipe, images):
    chosen = images[8:16]
    types = np.where(chosen.y == "good", "good", "$x_{$").astype(object)
    found = evaluate(pipe, ImageSet(chosen.paths, types))
    AnomalyMapDisplay.from_evaluation(found).figure_.draw_without_rendering()


FROM_TABLES = [
    ScoreShiftDisplay,
    ScoreHistogramDisplay,
    DescriptorDisplay,
    OperatingPointDisplay,
]


@pytest.mark.parametrize("display", FROM_TABLES)
def test_a_table_with_an_image_without_a_score_is_refused(display, scorer):
    # An image without a p-value was counted as accepted.
    parts = scorer.describe(np.random.default_rng(1).random((4, 4, 4)))
    y = ["good", "good", "dent", "dent"]
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    assert (
        display.from_predictions(parts, scorer, y, ax=ax).ax_ is ax
    )  # drawn, as by scikit-learn's
    without = parts.copy()
    without.loc[1, parts.select_dtypes("float").columns] = np.nan
    with pytest.raises(ValueError, match="Image 1 of the table has no score"):
        display.from_predictions(without, scorer, y)
    with pytest.raises(ValueError, match="described must be what describe returns: there is no '"):
        display.from_predictions(parts[["peak_row"]], scorer, y)
    with pytest.raises(ValueError, match="One entry an image is needed"):
        display.from_predictions(parts, scorer, ["good", "good", "dent"])


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


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"titles": ["a"]}, "images has 2, titles has 1"),
        ({"rows": ["a"]}, "images has 2, rows has 1"),
        ({"maps": {"ours": np.full((2, 8, 8), np.nan)}}, "no value that is a finite number"),
    ],
)
def test_parts_of_pictures_that_do_not_fit_are_refused(parts, message):
    settings = {"maps": {"ours": np.ones((2, 8, 8))}, **parts}
    with pytest.raises(ValueError, match=message):
        AnomalyMapDisplay.from_predictions(np.zeros((2, 8, 8), np.uint8), **settings)


def test_no_cases_and_no_fit_are_errors(pipe, images):
    with pytest.raises(ValueError, match="n_cases must be an int in the range"):
        AnomalyMapDisplay.from_evaluation(None, n_cases=0)
    with pytest.raises(NotFittedError):
        BankDisplay.from_estimator(clone(pipe))


# --- in notebooks and with pyplot ---------------------------------------------------------------


def test_a_notebook_shows_a_display_whether_it_was_drawn_or_not(monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    display = DriftDisplay(pd.DataFrame({"a": [0.0, 1.0]}), {"a": 2.0})
    html = display._repr_html_()
    assert html.startswith('<img alt="DriftDisplay" src="data:image/png;base64,iVBOR')
    assert display.figure_ is not None


def test_a_program_with_pyplot_shows_the_figure_once(monkeypatch):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    display = DriftDisplay(pd.DataFrame({"a": [0.0, 1.0]}), {"a": 2.0}).plot()
    assert plt.get_fignums() == [display.figure_.number]  # plt.show() shows it
    assert display._repr_html_() is None
    plt.close("all")


@pytest.mark.slow
def test_each_cell_of_a_notebook_shows_a_display_once():
    reason = "runs where ipykernel and nbclient are installed"
    pytest.importorskip("ipykernel", reason=reason)
    client = pytest.importorskip("nbclient", reason=reason)
    from nbformat.v4 import new_code_cell, new_notebook

    make = "display = DriftDisplay(pd.DataFrame({'a': [0.0, 1.0]}), {'a': 2.0})"
    cells = [
        f"import pandas as pd; from skstructcore.display import DriftDisplay; {make}; display",
        "display.plot()",
        f"import matplotlib.pyplot; {make}; display.plot()",
        "display",  # drawn by pyplot in the cell before
        "display.plot(); matplotlib.pyplot.show()",
    ]
    notebook = new_notebook(cells=list(map(new_code_cell, cells)))
    client.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    for cell in notebook.cells:
        shown = [output.data for output in cell.outputs if "data" in output]
        pictures = [d for d in shown if "image/png" in d or "<img" in d.get("text/html", "")]
        assert len(pictures) == 1, cell.source


# --- every display with every pipeline ----------------------------------------------------------

BOX = np.zeros((48, 48), bool)
BOX[:, 24:] = True


def _two_products(images):
    """The same images and darker ones, as two products."""
    pixels = [images[i] for i in range(len(images))]
    darker = [image // 2 for image in pixels]
    return ImageSet(
        [*pixels, *darker],
        [*images.y, *images.y],
        masks=[images.load_mask(i) for i in range(len(images))] * 2,
        categories=["light"] * len(images) + ["dark"] * len(images),
    )


@pytest.fixture(
    scope="module", params=["plain", "ignore", "categories", "n_routes", "categories ignore"]
)
def fitted(request, images):
    """A pipeline and its test images: eight good ones of a product for training, eight others."""
    options = {"features__image_size": 48, "bank__ratio": 0.1, "structcore__quantile": 0.8}
    if request.param != "plain" and request.param != "ignore":
        images = _two_products(images)
        options["knn__routing"] = "auto"
    if request.param == "n_routes":
        images = ImageSet(images.paths, images.y, masks=images.masks)
        options["bank__n_routes"] = 2
    if request.param == "ignore":
        options["features__ignore"] = BOX
    if request.param == "categories ignore":
        options["features__ignore"] = {"light": BOX}
    places = np.arange(len(images)) % 16
    pipe = make_structcore("efficientnet_lite0", **options)
    return pipe.fit(images[np.flatnonzero(places < 8)]), images[np.flatnonzero(places >= 8)]


@pytest.mark.filterwarnings("ignore:Fewer than")
@pytest.mark.parametrize("display", EVERY)
def test_every_display_draws_what_every_pipeline_makes_of_images(display, fitted):
    display.from_estimator(*fitted).figure_.draw_without_rendering()


def test_histogram_of_training_scores_has_the_share_above_the_threshold_that_decides(fitted):
    pipe, images = fitted
    display = ScoreHistogramDisplay.from_estimator(pipe, images)
    routes = pipe[-1].decisions_.values()
    assert len(display.calibration_scores) == sum(len(d.scores) for d in routes)
    rejected = sum(d.rejects(d.scores).sum() for d in routes)
    assert (display.calibration_scores > display.threshold).sum() == rejected
    decided = pipe.predict(images) == -1
    np.testing.assert_array_equal(display.scores > display.threshold, decided)


def test_the_curve_has_the_area_that_evaluate_says(fitted):
    pipe, images = fitted
    display = RegionOverlapDisplay.from_estimator(pipe, images)
    assert display.aupro == pytest.approx(evaluate(pipe, images).table().loc["all", "aupro"])


def test_scores_over_their_threshold_are_the_rejected_ones(fitted):
    pipe, images = fitted
    display = ScoreShiftDisplay.from_estimator(pipe, images)
    rejected = pipe.predict(images) == -1
    np.testing.assert_array_equal(display.scores > display.threshold, rejected)
    assert display.counts()[["both", "only_score"]].to_numpy().sum() == rejected.sum()


def test_dependence_says_why_there_is_nothing_to_show(fitted):
    # Eight images of a route are too few to tell, whatever the groups are set to.
    with pytest.raises(ValueError, match="No route has 12 training images"):
        DependenceDisplay.from_estimator(fitted[0])


def test_pictures_carry_the_names_of_files_and_corner_words_cover_no_mark(tmp_path):
    from report_pages import fit_pipe, write_images

    images, pipe = write_images(tmp_path), fit_pipe()
    display = AnomalyMapDisplay.from_estimator(pipe, images[7:9])
    assert [title.split("\n")[0] for title in display.titles] == ["good_07.png", "dent_08.png"]
    parts = pipe[-1].describe(pipe[:-1].transform(images))
    shift = ScoreShiftDisplay.from_predictions(parts, pipe[-1], images.y)
    shift.figure_.canvas.draw()
    marks = np.concatenate([c.get_offsets() for c in shift.ax_.collections if len(c.get_offsets())])
    marks = marks[np.isin(marks[:, 1], shift.scores)]
    assert len(marks) == len(images)
    places = shift.ax_.transData.transform(marks)
    for words in shift.ax_.texts:
        box = words.get_window_extent()
        assert not any(box.contains(*place) for place in places), words.get_text()
