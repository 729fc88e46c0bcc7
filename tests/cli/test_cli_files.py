"""``skstructcore info``, ``cache`` and ``demo --images``."""

import json

from command import SMALL, run

import skstructcore


def test_info_says_what_is_inside(model):
    text = run("info", model).output
    assert "6 good images" in text and "efficientnet_lite0" in text
    header = json.loads(run("info", model, "--json").stdout)
    assert header == json.loads(json.dumps(skstructcore.info(model)))


def test_cache_is_measured_and_pruned(good, tmp_path):
    folder = tmp_path / "cache"
    arguments = ["--no-estimate", "--set", f"features__memory={folder}", *SMALL]
    assert run("fit", good, "-o", tmp_path / "m", *arguments).exit_code == 0
    found = json.loads(run("cache", folder, "--json").stdout)
    assert found["results"] == 6 and found["files_deleted"] == 0
    pruned = json.loads(run("cache", folder, "--max-size", "0", "--json").stdout)
    assert pruned["results"] == 0 and pruned["bytes_deleted"] == found["bytes"]
    for size in ("two", "1.2.3GB", "-1"):
        assert "is no size" in run("cache", folder, "--max-size", size).output


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
