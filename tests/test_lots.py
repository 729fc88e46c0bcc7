"""Lots along the sequence: reported, and held out only if that is asked for."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from skstructcore import (
    ConvFeatures,
    CoresetBank,
    RoutedKNNScorer,
    forget,
    make_structcore,
    recalibrate,
    update,
)
from skstructcore.datasets import ImageSet, load_images
from skstructcore.scoring.summary import closing_sentences


def in_lots(n_lots=10, size=12, seed=0, spread=2.0):
    """Images whose patches move from lot to lot."""
    rng = np.random.default_rng(seed)
    moved = spread * rng.normal(size=(n_lots, 1, 1, 1, 8))
    X = moved + rng.normal(size=(n_lots, size, 4, 4, 8))
    return X.reshape(-1, 4, 4, 8).astype(np.float32)


def fitted(X, **params):
    options = {"bank__ratio": 0.2, "structcore__false_alarm_rate": 0.1, **params}
    return make_structcore(**options)[2:].fit(X)


def test_lots_are_reported_and_do_not_move_the_threshold():
    X = in_lots(spread=0.4)
    pipe = fitted(X)
    dependence = pipe["bank"].dependence_["all"]
    assert dependence.found == "sequence" and dependence.are_lots
    assert "come in lots" in str(dependence)
    assert len(np.unique(pipe["bank"].groups_)) == len(X)  # each image by itself
    apart = make_structcore(bank__ratio=0.2, structcore__false_alarm_rate=0.1)[2:]
    apart.fit(X, bank__groups=None)
    assert pipe[-1].offset_ == apart[-1].offset_
    lots = pipe[-1].lots_
    assert lots.n_images.sum() == len(X) and (lots.rates >= 0).all() and (lots.rates <= 1).all()
    assert "each left out in turn" in str(lots)
    uneven = replace(lots, n_images=np.array([5, 95]), rates=np.array([1.0, 0.0]))
    assert "5 % of the good images would be rejected, 100 % of the worst (5 images)" in str(uneven)
    # Of another threshold nothing is known of lots: scores without each lot were not kept.
    assert recalibrate(pipe, false_alarm_rate=0.3)[-1].lots_ is None


def test_a_lot_that_training_never_saw_is_announced():
    # The announced share comes near what a new lot brings.
    X = in_lots(spread=0.8)
    pipe = fitted(X[:96])
    new = in_lots(n_lots=40, seed=1, spread=0.8)
    realised = (pipe.predict(new) == -1).mean()
    # 10 % were asked for.
    assert realised > 0.2 and abs(pipe[-1].lots_.rates.mean() - realised) < 0.2


def test_hold_out_sets_the_threshold_for_new_lots():
    X = in_lots(spread=0.4)
    reported, held_out = fitted(X), fitted(X, bank__lots="hold-out")
    assert held_out[-1].offset_ < reported[-1].offset_
    assert len(np.unique(held_out["bank"].groups_)) < len(X)


def test_near_duplicates_in_a_row_are_held_out_in_any_case():
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(20, 1, 4, 4, 8))
    X = (parts + 0.05 * rng.normal(size=(20, 5, 4, 4, 8))).reshape(-1, 4, 4, 8)
    bank = CoresetBank(0.5, random_state=0).fit(X.astype(np.float32))
    assert not bank.dependence_["all"].are_lots
    assert len(np.unique(bank.groups_)) <= 20


def test_given_groups_are_asked_as_lots_too():
    X = in_lots(spread=0.0)
    groups = np.repeat(np.arange(10), 12)
    pipe = make_structcore(bank__ratio=0.2)[2:].fit(X, bank__groups=groups)
    assert pipe[-1].lots_.lots.tolist() == list(range(10))
    assert (pipe[-1].lots_.rates < 0.2).all()
    # What came or went later was never scored without its lot.
    for changed in (forget(pipe, X[groups == 3]), update(pipe, X[:6] + 0.01)):
        assert changed[-1].lots_ is None and pipe[-1].lots_ is not None
        assert not any("Lots" in sentence for sentence in closing_sentences(changed[-1]))


@pytest.fixture
def cameras(tmp_path):
    """Two folders of six images; what is called alike in both shows one part."""
    rng = np.random.default_rng(0)
    for folder in ("good/left", "good/right"):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(90, 140, (32, 32), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{i}.png")
    return load_images(tmp_path / "good")


def test_a_few_folders_are_lots_and_do_not_move_the_threshold(cameras):
    """Held out together they would count as two images, and next to nothing would be found."""
    small = {"features__image_size": 32, "bank__ratio": 0.5}
    fitted = {
        name: make_structcore("efficientnet_lite0", **small, **options).fit(X, **given)
        for name, X, options, given in [
            ("folders", cameras, {}, {}),
            ("hold-out", cameras, {"bank__lots": "hold-out"}, {}),
            ("passed", cameras.paths, {}, {"bank__groups": cameras.groups}),
            ("none", cameras.paths, {}, {"bank__groups": None}),
        ]
    }
    offsets = {name: pipe[-1].offset_ for name, pipe in fitted.items()}
    assert offsets["folders"] == offsets["none"] and offsets["hold-out"] == offsets["passed"]
    assert offsets["passed"] < offsets["none"]
    assert fitted["folders"][-1].lots_.n_images.tolist() == [6, 6]


def test_parts_with_views_in_several_folders_are_held_out_by_part(cameras, caplog):
    parts = [path[-5] for path in cameras.paths]
    features = ConvFeatures(image_size=32).fit_transform(cameras)
    bank = CoresetBank(0.5, random_state=0).fit(features, parts=parts)
    assert bank.groups_.tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert "each part is held out" in caplog.text
    with pytest.raises(ValueError, match="groups cut through parts"):
        bank.fit(features, parts=parts, groups=cameras.groups)


def pictures(n_images=24, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n_images, 32, 32), dtype=np.uint8)


def fitted_on(groups, categories=None, **params):
    """Fitted on images that carry groups, of products that differ in brightness."""
    X, names = pictures(len(groups)), np.unique(categories, return_inverse=True)[1]
    if categories is not None:
        X = X // (1 + 2 * names.reshape(-1, 1, 1))
    images = ImageSet(X, ["good"] * len(X), groups=groups, categories=categories)
    options = {"bank__ratio": 0.1, "structcore__false_alarm_rate": 0.1, **params}
    return make_structcore(ConvFeatures(image_size=32), **options).fit(images)


def test_a_single_lot_is_not_left_out():
    """All of the bank is of that lot: nothing would be left to compare with."""
    assert fitted_on(["day1"] * 24)[-1].lots_ is None
    categories = ["a"] * 12 + ["b"] * 12
    assert fitted_on(categories, categories)[-1].lots_ is None
    lots = fitted_on(["a0", "a1"] * 6 + ["b0"] * 12, categories)[-1].lots_
    assert lots.n_images.tolist() == [6, 6]


def test_folders_of_one_category_are_lots_and_groups_of_another_are_held_out():
    shots = [f"part {i // 2}" for i in range(20)]
    pipe = fitted_on(shots + ["b0"] * 10 + ["b1"] * 10, ["a"] * 20 + ["b"] * 20)
    groups = pipe["bank"].groups_
    assert groups[:20].tolist() == np.unique(shots, return_inverse=True)[1].tolist()
    assert len(np.unique(groups)) == 10 + 20
    assert pipe[-1].routes_["a"].tail.n == 10
    assert pipe[-1].lots_.n_images.tolist() == [10, 10]


def test_lots_that_could_not_be_judged_are_not_reported():
    """Beside 17 images there are 3 others, from which no threshold is learned."""
    categories = ["a"] * 20 + ["b"] * 20
    assert (
        fitted_on(["a0"] * 17 + ["a1"] * 3 + ["b0"] * 17 + ["b1"] * 3, categories)[-1].lots_ is None
    )
    pipe = fitted_on(["a0"] * 17 + ["a1"] * 3 + ["b0"] * 12 + ["b1"] * 8, categories)
    assert pipe[-1].lots_.n_images.tolist() == [12, 8]


@pytest.mark.parametrize("n_lots", [1, 2])
def test_where_all_images_are_of_one_lot_they_are_held_out_one_by_one(n_lots, caplog):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 32, 32), dtype=np.uint8)
    lots = np.arange(10) * n_lots // 10
    images = ImageSet(pixels, groups=[*lots, *[9] * 10], categories=["a"] * 10 + ["b"] * 10)
    X = ConvFeatures(image_size=32).fit_transform(images)
    bank = CoresetBank(40, random_state=0, lots="hold-out")
    patches = bank.fit_transform(X)
    groups = bank.groups_
    assert len(set(groups[:10])) == (10 if n_lots == 1 else 2) and len(set(groups[10:])) == 10
    assert "'b' are of one lot" in caplog.text
    assert np.isfinite(RoutedKNNScorer(1).fit_transform(patches).values).all()
