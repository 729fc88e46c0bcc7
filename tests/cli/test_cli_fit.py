"""``skstructcore fit``: what it takes, and what it says."""

import json

import numpy as np
import pandas as pd
import pytest
from command import SMALL, run
from PIL import Image

import skstructcore
from skstructcore.cli._inputs import parts_of
from skstructcore.cli._output import table_text


@pytest.mark.parametrize("place", ["bolt", "bolt/train"])
def test_fit_takes_the_good_images_of_a_data_set_or_of_labelled_folders(
    root, model, tmp_path, place
):
    assert run("fit", root / place, "--model", tmp_path / "m", *SMALL).exit_code == 0
    bank, expected = (skstructcore.load(path)["bank"].bank_ for path in (tmp_path / "m", model))
    np.testing.assert_array_equal(bank.values, expected.values)


def test_fit_prints_what_each_rate_promises_and_is_estimated_to_find(good, tmp_path):
    result = run("fit", good, "-o", tmp_path / "m", "--false-alarms", "0.25", "--json", *SMALL)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["decisions"]["all"]["rate"] == 0.25
    points = found["operating_points"]
    assert [
        0 < p["rate_low"] < p["rate"] == p["false_alarm_rate"] < p["rate_high"]
        and 0 <= p["painted_found"] <= 1
        for p in points
    ] == [True] * len(points)
    pipe = skstructcore.load(tmp_path / "m")
    assert pipe["structcore"].false_alarm_rate == 0.25
    text = run("fit", good, "-o", tmp_path / "m", "--no-estimate", *SMALL)
    assert "rate_high" in text.output and "painted_found" not in text.output


def test_shares_of_painted_defects_are_in_percent_as_the_shares_beside_them():
    points = pd.DataFrame({"painted_found": [0.5], "painted_0.08": [0.25], "smallest_found": [0.3]})
    assert table_text(points).split()[3:] == ["50.00", "%", "25.00", "%", "30.00", "%"]


def test_options_that_are_0_or_empty_are_not_passed_over(good, tmp_path):
    for option in (["--channels", "0"], ["--crop", ""], ["--crop", " "]):
        result = run("fit", good, "-o", tmp_path / "m", "--no-estimate", *option, *SMALL)
        assert result.exit_code == 2 and option[0][2:] in result.output
    assert not (tmp_path / "m").exists()


def test_a_model_is_saved_and_described_where_nothing_can_be_painted(tmp_path):
    for i in range(6):
        Image.fromarray(np.full((6, 6), 40 * i, np.uint8)).save(tmp_path / f"{i}.png")
    result = run("fit", tmp_path, "-o", tmp_path / "m", *SMALL)
    assert result.exit_code == 0, result.output
    assert "No estimate of what is found" in result.output and "rate_high" in result.output


def test_places_of_a_file_are_views_of_one_part(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in [*(f"good/{i}" for i in range(8)), "new/a", "new/b"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pixels = rng.integers(90, 130, (48, 96), np.uint8)
        if name == "new/b":
            pixels[20:30, 70:80] = 255
        Image.fromarray(pixels).save(f"{name}.png")
    views = ["--view", "0,0,0.5,1", "--view", "48,0,96,48", "--parts", "file"]
    fitted = run("fit", "good", "-o", "m", "--no-estimate", *views, *SMALL)
    assert fitted.exit_code == 0 and "Of parts it rejects" in fitted.output, fitted.output
    drawn = ["--csv", "s.csv", "--maps", "maps"]
    scored = run("score", "m", "new", *views, *drawn)
    assert scored.exit_code == 0, scored.output
    names = [f"new/{name}.png[48x48+{x}+0]" for name in "ab" for x in (0, 48)]
    scores, parts = pd.read_csv("s.csv"), pd.read_csv("s.parts.csv")
    assert scores["file"].tolist() == names
    assert parts["part"].tolist() == ["new/a.png", "new/b.png"]
    assert parts["is_anomalous"].tolist() == [False, True]
    assert parts["worst_view"].tolist()[1] == names[3]
    # Maps are of the whole image, and know nothing of what the view leaves out.
    seen = np.asarray(Image.open("maps/b[48x48+48+0].png")) > 0
    assert seen.shape == (48, 96) and seen[:, 48:].all() and not seen[:, :48].any()


def test_a_view_that_does_not_fit_is_an_error_and_never_the_whole_image(model, tmp_path):
    (tmp_path / "good").mkdir()
    for i, side in enumerate([48] * 8 + [96]):
        Image.fromarray(np.full((side, side), 9 * i, np.uint8)).save(tmp_path / f"good/{i}.png")
    view = ["--view", "40,40,90,90"]
    fitted = run("fit", tmp_path / "good", "-o", tmp_path / "m", *view, *SMALL)
    assert fitted.exit_code == 2 and "not within its 48 x 48 pixels" in fitted.output
    scored = run("score", model, tmp_path / "good", "--csv", tmp_path / "s.csv", *view)
    assert "8 of 9 images cannot be read" in scored.output, scored.output
    table = pd.read_csv(tmp_path / "s.csv")
    assert table["file"].str.endswith("[50x50+40+40]").all()
    assert table["error"].str.contains("not within its 48 x 48").sum() == 8
    assert table["is_anomalous"].notna().tolist() == [False] * 8 + [True]


def test_groups_of_a_pattern_are_joined_so_that_parts_stay_apart():
    parts = parts_of(["line/a b_c.png", "line/a_b c.png", "line/a_b.png"], r"line/(.*)_(.*)\.png")
    assert parts == ["'a b' c", "a 'b c'", "a b"]
    assert parts_of(["line/3_cam.png", "line/cam.png"], r"(\d*)_?cam") == ["3", "cam"]


@pytest.mark.parametrize(
    ("paths", "pattern", "parts"),
    [
        (["l/p1_a.png", "l/q2_a.png"], r"(?:(p\d)|(q\d))_", ["p1", "q2"]),
        (["l/p1_a.png", "l/p1x_b.png"], r"(p\d)(x)?_", ["p1", "p1 x"]),
        (["Teil Ä/1_a.png", "Teil Ä/1_b.png"], r"(.*)/(\d)_", ["Teil Ä 1", "Teil Ä 1"]),
        (["a1.png", "b1.png"], r"(?:a(\d)|b(\d))", ["1 ''", "'' 1"]),
        (["l/_a.png", "l/_b.png"], r"(\d?)(x?)_[ab]", ["_a", "_b"]),
    ],
)
def test_a_part_is_quoted_only_where_two_would_have_one_name(paths, pattern, parts):
    assert parts_of(paths, pattern) == parts


def test_a_quoted_part_has_the_plain_name_of_no_other():
    paths = ["a b;.png", "a;b.png", "'a b';''.png"]
    quoted, plain, odd = parts_of(paths, r"^(.*);(.*)\.png")
    assert (quoted, plain) == ("'a b' ''", "a b") and odd not in (quoted, plain)
