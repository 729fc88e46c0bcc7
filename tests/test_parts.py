"""Several views of one part, and one decision."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control
from scipy.stats import t as student_t

from skstructcore import (
    AnomalyMaps,
    StructCoreScorer,
    describe,
    describe_parts,
    load,
    make_structcore,
    recalibrate,
    save,
    update,
)
from skstructcore.containers import TrainingImages
from skstructcore.datasets import ImageSet
from skstructcore.scoring.decision import HeldOut
from skstructcore.scoring.parts import score_parts
from skstructcore.scoring.predictive import DEGREES_OF_FREEDOM, suspects_of, tail_p_values
from skstructcore.scoring.summary import closing_sentences

VIEWS = 5


def views(n_parts, seed, shift=0.0):
    """Patches of `n_parts` parts of five views, each kind of view at a place of its own."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_parts, VIEWS, 3, 3, 6)) + shift
    X += 6 * np.eye(6)[:VIEWS, np.newaxis, np.newaxis]
    return X.reshape(-1, 3, 3, 6).astype(np.float32), np.repeat(np.arange(n_parts), VIEWS)


def fitted(rate=0.1, n_parts=60, **params):
    X, parts = views(n_parts, 0)
    pipe = make_structcore(structcore__false_alarm_rate=rate, bank__ratio=0.1, **params)[2:]
    return pipe.fit(X, bank__parts=parts)


def test_the_score_of_a_part_is_that_of_its_strangest_view_corrected_for_their_number():
    scored = score_parts([0.2, 0.01, 0.5, 0.01], ["b", "b", "a", "c"])
    assert scored["part"].tolist() == ["b", "a", "c"]
    # 1 - (1 - 0.01)^2 = 0.0199; one view: the p-value itself.
    shares = student_t(DEGREES_OF_FREEDOM).sf(scored["anomaly_score"])
    np.testing.assert_allclose(shares, [0.0199, 0.5, 0.01])
    assert scored["worst"].tolist() == [1, 2, 3] and scored["n_views"].tolist() == [2, 1, 1]


@pytest.mark.parametrize("rule", ["expected", "guaranteed", "quantile"])
def test_a_part_of_views_that_no_good_one_is_like_is_rejected(rule):
    pipe = fitted(structcore__threshold=rule)
    X, parts = views(3, 1)
    X[parts == parts[-1]] += 50  # p-values of 0 by the rule "quantile"
    table = describe_parts(pipe, X, parts)
    assert table["is_anomalous"].to_numpy()[-1] and table["anomaly_score"].idxmax() == 2
    assert np.isfinite(table["anomaly_score"]).all()


def test_the_strangest_training_part_of_each_route_is_not_as_strange_as_a_defect():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3, 3, 3)) + np.repeat(9 * np.eye(3)[:2], 40, axis=0)[:, None, None]
    steps = make_structcore(
        bank__ratio=0.1, knn__routing="auto", structcore__threshold="quantile",
        structcore__false_alarm_rate=0.005,
    )[2:]  # fmt: skip
    steps.fit(X, bank__categories=["a"] * 40 + ["b"] * 40, bank__parts=np.arange(80) // 2)
    table = describe_parts(steps, np.add(X[:4], [30, 0, 0]), ["bad", "bad", "other", "other"])
    assert table["is_anomalous"].all()


def test_the_rate_is_one_of_parts_also_where_views_are_missing():
    pipe = fitted()
    X, parts = views(200, 1)
    table = describe_parts(pipe, X, parts)
    assert len(table) == 200 and (table["n_views"] == VIEWS).all()
    # 10 % of 200 parts. By images, 1 - 0.9^5 = 41 % would be rejected.
    assert 0.02 < table["is_anomalous"].mean() < 0.13
    kept = np.random.default_rng(2).random(len(X)) < 0.6
    # Sixty parts know their upper tenth to some 3 %.
    assert describe_parts(pipe, X[kept], parts[kept])["is_anomalous"].mean() < 0.16


def test_a_defect_in_one_view_rejects_the_part_and_names_the_view():
    pipe = fitted()
    X, parts = views(20, 3)
    X[7, ..., 5] += 12
    row = describe_parts(pipe, X, parts).set_index("part").loc[1]
    assert row["is_anomalous"] and row["worst_view"] == "image 7"
    assert row["p_value"] <= pipe[-1].part_decision_.rate


def test_parts_are_held_out_as_groups_and_views_may_have_routes():
    X, parts = views(30, 0)
    kinds = np.tile([f"camera {i}" for i in range(VIEWS)], 30)
    pipe = make_structcore(structcore__false_alarm_rate=0.1, bank__ratio=0.1)[2:]
    pipe.fit(X, bank__parts=parts, bank__categories=kinds)
    assert len(np.unique(pipe["bank"].groups_)) == 30
    table = describe_parts(pipe, *views(200, 1))
    assert table["is_anomalous"].mean() < 0.15 and set(table["route"]) <= {*kinds, "unknown"}


def test_the_decision_about_parts_is_saved_and_moves_with_the_rate(tmp_path):
    pipe = fitted()
    X, parts = views(50, 4)
    before = describe_parts(pipe, X, parts)
    save(pipe, tmp_path / "parts.structcore")
    again = describe_parts(load(tmp_path / "parts.structcore"), X, parts)
    np.testing.assert_array_equal(again["p_value"], before["p_value"])
    loose = recalibrate(pipe, false_alarm_rate=0.3)
    assert loose[-1].part_decision_.threshold < pipe[-1].part_decision_.threshold


def test_images_that_are_added_say_of_which_part_they_are():
    pipe, (X, parts) = fitted(), views(5, 4)
    with pytest.raises(ValueError, match="decides about parts: pass parts="):
        update(pipe, X)
    with pytest.raises(ValueError, match="'0', which is a part of the training images already"):
        update(pipe, X, parts=parts)
    grown = update(pipe, X, parts=parts + 100)
    n_parts = len(pipe[-1].part_decision_.scores)
    assert len(grown[-1].part_decision_.scores) == n_parts + 5
    assert len(grown[-1].training_.parts) == len(pipe[-1].training_.parts) + len(X)


@pytest.mark.parametrize("function", [recalibrate, update])
def test_of_each_new_part_one_view_is_enough(function):
    pipe, (X, parts) = fitted(), views(6, 4)
    later = function(pipe, X[::VIEWS], parts=parts[::VIEWS] + 100)
    assert len(describe_parts(later, X, parts)) == 6
    function(pipe, X[:1], parts=["new"])


def test_what_cannot_be_is_refused():
    X, parts = views(8, 0)
    plain = make_structcore(bank__ratio=0.1)[2:].fit(X, bank__groups=parts)
    with pytest.raises(ValueError, match=r"fitted without parts.*bank__parts="):
        describe_parts(plain, X, parts)
    pipe = make_structcore(bank__ratio=0.1)[2:].fit(X, bank__parts=parts)
    with pytest.raises(ValueError, match="parts"):
        describe_parts(pipe, X, parts[:-1])
    with pytest.raises(ValueError, match="which part each of them shows: give parts"):
        describe_parts(pipe, X)
    with pytest.raises(ValueError, match="a part of its own"):
        make_structcore(bank__ratio=0.1)[2:].fit(X, bank__parts=np.arange(len(X)))
    with pytest.raises(ValueError, match="each of 5 images a part of its own"):  # of the good ones
        make_structcore(bank__ratio=0.1)[2:].fit(X[:10], [0, 1] * 5, bank__parts=np.arange(10) // 2)
    with pytest.raises(ValueError, match="at least 5 good parts"):
        make_structcore(bank__ratio=0.1)[2:].fit(X[:10], bank__parts=[0, 1] * 5)


def test_the_parts_that_images_carry_are_taken():
    images = np.random.default_rng(0).integers(0, 256, (24, 32, 32), dtype=np.uint8)
    data = ImageSet(images, ["good"] * 24, parts=np.arange(24) // 2)
    settings = {"features__image_size": 64, "structcore__false_alarm_rate": 0.2}
    pipe = make_structcore("efficientnet_lite0", **settings).fit(data)
    assert describe_parts(pipe, data).equals(describe_parts(pipe, images, np.arange(24) // 2))
    with pytest.raises(ValueError, match="which part each of them shows: give parts"):
        describe_parts(pipe, pipe[:-1].transform(data))


def test_suspects_are_those_that_benjamini_and_hochberg_discover():
    pipe = fitted()
    decision = pipe[-1].calibration_.decision
    p_values = tail_p_values(decision.scores)
    expected = np.flatnonzero(false_discovery_control(p_values) <= 0.15)
    assert sorted(suspects_of(decision.scores)) == expected.tolist()


def test_images_of_one_group_count_as_one_among_suspects_too():
    # Of ten groups nine have one image, and one has thirty that lie close together.
    scores = np.concatenate([np.arange(9.0), np.linspace(20, 20.1, 30)])
    groups = np.concatenate([np.arange(9), np.full(30, 9)])
    assert len(suspects_of(scores)) == 0  # most images are like these
    assert set(suspects_of(scores, HeldOut(scores, groups).counts)) == set(range(9, 39))


@pytest.mark.parametrize(
    "parts",
    [
        np.array([*map(int, np.arange(60) // 3)], dtype=object),
        pd.date_range("2026-01-01", periods=20).repeat(3),
        np.repeat([b"part %d" % i for i in range(20)], 3),
    ],
    ids=["object", "date", "bytes"],
)
def test_parts_of_any_type_are_saved(parts, tmp_path):
    X, _ = views(12, 0)
    pipe = make_structcore(structcore__false_alarm_rate=0.1)[2:].fit(X, bank__parts=parts)
    save(pipe, tmp_path / "model")
    assert set(load(tmp_path / "model")[-1].training_.parts) == set(np.asarray(parts).astype(str))


def test_fresh_images_are_not_called_training_images():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3, 3, 6)).astype(np.float32)
    steps = make_structcore(bank__ratio=0.1, structcore__threshold="guaranteed")[2:]
    pipe = steps.fit(X[:40])
    X[47] *= 9
    moved = recalibrate(pipe, X[40:], force=True)
    assert len(suspects_of(moved[-1].calibration_.decision.scores)) == 1
    assert not any("unlike the others" in text for text in closing_sentences(moved[-1]))


def test_fit_names_odd_images_and_says_what_they_cost(caplog, tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(90, 130, (24, 64, 64), dtype=np.uint8)
    images[5] = rng.integers(0, 256, (64, 64))
    pipe = make_structcore("efficientnet_lite0", features__image_size=64)
    with caplog.at_level("INFO", logger="skstructcore"):
        pipe.fit(images)
    said = " ".join(record.getMessage() for record in caplog.records)
    assert said.count("unlike the others: image 5") == 1
    assert "rejects about 1 % of good images" in said and "extrapolated from 24 images" in said
    table = describe(pipe, images[:2])
    assert table["image"].tolist() == ["image 0", "image 1"]


def write_views(folder, n_parts, seed, bad=()):
    """Three views of each part as files ``<part>_<view>.png``; parts in `bad` have a blot."""
    from PIL import Image

    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for part in range(n_parts):
        for view in range(3):
            pixels = rng.integers(90, 130, (64, 64), dtype=np.uint8)
            if part in bad and view == 1:
                pixels[20:40, 20:40] = 250
            Image.fromarray(pixels).save(folder / f"p{part:02}_{view}.png")
    return folder


@pytest.fixture(scope="module")
def views_on_disk(tmp_path_factory):
    root = tmp_path_factory.mktemp("views")
    write_views(root / "train" / "good", 12, 0)
    write_views(root / "test" / "good", 4, 1)
    write_views(root / "test" / "blot", 3, 2, bad=(0, 2))
    return root


def run(*arguments, code=0):
    from click.testing import CliRunner

    from skstructcore.cli import main

    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.stdout


def test_score_and_evaluate_decide_about_parts(views_on_disk, tmp_path):
    import json

    import pandas as pd

    model, csv = tmp_path / "m.structcore", tmp_path / "new.csv"
    by_name, small = ("--parts", r"(p\d+)_"), ("--set", "features__image_size=64")
    train, test = views_on_disk / "train" / "good", views_on_disk / "test" / "blot"
    run("fit", train, "-o", model, "--no-estimate", *by_name, *small)
    printed = run("score", model, test, "--csv", csv, *by_name, "--exit-code", code=1)
    assert "2 of 3 parts rejected" in printed
    table = pd.read_csv(tmp_path / "new.parts.csv").set_index("part")
    assert table["is_anomalous"].to_dict() == {"p00": True, "p01": False, "p02": True}
    assert table.loc["p02", "worst_view"].endswith("p02_1.png")
    assert len(pd.read_csv(csv)) == 9  # of images, a row each
    document = json.loads(run("score", model, test, "--json", *by_name))
    assert document["rejected_parts"] == 2 and len(document["scores"]) == 9
    np.testing.assert_allclose([row["p_value"] for row in document["parts"]], table["p_value"])
    page = tmp_path / "report.html"
    run("report", model, test, "-o", page, *by_name)
    assert page.read_text().replace(" ", "").count('"part":{"name":"p02"') == 3
    # A view that cannot be read costs its part no decision; a part without any view has none.
    (test / "p02_0.png").write_bytes(b"no image")
    for view in range(3):
        (test / f"p01_{view}.png").write_bytes(b"no image")
    rows = json.loads(run("score", model, test, "--json", *by_name, code=3))["parts"]
    assert [row["is_anomalous"] for row in rows] == [True, None, True]
    assert [row["n_views"] for row in rows] == [3, 0, 2]


def test_evaluate_prints_the_auroc_and_rates_of_parts(tmp_path):
    import json

    write_views(tmp_path / "train" / "good", 12, 0)
    write_views(tmp_path / "test" / "good", 4, 1)
    write_views(tmp_path / "test" / "blot", 2, 2, bad=(0, 1))
    # The folder is in the match: p00 of good and p00 of blot are two parts.
    options = ("--parts", "(.*)_", "--set", "features__image_size=64")
    document = json.loads(run("evaluate", tmp_path, "--json", *options))
    assert document["n_parts"] == 6 and document["part_auroc"] == 1
    at_5 = next(row for row in document["part_rates"] if row["false_alarm_rate"] == 0.05)
    assert at_5["found"] == 2 and at_5["false_alarms"] <= 1
    assert "6 parts, AUROC 100.0:" in run("evaluate", tmp_path, *options)


def test_commands_say_how_parts_have_to_be_fitted(views_on_disk, tmp_path):
    model = tmp_path / "plain.structcore"
    train = views_on_disk / "train" / "good"
    run("fit", train, "-o", model, "--no-estimate", "--set", "features__image_size=64")
    from click.testing import CliRunner

    from skstructcore.cli import main

    result = CliRunner().invoke(main, ["score", str(model), str(train), "--parts", "folder"])
    assert result.exit_code == 2 and "fit --parts" in result.stderr


def test_parts_of_one_group_count_as_one():
    X, parts = views(40, 0)
    pipe = make_structcore(structcore__threshold="guaranteed", bank__ratio=0.1)[2:]
    with pytest.warns(UserWarning, match="200 training images in 8 groups the best guarantee is"):
        pipe.fit(X, bank__parts=parts, bank__groups=parts // 5)  # trays of five parts
    assert pipe[-1].part_decision_.rate == pipe[-1].false_alarm_rate_ == pytest.approx(1 / 9)
    X, parts = views(40, 1)
    with pytest.warns(UserWarning, match="in 4 groups the best guarantee is 20.0%"):
        later = recalibrate(pipe, X, parts=parts + 100, groups=parts // 10)
    assert later[-1].part_decision_.rate == pytest.approx(1 / 5)


def test_parts_with_views_of_two_products_are_held_out_by_their_lot():
    X, parts = views(40, 0)
    cameras, lots = (
        np.tile(["a", "b", "b", "b", "b"], 40),
        np.where(np.arange(200) % 5, parts // 5, 0),
    )
    maps = AnomalyMaps(
        np.abs(X[..., 0]),
        # Of camera "a" all images are of one lot, so that each part is a group there.
        images=TrainingImages(np.where(cameras == "a", 8 + parts, lots), parts=parts.astype(str)),
        route=cameras,
        route_distance=np.ones(200),
    )
    assert StructCoreScorer().fit(maps).part_decision_.held_out.n_independent == 8


def test_fresh_images_recalibrate_the_decision_about_parts():
    pipe = fitted(structcore__threshold="guaranteed")
    X, parts = views(49, 3, shift=0.1)
    fresh = parts + 100
    later = recalibrate(pipe, X, parts=fresh, force=True)
    decision = later[-1].part_decision_
    assert decision.held_out.fresh == 1 and len(decision.scores) == 49
    table = describe_parts(later, X, fresh)
    np.testing.assert_array_equal(table["anomaly_score"], decision.scores)
    assert table["is_anomalous"].sum() == 4  # a tenth of 49 + 1 places is five
    with pytest.raises(ValueError, match="The pipeline decides about parts: pass parts="):
        recalibrate(pipe, X, force=True)
