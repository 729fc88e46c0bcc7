import joblib
import numpy as np
import pytest
from pandas.testing import assert_frame_equal
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline, make_pipeline

from skstructcore import (
    CoresetBank,
    RoutedKNNScorer,
    StructCoreScorer,
    add_category,
    recalibrate,
    remove_category,
)

pytestmark = pytest.mark.filterwarnings("ignore:false_alarm_rate=", "ignore:Fewer than 8")


class CountingBackbone(TransformerMixin, BaseEstimator):
    """Passes patches through and remembers how many images it has seen."""

    def fit(self, X, y=None):
        self.n_seen_ = 0
        return self

    def transform(self, X):
        self.n_seen_ += len(X)
        return X

    def __sklearn_is_fitted__(self):
        return True


def product(kind, n_images=12, seed=0):
    rng = np.random.default_rng([kind, seed])
    centre = 5 * np.random.default_rng(kind).normal(size=8)
    return (centre + rng.normal(size=(n_images, 3, 4, 8))).astype(np.float32)


def fitted(kinds, **knn):
    pipe = Pipeline(
        [
            ("features", CountingBackbone()),
            ("bank", CoresetBank(0.2, random_state=0)),
            ("knn", RoutedKNNScorer(2, **{"routing": "auto", **knn})),
            ("structcore", StructCoreScorer()),
        ]
    )
    images = np.concatenate([product(kind) for kind in kinds])
    labels = np.repeat([f"k{kind}" for kind in kinds], 12)
    return pipe.fit(images, bank__categories=labels)


def parts(pipe, images):
    return pipe[-1].describe(pipe[:-1].transform(images))


@pytest.fixture
def pipe():
    return fitted([0, 1])


@pytest.mark.parametrize("calibration", ["leave-one-image-out", "k-fold", "in-sample"])
def test_a_product_added_later_is_as_if_it_had_been_there_from_the_start(calibration):
    options = {"calibration": calibration}
    grown = add_category(fitted([0, 1], **options), product(2), "k2")
    whole = fitted([0, 1, 2], **options)
    new = np.concatenate([product(kind, 5, seed=1) for kind in range(3)])
    found, expected = parts(grown, new), parts(whole, new)
    assert found["nearest_route"].tolist() == ["k0"] * 5 + ["k1"] * 5 + ["k2"] * 5
    if calibration == "k-fold":  # whose folds are drawn anew
        found, expected = found[["base", "route"]], expected[["base", "route"]]
    for column in found:
        np.testing.assert_array_equal(found[column], expected[column], err_msg=column)


def test_scores_of_old_products_stay_the_same_to_the_last_bit(pipe):
    old = np.concatenate([product(0, 6, seed=1), product(1, 6, seed=1)])
    before = parts(pipe, old)
    grown = add_category(pipe, product(2), "k2")
    assert_frame_equal(parts(grown, old), before, check_exact=True)
    assert_frame_equal(parts(remove_category(grown, "k2"), old), before, check_exact=True)
    half = before[6:].reset_index(drop=True)
    assert_frame_equal(parts(remove_category(grown, "k0"), old[6:]), half, check_exact=True)


def test_an_unknown_product_becomes_known_and_unknown_again(pipe):
    new = product(2, 6, seed=1)
    assert (parts(pipe, new)["route"] == "unknown").all()
    assert (pipe.predict(new) == -1).all()
    grown = add_category(pipe, product(2), "k2")
    assert (parts(grown, new)["route"] == "k2").sum() >= 5
    assert (parts(remove_category(grown, "k2"), new)["route"] == "unknown").all()


def test_backbone_sees_the_new_images_only(pipe):
    seen = pipe[0].n_seen_
    grown = add_category(pipe, product(2, 7), "k2")
    remove_category(grown, "k0")
    assert pipe[0].n_seen_ == seen + 7


def test_what_is_known_of_a_product_goes_with_it():
    images = np.concatenate(
        [np.random.default_rng(i).normal(9 * i, 1, (20, 4, 4, 6)) for i in (0, 1)]
    )
    steps = CoresetBank(0.2, contamination=0.1), RoutedKNNScorer(routing="auto"), StructCoreScorer()
    both = make_pipeline(*steps).fit(images, coresetbank__categories=["a"] * 20 + ["b"] * 20)
    assert len(both[0].left_out_) == 4 and set(both[0].dependence_) == {"a", "b"}
    one = remove_category(both, "a")[0]
    assert len(one.left_out_) == 2 and (one.left_out_ >= 20).all() and set(one.dependence_) == {"b"}
    more = add_category(both, np.random.default_rng(2).normal(18, 1, (20, 4, 4, 6)), "c")[0]
    assert len(more.left_out_) == 6 and (more.left_out_[4:] >= 40).all()
    assert set(more.dependence_) == {"a", "b", "c"}


def test_training_images_are_counted_as_products_come_and_go(pipe):
    before = pipe["bank"].n_images_
    grown = add_category(pipe, product(2, 7), "k2")
    assert grown["bank"].n_images_ == before + 7
    assert grown["bank"].n_images_per_route_.tolist() == [before // 2, before // 2, 7]
    assert remove_category(grown, "k0")["bank"].n_images_ == before // 2 + 7
    assert pipe["bank"].n_images_ == before


def test_groups_of_the_new_product_are_left_out_together(pipe):
    groups = np.repeat(["a", "b", "c"], 4)
    with pytest.warns(UserWarning, match="Fewer than 8 independent training images of k2"):
        grown = add_category(pipe, product(2), "k2", groups=groups)
    route = grown[-1].routes_["k2"]
    assert route.is_pooled and route.tail.n == 3
    assert route.calibration is pipe[-1].calibration_
    bank = grown["bank"].bank_
    assert len(np.unique(bank.groups[bank.routes == 2])) <= 3
    assert not set(bank.groups[bank.routes == 2]) & set(bank.groups[bank.routes < 2])


@pytest.mark.parametrize("n_images", [2, 4])
def test_a_product_with_few_images_is_as_if_it_had_been_there_from_the_start(pipe, n_images):
    X, names = np.concatenate([product(0), product(1), product(2, n_images)]), ["k0"] * 12
    names += ["k1"] * 12 + ["k2"] * n_images
    with pytest.warns(UserWarning, match="Fewer than 8 independent training images of k2"):
        grown = add_category(pipe, product(2, n_images), "k2")
    whole = fitted([0, 1]).fit(X, bank__categories=names)
    route, expected = grown[-1].routes_["k2"], whole[-1].routes_["k2"]
    assert route.is_pooled and route.calibration is pipe[-1].calibration_
    assert vars(route.tail) == pytest.approx(vars(expected.tail))
    new, old = product(2, 5, seed=1), product(0, 5, seed=1)
    np.testing.assert_array_equal(parts(grown, new)["base"], parts(whole, new)["base"])
    assert_frame_equal(parts(grown, old), parts(pipe, old), check_exact=True)


def test_four_parts_of_a_new_product_are_enough():
    X, names = np.concatenate([product(0), product(1)]), ["k0"] * 12 + ["k1"] * 12
    views = np.repeat(np.arange(12), 2)
    pipe = fitted([0, 1]).fit(X, bank__categories=names, bank__parts=views)
    grown = add_category(pipe, product(2), "k2", parts=np.repeat([12, 13, 14, 15], 3))
    assert grown[-1].routes_["k2"].is_pooled and grown[-1].routes_["k2"].tail.n == 4
    assert len(grown[-1].part_decision_.scores) == 16


def test_one_view_of_each_part_of_a_new_product_is_enough():
    X, names = np.concatenate([product(0), product(1)]), ["k0"] * 12 + ["k1"] * 12
    pipe = fitted([0, 1]).fit(X, bank__categories=names, bank__parts=np.repeat(np.arange(12), 2))
    grown = add_category(pipe, product(2), "k2", parts=np.arange(12, 24))
    assert grown[-1].training_.parts[-12:].tolist() == [str(part) for part in range(12, 24)]
    assert len(grown[-1].part_decision_.scores) == 24
    with pytest.raises(ValueError, match="decides about parts: pass parts="):
        add_category(pipe, product(2), "k2")


def test_parts_that_come_and_go_with_their_product_count():
    def of_parts(*kinds):
        images = np.concatenate([product(kind, 20) for kind in kinds])
        names = np.repeat([f"k{kind}" for kind in kinds], 20)
        views = np.arange(len(images)) // 2
        return fitted([0, 1]).fit(images, bank__categories=names, bank__parts=views)

    pipe, whole = of_parts(0, 1), of_parts(0, 1, 2)
    grown = add_category(pipe, product(2, 20), "k2", parts=np.arange(40, 60) // 2)
    assert len(grown[-1].part_decision_.scores) == 30
    assert grown[-1].part_decision_.threshold == whole[-1].part_decision_.threshold
    assert len(remove_category(grown, "k1")[-1].part_decision_.scores) == 20
    again = remove_category(grown, "k2")[-1].part_decision_
    assert again.threshold == pipe[-1].part_decision_.threshold
    fresh = recalibrate(grown, product(0, 100, seed=1), parts=np.arange(100, 200) // 2)
    with pytest.warns(UserWarning, match="parts had been recalibrated"):
        assert not remove_category(fresh, "k2")[-1].part_decision_.held_out.fresh


def test_no_report_of_a_recalibration_names_products_that_are_gone(pipe):
    fresh = recalibrate(pipe, product(0, seed=1))
    for changed in (remove_category(fresh, "k1"), add_category(fresh, product(2), "k2")):
        assert not hasattr(changed[-1], "recalibration_")
        assert changed[-1].routes_.decisions["k0"].held_out.fresh
    assert hasattr(fresh[-1], "recalibration_")


def test_a_grown_pipeline_is_saved_and_loaded(pipe, tmp_path):
    grown = remove_category(add_category(pipe, product(2), "k2"), "k0")
    joblib.dump(grown, tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib")
    new = product(2, 4, seed=1)
    np.testing.assert_array_equal(loaded.score_samples(new), grown.score_samples(new))


def test_a_pipeline_that_found_its_products_itself_can_grow():
    pipe = fitted([0, 1]).set_params(bank__n_routes=2)
    pipe.fit(np.concatenate([product(0), product(1)]))
    grown = add_category(pipe, product(2), "k2")
    assert grown["bank"].bank_.route_names == ("route0", "route1", "k2")


@pytest.mark.parametrize(
    ("name", "n_images", "options", "message"),
    [
        ("k1", 12, {}, "already knows 'k1'"),
        ("unknown", 12, {}, "a name other than 'unknown'"),
        ("", 12, {}, "a name other than 'unknown', got ''"),
        (3, 12, {}, "a name other than 'unknown', got 3"),
        ("k2", 1, {}, r"'k2' has 1 good training image"),
        ("k2", 12, {"groups": ["a"] * 12}, r"'k2' has 12 good training image\(s\) in 1 group"),
        ("k2", 12, {"groups": ["a"] * 3}, "groups must have one entry per image: expected 12"),
    ],
)
def test_products_that_cannot_be_added_leave_the_pipeline_as_it_was(
    pipe, name, n_images, options, message
):
    old = product(0, 4, seed=1)
    before, names = pipe.score_samples(old), pipe["bank"].bank_.route_names
    with pytest.raises(ValueError, match=message):
        add_category(pipe, product(2, n_images), name, **options)
    np.testing.assert_array_equal(pipe.score_samples(old), before)
    assert pipe["bank"].bank_.route_names == names


def test_products_that_are_not_there_or_the_last_one_cannot_be_removed(pipe):
    with pytest.raises(ValueError, match="knows no 'nut', only 'k0', 'k1'"):
        remove_category(pipe, "nut")
    with pytest.raises(ValueError, match="the only product there is"):
        remove_category(remove_category(pipe, "k0"), "k1")


def test_a_pipeline_without_routes_cannot_grow():
    pipe = fitted([0, 1], routing=None)
    with pytest.raises(ValueError, match="has no routes: fit it with bank__categories="):
        add_category(pipe, product(2), "k2")


def test_other_pipelines_are_refused(pipe):
    with pytest.raises(ValueError, match="whose last steps are CoresetBank, RoutedKNNScorer"):
        add_category(pipe[:-1], product(2), "k2")
    with pytest.raises(NotFittedError):
        add_category(clone(pipe), product(2), "k2")


def test_images_that_are_in_the_bank_or_of_another_grid_are_no_new_product(pipe):
    with pytest.raises(ValueError, match=r"12 of 12 images are in the bank already"):
        add_category(pipe, product(0), "again")
    with pytest.raises(ValueError, match=r"have 2 x 4 patches.* fitted with 3 x 4"):
        add_category(pipe, product(2)[:, :2], "half")


def test_nothing_is_left_of_the_scores_of_a_product_that_is_gone(pipe):
    left = remove_category(pipe, "k1")[-1].calibration_.decision
    alone = fitted([0])[-1].calibration_.decision
    np.testing.assert_array_equal(left.scores, alone.scores)
    more = remove_category(add_category(pipe, product(2), "k2"), "k2")[-1].calibration_.decision
    np.testing.assert_array_equal(more.scores, pipe[-1].calibration_.decision.scores)


def test_an_added_product_tells_of_its_dependence_where_the_others_had_none():
    # Eight images a product are too few to look for lots; 24 of eight triples are not.
    random = np.random.default_rng(0)
    bank, knn = CoresetBank(0.5, random_state=0), RoutedKNNScorer(routing="auto")
    pipe = Pipeline([("bank", bank), ("knn", knn), ("structcore", StructCoreScorer())]).fit(
        random.random((16, 4, 4, 8)).astype(np.float32), bank__categories=["a"] * 8 + ["b"] * 8
    )
    triples = np.repeat(random.random((8, 4, 4, 8)), 3, axis=0)
    triples = (triples + 0.001 * random.random(triples.shape)).astype(np.float32)

    added = add_category(pipe, triples, "c")

    assert pipe[0].dependence_ == {}
    assert added[0].dependence_["c"].n_groups == 8
