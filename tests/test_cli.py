"""The commands fit, score, and evaluate of several categories."""

import json

import joblib
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image
from test_categories import write_category

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
    path = tmp_path_factory.mktemp("model") / "model.joblib"
    result = run("fit", root / "bolt" / "train" / "good", "--model", path, *SMALL)
    assert result.exit_code == 0, result.output
    assert "Fitted on 6 good images" in result.output
    return path


@pytest.mark.parametrize("place", ["bolt", "bolt/train"])
def test_fit_takes_the_good_images_of_a_data_set_or_of_labelled_folders(
    root, model, tmp_path, place
):
    assert run("fit", root / place, "--model", tmp_path / "m", *SMALL).exit_code == 0
    bank, expected = (joblib.load(path)["bank"].bank_ for path in (tmp_path / "m", model))
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
    expected = -joblib.load(model).score_samples(paths)
    np.testing.assert_allclose(scores["anomaly_score"], expected, rtol=1e-5)
    assert run("score", model, single).output.startswith("file,")


@pytest.mark.parametrize("broken", [[0, 1], [4], [0, 1, 2, 3, 4, 5]])
def test_score_reports_unreadable_files_and_scores_the_others(root, model, tmp_path, broken):
    for i in range(6):
        image = Image.open(root / "bolt" / "train" / "good" / f"{i}.png")
        image.save(tmp_path / f"{i}.png")
    for i in broken:
        (tmp_path / f"{i}.png").write_text("no image")
    csv = tmp_path / "scores.csv"
    result = run("score", model, tmp_path, "--csv", csv, "--shard-size", 2)
    assert result.exit_code == 1
    assert f"{len(broken)} of 6 images cannot be read" in result.output
    scores = pd.read_csv(csv)
    assert np.flatnonzero(scores["error"].notna()).tolist() == broken
    assert [name[-5:] for name in scores["file"]] == [f"{i}.png" for i in range(6)]


def test_evaluate_of_several_categories_prints_and_writes_the_table(root, tmp_path):
    arguments = ["evaluate", root, "--output", tmp_path / "out", *SMALL]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    for word in ("| bolt |", "| nut |", "| mean |", "image_auroc"):
        assert word in result.output
    assert (tmp_path / "out" / "results.csv").exists()
    other = run(*arguments, "--set", "knn__n_neighbors=1")
    assert other.exit_code == 1 and "knn__n_neighbors: 5 there, 1 now" in other.output
    assert run(*arguments, "--set", "knn__n_neighbors=1", "--overwrite").exit_code == 0
    assert run(*arguments, "--category", "screw").exit_code == 1


def test_evaluate_with_the_papers_settings_and_dino_weights_from_a_folder(
    root, tmp_path, tiny_dino
):
    result = run(
        *["evaluate", root, "--features", "dinov2_vitb14", "--preset", "paper"],
        *["--output", tmp_path, "--set", f"features__weights={tiny_dino}"],
        # What is smaller in these weights than in those of the paper.
        *["--set", "features__model=None", "--set", "features__layers=(1, 2)"],
        *["--set", "features__image_size=56", "--set", "features__resize=64"],
        *["--set", "bank__ratio=0.2"],
    )
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["settings"]["knn__calibration"] == "'in-sample'"
    assert results["settings"]["projection__n_components"] == "512"
    assert 0 <= results["mean"]["base_auroc"] <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "ROOT", "--csv", "scores.csv"], "for one category"),
        (["fit", "ROOT", "--model", "m"], "there are no images"),
        (["score", "MODEL", "nothing.png"], "1 of 1 images cannot be read"),
    ],
)
def test_bad_input_is_a_message(root, model, arguments, message):
    names = {"ROOT": root, "MODEL": model}
    result = run(*(names.get(argument, argument) for argument in arguments))
    assert result.exit_code > 0 and message in result.output
    assert "Traceback" not in result.output
