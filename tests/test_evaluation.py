import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from skstructcore import make_structcore
from skstructcore.cli import main
from skstructcore.containers import AnomalyMaps
from skstructcore.datasets import ImageSet, make_photographs
from skstructcore.evaluation.results import format_table
from skstructcore.evaluation.single import evaluate
from skstructcore.metrics import image_auroc_score, pixel_auroc_score
from skstructcore.scoring.table import FALSE_ALARM_RATES, rates_with


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
        "efficientnet_lite0",
        features__image_size=64,
        bank__ratio=0.1,
        structcore__false_alarm_rate=0.5,
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


def test_rates_count_at_that_of_the_pipeline_too(evaluation):
    rates, row = evaluation.rates().set_index("false_alarm_rate"), evaluation.table().loc["all"]
    assert rates.index.tolist() == [*FALSE_ALARM_RATES, 0.5]
    assert rates.loc[0.5, "false_alarms"] == row["false_alarms"]
    assert rates.loc[0.5, "found"] == 4 - row["missed"]
    for rate in (0, 2):
        with pytest.raises(ValueError, match="false_alarm_rates must be a float in the range"):
            evaluation.rates([0.1, rate])


def test_rates_may_come_one_by_one_and_that_of_the_pipeline_counts_once(evaluation):
    assert evaluation.rates(rate for rate in (0.1, 0.2))["false_alarm_rate"].tolist() == [0.1, 0.2]
    assert rates_with(1 - 0.99) == [0.001, 0.002, 0.005, 1 - 0.99, 0.02, 0.05, 0.1, 0.2, 0.3]


def test_no_rate_has_no_row(evaluation):
    assert evaluation.rates([]).empty


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


class Flat:
    """A fitted pipeline that finds nothing, and counts how often it is asked."""

    n_calls = 0

    def __getitem__(self, key):
        return self

    def transform(self, X):
        type(self).n_calls += 1
        return (
            AnomalyMaps(np.zeros((len(X), 8, 8), np.float32))
            if isinstance(X, ImageSet)
            else X.values
        )

    def describe(self, maps):
        n = len(maps)
        return pd.DataFrame({"anomaly_score": np.arange(n) / n, "is_anomalous": np.arange(n) > 1})


@pytest.fixture
def four():
    """Two good images and two defects with masks."""
    hole = np.eye(8, dtype=bool)
    return ImageSet(
        np.zeros((4, 8, 8), np.uint8),
        ["good", "good", "hole", "hole"],
        masks=[None, None] + [hole] * 2,
    )


def test_a_mask_that_is_wrong_is_an_error_before_any_image_is_scored(four, tmp_path):
    (tmp_path / "damaged.png").write_bytes(b"no image")
    for mask, message in (
        (None, "image 3: no mask, but others of 'hole' have"),
        (np.eye(9, dtype=bool), r"mask of image 3: the mask has \(9, 9\) pixels"),
        (str(tmp_path / "absent.png"), "absent.png'?: there is no such file"),
        (str(tmp_path / "damaged.png"), "damaged.png'?: it is no image file"),
    ):
        four.masks[3] = mask
        Flat.n_calls = 0
        with pytest.raises(ValueError, match=message):
            evaluate(Flat(), four)
        assert Flat.n_calls == 0


def test_without_masks_only_the_areas_of_pixels_are_missing(four):
    four.masks = [None] * 4
    total = evaluate(Flat(), four).table().loc["all"]
    assert total["image_auroc"] == 1.0
    assert pd.isna(total["pixel_auroc"]) and pd.isna(total["aupro"])


def test_numeric_labels_give_the_table_and_the_masks_of_strings(four):
    numbers = ImageSet(four.paths, [0, 0, 1, 1], masks=four.masks)
    table = evaluate(Flat(), numbers).table()
    assert table.index.tolist() == ["good", "anomalous", "all"]
    expected = evaluate(Flat(), four).table().rename({"hole": "anomalous"})
    pd.testing.assert_frame_equal(table, expected)
    assert table.loc["all", "pixel_auroc"] == 0.5  # flat maps know nothing


def test_names_that_break_tables_are_quoted_in_the_scores(four, tmp_path):
    four.paths[0] = "\udcff.png"  # as os.listdir gives a byte that is not UTF-8
    four.paths[1] = "=1+1.png"
    four.y[2:] = "a\nb"
    scores = evaluate(Flat(), four).scores
    scores.to_csv(tmp_path / "scores.csv", index=False)
    again = pd.read_csv(tmp_path / "scores.csv")
    assert again["file"].tolist()[:2] == [r"$'\xff.png'", "$'=1+1.png'"]
    assert again["defect_type"].tolist()[2] == r"$'a\x0ab'"


def test_a_type_of_the_name_of_the_last_row_is_refused_before_any_image_is_scored(four):
    four.y[3] = "all"
    with pytest.raises(ValueError, match="A type of defect is called 'all'"):
        evaluate(None, four)


def test_images_without_labels_are_refused():
    with pytest.raises(TypeError, match="evaluate needs an ImageSet with labels, got list"):
        evaluate(None, ["a.png"])
