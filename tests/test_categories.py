import html
import json
import os
import re
import shutil
from functools import partial

import dino_reference
import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from networks import Blocks
from PIL import Image
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.pipeline import Pipeline

from skstructcore import ConvFeatures, DinoFeatures, JoinedFeatures, make_structcore
from skstructcore._utils.files import unescape_name
from skstructcore.datasets import load_mvtec_ad, paint_defect
from skstructcore.evaluation import evaluate
from skstructcore.evaluation.categories import CategoryError, evaluate_categories
from skstructcore.evaluation.results import Results, format_markdown
from skstructcore.images import as_images

pytestmark = pytest.mark.filterwarnings("ignore:false_alarm_rate=")


def write_category(folder, seed):
    rng = np.random.default_rng(seed)
    for place, n_images in {"train/good": 6, "test/good": 3, "test/spot": 3}.items():
        (folder / place).mkdir(parents=True)
        for i in range(n_images):
            image = rng.integers(100, 130, (32, 32), dtype=np.uint8)
            if place == "test/spot":
                image, mask = paint_defect(image, "spot", i, severity=2)
                masks = folder / "ground_truth" / "spot"
                masks.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(masks / f"{i}_mask.png")
            Image.fromarray(image).save(folder / place / f"{i}.png")


def make_pipe():
    return make_structcore("efficientnet_lite0", features__image_size=32, bank__ratio=0.3)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("categories")
    for seed, name in enumerate(("bolt", "nut", "washer")):
        write_category(folder / "parts" / name, seed)
    return folder / "parts"


@pytest.fixture
def root(untouched, tmp_path):
    return shutil.copytree(untouched, tmp_path / "parts")


@pytest.fixture(scope="module")
def two(untouched, tmp_path_factory):
    """Folder and table of two categories that are evaluated already."""
    folder = tmp_path_factory.mktemp("two")
    table = evaluate_categories(make_pipe(), untouched, folder, categories=["nut", "washer"])
    return folder, table


@pytest.fixture
def pipe():
    return make_pipe()


def times(output):
    return {path.name: path.stat().st_mtime_ns for path in (output / "categories").iterdir()}


def test_each_row_is_the_evaluation_of_that_category(pipe, root, tmp_path):
    table = evaluate_categories(pipe, root, tmp_path / "out")
    assert table.index.tolist() == ["bolt", "nut", "washer", "mean"]
    images = load_mvtec_ad(root, "nut")
    evaluation = evaluate(clone(pipe).fit(images.train), images.test)
    total, row = evaluation.table().loc["all"], table.loc["nut"]
    for area in ("image_auroc", "pixel_auroc", "aupro"):
        assert row[area] == pytest.approx(total[area])
        assert table.loc["mean", area] == pytest.approx(table[area].iloc[:3].mean())
    assert (row["train_images"], row["test_images"]) == (6, 6)
    assert row["false_alarm_rate"] == total["false_alarms"] / 3
    assert row["miss_rate"] == total["missed"] / 3
    scores = pd.read_csv(tmp_path / "out" / "categories" / "nut.csv")
    np.testing.assert_allclose(scores["anomaly_score"], evaluation.scores["anomaly_score"])


def test_the_table_is_written_as_csv_json_and_markdown(pipe, root, tmp_path):
    table = evaluate_categories(pipe, root, tmp_path)
    from_csv = pd.read_csv(tmp_path / "results.csv", index_col="category")
    np.testing.assert_allclose(from_csv["image_auroc"], table["image_auroc"])
    from_json = json.loads((tmp_path / "results.json").read_text())
    assert list(from_json["categories"]) == ["bolt", "nut", "washer"]
    assert from_json["mean"]["aupro"] == pytest.approx(table.loc["mean", "aupro"])
    assert from_json["settings"]["bank__ratio"] == "0.3"
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert len(lines) == 6 and lines[-1].startswith("| mean |")


def test_what_is_finished_is_not_computed_again(pipe, root, tmp_path):
    # A run that was killed when it had finished one category, and wrote half of another.
    evaluate_categories(pipe, root, tmp_path, categories=["nut"])
    (tmp_path / "categories" / "bolt.json.123").write_text('{"row": {"ima')
    (tmp_path / "categories" / "bolt.csv").write_text("file,")
    before = times(tmp_path)
    table = evaluate_categories(pipe, root, tmp_path)
    after = times(tmp_path)
    assert after["nut.json"] == before["nut.json"] and after["nut.csv"] == before["nut.csv"]
    assert len(pd.read_csv(tmp_path / "categories" / "bolt.csv")) == 6
    again = evaluate_categories(pipe, root, tmp_path)
    assert times(tmp_path) == after
    pd.testing.assert_frame_equal(again, table)


def test_other_settings_are_an_error_that_names_them_unless_overwritten(pipe, root, tmp_path):
    evaluate_categories(pipe, root, tmp_path, categories=["nut"])
    evaluate_categories(clone(pipe).set_params(features__batch_size=3), root, tmp_path)
    other = clone(pipe).set_params(bank__ratio=0.2)
    with pytest.raises(ValueError, match=r"bank__ratio: 0\.3 there, 0.2 now"):
        evaluate_categories(other, root, tmp_path)
    before = times(tmp_path)
    evaluate_categories(other, root, tmp_path, overwrite=True)
    after = times(tmp_path)
    assert all(after[name] > before[name] for name in before)


def settings(pipe):
    return Results("nowhere", pipe).settings


def compiled(text):
    """A function without source, as of a notebook that is gone."""
    names = {}
    exec(text, names)
    return names["f"]


def test_functions_are_settings_by_what_they_compute(pipe):
    def settings_of(function):
        return settings(clone(pipe).set_params(structcore__descriptors=[function]))

    one, other = (lambda maps: maps.max((1, 2))), (lambda maps: maps.min((1, 2)))
    assert settings_of(one) != settings_of(other)
    twice = [compiled("def f(maps): return maps.max((1, 2))") for _ in range(2)]
    assert settings_of(twice[0]) == settings_of(twice[1])
    assert settings_of(compiled("def f(maps): return maps.min((1, 2))")) != settings_of(twice[0])
    assert settings_of(partial(one, q=1)) != settings_of(partial(one, q=2))


def test_settings_are_the_same_in_another_process_and_of_another_type(pipe):
    def settings_of(value, key="structcore__descriptors"):
        return settings(clone(pipe).set_params(**{key: value}))[key]

    assert settings_of(np.int64(5), "knn__n_neighbors") == settings_of(5, "knn__n_neighbors")
    function = compiled('def f(maps): return maps.max((1, 2)) * (maps.ndim in {"b", "a", "c"})')
    spelled = settings_of([function]).translate(str.maketrans("", "", "\"'\\"))
    assert "[a, b, c]" in spelled  # sorted, as processes differ in the order of a set


def test_functions_that_refer_to_themselves_are_settings_and_circles_name_their_parameter(pipe):
    def again(maps):
        return again(maps[:, 1:]) if maps.shape[1] > 1 else maps[:, 0, 0]

    assert settings(clone(pipe).set_params(structcore__descriptors=[again]))

    def odd(maps):
        return even(maps)

    def even(maps):
        return odd(maps)

    with pytest.raises(ValueError, match=r"structcore__descriptors cannot be compared .*Circular"):
        settings(clone(pipe).set_params(structcore__descriptors=[odd]))


class Listed(BaseEstimator):
    """A step of one's own, whose parameters have names of ours."""

    def __init__(self, steps=(), batch_size=8):
        self.steps = steps
        self.batch_size = batch_size


def test_what_parameters_of_ones_own_steps_do_is_not_known(pipe):
    def settings_of(**options):
        return settings(Pipeline([("own", Listed(**options)), *pipe.steps]))

    assert settings_of(batch_size=8) != settings_of(batch_size=16)
    assert settings_of(steps=[Squares("means")]) != settings_of(steps=[Squares("maxs")])


def test_parts_of_joined_features_are_settings_but_for_time_and_memory():
    def settings_of(**options):
        parts = [("one", ConvFeatures("efficientnet_lite0", image_size=32))]
        parts.append(("two", ConvFeatures("efficientnet_lite0", **options)))
        return settings(make_structcore(JoinedFeatures(parts)))

    assert settings_of(image_size=64) != settings_of(image_size=32)
    assert settings_of(batch_size=1) == settings_of(batch_size=2)


def test_a_row_counts_only_beside_the_scores_that_it_was_computed_with(pipe, root, tmp_path):
    # A run of other settings was killed after it had replaced the scores, before the row.
    evaluate_categories(pipe, root, tmp_path / "one", categories=["nut"])
    other = clone(pipe).set_params(bank__ratio=0.1)
    evaluate_categories(other, root, tmp_path / "other", categories=["nut"])
    scores = tmp_path / "one" / "categories" / "nut.csv"
    right = scores.read_bytes()
    shutil.copy(tmp_path / "other" / "categories" / "nut.csv", scores)
    evaluate_categories(pipe, root, tmp_path / "one", categories=["nut"])
    assert scores.read_bytes() == right


def test_a_folder_that_nothing_can_be_written_to_costs_no_work(pipe, root, tmp_path, monkeypatch):
    pipe.set_params(features__image_size="never looked at")
    monkeypatch.setattr(os, "access", lambda path, mode: "out" not in str(path))
    with pytest.raises(PermissionError, match="categories' cannot be written to"):
        evaluate_categories(pipe, root, tmp_path / "out")


def test_a_pipeline_of_other_steps_is_refused_before_the_work(root, tmp_path):
    with pytest.raises(ValueError, match="This needs a pipeline whose last steps are"):
        evaluate_categories(Pipeline([("own", Squares())]), root, tmp_path / "out")
    with pytest.raises(TypeError, match="evaluate_categories takes images, but this pipeline"):
        evaluate_categories(make_pipe()[1:], root, tmp_path / "out")


def square_at(start):
    ignore = np.zeros((32, 32), dtype=bool)
    ignore[start : start + 8, start : start + 8] = True
    return ignore


def corner(i):
    return lambda maps: maps[:, i, i]


def corner_by_default(i):
    return lambda maps, *, i=i: maps[:, i, i]


@pytest.mark.parametrize(
    ("parameter", "one", "other"),
    [
        ("features__ignore", square_at(8), square_at(16)),  # numpy writes the corners alone
        (
            "structcore__descriptors",
            [lambda maps: maps[:, 0, 0]],
            [lambda maps: maps[:, 1, 1]],
        ),
        ("structcore__descriptors", [corner(0)], [corner(1)]),
        ("structcore__descriptors", [corner_by_default(0)], [corner_by_default(1)]),
        ("features__model", Blocks(), Blocks(seed=1)),
    ],
)
def test_settings_that_are_written_alike_are_still_other_settings(
    pipe, root, tmp_path, parameter, one, other
):
    layers = {"features__layers": ("stage1",)} if parameter == "features__model" else {}
    changed = [clone(pipe).set_params(**{parameter: value}, **layers) for value in (one, other)]
    evaluate_categories(changed[0], root, tmp_path, categories=["nut"])
    before = times(tmp_path)
    evaluate_categories(changed[0], root, tmp_path, categories=["nut"])
    assert times(tmp_path) == before
    with pytest.raises(ValueError, match=f"with other settings .*{parameter}"):
        evaluate_categories(changed[1], root, tmp_path)


def test_weights_are_told_apart_by_their_content(root, tmp_path):
    for seed, name in enumerate(("one", "other")):
        torch.save(dino_reference.random_state(64, seed=seed), tmp_path / f"{name}.pth")
    shutil.copy(tmp_path / "one.pth", tmp_path / "same.pth")

    def evaluated(name):
        weights = tmp_path / f"{name}.pth"
        features = DinoFeatures(None, (2,), weights=weights, image_size=28)
        pipe = make_structcore(features, bank__ratio=0.3)
        evaluate_categories(pipe, root, tmp_path / "out", categories=["nut"])
        return times(tmp_path / "out")

    assert evaluated("one") == evaluated("same")
    (tmp_path / "other.pth").replace(tmp_path / "one.pth")
    with pytest.raises(ValueError, match=r"with other settings .*features__weights"):
        evaluated("one")


class Squares(TransformerMixin, BaseEstimator):
    """Features of one's own, whose `weights` are no file."""

    def __init__(self, weights="means"):
        self.weights = weights

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        images = as_images(X)
        squares = np.array([images.read(i) for i in range(len(images))], np.float32)
        squares = squares.reshape(len(X), 4, 8, 4, 8, -1)
        return getattr(np, self.weights[:-1])(squares, axis=(2, 4))


def test_weights_of_ones_own_features_are_settings(root, tmp_path):
    evaluate_categories(make_structcore(Squares()), root, tmp_path, categories=["nut"])
    with pytest.raises(ValueError, match=r'features__weights: "means" there, "maxs" now'):
        evaluate_categories(make_structcore(Squares("maxs")), root, tmp_path, categories=["nut"])


def test_a_category_whose_files_change_is_computed_again(pipe, root, tmp_path):
    evaluate_categories(pipe, root, tmp_path)
    before = times(tmp_path)
    (root / "nut" / "train" / "good" / "5.png").unlink()
    assert evaluate_categories(pipe, root, tmp_path).loc["nut", "train_images"] == 5
    after = times(tmp_path)
    assert {name for name in after if after[name] > before[name]} == {"nut.json", "nut.csv"}


def test_a_table_that_cannot_be_written_is_no_failed_category(pipe, root, tmp_path):
    (tmp_path / "results.csv").mkdir()
    message = r"^All categories are stored in [\s\S]*, but not[\s\S]*the table of all"
    with pytest.raises(CategoryError, match=message):
        evaluate_categories(pipe, root, tmp_path, categories=["nut"])


def test_names_in_markdown_are_shown_as_they_are():
    names = pd.Index(["metal_nut", "_old_", "~~x~~", "www.a.de", "a|<b>"], name="category")
    table = pd.DataFrame(index=names)
    names = [line.split()[1] for line in format_markdown(table).splitlines()[2:]]
    assert names[0] == "metal_nut" and [html.unescape(name) for name in names] == list(table.index)
    assert not any(mark in name for name in names[1:] for mark in ("_", "~", "www.", "|", "<"))


def test_a_broken_category_does_not_stop_the_others(pipe, root, tmp_path):
    (root / "bolt" / "train" / "good" / "2.png").write_text("no image")
    with pytest.raises(CategoryError, match=r"1 of 3 categories failed[\s\S]*bolt[\s\S]*2\.png"):
        evaluate_categories(pipe, root, tmp_path)
    assert {"nut.json", "washer.json"} <= set(times(tmp_path))
    (root / "bolt" / "train" / "good" / "2.png").unlink()
    assert len(evaluate_categories(pipe, root, tmp_path)) == 4


def test_unknown_categories_and_folders_are_errors(pipe, root, tmp_path):
    with pytest.raises(ValueError, match="no category \\['screw'\\]"):
        evaluate_categories(pipe, root, tmp_path, categories=["screw", "nut"])
    with pytest.raises(ValueError, match="no category \\['screw'\\]"):
        evaluate_categories(pipe, root, tmp_path, categories="screw")
    with pytest.raises(ValueError, match="categories is empty"):
        evaluate_categories(pipe, root, tmp_path, categories=[])
    with pytest.raises(ValueError, match="neither a folder train"):
        evaluate_categories(pipe, tmp_path, tmp_path)


def without_seconds(table):
    return table.drop(columns="seconds")


def test_processes_give_the_table_of_one_process(pipe, untouched, two, tmp_path):
    expected = two[1]
    table = evaluate_categories(pipe, untouched, tmp_path, categories=["nut", "washer"], n_jobs=2)
    pd.testing.assert_frame_equal(without_seconds(table), without_seconds(expected))


@pytest.mark.slow
def test_a_cluster_gives_the_table_of_one_process(pipe, root, tmp_path):
    distributed = pytest.importorskip("distributed", reason="needs dask: pip install distributed")
    expected = evaluate_categories(pipe, root, tmp_path / "one")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        table = evaluate_categories(pipe, root, tmp_path / "cluster")
    pd.testing.assert_frame_equal(without_seconds(table), without_seconds(expected))


def test_a_data_set_without_masks_has_a_table_without_pixel_areas(pipe, root, tmp_path):
    for category in root.iterdir():
        shutil.rmtree(category / "ground_truth")
    table = evaluate_categories(pipe, root, tmp_path)
    assert table["image_auroc"].notna().all() and len(table) == 4
    assert table["pixel_auroc"].isna().all() and table["aupro"].isna().all()
    text = (tmp_path / "results.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["mean"]["aupro"] is None  # no bare NaN
    # What was stored can be read again.
    pd.testing.assert_frame_equal(evaluate_categories(pipe, root, tmp_path), table)


class Picky(TransformerMixin, BaseEstimator):
    """Fails on images of the category "bolt", in a way that nobody has foreseen."""

    def fit(self, X, y=None):
        if "bolt" in X.categories:
            raise ZeroDivisionError("by bolts")
        return self

    def transform(self, X):
        return X

    def __sklearn_is_fitted__(self):
        return True


def test_whatever_a_category_fails_with_the_others_are_evaluated(pipe, root, tmp_path):
    picky = Pipeline([("picky", Picky()), *pipe.steps])
    with pytest.raises(CategoryError, match=r"1 of 3 [\s\S]*bolt: ZeroDivisionError: by bolts"):
        evaluate_categories(picky, root, tmp_path)
    table = pd.read_csv(tmp_path / "results.csv", index_col="category")
    assert table.index.tolist() == ["nut", "washer", "mean"]


def test_results_that_cannot_be_written_cost_only_their_category(pipe, root, tmp_path, monkeypatch):
    from skstructcore.evaluation import results

    def full_disk(path, text, write=results.write_text):
        if path.name == "bolt.csv":
            raise OSError("No space left on device")
        write(path, text)

    monkeypatch.setattr(results, "write_text", full_disk)
    with pytest.raises(CategoryError, match=r"bolt: its results cannot be written: No space left"):
        evaluate_categories(pipe, root, tmp_path)
    assert {"nut.json", "washer.json"} <= set(times(tmp_path))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "nut.csv").unlink(),
        lambda folder: (folder / "nut.json").write_text('{"row": {"ima'),
        lambda folder: (folder / "nut.json").write_bytes(b"\xff\xfe\x00"),
        lambda folder: (folder / "nut.json").write_text("[]"),
        lambda folder: (folder / "nut.json").write_text(
            (folder / "nut.json").read_text().replace('"aupro"', '"aupr"')
        ),
        lambda folder: (folder / "nut.json").write_text(
            re.sub('"aupro": [^,]+', '"aupro": "x"', (folder / "nut.json").read_text())
        ),
    ],
    ids=["no scores", "cut", "bytes", "list", "other columns", "words"],
)
def test_what_is_damaged_is_computed_again(pipe, untouched, two, tmp_path, caplog, damage):
    done, expected = two
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    before = times(tmp_path)
    damage(tmp_path / "categories")
    table = evaluate_categories(pipe, untouched, tmp_path, categories=["nut", "washer"])
    pd.testing.assert_frame_equal(without_seconds(table), without_seconds(expected))
    assert times(tmp_path)["nut.json"] > before["nut.json"]
    assert times(tmp_path)["washer.json"] == before["washer.json"]
    assert "nut.json is damaged and will be computed again" in caplog.text


def test_odd_names_of_files_and_categories_come_through(pipe, root, tmp_path):
    odd = os.fsdecode(b"a|<b>\xff\n.d")
    os.rename(root / "nut", root / odd)
    good = root / odd / "test" / "good"
    os.rename(good / "0.png", good / os.fsdecode(b"\xff0.png"))
    expected = evaluate_categories(pipe, root, tmp_path, categories=[odd])
    quoted = r"$'a|<b>\xff\x0a.d'"
    table = pd.read_csv(tmp_path / "results.csv", index_col="category")
    assert table.index.tolist() == [quoted, "mean"]
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert len(lines) == 4 and "<b>" not in lines[2] and lines[2].count("|") == 13
    assert odd in json.loads((tmp_path / "results.json").read_text())["categories"]
    scores = pd.read_csv(tmp_path / "categories" / f"{odd}.csv")
    assert (
        unescape_name(scores["file"].iloc[2])
        .encode(errors="surrogateescape")
        .endswith(b"/\xff0.png")
    )
    before = times(tmp_path)
    again = evaluate_categories(pipe, root, tmp_path, categories=[odd])
    assert times(tmp_path) == before
    pd.testing.assert_frame_equal(again, expected)


def test_an_output_folder_that_cannot_be_is_found_before_the_work(pipe, root, tmp_path):
    (tmp_path / "file").write_text("")
    pipe.set_params(features__image_size="never looked at")
    with pytest.raises(OSError, match="file"):
        evaluate_categories(pipe, root, tmp_path / "file" / "out")


def test_a_category_of_the_name_of_the_last_row_is_refused_before_the_work(pipe, root, tmp_path):
    (root / "nut").rename(root / "mean")
    with pytest.raises(ValueError, match="is called 'mean', as the last row of the table is"):
        evaluate_categories(pipe, root, tmp_path / "results")
    assert not (tmp_path / "results").exists()
