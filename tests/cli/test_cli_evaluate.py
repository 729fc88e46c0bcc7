"""``skstructcore evaluate`` and ``evaluate-categories``."""

import json

import numpy as np
import pandas as pd
import pytest
from command import SMALL, run

import skstructcore
from skstructcore.datasets import rows


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
        (["no.model", "line3"], "no.model: there is no such file"),
        (["line3", "--trust"], "about a saved MODEL"),
        (["line3", "--weights", "all.csv"], "about a saved MODEL"),
        (["line3", *SMALL, "--set", "features__n_jobs=0"], "'n_jobs' parameter of ConvFeatures"),
    ],
)
def test_what_evaluate_cannot_tell_apart_is_refused(lines, model, arguments, message):
    (lines / "gap.csv").write_text("file,label\nline3/OK/0.png,ok\nline3/NG/0.png,\n")
    (lines / "odd.csv").write_text("file,label,split\nline3/OK/0.png,ok,night\n")
    result = run("evaluate", *(model if a == "MODEL" else a for a in arguments))
    assert result.exit_code == 2 and message in result.output, result.output


@pytest.mark.parametrize(
    ("arguments", "n_files"), [(["line3"], 11), (["line3", "--train", "line3/OK"], 0)]
)
def test_evaluate_decodes_an_image_once_to_check_it(lines, monkeypatch, arguments, n_files):
    decoded = []

    def find(images, decode):
        decoded.extend(images.paths if decode else [])
        return find_unreadable(images, decode=decode)

    find_unreadable = rows.find_unreadable
    monkeypatch.setattr(rows, "find_unreadable", find)
    run("evaluate", *arguments, *SMALL)
    assert len(decoded) == len(set(decoded)) == n_files


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
