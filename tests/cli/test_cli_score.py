"""``skstructcore score`` and ``report``."""

import json
import shutil

import joblib
import numpy as np
import pandas as pd
import pytest
from command import run

import skstructcore


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


@pytest.mark.parametrize("option", [("--n-jobs", 0), ("--shard-size", -3), ("--shard-size", 0)])
def test_an_option_that_is_none_leaves_no_rows_behind(good, model, tmp_path, option):
    csv, regions = tmp_path / "scores.csv", tmp_path / "regions.json"
    result = run("score", model, good, "--csv", csv, "--regions", regions, *option)
    assert result.exit_code == 2 and option[0] in result.output, result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("broken", [[0, 1], [4], [0, 1, 2, 3, 4, 5]])
def test_score_reports_unreadable_files_and_scores_the_others(good, model, tmp_path, broken):
    for i in range(6):
        shutil.copy(good / f"{i}.png", tmp_path)
    for i in broken:
        (tmp_path / f"{i}.png").write_text("no image")
    csv = tmp_path / "scores.csv"
    result = run("score", model, tmp_path, "--csv", csv, "--shard-size", 2)
    assert result.exit_code == 3
    assert f"{len(broken)} of 6 images cannot be read" in result.output
    scores = pd.read_csv(csv)
    assert np.flatnonzero(scores["error"].notna()).tolist() == broken
    assert [name[-5:] for name in scores["file"]] == [f"{i}.png" for i in range(6)]
    refused = run("score", model, tmp_path, "--on-error", "raise")
    assert refused.exit_code == 2 and f"{broken[0]}.png" in refused.output


def test_a_terminal_gets_a_short_table(root, model, monkeypatch):
    monkeypatch.setattr("skstructcore.cli.score.is_terminal", lambda: True)
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
    regions = json.loads((tmp_path / "r.json").read_text())
    assert len(regions["images"]) == len(found)
    assert {region["too_small"] for region in regions["annotations"]} == {False}
    assert run("score", model, root / "bolt", "--maps", root / "bolt").exit_code == 2


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


def test_report_takes_labels_from_folders_if_asked(lines, model):
    def defects(*options):
        result = run("report", model, *options)
        assert result.exit_code == 0, result.output
        return '"dent"' in (lines / "report.html").read_text()  # not in a picture by chance

    assert defects("line3", "--good", "OK") and not defects("line3")
    assert defects("all.csv")


def test_report_of_a_data_set_has_its_labels(root, model, tmp_path):
    page = tmp_path / "report.html"
    result = run("report", model, root / "bolt", "-o", page, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["bytes"] == page.stat().st_size and "spot" in page.read_text()
    both = run("report", model, root, "-o", page, "--json")
    assert json.loads(both.stdout)["images"] == 2 * found["images"]
