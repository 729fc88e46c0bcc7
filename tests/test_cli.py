"""The commands."""

import inspect
import json
import shutil
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image
from test_categories import write_category

import skstructcore
from skstructcore.cli import main

SMALL = ["--set", "features__image_size=32", "--set", "bank__ratio=0.3"]


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("parts")
    for seed, name in enumerate(("bolt", "nut")):
        write_category(root / name, seed)
    return root


@pytest.fixture(scope="module")
def model(root, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "bolt.model"
    result = run("fit", root / "bolt" / "train" / "good", "--model", path, *SMALL)
    assert result.exit_code == 0, result.output
    assert "Fitted on 6 good images" in result.output
    return path


@pytest.mark.parametrize("place", ["bolt", "bolt/train"])
def test_fit_takes_the_good_images_of_a_data_set_or_of_labelled_folders(
    root, model, tmp_path, place
):
    assert run("fit", root / place, "--model", tmp_path / "m", *SMALL).exit_code == 0
    bank, expected = (skstructcore.load(path)["bank"].bank_ for path in (tmp_path / "m", model))
    np.testing.assert_array_equal(bank.values, expected.values)


def test_score_writes_a_row_an_image_in_order(root, model, tmp_path):
    folders = [root / "bolt" / "test" / kind for kind in ("spot", "good")]
    single = root / "bolt" / "train" / "good" / "0.png"
    csv = tmp_path / "scores.csv"
    result = run("score", model, *folders, single, "--csv", csv, "--shard-size", 2, "--n-jobs", 2)
    assert result.exit_code == 0, result.output
    scores = pd.read_csv(csv)
    paths = [*sorted(folders[0].iterdir()), *sorted(folders[1].iterdir()), single]
    assert scores["file"].tolist() == list(map(str, paths))
    expected = -skstructcore.load(model).score_samples(paths)
    np.testing.assert_allclose(scores["anomaly_score"], expected, rtol=1e-5)
    assert run("score", model, single).stdout.startswith("file,")


@pytest.mark.parametrize("broken", [[0, 1], [4], [0, 1, 2, 3, 4, 5]])
def test_score_reports_unreadable_files_and_scores_the_others(root, model, tmp_path, broken):
    for i in range(6):
        image = Image.open(root / "bolt" / "train" / "good" / f"{i}.png")
        image.save(tmp_path / f"{i}.png")
    for i in broken:
        (tmp_path / f"{i}.png").write_text("no image")
    csv = tmp_path / "scores.csv"
    result = run("score", model, tmp_path, "--csv", csv, "--shard-size", 2)
    assert result.exit_code == 3
    assert f"{len(broken)} of 6 images cannot be read" in result.output
    scores = pd.read_csv(csv)
    assert np.flatnonzero(scores["error"].notna()).tolist() == broken
    assert [name[-5:] for name in scores["file"]] == [f"{i}.png" for i in range(6)]


def test_evaluate_of_several_categories_prints_and_writes_the_table(root, tmp_path):
    arguments = ["evaluate-categories", root, "--output", tmp_path / "out", *SMALL]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    for word in ("| bolt |", "| nut |", "| mean |", "image_auroc"):
        assert word in result.output
    assert (tmp_path / "out" / "results.csv").exists()
    other = run(*arguments, "--set", "knn__n_neighbors=1")
    assert other.exit_code == 2 and "knn__n_neighbors: 5 there, 1 now" in other.output
    assert run(*arguments, "--set", "knn__n_neighbors=1", "--overwrite").exit_code == 0
    assert run(*arguments, "--category", "screw").exit_code == 2


@pytest.fixture
def lines(tmp_path, monkeypatch):
    """Where one stands: two lines with folders OK, NG and dent, and a table of them."""
    monkeypatch.chdir(tmp_path)
    rng, rows = np.random.default_rng(0), []
    for line in ("line3", "line4"):
        for kind, n in {"OK": 8, "NG": 2, "dent": 1}.items():
            (tmp_path / line / kind).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(90, 130, (32, 32, 3), np.uint8)
                if kind != "OK":
                    pixels[8:24, 8:24] = 255
                Image.fromarray(pixels).save(f"{line}/{kind}/{i}.png")
                split = "train" if kind == "OK" and i < 6 else "test"
                rows.append((f"{line}/{kind}/{i}.png", kind, split))
    pd.DataFrame(rows, columns=["file", "label", "split"]).to_csv("all.csv", index=False)
    return tmp_path


# Images of each type that are tested. Where nothing says which, a quarter of the good ones is: of
# eight two; of two lots of eight one.
@pytest.mark.parametrize(
    ("arguments", "tested"),
    [
        (["line3"], {"good": 2, "NG": 2, "dent": 1}),
        (["line?/*/*.png"], {"good": 8, "NG": 4, "dent": 2}),
        (["all.csv"], {"good": 4, "NG": 4, "dent": 2}),
        (["line4", "--train", "line3/OK"], {"good": 8, "NG": 2, "dent": 1}),
        (["line4/OK", "line3/NG", "--train", "line3"], {"good": 8, "NG": 2}),
        (["MODEL", "line3/[ON]*"], {"good": 8, "NG": 2}),
        (["MODEL", "@list.txt", "--good", "OK"], {"good": 8, "NG": 2, "dent": 1}),
    ],
)
def test_evaluate_takes_images_as_fit_and_score_do(lines, model, arguments, tested):
    (lines / "list.txt").write_text("# the day shift\nline3\n")
    has_model = "MODEL" in arguments
    given = [model if a == "MODEL" else a for a in arguments] + ([] if has_model else SMALL)
    result = run("evaluate", *given, "--csv", "scores.csv")
    assert result.exit_code == 0, result.output
    scores = pd.read_csv("scores.csv")
    assert scores["defect_type"].value_counts().to_dict() == tested
    assert ("No split is given" in result.output) == (
        len(arguments) == 1 and arguments[0][0] == "l"
    )
    if has_model:
        expected = -skstructcore.load(model).score_samples(scores["file"].tolist())
        np.testing.assert_allclose(scores["anomaly_score"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL", "line3", "--train", "line4"], "is tested as it is"),
        (["MODEL", "line3", "--set", "knn__n_neighbors=1"], "is tested as it is"),
        (["MODEL", "line3/OK", "line3/dent"], "Nothing says whether 'line3/dent/0.png' is good"),
        (["MODEL", "gap.csv"], "Nothing says whether 'line3/NG/0.png' is good"),
        (["MODEL", "line3/OK"], "y has only normal labels"),
        (["line3/NG", "--train", "line3/OK"], "y has only anomalous labels"),
        (["line3", "--train", "line3/OK"], "8 images are to be fitted and tested on"),
        (["line3", "--train", "line4/../line3/OK"], "8 images are to be fitted and tested on"),
        (["odd.csv"], "a split is 'train' or 'test'"),
        (["no.model", "line3"], "There is no 'no.model'"),
        (["line3", "--trust"], "about a saved MODEL"),
        (["line3", "--weights", "all.csv"], "about a saved MODEL"),
        (
            ["line3", *SMALL, "--set", "features__n_jobs=0"],
            "n_jobs == 0 in Parallel has no meaning",
        ),
    ],
)
def test_what_evaluate_cannot_tell_apart_is_refused(lines, model, arguments, message):
    (lines / "gap.csv").write_text("file,label\nline3/OK/0.png,ok\nline3/NG/0.png,\n")
    (lines / "odd.csv").write_text("file,label,split\nline3/OK/0.png,ok,night\n")
    result = run("evaluate", *(model if a == "MODEL" else a for a in arguments))
    assert result.exit_code == 2 and message in result.output, result.output


def test_evaluate_counts_parts_that_are_all_bad(lines):
    arguments = ["line3", "--train", "line4/OK", "--parts", r"(\d)[ab]?\.png", "--json", *SMALL]
    for i in range(8):  # five parts to fit, some of two views
        (lines / f"line4/OK/{i}.png").rename(f"line4/OK/{i % 5}{'ab'[i // 5]}.png")
    for i in range(2, 8):  # each of the parts 0 and 1 has a view with a defect
        (lines / f"line3/OK/{i}.png").unlink()
    result = run("evaluate", *arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["n_parts"] == 2 and found["part_auroc"] is None
    assert "2 parts, all good or none:" in run("evaluate", *arguments[:5], *SMALL).output


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
    seen = np.asarray(Image.open("maps/b.png[48x48+48+0].png")) > 0
    assert seen.shape == (48, 96) and seen[:, 48:].all() and not seen[:, :48].any()


def test_models_that_decide_about_parts_are_kept_up_to_date(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    places = [("good/bolt", 8), ("good/nut", 8), ("new/bolt", 8), ("pin", 8)]
    for place in (
        f"{folder}/{i}_{cam}.png" for folder, n in places for i in range(n) for cam in "ab"
    ):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(90, 130, (48, 48), np.uint8)).save(place)
    parts, options = ["--parts", "(.*)_"], ["--no-estimate", "--categories", "folder", *SMALL]
    fitted = run("fit", "good", "-o", "m", *parts, *options)
    assert fitted.exit_code == 0, fitted.output
    for name, n_parts in (("update", 24), ("recalibrate", 16)):
        command = [name, "m", "new", "-o", "changed", "--force"]
        without = run(*command)
        assert without.exit_code == 2 and "(--parts of a command)" in without.output
        changed = run(*command, *parts)
        assert changed.exit_code == 0, changed.output
        pipe = skstructcore.load("changed")
        assert len(set(pipe["bank"].images_.parts)) == n_parts
        assert pipe[-1].part_decision_.is_fresh == (name == "recalibrate")
    added = run("add-category", "m", "pin", "pin", "-o", "more", *parts)
    assert added.exit_code == 0, added.output
    assert skstructcore.load("more")[-1].part_decision_ is not None
    assert "(--parts of a command)" in run("add-category", "m", "pin", "pin", "-o", "more").output


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


def test_a_file_of_parts_replaces_nothing_of_another_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("s.parts.png")
    Path("s.parts.png").rename("s.parts.csv")
    Path("m").write_text("no model")
    result = run("score", "m", "s.parts.csv", "--csv", "s.csv", "--parts", "file")
    assert result.exit_code == 2 and "s.parts.csv' is there and is not a text" in result.output


def test_pages_are_taken_by_every_command_that_reads_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    pytest.importorskip("onnxruntime")
    for name in ("good.tif", "fresh.tif"):
        pages = [Image.fromarray(rng.integers(90, 130, (48, 48), np.uint8)) for _ in range(9)]
        pages[0].save(name, save_all=True, append_images=pages[1:])
    assert (
        run("fit", "good.tif", "-o", "m", "--no-estimate", "--pages", "all", *SMALL).exit_code == 0
    )
    for command in (
        ["recalibrate", "m", "fresh.tif", "-o", "n", "--force"],
        ["audit", "m", "good.tif"],
        ["latency", "m", "good.tif", "--repeats", "1"],
        ["export", "m", "-o", "m.onnx", "--check", "good.tif"],
    ):
        done = run(*command, "--pages", "all")
        assert done.exit_code == 0, done.output


def test_numbers_that_are_none_are_named(tmp_path):
    (tmp_path / "m").write_text("")
    result = run("fit", tmp_path, "-o", tmp_path / "n", "--crop", "0,0,x")
    assert result.exit_code == 2 and "'0,0,x' are no numbers" in result.output


def test_report_takes_labels_from_folders_if_asked(lines, model):
    def defects(*options):
        result = run("report", model, *options)
        assert result.exit_code == 0, result.output
        return '"dent"' in (lines / "report.html").read_text()  # not in a picture by chance

    assert defects("line3", "--good", "OK") and not defects("line3")
    assert defects("all.csv")


def test_evaluate_with_the_papers_settings_and_dino_weights_from_a_folder(
    root, tmp_path, tiny_dino
):
    result = run(
        *["evaluate-categories", root, "--features", "dinov2_vitb14", "--preset", "paper"],
        *["--output", tmp_path, "--set", f"features__weights={tiny_dino}"],
        # What is smaller in these weights than in those of the paper.
        *["--set", "features__model=None", "--set", "features__layers=(1, 2)"],
        *["--set", "features__image_size=56", "--set", "features__crop=64"],
        *["--set", "bank__ratio=0.2"],
    )
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["settings"]["knn__calibration"] == '"in-sample"'
    assert results["settings"]["projection__n_components"] == "512"
    assert 0 <= results["mean"]["base_auroc"] <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "ROOT", "--csv", "scores.csv"], "holds 2 categories: see skstructcore eval"),
        (["fit", "nowhere", "--model", "m"], "nowhere: there is no such file"),
        (["fit", "ROOT/bolt/test/spot", "--model", "m", "--categories", "["], "no regular expr"),
        (["score", "MODEL", "nothing.png"], "1 of 1 images cannot be read"),
    ],
)
def test_bad_input_is_a_message(root, model, arguments, message):
    names = {"ROOT": root, "MODEL": model}
    result = run(*(names.get(a, a.replace("ROOT", str(root))) for a in arguments))
    assert result.exit_code > 0 and message in result.output
    assert "Traceback" not in result.output


def test_ctrl_c_ends_with_status_130(root, model, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("skstructcore.inference.scores.iter_shards", interrupted)
    assert run("score", model, root / "bolt" / "test").exit_code == 130


def test_a_terminal_gets_a_short_table(root, model, monkeypatch):
    monkeypatch.setattr("skstructcore.cli._rows.is_terminal", lambda: True)
    lines = run("score", model, root / "bolt").stdout.splitlines()
    assert lines[0].split() == ["file", "decision", "anomaly_score", "p_value", "decided_by"]
    assert {line.split()[1] for line in lines[1:]} <= {"accept", "REJECT"} and len(lines) > 6
    assert max(map(len, lines)) < 100 + len(str(root))


def test_score_writes_maps_overlays_masks_and_regions(root, model, tmp_path):
    places = [tmp_path / name for name in ("maps", "overlays", "masks")]
    options = [word for place in places for word in (f"--{place.name}", place)]
    result = run(
        "score", model, root / "bolt", *options, "--regions", tmp_path / "r.json", "--json"
    )
    assert result.exit_code == 0, result.output
    for place in places:
        found = sorted(str(path.relative_to(place)) for path in place.rglob("*.png"))
        assert len(found) == json.loads(result.stdout)["images"] and "spot/" in "".join(found)
    assert len(json.loads((tmp_path / "r.json").read_text())["images"]) == len(found)
    assert run("score", model, root / "bolt", "--maps", root / "bolt").exit_code == 2


def test_bad_usage_ends_with_status_2(root, model, tmp_path):
    image = root / "bolt" / "train" / "good" / "0.png"
    for arguments in (
        ["fit", root / "bolt", "--model", tmp_path / "m", "--false-alarms", "1.5"],
        ["fit", root / "bolt", "--model", tmp_path / "no" / "m"],
        ["score", image, image],
        ["score", model, image, "--n-jobs", "0"],
        ["score", model, image, "--csv", "x", "--regions", "./x"],
        ["evaluate", root / "bolt", "--csv", tmp_path / "x", "--model", tmp_path / "x"],
        ["info", image],
        ["score", model],
    ):
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        assert "Error" in result.output and "Traceback" not in result.output


def test_the_missing_folder_of_the_model_is_found_before_the_fit(root, tmp_path):
    result = run("fit", root / "bolt", "--model", tmp_path / "no" / "m", *SMALL)
    assert "There is no folder" in result.output
    assert "features" not in result.output  # no progress bar: nothing was computed


def test_rejected_images_change_the_exit_status_only_if_asked(root, model):
    spots = root / "bolt" / "test" / "spot"
    as_json = run("score", model, spots, "--json")
    assert as_json.exit_code == 0
    found = json.loads(as_json.stdout)
    assert found["rejected"] == sum(row["is_anomalous"] for row in found["scores"]) > 0
    assert found["images"] == len(list(spots.iterdir())) and found["unreadable"] == 0
    assert run("score", model, spots, "--exit-code").exit_code == 1
    good = root / "bolt" / "train" / "good"
    assert run("score", model, good, "--exit-code").exit_code == 0


def test_a_joblib_file_is_loaded_only_if_it_is_trusted(root, model, tmp_path):
    pickled = tmp_path / "model.joblib"
    joblib.dump(skstructcore.load(model), pickled)
    image = root / "bolt" / "train" / "good" / "0.png"
    refused = run("score", pickled, image)
    assert refused.exit_code == 2 and "--trust" in refused.output
    assert run("score", pickled, image, "--trust").stdout == run("score", model, image).stdout


def test_info_says_what_is_inside(model):
    text = run("info", model).output
    assert "6 good images" in text and "efficientnet_lite0" in text
    header = json.loads(run("info", model, "--json").stdout)
    assert header == json.loads(json.dumps(skstructcore.info(model)))


def test_rows_of_another_run_are_not_taken_up(root, model, tmp_path):
    good = root / "bolt" / "train" / "good"
    csv = tmp_path / "scores.csv"
    (tmp_path / "scores.csv.part").write_text("file,error\nx.png,\n")
    (tmp_path / "scores.csv.part.json").write_text('{"fingerprint": "another"}')
    result = run("score", model, good, "--csv", csv)
    assert result.exit_code == 0 and "Going on" not in result.output
    assert len(pd.read_csv(csv)) == 6


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_has_help_with_two_examples(name):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert result.output.count(f"\n  skstructcore {name}") == 2
    assert "--json" in result.output or name == "serve"  # whose answers are JSON


def test_options_have_the_defaults_of_what_they_are_passed_to():
    from skstructcore import inference, lifecycle, report
    from skstructcore.serving import export, senders, service, watch

    functions = {
        ("audit", "fdr"): lifecycle.audit,
        ("export", "opset"): export.export_onnx,
        ("monitor", "alpha"): lifecycle.DriftMonitor,
        ("recalibrate", "weight_old"): lifecycle.recalibrate,
        ("report", "max_images"): report.report,
        ("score", "shard_size"): inference.iter_scores,
        ("score", "on_error"): inference.iter_scores,
        ("serve", "max_queue"): service.make_app,
        ("serve", "timeout"): service.make_app,
        ("watch", "settle"): watch.FolderWatch,
        ("watch", "topic"): senders.mqtt_sender,
    }
    for (command, name), function in functions.items():
        options = {option.name: option.default for option in main.commands[command].params}
        assert options[name] == inspect.signature(function).parameters[name].default, (
            command,
            name,
        )


@pytest.fixture(scope="module")
def good(root):
    return root / "bolt" / "train" / "good"


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


def test_recalibrate_moves_the_threshold_and_says_what_changes(root, model, tmp_path):
    output = tmp_path / "b.model"
    result = run("recalibrate", model, "-o", output, "--false-alarms", "0.3", "--json")
    assert result.exit_code == 0, result.output
    [row] = json.loads(result.stdout)["thresholds"]
    moved = skstructcore.load(output)
    assert row["new_threshold"] == -moved[-1].offset_ < row["old_threshold"]
    fresh = root / "bolt" / "test" / "good"
    result = run("recalibrate", model, fresh, "-o", output, "--force", "--weight-old", "0.5")
    assert result.exit_code == 0 and "decided otherwise" in result.output
    assert run("recalibrate", model, "-o", output).exit_code == 2
    for given in (["--parts", "(.*)_"], ["--pages", "parts"], ["--max-pixels", "9"]):
        refused = run("recalibrate", model, "-o", output, "--false-alarms", "0.3", *given)
        assert refused.exit_code == 2 and "are about fresh images" in refused.output


@pytest.mark.parametrize("name", ["fit", "recalibrate", "update"])
def test_what_the_shell_makes_of_a_star_is_learned_by_no_command(lines, model, name):
    images = ["line3/NG", "line3/OK", "line3/dent"]
    result = run(name, *([] if name == "fit" else [model]), *images, "-o", "new.model")
    assert result.exit_code == 2 and "good images or defects?" in result.output
    assert not Path("new.model").exists()


def test_update_and_forget_change_the_bank_and_leave_the_model(root, good, model, tmp_path):
    fresh = root / "bolt" / "test" / "good"
    larger, smaller = tmp_path / "larger", tmp_path / "smaller"
    before = model.read_bytes()
    new = list(fresh.iterdir())
    result = run("update", model, fresh, new[0], "-o", larger, "--force")  # one of them twice
    assert result.exit_code == 0, result.output
    n_new = len(new)
    assert f"6 good images before, {6 + n_new} now" in result.output
    result = run("forget", larger, good / "0.png", "-o", smaller, "--json")
    assert json.loads(result.stdout)["images"] == 5 + n_new
    assert model.read_bytes() == before


def test_products_are_told_apart_by_folders_added_and_removed(root, tmp_path):
    first, more, fewer = (tmp_path / name for name in ("m", "more", "fewer"))
    result = run("fit", root, "-o", first, "--categories", "folder", "--no-estimate", *SMALL)
    assert result.exit_code == 0 and "Categories: bolt (6), nut (6)" in result.output
    scored = run("score", first, root / "nut" / "train" / "good", "--json")
    assert {row["route"] for row in json.loads(scored.stdout)["scores"]} == {"nut"}
    good = root / "bolt" / "train" / "good"
    assert run("add-category", first, "pin", good, "-o", more).exit_code == 0
    assert skstructcore.load(more)["bank"].bank_.route_names == ("bolt", "nut", "pin")
    assert run("remove-category", more, "bolt", "-o", fewer).exit_code == 0
    assert skstructcore.load(fewer)["bank"].bank_.route_names == ("nut", "pin")
    assert "knows no 'bolt'" in run("remove-category", fewer, "bolt", "-o", more).output


def test_audit_names_the_training_images(model, good):
    result = run("audit", model, good, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert sorted(row["name"] for row in found["images"]) == sorted(map(str, good.iterdir()))
    assert "training images are suspects" in run("audit", model).output


def test_monitor_goes_on_with_its_state(root, good, model, tmp_path):
    state = tmp_path / "drift.json"
    first = run("monitor", model, good, "--state", state, "--json")
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)["images"] == 6
    spots = root / "bolt" / "test" / "spot"
    second = run("monitor", model, spots, "--state", state)
    assert f"{6 + len(list(spots.iterdir()))} images seen" in second.output


def test_cache_is_measured_and_pruned(good, tmp_path):
    folder = tmp_path / "cache"
    arguments = ["--no-estimate", "--set", f"features__memory={folder}", *SMALL]
    assert run("fit", good, "-o", tmp_path / "m", *arguments).exit_code == 0
    found = json.loads(run("cache", folder, "--json").stdout)
    assert found["images"] == 6 and found["files_deleted"] == 0
    pruned = json.loads(run("cache", folder, "--max-size", "0", "--json").stdout)
    assert pruned["images"] == 0 and pruned["bytes_deleted"] == found["bytes"]
    for size in ("two", "1.2.3GB", "-1"):
        assert "is no size" in run("cache", folder, "--max-size", size).output


def test_report_of_a_data_set_has_its_labels(root, model, tmp_path):
    page = tmp_path / "report.html"
    result = run("report", model, root / "bolt", "-o", page, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["bytes"] == page.stat().st_size and "spot" in page.read_text()
    both = run("report", model, root, "-o", page, "--json")
    assert json.loads(both.stdout)["images"] == 2 * found["images"]


def test_an_unreadable_image_ends_the_command_if_asked(model, good, tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    result = run("score", model, good, tmp_path / "broken.png", "--on-error", "raise")
    assert result.exit_code == 2 and "broken.png" in result.output


def test_outputs_replace_no_file_of_another_kind(root, good, model, tmp_path):
    copy, image, table = tmp_path / "a.model", tmp_path / "a.png", tmp_path / "a.csv"
    shutil.copy(model, copy)
    shutil.copy(sorted(good.iterdir())[0], image)
    table.write_text("file,verdict\n")
    folder = image.parent
    for arguments in (
        ["score", copy, folder, "--csv", copy],
        ["score", copy, folder, "--csv", image],
        ["report", copy, folder, "-o", image],
        ["monitor", copy, folder, "--state", copy],
        ["fit", folder, "-o", image],
        ["recalibrate", copy, "--false-alarms", "0.3", "-o", table],
        ["update", copy, folder, "-o", image],
        ["evaluate", root / "bolt", "--csv", copy],
        ["evaluate", root / "bolt", "--model", table],
    ):
        before = {path: path.read_bytes() for path in (copy, image, table)}
        result = run(*arguments)
        assert result.exit_code == 2, arguments
        assert "is there and is not" in result.output and "is not replaced" in result.output
        assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recalibrate", "--false-alarms", "0.3", "-o", "nowhere/b.model"], "no folder"),
        (["update", "GOOD", "-o", "nowhere/b.model"], "no folder"),
        (["forget", "GOOD", "-o", "nowhere/b.model"], "no folder"),
        (["monitor", "GOOD", "--state", "damaged.json"], "damaged.json' is no state to go on from"),
        (["monitor", "GOOD", "--state", "list.json"], "list.json' is no state to go on from"),
        (["audit", "--most", "-3"], "--most"),
    ],
)
def test_what_cannot_be_written_or_continued_is_found_first(
    model, good, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.json").write_text('{"version": 1, "finger')
    (tmp_path / "list.json").write_text("[]")
    name, *rest = [good if argument == "GOOD" else argument for argument in arguments]
    result = run(name, model, *rest)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize("picture", ["a.nope", "a", "bolt/a.png"])
def test_a_picture_that_cannot_be_is_found_before_the_fit(root, picture, monkeypatch):
    monkeypatch.chdir(root)
    result = run("evaluate", "bolt", "--picture", picture)
    assert result.exit_code == 2
    assert "--picture" in result.output


def test_names_cannot_break_the_terminal(tmp_path, good):
    folder = tmp_path / "images"
    folder.mkdir()
    for i, path in enumerate(sorted(good.iterdir())):
        shutil.copy(path, folder / f"\x1b[2J={i}\udcff.png")
    fitted = run("fit", folder, "-o", tmp_path / "odd.model", "--no-estimate", *SMALL)
    assert fitted.exit_code == 0, fitted.output
    result = run("audit", tmp_path / "odd.model", folder)
    assert result.exit_code == 0, result.output
    assert r"\x1b[2J=0\xff.png'" in result.output and "\x1b" not in result.output


@pytest.mark.parametrize(
    "setting",
    ["structcore__quantile=2", "bank__ratio=()", "knn__n_neighbors=x", "bank__ratio=" + 9999 * "-"],
)
def test_settings_that_are_none_are_found_before_the_work(good, tmp_path, setting):
    result = run("fit", good, "-o", tmp_path / "m", "--set", setting)
    assert result.exit_code == 2
    assert "parameter of" in result.output and "features" not in result.output


def test_a_model_is_saved_and_described_where_nothing_can_be_painted(tmp_path):
    for i in range(6):
        Image.fromarray(np.full((6, 6), 40 * i, np.uint8)).save(tmp_path / f"{i}.png")
    result = run("fit", tmp_path, "-o", tmp_path / "m", *SMALL)
    assert result.exit_code == 0, result.output
    assert "No estimate of what is found" in result.output and "rate_high" in result.output


def test_the_images_of_the_demo_can_be_fitted_scored_and_evaluated(tmp_path):
    from skstructcore.datasets import find_layout, load_images

    folder = tmp_path / "line3"
    result = run("demo", "--images", folder, "--json")
    assert json.loads(result.stdout)["images"]["good"] == 36
    assert len(load_images(folder / "good")) == 36
    assert len(list((folder / "new").iterdir())) == 12
    [category] = find_layout(folder / "labelled").categories
    images = find_layout(folder / "labelled").load(category)
    assert len(images.train) == 36 and (images.test.y == "good").sum() == 8
    assert all(images.load_mask(i).any() for i in range(len(images)) if images.y[i] != "good")
    before = {p: p.read_bytes() for p in folder.rglob("*.png")}
    assert run("demo", "--images", folder).exit_code == 0  # the same again
    assert before == {p: p.read_bytes() for p in folder.rglob("*.png")}
    (folder / "good" / "mine.png").write_bytes(b"")
    refused = run("demo", "--images", folder)
    assert refused.exit_code == 2 and "mine.png" in refused.output


def test_help_names_every_default_and_what_an_exit_status_means():
    import click

    for name, command in main.commands.items():
        text = "".join(run(name, "--help").output.split())  # however lines are broken
        for option in command.params:
            if isinstance(option, click.Option) and type(option.default) in (str, int, float):
                shown = str(option.default).replace(" ", "")
                assert f"[default:{shown}" in text, (name, option.name)
    assert "if there are suspects" in run("audit", "--help").output
    assert "1 an alarm is raised" in run("monitor", "--help").output


def test_a_missing_folder_is_found_before_the_libraries_are_loaded(root, model):
    """In a process of its own: what is loaded there is counted."""
    import subprocess
    import sys

    commands = [
        ["fit", root / "bolt", "-o", "no/m"],
        ["report", model, root, "-o", "no/r.html"],
        ["score", model, root, "--csv", "no/s.csv"],
        ["update", model, root, "-o", "no/m"],
    ]
    code = """
import sys
from skstructcore.cli import main
try:
    main()
except SystemExit as end:
    sys.exit(99 if {"numpy", "torch"} & set(sys.modules) else end.code)
"""
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, command)], capture_output=True, text=True
        )
        assert done.returncode == 2 and "no folder" in done.stderr, (command, done.stderr)


@pytest.mark.parametrize("error", [TypeError("one too many"), AttributeError("no such thing")])
def test_a_fault_of_the_package_is_shown_with_its_traceback(root, model, monkeypatch, error):
    from skstructcore import StructCoreScorer

    def broken(self, maps):
        return [][0] if isinstance(error, AttributeError) else len(1)  # no `raise`: nobody meant it

    monkeypatch.setattr(StructCoreScorer, "describe", broken)
    result = run("score", model, root / "bolt" / "test" / "good", "--exit-code")
    assert result.exit_code == 70  # 1 would say that an image is rejected
    assert "Traceback" in result.stderr and "in broken" in result.stderr
    assert "fault of skstructcore" in result.stderr
