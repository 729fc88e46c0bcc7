"""Images beside their maps: what the picture holds, marks and refuses."""

from dataclasses import replace

import numpy as np
import pytest

from skstructcore import make_structcore
from skstructcore.datasets import ImageSet
from skstructcore.display import AnomalyMapDisplay
from skstructcore.evaluation import evaluate


def test_pixel_maps_are_drawn_where_they_are_what_scores_and_regions_come_from():
    photos = np.random.default_rng(0).integers(80, 160, (40, 64, 64), dtype=np.uint8)
    options = {"features__image_size": 64, "bank__ratio": 0.1, "structcore__resolution": "full"}
    pipe = make_structcore("efficientnet_lite0", structcore__false_alarm_rate=0.2, **options)
    pipe.fit(photos[:24])
    (maps,) = AnomalyMapDisplay.from_estimator(pipe, photos[24:]).maps.values()
    has_region = pipe[-1].describe(pipe[:-1].transform(photos[24:]))["region_top"].notna()
    assert [bool((heat > 1).any()) for heat in maps] == has_region.tolist()
    assert 0 < has_region.sum() < 16


def test_maps_of_no_method_are_refused(images):
    with pytest.raises(TypeError, match=r"maps must be a dict, .* got ndarray"):
        AnomalyMapDisplay.from_predictions(images, np.zeros((16, 48, 48)))


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


def test_the_cases_of_an_evaluation_stand_under_their_headings(pipe, images, texts):
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


def test_too_many_images_are_refused_before_they_are_scored(pipe):
    with pytest.raises(ValueError, match="No picture shows 101 images"):
        AnomalyMapDisplay.from_estimator(pipe, ["nowhere.png"] * 101)


@pytest.mark.parametrize("n_labels", [1, 3])
def test_labels_are_one_an_image_before_images_are_scored(pipe, n_labels):
    with pytest.raises(ValueError, match=f"One entry an image .*: images has 2, y has {n_labels}"):
        AnomalyMapDisplay.from_estimator(pipe, ["nowhere.png"] * 2, ["good"] * n_labels)


@pytest.mark.parametrize("shape", [(), (2,), (1, 2), (3, 2)])
def test_axes_must_be_one_for_each_image_and_map(shape):
    photo, axes = np.zeros((4, 4, 3), np.uint8), np.empty(shape, dtype=object)
    display = AnomalyMapDisplay([photo, photo], {"a": np.ones((2, 4, 4))})
    with pytest.raises(ValueError, match=r"axes must have shape \(2, 2\)"):
        display.plot(axes)


def test_maps_that_do_not_fit_their_image_are_refused():
    photo = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match=r"maps\['a'\]\[0\] has \(2, 2\) pixels"):
        AnomalyMapDisplay([photo], {"a": [np.zeros((2, 2))]})
    with pytest.raises(ValueError, match=r"images has 1, maps\['a'\] has 2"):
        AnomalyMapDisplay([photo], {"a": [np.zeros((4, 4))] * 2})
    with pytest.raises(ValueError, match="no images to show"):
        AnomalyMapDisplay([], {})


def test_types_of_an_evaluation_are_no_formulas(pipe, images):
    chosen = images[8:16]
    types = np.where(chosen.y == "good", "good", "$x_{$").astype(object)
    found = evaluate(pipe, ImageSet(chosen.paths, types))
    AnomalyMapDisplay.from_evaluation(found).figure_.draw_without_rendering()


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


def test_a_mask_that_does_not_fit_its_image_is_refused():
    photo = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match=r"masks\[0\] has \(2, 2\) pixels"):
        AnomalyMapDisplay([photo], {"a": [np.ones((4, 4))]}, masks=[np.ones((2, 2), bool)])


def test_headings_may_be_numbers():
    photos, maps = [np.zeros((4, 4, 3), np.uint8)] * 3, {"a": [np.eye(4)] * 3}
    drawn = AnomalyMapDisplay(photos, maps, rows=[1, 2, 2]).plot()
    assert drawn.axes_.shape == (3, 2)


def test_more_cases_than_a_picture_can_show_are_refused(pipe, images):
    evaluation = evaluate(pipe, images[8:])
    rows = np.arange(120) % len(evaluation.images)
    scores, maps = evaluation.scores.iloc[rows], evaluation.maps[rows]
    many = replace(evaluation, images=evaluation.images[rows], scores=scores, maps=maps)
    with pytest.raises(ValueError, match=r"No picture shows \d+ images, 100 at most"):
        AnomalyMapDisplay.from_evaluation(many, n_cases=60)


def test_maps_that_are_no_images_are_refused():
    photos = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=r"maps\['ours'\] must have the shape \(n_images, H, W\)"):
        AnomalyMapDisplay.from_predictions(photos, {"ours": np.zeros((2, 8))})


def test_many_images_of_one_heading_fill_several_lines():
    photos = [np.zeros((8, 8, 3), np.uint8)] * 9
    maps = {"ours": [np.eye(8)] * 9}
    figure = AnomalyMapDisplay(photos, maps, rows=["a"] * 7 + ["b"] * 2).plot().figure_
    assert figure.get_size_inches()[0] < 14
    words = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert words.count("a") == words.count("b") == 1
