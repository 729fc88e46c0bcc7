"""What ``skstructcore score`` writes while it scores: once, and going on after a kill."""

import itertools
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import skstructcore.inference
from skstructcore import info, load, make_structcore, save
from skstructcore.cli import main
from skstructcore.features._backbone import PatchFeatures


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """A model, and eight images, of which the last two have a defect."""
    root = tmp_path_factory.mktemp("line")
    pixels = np.random.default_rng(0).integers(90, 140, (20, 48, 64), dtype=np.uint8)
    pixels[18:, 10:30, 20:50] = 255
    pipe = make_structcore("efficientnet_lite0", features__image_size=64, bank__ratio=0.1)
    save(pipe.fit(pixels[:12]), root / "model")
    (root / "new").mkdir()
    for i, values in enumerate(pixels[12:]):
        Image.fromarray(values).save(root / f"new/{i}.png")
    return root


@pytest.fixture
def seen(monkeypatch):
    """Names of the images that the network saw."""
    names, compute = [], PatchFeatures._iter_features

    def counted(self, images, on_read=None):
        names.extend(images.file_names())
        return compute(self, images, on_read)

    monkeypatch.setattr(PatchFeatures, "_iter_features", counted)
    return names


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def everything(root, out):
    places = [("--maps", out / "m"), ("--overlays", out / "o"), ("--masks", out / "k")]
    files = [("--csv", out / "s.csv"), ("--regions", out / "r.json")]
    options = [word for pair in places + files for word in pair]
    return ["score", root / "model", root / "new", *options, "--shard-size", 2]


def test_the_network_runs_once_whatever_is_written(line, seen, tmp_path):
    result = run(*everything(line, tmp_path))
    assert result.exit_code == 0, result.output
    assert len(seen) == len(set(seen)) == 8
    found = json.loads((tmp_path / "r.json").read_text())
    assert [image["file_name"] for image in found["images"]] == seen
    assert {a["image_id"] for a in found["annotations"]} >= {7, 8}
    assert not (tmp_path / "r.json.part").exists()


def test_all_files_are_the_same_after_a_kill(line, seen, tmp_path, monkeypatch):
    (tmp_path / "whole").mkdir()
    run(*everything(line, tmp_path / "whole"))
    seen.clear()
    scores = skstructcore.inference.scores.iter_shards

    def killed(*arguments, **options):
        for number, shard in enumerate(scores(*arguments, **options)):
            if number == 3:
                raise KeyboardInterrupt
            yield shard

    with monkeypatch.context() as patch:
        patch.setattr(skstructcore.inference.scores, "iter_shards", killed)
        assert run(*everything(line, tmp_path)).exit_code == 130
    assert not (tmp_path / "r.json").exists()
    assert len(seen) == 8
    again = run(*everything(line, tmp_path))
    assert "Going on after 6 images" in again.output and len(seen) == 10
    for name in ("r.json", "s.csv", "m/7.png", "o/7.png", "k/7.png"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_products_named_by_numbers_are_the_same_after_a_kill(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    dark, noise = rng.integers(20, 40, (10, 48, 48)), rng.integers(0, 255, (10, 48, 48))
    X = np.r_[dark, noise].astype(np.uint8)
    pipe = make_structcore("efficientnet_lite0", features__image_size=48)
    names = np.repeat(["001", "NA"], 10)
    save(pipe.fit(X, bank__categories=names, bank__parts=np.arange(20) // 2), tmp_path / "model")
    (tmp_path / "new").mkdir()
    for i in (0, 1, 10, 11):
        Image.fromarray(X[i]).save(tmp_path / f"new/{i:02}.png")
    files = ["--csv", tmp_path / "s.csv", "--parts", "file", "--shard-size", 1]
    command = ["score", tmp_path / "model", tmp_path / "new", *files]
    scores = skstructcore.inference.scores.iter_shards

    def killed(*arguments, **options):
        yield from itertools.islice(scores(*arguments, **options), 3)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(skstructcore.inference.scores, "iter_shards", killed)
        assert run(*command).exit_code == 130
    again = run(*command)
    assert "Going on after 3 images" in again.output, again.output
    parts = (tmp_path / "s.parts.csv").read_text().splitlines()
    assert [row.rpartition(",")[2] for row in parts] == ["route", "001", "001", "NA", "NA"]


def test_rows_of_another_run_are_not_taken_up(line, seen, tmp_path):
    (tmp_path / "s.csv.part").write_text(f"{'a' * 64}\nfile,error\nx.png,\n")
    begun = run(*everything(line, tmp_path)).output
    assert "Going on" not in begun and "of another model, images or options: begun anew" in begun
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 1 + 8
    first = (tmp_path / "r.json").read_bytes()
    seen.clear()
    run(*everything(line, tmp_path))  # a whole run, again: maps are there, the rest is computed
    assert (tmp_path / "r.json").read_bytes() == first and len(seen) == 8


def test_a_foreign_file_is_no_place_for_rows_that_wait(line, tmp_path):
    notes = tmp_path / "s.csv.part"
    notes.write_text("notes of somebody\nnot even whole")
    result = run(*everything(line, tmp_path))
    assert result.exit_code == 2 and "s.csv.part' is there and is not of this" in result.output
    assert notes.read_text() == "notes of somebody\nnot even whole"
    assert list(tmp_path.glob("*.part")) == [notes]


def test_a_foreign_file_is_no_place_for_regions(line, tmp_path):
    (tmp_path / "r.json").write_text('{"mine": 1}')
    result = run(*everything(line, tmp_path))
    assert result.exit_code == 2 and "is not a file of regions" in result.output
    assert (tmp_path / "r.json").read_text() == '{"mine": 1}'


def test_regions_of_images_that_cannot_be_read_are_none(line, tmp_path):
    (tmp_path / "x.png").write_text("no image")
    images = [tmp_path / "x.png", line / "new/7.png"]
    for n_read, named in enumerate((images[:1], images)):
        command = ["score", line / "model", *named, "--shard-size", 1, "--csv", tmp_path / "s.csv"]
        result = run(*command, "--regions", tmp_path / "r.json")
        assert result.exit_code == 3, result.output
        assert len(json.loads((tmp_path / "r.json").read_text())["images"]) == n_read
        assert len((tmp_path / "s.csv").read_text().splitlines()) == 2 + n_read


def test_pages_are_rows(line, tmp_path):
    frames = [Image.open(line / f"new/{i}.png") for i in (0, 7)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    command = ["score", line / "model", tmp_path / "a.tif", "--json"]
    refused = run(*command)
    assert refused.exit_code == 3 and "--pages" in refused.output
    rows = json.loads(run(*command, "--pages", "all").stdout)["scores"]
    assert [row["file"].rpartition("a.tif")[2] for row in rows] == ["[0]", "[1]"]
    assert [row["is_anomalous"] for row in rows] == [False, True]
    assert json.loads(run(*command, "--pages", "first").stdout)["images"] == 1
    named = ["score", line / "model", f"{tmp_path / 'a.tif'}[1]", "--json"]
    assert json.loads(run(*named).stdout)["scores"] == rows[1:]


def test_large_files_need_a_word(line, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    command = ["score", line / "model", line / "new/0.png", "--json"]
    refused = run(*command)
    assert refused.exit_code == 3 and "--max-pixels" in refused.output
    assert run(*command, "--max-pixels", 4000).exit_code == 0


def test_fit_is_told_how_pictures_are_to_be_seen(line, tmp_path):
    frames = [Image.open(line / f"new/{i}.png") for i in range(6)]
    for i, first in enumerate(frames):
        tif = tmp_path / f"{i}.tif"
        first.save(tif, save_all=True, append_images=[frames[i - 1].rotate(180)])
    options = ["--crop", "0,0,32,24", "--channels", "bgr", "--no-estimate"]
    command = ["fit", tmp_path, "-o", tmp_path / "m", *options, "--parts", "file"]
    assert "--pages" in run(*command).output
    command[-2:] = ["--pages", "parts", "--set", "features__image_size=64"]
    result = run(*command, "--false-alarms", 0.2)
    assert result.exit_code == 0, result.output
    pipe = load(tmp_path / "m")
    assert pipe["bank"].n_images_ == 12 and pipe[-1].part_decision_ is not None
    assert pipe["features"].crop == (0, 0, 32, 24) and pipe["features"].channels == "bgr"
    said = "seen at 64 x 64 pixels, heights times 2.67, widths times 2"
    assert said in result.output and said in run("info", tmp_path / "m").output
    assert info(tmp_path / "m")["picture"] == {"input_size": [64, 64], "scale": [64 / 24, 2]}
