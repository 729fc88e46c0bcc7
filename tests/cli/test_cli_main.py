"""What all commands have alike: help, errors, exit statuses, files that they write."""

import inspect
import json
import re
import shutil
import subprocess
import sys

import click
import joblib
import numpy as np
import pytest
from command import SMALL, run
from PIL import Image
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skstructcore import StructCoreScorer, inference, lifecycle, report
from skstructcore.cli import main
from skstructcore.serving import export, senders, service, watch


@pytest.mark.parametrize("name", sorted(main.commands))
def test_help_has_an_example_and_names_every_default(name):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"\n  skstructcore {name}" in result.output
    assert "--json" in result.output or name == "serve"  # whose answers are JSON
    text = "".join(result.output.split())  # however lines are broken
    for option in main.commands[name].params:
        if isinstance(option, click.Option) and type(option.default) in (str, int, float):
            shown = str(option.default).replace(" ", "")
            assert f"[default:{shown}" in text, option.name
        if isinstance(option, click.Argument) and option.name == "images":
            assert "IMAGESarefiles," in text


def test_help_says_what_an_exit_status_means():
    assert "if there are suspects" in run("audit", "--help").output
    assert "if an alarm is raised" in run("monitor", "--help").output
    assert "3 images cannot be read" in " ".join(run("score", "--help").output.split())


@pytest.mark.parametrize(
    ("command", "names", "function"),
    [
        ("audit", ["fdr"], lifecycle.audit),
        ("export", ["opset"], export.export_onnx),
        ("monitor", ["alpha"], lifecycle.DriftMonitor),
        ("recalibrate", ["weight_old"], lifecycle.recalibrate),
        ("report", ["title", "max_images"], report.report),
        ("score", ["shard_size", "on_error"], inference.iter_scores),
        ("serve", ["max_queue", "timeout"], service.make_app),
        ("watch", ["settle"], watch.FolderWatch),
        ("watch", ["topic"], senders.mqtt_sender),
    ],
)
def test_options_have_the_defaults_of_what_they_are_passed_to(command, names, function):
    # They are written again, because importing the function takes seconds, and --help must not.
    options = {option.name: option.default for option in main.commands[command].params}
    for name in names:
        assert options[name] == inspect.signature(function).parameters[name].default


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("fit ROOT/bolt -o m --false-alarms 1.5", "1.5 is not in the range 0<x<1"),
        ("fit ROOT/bolt -o no/m", "There is no folder"),
        ("fit ROOT/bolt -o m --crop 0,0,x", "'0,0,x' is not a list of numbers"),
        ("fit nowhere -o m", "nowhere: there is no such file"),
        ("fit ROOT/bolt/test/spot -o m --categories [", "no regular expression"),
        ("score IMAGE IMAGE", "0.png"),
        ("score MODEL IMAGE --n-jobs 0", "0 processes do no work"),
        ("score MODEL IMAGE --shard-size -3", "-3 is not in the range x>=1"),
        ("evaluate-categories ROOT --n-jobs 0", "0 processes do no work"),
        ("score MODEL IMAGE --csv x --regions ./x", "name two files"),
        ("score MODEL IMAGE --csv x --maps ./x", "name two files"),
        ("watch MODEL ROOT --overlays x --csv x", "name two files"),
        ("score MODEL", "Missing argument 'IMAGES...'"),
        ("evaluate ROOT/bolt --csv x --model x", "name two files"),
        ("evaluate ROOT --csv s.csv", "holds 2 categories: see skstructcore evaluate-categories"),
        ("info IMAGE", "0.png"),
        ("info nowhere", "nowhere"),
        ("audit MODEL --most -3", "--most"),
        ("update MODEL IMAGE -o no/m", "no folder"),
        ("forget MODEL IMAGE -o no/m", "no folder"),
        ("recalibrate MODEL --false-alarms 0.3 -o no/m", "no folder"),
        ("evaluate ROOT/bolt --picture a.nope", "its suffix is none of"),
        ("evaluate ROOT/bolt --picture a", "its suffix is none of"),
        ("evaluate ROOT/bolt --picture ROOT/bolt/a.png", "lies among the images"),
        ("evaluate ROOT/bolt --train ROOT/nut --picture ROOT/nut/a.png", "lies among the images"),
        ("audit MODEL --pages all", "are about IMAGES"),
        ("evaluate . --csv s.csv", "there are no images in it"),
        ("evaluate ROOT/bolt --preset papr", "preset must be one of"),
        ("evaluate ROOT/bolt --set bank__ratio", "step__parameter=value"),
        ("evaluate ROOT/bolt --set ratio=1", "step__parameter=value"),
        ("evaluate ROOT/bolt --set bank__ratios=1", "ratios"),
        ("fit ROOT/bolt -o m --set structcore__quantile=2", "parameter of"),
        ("fit ROOT/bolt -o m --set steps__x=1", "no such parameter, choose of features, "),
        ("fit ROOT/bolt -o m --set bank__ratio__x=1", "choose of bank__"),
        ("fit ROOT/bolt -o m --set structcore__descriptors={[1]:1}", "parameter of"),
        ("fit ROOT/bolt -o m --set structcore__descriptors=['x']", "'x'"),
        ("fit ROOT/bolt -o m --set structcore__quantile=0.9 --false-alarms 0.02", "say different"),
        ("fit ROOT/bolt -o m --set bank__ratio=()", "parameter of"),
        ("fit ROOT/bolt -o m --set knn__n_neighbors=x", "parameter of"),
        ("fit ROOT/bolt -o m --set bank__ratio=" + 9999 * "-", "parameter of"),
    ],
)
def test_bad_input_is_a_message_before_any_work(
    root, model, tmp_path, monkeypatch, command, message
):
    monkeypatch.chdir(tmp_path)

    names = {"ROOT": str(root), "MODEL": str(model), "IMAGE": str(root / "bolt/train/good/0.png")}
    words = [re.sub("ROOT|MODEL|IMAGE", lambda name: names[name[0]], w) for w in command.split()]
    result = run(*words)
    assert result.exit_code == 2 and message in result.output, result.output
    assert "Traceback" not in result.output and not [*tmp_path.iterdir()]


@pytest.mark.parametrize("command", ["score", "latency"])
def test_a_joblib_file_of_something_else_is_wrong_input(good, tmp_path, command):
    for other in ({"a": 1}, make_pipeline(StandardScaler(), IsolationForest())):
        joblib.dump(other, tmp_path / "p.joblib")
        result = run(command, tmp_path / "p.joblib", "--trust", good)
        assert result.exit_code == 2 and "a pipeline whose last steps are" in result.output


def test_ctrl_c_ends_with_status_130(root, model, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("skstructcore.inference.scores.iter_shards", interrupted)
    assert run("score", model, root / "bolt" / "test").exit_code == 130


@pytest.mark.parametrize("error", [TypeError("one too many"), AttributeError("no such thing")])
def test_a_fault_of_the_package_is_shown_with_its_traceback(root, model, monkeypatch, error):
    def broken(self, maps):
        return [][0] if isinstance(error, AttributeError) else len(1)  # no `raise`: nobody meant it

    monkeypatch.setattr(StructCoreScorer, "describe", broken)
    result = run("score", model, root / "bolt" / "test" / "good", "--exit-code")
    assert result.exit_code == 70  # 1 would say that an image is rejected
    assert "Traceback" in result.stderr and "in broken" in result.stderr
    assert "fault of skstructcore" in result.stderr


def test_outputs_replace_no_file_of_another_kind(root, good, model, tmp_path):
    copy, image, table = tmp_path / "a.model", tmp_path / "a.png", tmp_path / "a.csv"
    shutil.copy(model, copy)
    shutil.copy(sorted(good.iterdir())[0], image)
    table.write_text("file,verdict\n")
    shutil.copy(image, tmp_path / "s.parts.csv")
    folder = image.parent
    for arguments in (
        ["score", copy, folder, "--csv", tmp_path / "s.csv", "--parts", "file"],
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
        before = {path: path.read_bytes() for path in folder.iterdir()}
        result = run(*arguments)
        assert result.exit_code == 2, arguments
        assert "is there and is not" in result.output and "is not replaced" in result.output
        assert {path: path.read_bytes() for path in before} == before


def test_outputs_replace_nothing_that_is_read(model, lines):
    (lines / "list.txt").write_text("line3/OK\n@more.txt\n")
    (lines / "more.txt").write_text("all.csv\n")
    (lines / "link.csv").symlink_to("all.csv")
    for command in (
        "score MODEL all.csv --csv all.csv",
        "score MODEL all.csv --csv link.csv",
        "score MODEL @list.txt --csv list.txt",
        "score MODEL @list.txt --csv more.txt",
        "score MODEL @list.txt --csv all.csv",
        "report MODEL all.csv -o all.csv",
        "monitor MODEL all.csv --state all.csv",
        "evaluate MODEL all.csv --csv all.csv",
        "evaluate MODEL all.csv --picture line3/OK/7.png",
        "evaluate MODEL all.csv --picture line4/../line3/NG/1.png",
    ):
        before = {path: path.read_bytes() for path in lines.rglob("*.*")}
        result = run(*command.replace("MODEL", str(model)).split())
        assert result.exit_code == 2, command
        assert "is read: choose another name" in result.output or "state" in command, result.output
        assert {path: path.read_bytes() for path in lines.rglob("*.*")} == before


def test_outputs_and_what_lies_beside_them_are_different_files(model, lines):
    for options in (
        "--csv s.csv --regions s.parts.csv --parts folder",
        "--csv s.csv --regions s.csv.part",
    ):
        result = run("score", model, "line3", *options.split())
        assert result.exit_code == 2 and "name two files for --csv" in result.output, options
    (lines / "run_0.05.parts.csv").write_bytes(b"\0")  # the dot of a number begins no suffix
    result = run("score", model, "line3", "--csv", "run_0.05", "--parts", "folder")
    assert result.exit_code == 2 and "run_0.05.parts.csv' is there" in result.output
    result = run("evaluate", model, "line3", "--csv", "e.svg", "--picture", "./e.svg")
    assert result.exit_code == 2 and "name two files" in result.output
    assert not [*lines.glob("s.*"), *lines.glob("e.*")]


def test_a_model_and_its_export_do_not_replace_each_other(model, good, tmp_path):
    old = shutil.copy(model, tmp_path / "old.model")
    assert run("recalibrate", old, "--false-alarms", "0.3", "-o", old).exit_code == 0
    onnx = tmp_path / "m.onnx"
    onnx.write_bytes(b"\x08\x08\x12\x00")
    for command in (
        ["recalibrate", old, "--false-alarms", "0.3", "-o", onnx],
        ["export", old, "--check", good, "-o", old],
    ):
        before = command[-1].read_bytes()
        result = run(*command)
        assert result.exit_code == 2 and "is there and is not a" in result.output, result.output
        assert command[-1].read_bytes() == before


@pytest.mark.slow
def test_the_command_line_works_without_docstrings(root, model):
    command = ["score", str(model), str(root / "bolt/test/good/0.png"), "--json"]
    start = [sys.executable, "-OO", "-c", "from skstructcore.cli import main; main()"]
    done = subprocess.run([*start, *command], capture_output=True, text=True)
    assert done.returncode == 0 and json.loads(done.stdout)["images"] == 1, done.stderr


def test_a_missing_folder_is_found_before_the_libraries_are_loaded(root, model):
    """In a process of its own: what is loaded there is counted."""
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


def test_serve_without_its_extra_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    (tmp_path / "m.structcore").touch()
    said = run("serve", str(tmp_path / "m.structcore"))
    wanted = 'The service needs uvicorn: pip install "skstructcore[serve]"'
    assert said.exit_code == 2 and wanted in said.output
