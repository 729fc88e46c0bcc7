"""The HTML report: what its page holds and refuses; test_report_browser looks how it behaves."""

import base64
import hashlib
import json
import os
import re
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_pages import KINDS, fit_pipe, write_images
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import make_pipeline

from skstructcore import (
    AnomalyMaps,
    StructCoreScorer,
    make_structcore,
    recalibrate,
)
from skstructcore._utils.versions import versions_of
from skstructcore.datasets import DatasetError, ImageSet, load_verdicts
from skstructcore.display import ScoreShiftDisplay
from skstructcore.display.style import overlay_colors
from skstructcore.images import as_images
from skstructcore.report import report
from skstructcore.report.pictures import draw_shift, image_uri, map_uri, outline, reduced
from skstructcore.report.words import facts, headline, reasons


@pytest.fixture(scope="module")
def pipe():
    return fit_pipe()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def images(folder):
    return write_images(folder)


@pytest.fixture(scope="module")
def page(pipe, images, folder):
    return report(pipe, images, folder / "report.html", title="Tiles & <b>bolts</b>").read_text()


def block(page, name):
    pattern = rf'<script type="application/json" id="{name}">(.*?)</script>'
    return json.loads(re.search(pattern, page, re.DOTALL)[1])


def picture(uri):
    return Image.open(BytesIO(base64.b64decode(uri.partition(",")[2])))


def within(path, shape):
    """The cells that an outline goes around: those behind an odd number of its vertical edges."""
    crossings = np.zeros((shape[0], shape[1] + 1), int)
    for x, y, length in re.findall(r"M(\d+) (\d+)v(\d+)", path):
        crossings[int(y) : int(y) + int(length), int(x)] += 1
    return crossings.cumsum(axis=1)[:, :-1] % 2 == 1


def decided(page):
    """What the page says of each image, as fitted."""
    data = block(page, "data")
    return [entry["at"][data["fitted"]] == "1" for entry in data["images"]]


def test_parts_are_refused_where_the_pipeline_knows_none(pipe, images, tmp_path):
    with pytest.raises(ValueError, match="bank__parts="):
        report(pipe, images, tmp_path / "r.html", parts=range(13))
    with pytest.raises(ValueError, match="parts has 2"):
        report(pipe, images, tmp_path / "r.html", parts=[0, 1])
    with pytest.raises(ValueError, match="parts has no entry for image 1: got None"):
        report(pipe, images, tmp_path / "r.html", parts=["a", None, *"abcdefghijk"])


def test_the_page_holds_what_describe_says_of_every_image(page, pipe, images):
    data = block(page, "data")
    parts = pipe[-1].describe(pipe[:-1].transform(images))
    assert [entry["file"] for entry in data["images"]] == images.paths
    assert [entry["type"] for entry in data["images"]] == KINDS
    for column, name in (("p_value", "p"), ("anomaly_score", "score")):
        found = [entry[name] for entry in data["images"]]
        np.testing.assert_allclose(found, parts[column], rtol=1e-4)
    assert decided(page) == parts["is_anomalous"].tolist()
    names = [part["name"] for part in data["terms"]]
    assert names == ["max", *pipe[-1].descriptors_]
    z = np.array([entry["z"] for entry in data["images"]])
    np.testing.assert_allclose(z, parts[[f"z_{name}" for name in names]], rtol=1e-3, atol=1e-4)


def test_pictures_masks_and_maps_are_inside_the_page(page, images):
    pictures = block(page, "pictures-0")
    assert len(pictures) == len(images)
    content = base64.b64decode(pictures[0]["image"].removeprefix("data:image/webp;base64,"))
    assert Image.open(BytesIO(content)).size == (64, 48)
    assert pictures[0]["truth"] is None
    truth = within(pictures[8]["truth"]["d"], (48, 64))
    np.testing.assert_array_equal(truth, images.masks[8])
    assert picture(pictures[8]["map"]).mode == "P"
    assert pictures[8]["box"] == [0, 0, 48, 64]


def test_the_operating_points_of_the_page_are_counts_of_its_images(page, pipe, images):
    parts = pipe[-1].describe(pipe[:-1].transform(images))
    rejected = parts["is_anomalous"].to_numpy()
    good = images.y == "good"
    row = re.search(r'<tr data-level="0.1"[^>]*>(.*?)</tr>', page, re.DOTALL)[1]
    cells = re.findall(r"<td>(\d+) of (\d+)</td>", row)
    expected = [(rejected, 13), (rejected[good], 8), (rejected[~good], 5)]
    assert cells == [(str(int(which.sum())), str(n)) for which, n in expected]


def test_rates_below_the_smallest_that_can_be_guaranteed_say_so(page, images, tmp_path):
    pipe = fit_pipe(structcore__threshold="guaranteed")  # of 19 images, which guarantee 1 / 20
    guaranteed = report(pipe, images, tmp_path / "r.html").read_text()
    rows = re.findall(r'<tr data-level="([^"]*)"[^>]*>(.*?)</tr>', guaranteed, re.DOTALL)
    noted = [rate for rate, row in rows if "as at 5 %, the smallest that can be guaranteed" in row]
    assert noted == ["0.001", "0.002", "0.005", "0.01", "0.02"]
    assert "guaranteed" not in page


def test_the_page_says_what_was_fitted_on_what(page):
    assert "19 good images" in page and "10 %" in page
    assert "ConvFeatures, model efficientnet_lite0" in page


def test_groups_are_counted_among_the_training_images():
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(60, 4, 4, 8)), np.repeat(np.arange(24), [2] * 20 + [5] * 4)
    pipe = make_structcore(structcore__false_alarm_rate=0.1)[2:]
    again = recalibrate(pipe.fit(X), rng.normal(size=(600, 4, 4, 8)), groups=np.arange(600) // 3)
    assert dict(facts(again))["Fitted on"] == "60 good images"
    assert dict(facts(again))["Threshold from"] == "good images outside the fit, to 100 %"
    with pytest.warns(UserWarning, match="Fewer than 8"):  # of b
        pipe.fit(X, bank__groups=groups, bank__categories=["a"] * 40 + ["b"] * 20)
    assert dict(facts(pipe))["Fitted on"] == "60 good images in 24 groups"
    assert "Threshold from" not in dict(facts(pipe))


def test_nothing_in_the_page_leads_outside_and_only_its_own_script_may_run(page):
    addresses = set(re.findall(r"https?://[^\s\"'<]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a name, not an address
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for tag in ("script", "style"):
        text = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.search(r"<[^>]+ style=", page)


def test_titles_kinds_and_names_cannot_become_markup(page, pipe, tmp_path):
    assert "Tiles &amp; &lt;b&gt;bolts&lt;/b&gt;" in page and "<b>bolts" not in page
    name = "=1+1<img src=x onerror=alert(1)>.png"
    Image.new("RGB", (48, 48), "grey").save(tmp_path / name)
    kind = "</script><script>alert(1)</script>"
    images = ImageSet([str(tmp_path / name)], [kind])
    odd = report(pipe, images, tmp_path / "r.html").read_text()
    assert "<img src=x" not in odd and "<script>alert" not in odd
    (entry,) = block(odd, "data")["images"]
    assert entry["type"] == kind and entry["file"].endswith(name)


def test_labels_and_titles_that_are_not_utf_8_are_written(pipe, images, tmp_path):
    odd = ImageSet(images.paths[:2], ["good", "\udcff"])
    page = report(pipe, odd, tmp_path / "r.html", title="\udcfe").read_text()
    assert block(page, "data")["images"][1]["type"] == r"$'\xff'" and "udcfe" in page
    assert '<option value="$&#39;\\xff&#39;">' in page


def test_files_that_cannot_be_read_are_listed_with_the_reason(pipe, folder, images, tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    paths = [images.paths[0], str(tmp_path / "broken.png"), images.paths[9]]
    page = report(pipe, paths, tmp_path / "r.html", batch_size=2).read_text()
    first, broken, last = block(page, "data")["images"]
    assert "broken.png" in broken["error"] and broken["p"] is None
    assert first["error"] is None and last["at"][-1] == "1"
    assert "1 cannot be read" in page and not block(page, "data")["labelled"]


def test_an_image_that_the_model_cannot_judge_is_listed_with_the_reason(images, tmp_path):
    pipe = fit_pipe(features__crop=(0, 0, 60, 40))
    Image.fromarray(np.full((30, 30), 99, np.uint8)).save(tmp_path / "small.png")
    paths = [images.paths[0], str(tmp_path / "small.png"), images.paths[9]]
    page = report(pipe, paths, tmp_path / "r.html").read_text()
    first, small, last = block(page, "data")["images"]
    assert "small.png" in small["error"] and small["p"] is None
    described = pipe[-1].describe(pipe[:-1].transform([paths[0], paths[2]]))
    found = [first["p"], last["p"]]
    np.testing.assert_allclose(found, described["p_value"], rtol=1e-4)
    with pytest.raises(ValueError, match=r"None of the 1 images can be read.*small\.png"):
        report(pipe, paths[1:2], tmp_path / "none.html")


def test_a_mask_of_another_size_is_a_note_and_missing_ones_are_nothing(pipe, images, tmp_path):
    odd = ImageSet(images.paths[8:10], ["dent"] * 2, masks=[np.ones((3, 3), bool), None])
    page = report(pipe, odd, tmp_path / "r.html").read_text()
    wrong, missing = block(page, "data")["images"]
    assert "(3, 3) pixels" in wrong["note"] and missing["note"] is None
    assert [p["truth"] for p in block(page, "pictures-0")] == [None, None]


def test_a_larger_picture_is_kept_where_it_is_asked_for_and_files_are_linked(
    pipe, images, folder, tmp_path
):
    (tmp_path / "day 1").mkdir()
    path = report(pipe, images.paths[:1], tmp_path / "day 1" / "r.html", thumbnail=16, detail=40)
    [picture] = block(path.read_text(), "pictures-0")
    sides = [
        Image.open(BytesIO(base64.b64decode(picture[name].partition(",")[2]))).size
        for name in ("image", "full")
    ]
    assert sides == [(16, 12), (40, 30)]
    [entry] = block(path.read_text(), "data")["images"]
    assert (path.parent / entry["href"]).resolve() == Path(images.paths[0]).resolve()
    view = as_images(images.paths[:1], views=[(0, 0, 32, 48)])
    path = report(pipe, view, tmp_path / "view.html")
    [entry] = block(path.read_text(), "data")["images"]
    assert (path.parent / entry["href"]).resolve() == Path(images.paths[0]).resolve()


def test_images_of_any_sizes_and_labels_of_any_coding(pipe, tmp_path):
    arrays = [np.full((30, 90), 100, np.uint8), np.full((200, 40, 3), 100, np.uint8)]
    page = report(pipe, arrays, tmp_path / "r.html", y=[0, 1], thumbnail=50).read_text()
    data = block(page, "data")
    assert [entry["size"] for entry in data["images"]] == [[30, 90], [200, 40]]
    assert [entry["type"] for entry in data["images"]] == ["good", "anomalous"]
    assert [entry["file"] for entry in data["images"]] == ["image 0", "image 1"]


def test_outlines_and_sentences_agree_where_scores_come_from_pixels(tmp_path):
    photos = np.random.default_rng(0).integers(80, 160, (40, 64, 64), dtype=np.uint8)
    options = {"features__image_size": 64, "bank__ratio": 0.1, "structcore__resolution": "full"}
    pipe = make_structcore("efficientnet_lite0", structcore__false_alarm_rate=0.2, **options)
    page = report(pipe.fit(photos[:24]), photos[24:], tmp_path / "r.html").read_text()
    entries, pictures = block(page, "data")["images"], block(page, "pictures-0")
    without = ["No patch is over" in json.dumps(entry) for entry in entries]
    assert [not picture["region"]["d"] for picture in pictures] == without
    assert 0 < sum(without) < 16


class Squares(TransformerMixin, BaseEstimator):
    """Every eighth pixel is a patch; nothing says where these lie."""

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        listed = as_images(X)
        pixels = [np.asarray(listed.read(i), dtype=np.float32) for i in range(len(listed))]
        return np.stack(pixels)[:, ::8, ::8]


def test_places_are_in_pixels_where_the_backbone_does_not_know_them(tmp_path):
    photos = np.random.default_rng(0).integers(90, 110, (20, 64, 64, 3), dtype=np.uint8)
    photos[19, 40:56, 48:64] = 250  # patches (5, 6) to (6, 7)
    pipe = make_pipeline(Squares(), *make_structcore(bank__ratio=0.5)[2:].named_steps.values())
    page = report(pipe.fit(photos[:18]), photos[18:], tmp_path / "r.html").read_text()
    entry = block(page, "data")["images"][1]
    assert entry["peak"][0] in (44, 52) and entry["peak"][1] in (52, 60)
    assert "spot at the lower right" in entry["short"] and "16 × 16 pixels" in " ".join(
        entry["why"]
    )


def test_every_product_has_its_own_threshold_in_the_page(images, tmp_path):
    rng = np.random.default_rng(0)
    train = np.r_[
        rng.integers(90, 110, (10, 48, 48, 3), dtype=np.uint8),
        rng.integers(0, 255, (10, 48, 48, 3), dtype=np.uint8),
    ]
    pipe = make_structcore(
        "efficientnet_lite0",
        features__image_size=48,
        bank__ratio=0.1,
        structcore__false_alarm_rate=0.2,
    ).fit(train, bank__categories=["plain"] * 10 + ["noise"] * 10)
    page = report(pipe, train[::5], tmp_path / "r.html").read_text()
    data = block(page, "data")
    assert data["routed"] and data["threshold"] == 1
    assert {entry["route"] for entry in data["images"]} <= {"plain", "noise", "unknown"}
    assert "2: noise, plain" in page


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ([], {}, "list of images is empty"),
        (np.zeros((3, 8, 8), np.uint8), {"max_images": 2}, "3 images are more than max_images=2"),
        (np.zeros((3, 8, 8), np.uint8), {"y": [0, 1]}, "y has 2"),
        # Pillow scales to -4 pixels without end.
        (np.zeros((3, 8, 8), np.uint8), {"thumbnail": -4}, "thumbnail must be an int in the range"),
        (np.zeros((3, 8, 8), np.uint8), {"batch_size": 0}, "batch_size must be an int"),
        (np.zeros((3, 8, 8), np.uint8), {"max_images": "9"}, "max_images must be an int"),
        (["nowhere.png"], {}, "None of the 1 images can be read.*nowhere.png"),
    ],
)
def test_what_cannot_be_reported_is_refused_and_no_file_is_left(
    pipe, tmp_path, images, options, message
):
    with pytest.raises(ValueError, match=message):
        report(pipe, images, tmp_path / "r.html", **options)
    assert not list(tmp_path.iterdir())


def test_fifty_thousand_images_are_refused_before_one_is_read(pipe, tmp_path):
    with pytest.raises(ValueError, match="smallest p-values"):
        report(pipe, ["nowhere.png"] * 50_000, tmp_path / "r.html")


def test_a_place_that_cannot_be_written_is_found_before_anything_is_computed(tmp_path, pipe):
    with pytest.raises(OSError, match="no folder"):
        report(pipe, ["nowhere.png"], tmp_path / "missing" / "r.html")


def test_without_jinja_no_image_is_scored(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=r"skstructcore\[report\]"):
        report(None, ["nowhere.png"], tmp_path / "r.html")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_names_that_need_quoting_are_shown_whole(pipe, tmp_path):
    paths = [f"{tmp_path}/{name}" for name in ("L\udcf6t_3.png", "c\nd.png", "a\\b.png")]
    for path in paths:
        Image.new("L", (48, 48), 100).save(path)
    page = report(pipe, [*paths, paths[2]], tmp_path / "r.html").read_text()
    folder = tmp_path.name  # as a name occurs twice
    shown = [entry["name"] for entry in block(page, "data")["images"][:3]]
    assert shown == [f"$'{folder}/L\\xf6t_3.png'", f"$'{folder}/c\\x0ad.png'", f"{folder}/a\\b.png"]


def test_parts_and_views_that_cannot_be_read_are_counted(images, tmp_path):
    (tmp_path / "no.png").write_bytes(b"no image")
    paths, parts = [*images.paths[:3], *[str(tmp_path / "no.png")] * 2], ["a", "a", "b", "b", "c"]
    pipe = fit_pipe(parts=[i // 2 for i in range(19)])
    page = report(pipe, paths, tmp_path / "r.html", parts=parts).read_text()
    judged = [entry["part"] for entry in block(page, "data")["images"]]
    assert [part and part["views"] for part in judged] == ["2 views"] * 2 + ["1 of 2 views"] + [
        None
    ] * 2
    assert "of 3 parts (1 cannot be judged); " in page


def test_parts_of_an_image_set_are_decided_as_a_whole(images, tmp_path):
    pipe = fit_pipe(parts=[i // 2 for i in range(19)])
    views = ImageSet(images.paths[:4], KINDS[:4], parts=["a", "a", "b", "b"])
    page = report(pipe, views, tmp_path / "r.html").read_text()
    assert [entry["part"]["name"] for entry in block(page, "data")["images"]] == list("aabb")


def test_names_of_products_are_no_formulas_in_the_table_of_verdicts(tmp_path):
    train = np.random.default_rng(0).integers(90, 110, (12, 48, 48), dtype=np.uint8)
    train[6:] //= 2
    pipe = make_structcore("efficientnet_lite0", features__image_size=48)
    pipe.fit(train, bank__categories=["=cmd"] * 6 + ["b"] * 6)
    page = report(pipe, train[[0, 7]], tmp_path / "r.html").read_text()
    assert {entry["route"] for entry in block(page, "data")["images"]} == {"$'=cmd'", "b"}


def test_a_page_of_a_file_is_not_taken_for_the_file(pipe, tmp_path):
    pages = [Image.new("L", (64, 48), 90 + i) for i in range(2)]
    pages[0].save(tmp_path / "tray.tif", save_all=True, append_images=pages[1:])
    listed = as_images([str(tmp_path / "tray.tif")], pages="all")
    page = report(pipe, listed, tmp_path / "r.html").read_text()
    assert [entry["whole"] for entry in block(page, "data")["images"]] == [False, False]


@pytest.mark.parametrize(
    ("base", "scores", "types", "words"),
    [
        # Thresholds are 2 and 4: the first two are found by the whole score alone.
        ([1, 1, 3], [5, 5, 5], "dent dent good", "finds 2 more defects and loses 0; .* It helps"),
        ([1, 1, 3], [5, 5, 1], "dent good dent", "finds 1 .* loses 1; .* 1 more good .* not help"),
        ([1, 1], [5, 5], "dent good", "It finds more defects and rejects more good images"),
        ([1, 3], [5, 1], "dent dent", "It makes no difference in sum"),
        ([1, 3], [5, 1], None, "rejects 1 more images and accepts 1 .* Without labels"),
        ([1, 3], [1, 5], "dent dent", "changes no decision"),
    ],
)
def test_the_plot_says_whether_the_structure_of_the_map_helps(base, scores, types, words):
    types = None if types is None else types.split()
    drawn = draw_shift(ScoreShiftDisplay(base, scores, 2.0, 4.0, types), range(len(base)))
    assert re.search(words, drawn["words"])
    assert sum(len(group["marks"]) for group in drawn["groups"]) == len(base)


def test_marks_lie_on_their_side_of_the_thresholds():
    drawn = draw_shift(ScoreShiftDisplay([1.0, 3.0], [5.0, 1.0], 2.0, 4.0), [0, 1])
    low, high = drawn["groups"][0]["marks"]  # by score
    assert (low["i"], high["i"]) == (1, 0)
    assert float(high["x"]) < drawn["x"]["threshold"] < float(low["x"])
    assert float(high["y"]) < drawn["y"]["threshold"] < float(low["y"])  # up is less
    assert [float(tick) for _, tick in drawn["y"]["ticks"]] == [1, 2, 3, 4, 5]
    drawn = draw_shift(ScoreShiftDisplay([-0.1, 3.0], [5.0, 1.0], 1.0, 4.0), [0, 1])
    assert next(tick for _, tick in drawn["x"]["ticks"]) == "0"


def test_a_fault_looks_like_a_fault(pipe, images, tmp_path):
    import copy

    broken = copy.deepcopy(pipe)
    del broken[-1].calibration_
    with pytest.raises(AttributeError, match="calibration_"):
        report(broken, images, tmp_path / "r.html")


def test_what_is_no_pipeline_of_this_package_is_refused(tmp_path):
    from sklearn.ensemble import IsolationForest

    with pytest.raises(ValueError, match="make_structcore"):
        report(IsolationForest().fit([[0], [1]]), ["a.png"], tmp_path / "r.html")


# --- words and small pictures -------------------------------------------------------------------


def row(**changes):
    values = {
        "route": "all",
        "is_anomalous": True,
        "p_value": 0.05,
        "decided_by": "max",
        "z_max": 4.2,
        "peak_row": 10.2,
        "peak_col": 20.0,
        "base_ratio": 1.5,
        "region_top": 5.0,
        "region_bottom": 15.0,
        "region_left": 10.0,
        "region_right": 30.0,
        "area_over": 0.034,
    }
    return {**values, **changes}


def test_a_rejection_says_how_rare_it_is_what_decided_and_where():
    sentences = reasons(row(), least=0.01)
    assert sentences == [
        "Rejected: it scores higher than 95 % of good images.",
        "Decided by the distance of its farthest patch: 4.2 standard deviations above good images.",
        "Its farthest patch, at row 10, column 20, is at 1.50 times the threshold distance.",
        "It lies in a region of 20 × 10 pixels over the threshold. "
        "Such regions cover 3.4 % of the image.",
    ]


def test_what_is_far_below_normal_is_no_contradiction_to_a_rejection():
    sentence = reasons(row(decided_by="std", z_std=-15.8), least=0.0)[1]
    assert sentence == (
        "Decided by the spread of its distances: 15.8 standard deviations below good images, "
        "which this score counts as unusual."
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "spot at the upper left, farther from normal than 95 % of good images"),
        ({"region_right": 60.0}, "long, thin mark at the upper left, farther from"),
        ({"area_over": 0.3}, "large area, most of all at the upper left, farther"),
        (
            {"p_value": 0.42, "region_top": np.nan, "peak_row": 95.0, "peak_col": 50.0},
            "most unusual at the bottom; 42 % of good images are as unusual",
        ),
        ({"p_value": 0.01}, "farther from normal than all 99 independent good images"),
        ({"route": "unknown", "nearest_route": "nut"}, "no known product; the nearest is nut"),
    ],
)
def test_one_phrase_says_what_is_where_and_how_unusual(changes, expected):
    assert expected in headline(row(**changes), 0.01, (100, 100))


def test_the_smallest_p_value_says_with_how_many_images_it_was_compared():
    first = reasons(row(p_value=0.05), least=0.05)[0]
    assert "all 19 independent good images" in first


def test_with_the_papers_rule_a_clear_defect_has_a_p_value_of_0(images, tmp_path):
    pipe = fit_pipe(structcore__threshold="quantile")
    path = report(pipe, images, tmp_path / "r.html")
    assert "higher than all good images of the fit" in path.read_text()


def test_an_accepted_image_says_how_usual_it_is():
    sentences = reasons(row(is_anomalous=False, p_value=0.42, z_max=-0.5, region_top=np.nan), 0.01)
    assert sentences[0] == "Accepted: 42 % of good images score at least as high."
    assert "0.5 standard deviations below" in sentences[1]
    assert sentences[-1] == "No patch is over the threshold distance."


def test_an_unknown_product_is_named_as_the_reason():
    routed = {"route": "unknown", "nearest_route": "nut", "route_p_value": 0.001}
    first, *others = reasons(row(**routed), 0.01)
    assert "no known product" in first and "nut" in first and "0.1 %" in first
    assert not any("Decided by" in sentence for sentence in others)
    known = reasons(row(route="nut", nearest_route="nut", route_p_value=0.3), 0.01)
    assert "taken for nut: 30 %" in known[-1]


def test_a_descriptor_of_ones_own_is_called_by_its_name():
    def wrinkles(maps):
        return maps.max(axis=(1, 2))

    scorer = StructCoreScorer(descriptors=[wrinkles], false_alarm_rate=0.1)
    maps = AnomalyMaps(np.random.default_rng(0).random((20, 4, 4)))
    parts = scorer.fit(maps).describe(maps[:1])
    parts = parts.assign(decided_by="wrinkles", base_ratio=1.0)
    assert "wrinkles" in reasons(parts.to_dict("records")[0], 0.05)[1]


def test_small_pictures_keep_their_proportion_and_the_largest_values():
    uri = image_uri(Image.new("RGB", (400, 100)), 100)
    content = base64.b64decode(uri.partition(",")[2])
    assert Image.open(BytesIO(content)).size == (100, 25)
    heat = np.zeros((200, 100))
    heat[137, 42] = 9
    assert reduced(heat, 64).shape == (50, 25) and reduced(heat, 64).max() == 9
    uri = map_uri(np.array([[-1.0, 0.0, 2.0, 9.0]]), 0, 2)
    colors = np.asarray(picture(uri).convert("RGBA"))[0]
    np.testing.assert_array_equal(colors, overlay_colors()[[0, 0, 255, 255]])
    assert colors[0, 3] == 0


def test_a_thin_mask_does_not_vanish_when_it_is_reduced():
    mask = np.zeros((1000, 10), bool)
    mask[500, 3] = True
    small = reduced(mask, 128)
    assert small.shape == (125, 2) and small.sum() == 1
    path = outline(small, (0, 0, 1000, 10))
    assert path["transform"] == "translate(0 0) scale(5 8)"
    np.testing.assert_array_equal(within(path["d"], small.shape), small)


def test_what_is_reduced_stays_where_it_was():
    mask = np.zeros((300, 4000), bool)  # of a line scan: 9.4 blocks of 32 rows
    mask[200:224, 1800:2200] = True
    small = reduced(mask, 128)
    path = outline(small, (0, 0, 300, 4000))
    across, down = map(float, re.search(r"scale\((\S+) (\S+)\)", path["transform"]).groups())
    rows, columns = (np.flatnonzero(small.any(axis=axis)) for axis in (1, 0))
    # Less than a pixel is lost where blocks are not of one size.
    assert down * rows[0] < 201 and down * (rows[-1] + 1) > 223
    assert across * columns[0] < 1801 and across * (columns[-1] + 1) > 2199


def test_an_outline_goes_around_every_cell_and_hole():
    inside = np.random.default_rng(0).random((12, 9)) > 0.4
    np.testing.assert_array_equal(within(outline(inside, (0, 0, 1, 1))["d"], (12, 9)), inside)
    assert outline(np.ones((2, 3), bool), (0, 0, 2, 3))["d"] == "M0 0h3M0 2h3M0 0v2M3 0v2"


# --- verdicts -----------------------------------------------------------------------------------


def write_verdicts(path, *rows):
    head = "file,digest,verdict,decision,p_value,route,time"
    path.write_text("\r\n".join([head, *rows]) + "\r\n")
    return path


def test_verdicts_become_labelled_images_and_the_last_word_counts(images, tmp_path):
    a, b, c = images.paths[:3]
    path = write_verdicts(
        tmp_path / "v.csv", f"{a},,good,rejected,0.01,all,t", f"{b},,unsure,,,,",
        f"{c},,good,,,,", f"{c},,defect,accepted,0.5,all,t",
    )  # fmt: skip
    found = load_verdicts(path)
    assert found.paths == [a, c] and found.y.tolist() == ["good", "defect"]
    write_verdicts(tmp_path / "v.csv", f"{a},,Defect free,,,,", f"{b},,not ok,,,,")
    assert load_verdicts(path).y.tolist() == ["good", "defect"]  # words as in any other table


def test_verdicts_of_changed_or_missing_images_are_all_listed(images, tmp_path):
    a = images.paths[0]
    path = write_verdicts(
        tmp_path / "v.csv", f"{a},00ff,good,,,,", "nowhere.png,,maybe,,,,",
        "nowhere.png,aa,good,,,,",
    )  # fmt: skip
    with pytest.raises(DatasetError) as caught:
        load_verdicts(path)
    text = str(caught.value)
    assert "3 problem(s)" in text and "has changed" in text and "'maybe'" in text
    with pytest.raises(DatasetError, match="no column verdict"):
        (tmp_path / "w.csv").write_text("file\na\n")
        load_verdicts(tmp_path / "w.csv")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("nowhere.png,,good,,,,", "nowhere.png: there is no such file"),
        (",,good,,,,", "line 2: it names no file"),
        ("/,,good,,,,", "it is a folder"),
        ("a\0b.png,,good,,,,", "null (byte|character)|line contains NUL"),
    ],
)
def test_verdicts_without_a_digest_name_images_too(tmp_path, row, message):
    with pytest.raises(DatasetError, match=message):
        load_verdicts(write_verdicts(tmp_path / "v.csv", row))


def test_relative_names_start_where_the_table_is(images, folder):
    path = write_verdicts(folder / "v.csv", "good_00.png,,good,,,,")
    assert load_verdicts(path).paths == [images.paths[0]]


def test_a_library_without_a_record_of_its_version_costs_no_report():
    assert set(versions_of("numpy", "no-such-library")) == {"numpy"}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_browser_shows_the_file_where_it_looks_as_on_the_page(dtype, tmp_path):
    paths = []
    for i, pixels in enumerate(np.random.default_rng(0).integers(90, 255, (8, 48, 48))):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(pixels.astype(dtype)).save(paths[-1])
    pipe = make_structcore("efficientnet_lite0", features__image_size=48).fit(paths)
    page = report(pipe, paths[:1], tmp_path / "r.html").read_text()
    # In 16 bits, of which 8 are used, the file alone is black.
    assert block(page, "data")["images"][0]["whole"] == (dtype == np.uint8)
