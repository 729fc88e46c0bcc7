"""What all displays share: what they draw of any pipeline, and refuse. No pixels are compared."""

import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skstructcore import make_structcore
from skstructcore.datasets import ImageSet, NoMasksError
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
from skstructcore.display.style import label_styles, line_style
from skstructcore.evaluation import evaluate

EVERY = [
    AnomalyMapDisplay,
    DescriptorDisplay,
    OperatingPointDisplay,
    RegionOverlapDisplay,
    ScoreHistogramDisplay,
    ScoreShiftDisplay,
]


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


@pytest.mark.parametrize("display", [*EVERY, DriftDisplay, RoutingDisplay])
def test_without_matplotlib_no_image_is_scored(display, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"skstructcore\[plot\]"):
        display.from_estimator(None, ["nowhere.png"])


def test_labels_that_cannot_be_read_cost_no_scores():
    with pytest.raises(ValueError, match="y must hold 0 and 1"):
        OperatingPointDisplay.from_estimator(None, ["nowhere.png"], [7])


def test_lengths_that_differ_are_named():
    with pytest.raises(ValueError, match="base has 2, scores has 3"):
        ScoreShiftDisplay([1, 2], [1, 2, 3], 0, 0)
    with pytest.raises(ValueError, match="One entry an image"):
        RoutingDisplay(["a", "a"], [0.5, 0.6], ["a"], ["x"])


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


def test_labels_and_lines_look_alike_only_in_large_numbers():
    looks = [tuple(look.values()) for look in label_styles(map(str, range(57))).values()]
    assert len(set(looks[:56])) == 56 and looks[56] == looks[0]
    assert len({tuple(line_style(k).values()) for k in range(30)}) == 30


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OperatingPointDisplay([0.1], n_good=20), "n_good without false_alarms"),
        (lambda: BankDisplay([0, 1], [0, 1]), r"shape \(n_entries, 2\), got \(2,\)"),
        (lambda: DependenceDisplay([1, 2], [1, 1], limit=[1, 2, 3]), "lags has 2, limit has 3"),
        (lambda: DriftDisplay(pd.DataFrame({"a": []}), {"a": 2.0}), "log10_evidence is empty"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_it_is_drawn(make, message):
    with pytest.raises(ValueError, match=message):
        make()


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
    assert display.from_predictions(parts, scorer, y).ax_  # drawn, as by scikit-learn's
    without = parts.copy()
    without.loc[1, parts.select_dtypes("float").columns] = np.nan
    with pytest.raises(ValueError, match="Image 1 of the table has no score"):
        display.from_predictions(without, scorer, y)
    with pytest.raises(ValueError, match="described must be what describe returns: there is no '"):
        display.from_predictions(parts[["peak_row"]], scorer, y)
    with pytest.raises(ValueError, match="One entry an image is needed"):
        display.from_predictions(parts, scorer, ["good", "good", "dent"])


def test_no_cases_and_no_fit_are_errors(pipe, images):
    with pytest.raises(ValueError, match="n_cases must be an int in the range"):
        AnomalyMapDisplay.from_evaluation(None, n_cases=0)
    with pytest.raises(NotFittedError):
        BankDisplay.from_estimator(clone(pipe))


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
    routes = pipe[-1].routes_.decisions.values()
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


@pytest.fixture
def unread(pipe, images, monkeypatch):
    """Images, and a pipeline that fails as soon as it is to run over them."""

    def fail(*args):
        raise AssertionError("images were scored")

    monkeypatch.setattr(type(pipe[0]), "transform", fail)
    return pipe, images


@pytest.mark.parametrize(
    ("display", "options", "message"),
    [
        (ScoreShiftDisplay, {"y": ["good"] * 2}, "images has .*, y has 2"),
        (ScoreHistogramDisplay, {"y": ["good"] * 2}, "images has .*, y has 2"),
        (DescriptorDisplay, {"y": ["good"] * 2}, "images has .*, y has 2"),
        (AnomalyMapDisplay, {"y": ["good"] * 2}, "images has .*, y has 2"),
        (AnomalyMapDisplay, {"others": {"a": np.ones((2, 4, 4))}}, r"maps\['a'\] has 2"),
        (OperatingPointDisplay, {"groups": [1]}, "groups must have one entry per image"),
        (OperatingPointDisplay, {"false_alarm_rates": [5]}, "false_alarm_rates must be shares"),
        (RoutingDisplay, {}, "The pipeline has no routes"),
        (RegionOverlapDisplay, {"max_fpr": 0}, "max_fpr must be"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_images_are_scored(
    display, options, message, unread
):
    with pytest.raises(ValueError, match=message):
        display.from_estimator(*unread, **options)


def test_only_defects_have_no_operating_point_and_cost_no_scores(unread):
    pipe, images = unread
    with pytest.raises(ValueError, match="No good image is among them"):
        OperatingPointDisplay.from_estimator(pipe, images, ["bad"] * len(images))


def test_curves_of_images_without_masks_cost_no_maps(unread):
    pipe, images = unread
    with pytest.raises(NoMasksError, match="pass the images as an ImageSet, not list"):
        RegionOverlapDisplay.from_estimator(pipe, images.paths)
    with pytest.raises(NoMasksError, match=r"none of the .* anomalous images has one"):
        RegionOverlapDisplay.from_estimator(pipe, ImageSet(images.paths, images.y))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScoreShiftDisplay([], [], 1, 1), "nothing to draw: base is empty"),
        (lambda: BankDisplay(np.ones((0, 2)), []), "nothing to draw: coordinates is empty"),
        (lambda: DescriptorDisplay(pd.DataFrame({"max": []})), "nothing to draw: z is empty"),
        (lambda: ScoreHistogramDisplay([1, np.nan], 1), "scores must be finite numbers"),
        (
            lambda: ScoreHistogramDisplay([1, 2], 3, calibration_scores=[1, np.nan]),
            "calibration_scores must be finite",
        ),
        (
            lambda: AnomalyMapDisplay(
                np.zeros((1, 2, 2, 3)), {"ours": np.zeros((1, 2, 2))}, thresholds={"our": 0.5}
            ),
            r"thresholds has \['our'\], but there are maps of \['ours'\]",
        ),
        (lambda: RegionOverlapDisplay([0, 1], [0, np.nan]), "overlap must be finite numbers"),
        (lambda: RoutingDisplay(["pin"], [1.0], ["nut"]), r"names \['pin'\], which are not in"),
    ],
)
def test_data_that_no_picture_has_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
