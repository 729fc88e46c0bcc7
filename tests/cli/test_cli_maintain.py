"""Commands that change a model, audit it, or watch for drift."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command import SMALL, run
from PIL import Image

import skstructcore


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
        assert (pipe[-1].part_decision_.held_out.fresh > 0) == (name == "recalibrate")
    added = run("add-category", "m", "pin", "pin", "-o", "more", *parts)
    assert added.exit_code == 0, added.output
    assert skstructcore.load("more")[-1].part_decision_ is not None
    assert "(--parts of a command)" in run("add-category", "m", "pin", "pin", "-o", "more").output


@pytest.mark.parametrize("command", ["update", "recalibrate", "add-category"])
def test_another_word_for_good_keeps_defects_out_as_in_a_fit(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for place in [f"old/{c}/{i}" for c in ("nut", "bolt") for i in range(6)] + [
        f"new/{kind}/{i}" for kind in ("gut", "dent") for i in range(6)
    ]:
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(90, 130, (48, 48), np.uint8)).save(f"{place}.png")
    fitted = run("fit", "old", "-o", "m", "--no-estimate", "--categories", "folder", *SMALL)
    assert fitted.exit_code == 0, fitted.output
    options = ["pin"] if command == "add-category" else ["--force"]
    done = run(command, "m", *options, "new", "-o", "changed", "--good", "gut")
    assert done.exit_code == 0, done.output
    assert "6 images are of defects (dent (6)): left out." in done.output
    n_images = skstructcore.load("changed")["bank"].n_images_
    assert n_images == (12 if command == "recalibrate" else 18)


def test_folders_are_held_out_together_as_in_a_fit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for place in (f"{root}/{folder}/{i}.png" for root in "fg" for folder in range(5) for i in "ab"):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(90, 130, (48, 48), np.uint8)).save(place)
    assert run("fit", "f", "-o", "m", "--no-estimate", *SMALL).exit_code == 0
    for options, n_groups in (([], 10), (["--groups", "none"], 15)):
        changed = run("update", "m", "g", "-o", "changed", "--force", *options)
        assert changed.exit_code == 0, changed.output
        assert len(set(skstructcore.load("changed")["bank"].images_.groups)) == n_groups
    counts = []
    for options in ([], ["--groups", "none"]):
        command = ["recalibrate", "m", "g", "-o", "changed", "--force", "--json", *options]
        changed = run(*command)
        assert changed.exit_code == 0, changed.output
        counts.append(json.loads(changed.stdout)["thresholds"])
    assert counts[0] != counts[1]


def test_masks_of_a_table_are_not_read_where_nothing_is_judged(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = [root / name / "train/good" for name in ("bolt", "nut")]
    fitted = run("fit", *good, "-o", "m", "--categories", "/(bolt|nut)/", *SMALL)
    assert fitted.exit_code == 0, fitted.output
    rng = np.random.default_rng(0)
    for name in ("bolt", "pin"):
        files = [f"{name}{i}.png" for i in range(8)]
        for file in files:
            Image.fromarray(rng.integers(90, 130, (48, 48), np.uint8)).save(file)
        known = {"label": "good", "category": name, "mask": "gone.png"}
        pd.DataFrame({"file": files, **known}).to_csv(f"{name}.csv", index=False)
    whole = Path("bolt0.png").read_bytes()
    Path("torn.png").write_bytes(whole[: len(whole) // 2])
    for command, *arguments in (
        ("update", "m", "bolt.csv"),
        ("recalibrate", "m", "bolt.csv"),
        ("add-category", "m", "pin", "pin.csv"),
    ):
        force = [] if command == "add-category" else ["--force"]
        changed = run(command, *arguments, "-o", "changed", *force)
        assert changed.exit_code == 0, changed.output
        for unread in ("gone.jpg", "torn.png"):
            refused = run(command, *arguments, unread, "-o", "other", *force)
            assert refused.exit_code == 2 and unread in refused.output
            assert not Path("other").exists()


def test_what_a_table_without_labels_says_is_learned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng, rows = np.random.default_rng(0), []
    for i in range(64):  # two views of each part, two parts of each lot
        Image.fromarray(rng.integers(90, 130, (48, 48), np.uint8)).save(f"{i}.png")
        rows.append((f"{i}.png", f"part {i // 2}", f"lot {i // 4}", "ab"[i // 16 % 2]))
    table = pd.DataFrame(rows, columns=["file", "part", "group", "category"])
    fresh = table[32:]
    tables = {
        "old": table[:32],
        "unlabelled": fresh,
        "labelled": fresh.assign(label="good"),
        "without_lots": fresh.drop(columns="group"),
    }
    for name, rows in tables.items():
        rows.to_csv(f"{name}.csv", index=False)
    fitted = run("fit", "old.csv", "-o", "m", "--no-estimate", *SMALL)
    assert fitted.exit_code == 0, fitted.output
    for command in ("update", "recalibrate"):
        digests = {}
        for name in list(tables)[1:]:
            done = run(command, "m", f"{name}.csv", "-o", "changed", "--force")
            assert done.exit_code == 0, done.output
            digests[name] = skstructcore.info("changed")["digest"]
        assert digests["unlabelled"] == digests["labelled"] != digests["without_lots"]
        if command == "update":
            known = skstructcore.load("changed")[-1].training_
            assert list(known.images.parts) == list(table["part"])
            assert list(known.route) == list(table["category"])


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
        assert refused.exit_code == 2 and "IMAGES" in refused.output


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
    good = root / "bolt" / "test" / "good"
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
    assert run("monitor", model, spots, "--state", state, "--alpha", 0.01).exit_code == 0
    seen = state.read_text()
    for alpha in (0.05, 7):
        refused = run("monitor", model, spots, "--state", state, "--alpha", alpha)
        assert refused.exit_code == 2 and "begun with --alpha 0.01" in refused.output
    assert state.read_text() == seen
    for text in ('{"version": 1, "finger', "[]"):
        state.write_text(text)
        refused = run("monitor", model, good, "--state", state)
        assert refused.exit_code == 2 and "is no state to go on from" in refused.output


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
