"""Killed at any moment, on a full disk, without permission: nothing that was there is lost.

Commands run in processes of their own (`faulty.Commands`). What they do to files is counted, so
that a fault can be placed before each change, and in the middle of writing.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from joblib.externals.loky.process_executor import TerminatedWorkerError
from PIL import Image
from test_categories import write_category

import skstructcore
from skstructcore import inference
from skstructcore.cli import main
from skstructcore.inference.scores import iter_shards
from skstructcore.report import report

if sys.platform == "win32":
    pytest.skip("needs fork, signals and limits", allow_module_level=True)

from faulty import Commands, files_up_to, order

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
SMALL = ["--set", "features__image_size=32", "--set", "bank__ratio=0.3"]
KILLED, TOO_LARGE = -signal.SIGKILL, -signal.SIGXFSZ


@pytest.fixture(scope="module")
def run():
    with Commands() as commands:
        yield commands


@pytest.fixture(scope="module")
def world(run, tmp_path_factory):
    """Two categories of images, a model of each, and eight images to score."""
    folder = tmp_path_factory.mktemp("world")
    for seed, name in enumerate(("bolt", "nut")):
        write_category(folder / "parts" / name, seed)
        good = folder / "parts" / name / "train" / "good"
        assert run("fit", good, "-o", folder / name, "--no-estimate", *SMALL).status == 0
    (folder / "new").mkdir()
    pixels = np.random.default_rng(7).integers(90, 140, (8, 32, 32), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / "new" / f"{number:02}.png")
    return folder


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


some_or_all = pytest.mark.parametrize("most", [4, pytest.param(10**6, marks=pytest.mark.slow)])


def kills(changes, most):
    """Numbers of changes to be killed before: all, or so many of them, the last one among them."""
    numbers = np.linspace(1, len(changes), min(most, len(changes)))
    return sorted({round(number) for number in numbers})


def content(folder):
    """Name and bytes of all files that have their final name."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if path.suffix != ".unfinished"
    }


def rests(folder):
    return [path for path in folder.rglob("*") if path.suffix == ".unfinished"]


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def scores(model, world):
    return skstructcore.load(model).score_samples(world / "new")


# -- kills -------------------------------------------------------------------------------------


@some_or_all
def test_a_killed_fit_leaves_the_old_model_and_keeps_its_features(most, run, world, out):
    model, cache, good = out / "model", out / "cache", world / "parts" / "bolt" / "train" / "good"
    options = ["--no-estimate", *SMALL, "--set", f"features__memory={cache}"]
    fit = ["fit", good, "-o", model, *options]
    undisturbed = run(*fit, folder=out)
    expected, features = scores(model, world), content(cache)
    old = (world / "nut").read_bytes()
    assert not np.array_equal(expected, scores(world / "nut", world)) and len(features) == 7

    sizes = [{"kill_at_size": size} for size in (5000, 12000)]  # entries have 9732 bytes
    for fault in [{"kill_at": n} for n in kills(undisturbed.changes, most)] + sizes:
        shutil.rmtree(cache)
        model.write_bytes(old)
        killed = run(*fit, folder=out, **fault)
        assert killed.status in (KILLED, TOO_LARGE), killed
        assert model.read_bytes() == old
        stored = content(cache) if cache.exists() else {}
        assert stored.items() <= features.items()
        assert len(stored) == sum(kind == "os.rename" for kind, _ in killed.changes)
        before = times(cache)
        again = run(*fit, folder=out)
        assert again.status == 0, again
        np.testing.assert_array_equal(scores(model, world), expected)
        assert content(cache) == features
        after = times(cache)
        assert all(after[path] == before[path] for path in before if path not in rests(cache))


@some_or_all
def test_a_killed_evaluation_goes_on_after_the_categories_that_are_finished(most, run, world, out):
    evaluate = ["evaluate-categories", world / "parts", "--output", out / "results", *SMALL]
    undisturbed = run(*evaluate, folder=out)
    expected = results(out)
    sizes = [{"kill_at_size": size} for size in (700,)]
    for fault in [{"kill_at": n} for n in kills(undisturbed.changes, most)] + sizes:
        shutil.rmtree(out / "results")
        killed = run(*evaluate, folder=out, **fault)
        assert killed.status in (KILLED, TOO_LARGE), killed
        there = results(out)
        assert there.items() <= expected.items()
        before = times(out)
        again = run(*evaluate, folder=out)
        assert again.status == 0 and results(out) == expected, again
        after = times(out)
        finished = [path for path in before if path.parent.name == "categories"
                    and path.with_suffix(".json") in before]  # fmt: skip
        assert all(after[path] == before[path] for path in finished)


def results(out):
    """All whole files of an evaluation, without the times that it took."""
    found = content(out)
    for name in found:
        if name.endswith(".json") and not name.endswith("shape.json"):  # of a cache: two lines
            found[name] = without_seconds(json.loads(found[name]))
        elif name.startswith("results/results."):
            found[name] = found[name].count(b"\n")  # the same as the JSON, which is compared
    return found


def without_seconds(stored):
    if not isinstance(stored, dict):
        return stored
    return {key: without_seconds(value) for key, value in stored.items() if key != "seconds"}


@pytest.fixture(scope="module")
def score(world):
    """A command that scores one image after the other, but for the name of the file of its rows."""
    return ["score", world / "bolt", world / "new", "--shard-size", "1", "--csv"]


@pytest.fixture(scope="module")
def rows(score, run, tmp_path_factory):
    """What `score` writes when it is not disturbed."""
    csv = tmp_path_factory.mktemp("rows") / "scores.csv"
    assert run(*score, csv).status == 0
    return csv.read_bytes()


@pytest.fixture(scope="module")
def begun(score, world, run, tmp_path_factory):
    """What is there after a kill: of `score`, and of the same with another model."""
    folders = []
    for model in (world / "bolt", world / "nut"):
        folders.append(tmp_path_factory.mktemp("begun"))
        killed = run("score", model, *score[2:], folders[-1] / "scores.csv", kill_at_size=2000)
        assert killed.status == TOO_LARGE and len(content(folders[-1])) == 1
    return folders


def n_rows(out):
    part = out / "scores.csv.part"
    return max(part.read_text().count("\n") - 1, 0) if part.exists() else 0


def check_goes_on(run, score, out, rows):
    """The same command ends as if nothing had been, and computes no row again."""
    n_kept = n_rows(out)
    again = run(*score, out / "scores.csv", folder=out)
    assert again.status == 0, again
    assert content(out) == {"scores.csv": rows}
    assert (f"Going on after {n_kept} images" in again.err) == (n_kept > 0), again.err
    return n_kept


@pytest.mark.parametrize("most", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_killed_scores_go_on_after_the_rows_that_are_written(most, run, score, rows, out):
    csv = out / "scores.csv"
    csv.write_text("old")
    undisturbed = run(*score, csv, folder=out)
    sizes = np.linspace(200, len(rows) - 1, most).astype(int).tolist()  # some or all rows
    for fault in [{"kill_at": n} for n in kills(undisturbed.changes, 2 * most)] + [
        {"kill_at_size": size} for size in sizes
    ]:
        for left in out.iterdir():
            left.unlink()
        csv.write_text("old")
        killed = run(*score, csv, folder=out, **fault)
        assert killed.status in (KILLED, TOO_LARGE), killed
        assert csv.read_bytes() in (b"old", rows)
        check_goes_on(run, score, out, rows)


@pytest.mark.parametrize(
    "fault",
    [{"kill_at": 1}, {"kill_at": 2}, {"kill_at": 3}, {"kill_at_size": 0}, {"full_at_size": 0},
     {"full_at": 1}, {"full_at": 2}],
    ids=str,
)  # fmt: skip
def test_going_on_loses_no_row_to_another_fault(fault, run, score, rows, begun, out):
    shutil.copytree(begun[0], out, dirs_exist_ok=True)
    n_kept = n_rows(out)
    assert 2 < n_kept < 8
    run(*score, out / "scores.csv", folder=out, **fault)
    if not (out / "scores.csv").exists():
        assert check_goes_on(run, score, out, rows) >= n_kept
    assert (out / "scores.csv").read_bytes() == rows


@pytest.mark.parametrize("kill_at", range(1, 5))
def test_rows_of_another_run_are_never_mixed_in(kill_at, run, score, rows, begun, out):
    shutil.copytree(begun[1], out, dirs_exist_ok=True)
    run(*score, out / "scores.csv", folder=out, kill_at=kill_at)
    assert run(*score, out / "scores.csv").status == 0
    assert (out / "scores.csv").read_bytes() == rows


def test_an_image_that_has_changed_since_is_scored_again(run, world, out):
    csv = out / "scores.csv"
    shutil.copytree(world / "new", out / "new")
    score = ["score", world / "bolt", out / "new", "--csv", csv, "--shard-size", "1"]
    assert run(*score, folder=out, kill_at_size=2000).status == TOO_LARGE
    shutil.copy(world / "parts" / "nut" / "test" / "spot" / "0.png", out / "new" / "00.png")
    assert run(*score).status == 0
    check_scores(csv, world, out / "new")


def check_scores(csv, world, images):
    expected = -skstructcore.load(world / "bolt").score_samples(images)
    np.testing.assert_allclose(pd.read_csv(csv)["anomaly_score"], expected, rtol=1e-12)


MAINTENANCE = {
    "update": ["update", "MODEL", "GOOD", "--force"],
    "forget": ["forget", "MODEL", "FIRST"],
    "recalibrate": ["recalibrate", "MODEL", "GOOD", "--force", "--weight-old", "0.5"],
}


def maintain(command, model, world):
    good = world / "parts" / "bolt" / "test" / "good"
    first = world / "parts" / "bolt" / "train" / "good" / "0.png"
    names = {"MODEL": model, "GOOD": good, "FIRST": first}
    return [*(names.get(word, word) for word in MAINTENANCE[command]), "-o", model]


@pytest.mark.parametrize("command", MAINTENANCE)
def test_a_model_that_is_rewritten_is_the_old_one_or_the_new_one(command, run, world, out):
    model = out / "model"
    old = (world / "bolt").read_bytes()
    model.write_bytes(old)
    rewrite = maintain(command, model, world)
    assert run(*rewrite, folder=out).status == 0
    expected, new = skstructcore.info(model)["training"], skstructcore.load(model)
    for fault in ({"kill_at": 1}, {"kill_at": 2}, {"kill_at_size": 9999}):
        model.write_bytes(old)
        killed = run(*rewrite, folder=out, **fault)
        assert killed.status in (KILLED, TOO_LARGE), killed
        assert content(out) == {"model": old}
    assert run(*rewrite, folder=out).status == 0
    assert skstructcore.info(model)["training"] == expected
    np.testing.assert_array_equal(scores(model, world), new.score_samples(world / "new"))


COMMANDS = {
    "fit": lambda world, out: [
        *["fit", world / "parts" / "bolt", "-o", out / "model", "--no-estimate", *SMALL],
        *["--set", f"features__memory={out / 'cache'}"],
    ],
    "score": lambda world, out: [
        *["score", world / "bolt", world / "new", "--csv", out / "s.csv", "--shard-size", "1"]
    ],
    "evaluate": lambda world, out: [
        *["evaluate-categories", world / "parts", "--output", out / "results", *SMALL]
    ],
    "update": lambda world, out: [
        "update",
        world / "bolt",
        world / "new",
        "-o",
        out / "m",
        "--force",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_kills_at_random_moments_cost_nothing_but_time(command, run, world, out):
    """10 times, until it has come to its end."""
    rng = np.random.default_rng(0)
    expected = None
    for _ in range(10):
        shutil.rmtree(out)
        out.mkdir()
        arguments = COMMANDS[command](world, out)
        ran = run(*arguments, folder=out, kill_after=rng.uniform(0.02, 0.6))
        while ran.status == -signal.SIGALRM:
            ran = run(*arguments, folder=out, kill_after=rng.uniform(0.3, 0.9))
        assert ran.status == 0, ran
        found = results(out)
        for name in [name for name in found if name in ("model", "m")]:
            found[name] = skstructcore.info(out / name)["training"]
        expected = expected or found
        assert found == expected


@pytest.mark.parametrize("fault", [{"kill_at": 2}, {"kill_at": 9}, {"kill_at_size": 5000}], ids=str)
def test_of_two_writers_of_one_cache_one_is_killed(fault, run, world, out):
    fit = COMMANDS["fit"](world, out)
    assert run(*fit).status == 0
    expected, features = scores(out / "model", world), content(out / "cache")
    shutil.rmtree(out / "cache")
    other = [*fit[:2], "-o", out / "other", *fit[4:]]
    killed, lives = run.together(order(*fit, folder=out, **fault), order(*other))
    if fault != {"kill_at": 9}:  # which is not reached if the other has stored all entries
        assert killed.status in (KILLED, TOO_LARGE), killed
    assert lives.status == 0, lives
    np.testing.assert_array_equal(scores(out / "other", world), expected)
    assert content(out / "cache") == features
    assert run(*fit).status == 0  # a later reader
    np.testing.assert_array_equal(scores(out / "model", world), expected)


def test_two_writers_of_one_cache_leave_it_whole(run, world, out):
    fit = COMMANDS["fit"](world, out)
    ran = run.together(*(order(*fit) for _ in range(3)))
    assert [one.status for one in ran] == [0, 0, 0]
    features = content(out / "cache")
    shutil.rmtree(out / "cache")
    assert run(*fit).status == 0
    assert content(out / "cache") == features and not rests(out)


@pytest.mark.parametrize("command", ["report", "monitor"])
def test_a_page_or_state_that_is_rewritten_is_the_old_one(command, run, world, out):
    target = out / "target"
    option = {"report": "-o", "monitor": "--state"}[command]
    write = [command, world / "bolt", world / "new", option, target]
    assert run(*write).status == 0
    old = target.read_bytes()
    for fault in ({"kill_at": 1}, {"kill_at": 2}, {"kill_at_size": 500}):
        killed = run(*write, folder=out, **fault)
        assert killed.status in (KILLED, TOO_LARGE), killed
        assert content(out) == {"target": old}


def test_a_worker_that_is_killed_is_an_error_and_loses_no_row(world, score, rows, out, monkeypatch):
    def two_images_and_a_kill(*arguments, **options):
        shards = iter_shards(*arguments, **options)
        yield from itertools.islice(shards, 2)
        raise TerminatedWorkerError  # as joblib does then

    monkeypatch.setattr(inference.scores, "iter_shards", two_images_and_a_kill)
    arguments = [str(argument) for argument in (*score, out / "scores.csv")]
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 2 and "a process of --n-jobs was killed" in ran.output
    monkeypatch.undo()
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 0 and "Going on after 2 images" in ran.output
    assert (out / "scores.csv").read_bytes() == rows


@pytest.mark.slow
def test_processes_of_a_killed_command_end(world, score, out):
    if not os.path.exists("/proc/self/environ"):
        pytest.skip("needs /proc")
    csv, mark = out / "scores.csv", f"KILLED_COMMAND={out}"
    code = "import sys; from skstructcore.cli import main; main(sys.argv[1:])"
    images = [str(path) for path in sorted((world / "new").iterdir()) * 20]
    arguments = [str(argument) for argument in (*score[:2], *images, *score[3:], csv)]
    command = subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "--n-jobs", "2"],
        env={**os.environ, "KILLED_COMMAND": str(out)},
    )
    while n_rows(out) == 0:
        assert command.poll() is None
        time.sleep(0.05)
    assert len(processes_with(mark)) >= 3
    command.kill()
    command.wait()
    for _ in range(300):
        if not processes_with(mark):
            return
        time.sleep(0.1)
    left = processes_with(mark)
    for number, _ in left:
        os.kill(int(number), signal.SIGKILL)
    raise AssertionError(left)


def processes_with(mark):
    """Processes with this in their environment."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (place / "environ").read_bytes().split(b"\0"):
                found.append((place.name, (place / "cmdline").read_bytes()))
    return found


# -- a full disk -------------------------------------------------------------------------------


# Beginning of an error message that names the file that could not be written, and why.
def check_names(error, *paths):
    for path in paths:
        assert f"'{path}' cannot be written: " in error, error
    assert "File too large" in error or "No space left on device" in error
    assert "Traceback" not in error


FAULTS = [{"full_at_size": 900}, {"full_at": 1}]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
@pytest.mark.parametrize("command", ["fit", "report", "monitor", *MAINTENANCE])
def test_a_full_disk_leaves_the_old_file_and_no_rest(command, fault, run, world, out):
    target = out / "target"
    arguments = {
        "fit": [*COMMANDS["fit"](world, out)[:2], "-o", target, "--no-estimate", *SMALL],
        "report": ["report", world / "bolt", world / "new", "-o", target],
        "monitor": ["monitor", world / "bolt", world / "new", "--state", target],
    }
    if command == "monitor":
        assert run(*arguments[command]).status == 0
    elif command == "report":
        target.write_text("old")
    else:
        shutil.copy(world / "bolt", target)
    old = target.read_bytes()
    ran = run(*(arguments.get(command) or maintain(command, target, world)), folder=out, **fault)
    assert ran.status == 2
    check_names(ran.err, target)
    assert content(out) == {"target": old} and not rests(out)


def test_a_full_disk_costs_the_cache_of_features_and_nothing_else(run, world, out):
    fit = COMMANDS["fit"](world, out)
    elsewhere = [*fit[:2], "-o", world / "elsewhere", *fit[4:]]
    ran = run(*elsewhere, folder=out, full_at=9)
    assert ran.status == 0, ran
    assert ran.err.count("Features are not cached") == 1 and str(out / "cache") in ran.err
    np.testing.assert_array_equal(scores(world / "elsewhere", world), scores(world / "bolt", world))
    assert not rests(out)


@pytest.mark.parametrize(
    ("fault", "failed", "least"),
    [({"full_at_size": 1500}, "part", 3), ({"full_at": 4}, "part", 0),
     ({"full_at": 1}, "part", 0)],
    ids=str,
)  # fmt: skip
def test_a_full_disk_keeps_the_rows_that_are_written(fault, failed, least, run, score, rows, out):
    csv = out / "scores.csv"
    csv.write_text("old")
    ran = run(*score, csv, folder=out, **fault)
    assert ran.status == 2 and csv.read_text() == "old"
    check_names(ran.err, f"{csv}.{failed}")
    assert check_goes_on(run, score, out, rows) >= least


def test_what_cannot_be_written_does_not_cost_an_evaluation(run, world, out):
    evaluate = ["evaluate", world / "parts" / "bolt", *SMALL]
    files = ["--csv", out / "s.csv", "--model", out / "m"]
    whole = run(*evaluate, *files, folder=out)
    assert whole.status == 0 and len(content(out)) == 2, whole
    rows = (out / "s.csv").read_text()
    old = {"s.csv": b"old", "p.png": b"old", "m": (world / "nut").read_bytes()}
    for name in old:
        (out / name).write_bytes(old[name])
    ran = run(*evaluate, *files, "--picture", out / "p.png", folder=out, full_at_size=900)
    assert ran.status == 2
    table = whole.out[: whole.out.index("Saved: ")]
    assert ran.out == table + rows  # and the scores that found no place
    check_names(ran.err, *(out / name for name in old))
    assert content(out) == old and not rests(out)
    as_json = run(*evaluate, *files, "--json", folder=out, full_at=3)  # a model is two changes
    assert as_json.status == 2 and json.loads(as_json.out) and rows in as_json.err
    check_names(as_json.err, out / "s.csv")
    assert (out / "s.csv").read_bytes() == b"old"
    assert skstructcore.info(out / "m") and not rests(out)


@pytest.mark.parametrize("fault", [{"full_at_size": 700}, {"full_at": 5}])
def test_a_full_disk_costs_no_category_its_row(fault, run, world, out):
    evaluate = [
        "evaluate-categories",
        world / "parts",
        "--output",
        out / "results",
        *SMALL,
        "--json",
    ]
    expected = run(*evaluate, folder=out)
    assert expected.status == 0
    shutil.rmtree(out / "results")
    ran = run(*evaluate, folder=out, **fault)
    assert ran.status == 2
    check_names(ran.err)
    table = [[without_seconds(row) for row in json.loads(one.out)] for one in (ran, expected)]
    assert table[0] == table[1]
    assert not rests(out)
    again = run(*evaluate, folder=out)
    assert again.status == 0


def test_a_standard_output_that_is_full_is_an_error_and_no_traceback(run, world):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    image = world / "new" / "00.png"
    for arguments in (
        *(["score", world / "bolt", image], ["score", world / "bolt", image, "--json"]),
        *(["info", world / "bolt"], ["audit", world / "bolt", "--json"]),
    ):
        ran = run(*arguments, stdout="/dev/full")
        assert ran.status == 2 and "Traceback" not in ran.err
        assert "standard output cannot be written: No space left on device" in ran.err


@pytest.mark.parametrize(
    ("command", "size"), [("fit", 65536), ("score", 4096), ("evaluate", 20480), ("update", 8192)]
)
def test_on_a_disk_that_is_really_full(command, size, run, world, out):
    """A file system of a few blocks of 4096 bytes."""
    try:
        ran = run(*COMMANDS[command](world, out), folder=out, disk=size)
    except NotImplementedError as error:
        pytest.skip(str(error))
    assert ran.status == 2
    check_names(ran.err)
    assert "No space left on device" in ran.err and not rests(out)
    assert run(*COMMANDS[command](world, out), folder=out).status == 0
    if command == "score":
        check_scores(out / "s.csv", world, world / "new")


def test_functions_say_which_file_found_no_place(world, out):
    pipe = skstructcore.load(world / "bolt")
    (out / "model").write_text("old")
    before = content(out)
    for write, name in (
        (lambda: skstructcore.save(pipe, out / "model"), out / "model"),
        (lambda: report(pipe, world / "new", out / "new.html"),
         out / "new.html"),
    ):  # fmt: skip
        with files_up_to(50), pytest.raises(OSError, match="cannot be written: File too") as error:
            write()
        assert f"'{name}'" in str(error.value)
        assert content(out) == before and not rests(out)


# -- permissions -------------------------------------------------------------------------------


@pytest.fixture
def closed():
    """Takes permissions away, and gives them back so that pytest can tidy up."""
    changed = []

    def close(path, mode=0):
        changed.append((path, path.stat().st_mode))
        path.chmod(mode)

    yield close
    for path, mode in changed:
        path.chmod(mode)


def without_privileges(run, *arguments, **options):
    try:
        return run(*arguments, unprivileged=True, **options)
    except NotImplementedError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("how", ["as a file", "in a folder"])
def test_an_image_without_permission_costs_no_other_its_score(how, run, world, out, closed):
    shutil.copytree(world / "new", out / "new")
    closed(out / "new" / "03.png")
    images = sorted((out / "new").iterdir()) if how == "as a file" else [out / "new"]
    ran = without_privileges(run, "score", world / "bolt", *images, "--json")
    assert ran.status == 3, ran
    rows = json.loads(ran.out)["scores"]
    assert [row["error"] is None for row in rows] == [number != 3 for number in range(8)]
    assert "03.png" in rows[3]["error"] and "Permission denied" in rows[3]["error"]
    model = skstructcore.load(world / "bolt")
    for number in (0, 7):
        expected = -model.score_samples([out / "new" / f"{number:02}.png"])
        assert rows[number]["anomaly_score"] == pytest.approx(expected[0], rel=1e-12)


def test_an_image_without_permission_ends_a_fit_by_name(run, world, out, closed):
    shutil.copytree(world / "new", out / "good")
    closed(out / "good" / "03.png")
    ran = without_privileges(run, "fit", out / "good", "-o", out / "model", *SMALL)
    assert ran.status == 2 and "03.png" in ran.err and "Permission denied" in ran.err
    assert not (out / "model").exists()


@pytest.mark.parametrize("command", ["fit", "report", "score", "monitor", "evaluate", *MAINTENANCE])
def test_a_folder_that_cannot_be_written_to_is_found_before_the_work(
    command, run, world, out, closed
):
    target = out / "target"
    if command not in ("report", "score", "monitor", "evaluate"):
        shutil.copy(world / "bolt", target)
    closed(out, 0o555)
    arguments = {
        "fit": ["fit", world / "new", "-o", target, *SMALL],
        "report": ["report", world / "bolt", world / "new", "-o", target],
        "score": ["score", world / "bolt", world / "new", "--csv", target],
        "monitor": ["monitor", world / "bolt", world / "new", "--state", target],
        "evaluate": ["evaluate", world / "parts" / "bolt", "--csv", target, *SMALL],
    }
    ran = without_privileges(run, *(arguments.get(command) or maintain(command, target, world)))
    assert ran.status == 2, ran
    assert f"The folder '{out}' cannot be written to" in ran.err
    assert "it/s" not in ran.err and "image" not in ran.err  # no progress bar: nothing was done


@pytest.mark.parametrize("what", ["folder", "entries"])
def test_a_cache_without_permission_is_computed(what, run, world, out, closed):
    fit = COMMANDS["fit"](world, out)
    assert run(*fit).status == 0
    paths = sorted((out / "cache").rglob("*"))
    for path in paths if what == "entries" else [out / "cache"]:
        if path.is_file() or what == "folder":
            closed(path)
    other = [*fit[:2], "-o", out / "other", *fit[4:]]
    ran = without_privileges(run, *other)
    assert ran.status == 0, ran
    np.testing.assert_array_equal(scores(out / "other", world), scores(out / "model", world))
