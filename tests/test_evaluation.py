import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from skstructcore import make_structcore
from skstructcore.cli import main
from skstructcore.datasets import ImageSet, make_photographs
from skstructcore.evaluation import evaluate, format_table
from skstructcore.metrics import image_auroc_score, pixel_auroc_score


@pytest.fixture(scope="module")
def photographs():
    return make_photographs(
        "gravel",
        tile_size=64,
        n_train=10,
        n_test_good=4,
        n_test_defect=2,
        defects=("spot", "noise"),
        random_state=0,
    )


@pytest.fixture(scope="module")
def evaluation(photographs):
    pipe = make_structcore(
        "efficientnet_lite0", features__image_size=64, bank__ratio=0.1, structcore__quantile=0.5
    )
    return evaluate(pipe.fit(photographs.train), photographs.test)


@pytest.fixture(scope="module")
def mvtec_folder(photographs, tmp_path_factory):
    root = tmp_path_factory.mktemp("gravel")
    names = zip(photographs.splits, photographs.y, strict=True)
    for i, (split, kind) in enumerate(names):
        folder = root / split / kind
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photographs.paths[i]).save(folder / f"{i:03}.png")
        if kind == "spot":
            masks = root / "ground_truth" / kind
            masks.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photographs.masks[i]).save(masks / f"{i:03}_mask.png")
    return root


def test_scores_have_a_row_an_image_with_its_type(evaluation, photographs):
    assert evaluation.scores["defect_type"].tolist() == photographs.test.y.tolist()
    assert {"file", "base", "d_struct", "anomaly_score", "is_anomalous"} <= set(evaluation.scores)


def test_table_counts_and_areas(evaluation, photographs):
    table, scores = evaluation.table(), evaluation.scores
    test = photographs.test
    assert table["images"].to_dict() == {"good": 4, "noise": 2, "spot": 2, "all": 8}
    good = scores["defect_type"] == "good"
    assert table.loc["all", "false_alarms"] == scores["is_anomalous"][good].sum()
    assert table.loc["all", "missed"] == (~scores["is_anomalous"][~good]).sum()
    assert table.loc["all", "image_auroc"] == image_auroc_score(test.y, scores["anomaly_score"])
    spots = good | (scores["defect_type"] == "spot")
    masks = [np.zeros((64, 64)) if m is None else m for m in test[spots.to_numpy()].masks]
    expected = pixel_auroc_score(masks, evaluation.pixel_maps[spots])
    assert table.loc["spot", "pixel_auroc"] == expected


def test_formatted_table_shows_percent_and_no_missing_values(evaluation):
    text = format_table(evaluation.table())
    assert "NaN" not in text and "NA" not in text.replace("NAME", "")
    assert f"{100 * evaluation.table().loc['all', 'image_auroc']:.1f}" in text


def test_only_good_images_are_refused_before_anything_is_computed():
    images = ImageSet(np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(ValueError, match="only normal labels"):
        evaluate(None, images)


def test_evaluate_command_prints_the_table_and_writes_scores_picture_and_model(
    mvtec_folder, tmp_path
):
    paths = {name: tmp_path / f"out.{name}" for name in ("csv", "png", "joblib")}
    result = CliRunner().invoke(
        main,
        [
            *["evaluate", str(mvtec_folder), "--set", "features__image_size=64"],
            *["--set", "bank__ratio=0.1", "--set", "features__verbose=0"],
            *["--csv", paths["csv"], "--picture", paths["png"], "--model", paths["joblib"]],
        ],
    )
    assert result.exit_code == 0, result.output
    for word in ("good", "spot", "noise", "all", "image_auroc", "missed"):
        assert word in result.output
    assert len(pd.read_csv(paths["csv"])) == 8
    assert Image.open(paths["png"]).size[0] > 500
    assert paths["joblib"].exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "bank__ratio"], "step__parameter=value"),
        (["--set", "bank__ratios=1"], "ratios"),
        (["--preset", "papr"], "preset must be one of"),
    ],
)
def test_bad_options_are_messages_not_tracebacks(mvtec_folder, arguments, message):
    result = CliRunner().invoke(main, ["evaluate", str(mvtec_folder), *arguments])
    assert result.exit_code != 0
    assert message in result.output and "Traceback" not in result.output


def test_folder_without_images_is_a_message(tmp_path):
    result = CliRunner().invoke(main, ["evaluate", str(tmp_path)])
    assert result.exit_code == 1 and str(tmp_path) in result.output
