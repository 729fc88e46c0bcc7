import shutil
import warnings

import numpy as np
import pytest
from networks import Blocks
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.pipeline import make_pipeline

from skstructcore import (
    ConvFeatures,
    CoresetBank,
    RoutedKNNScorer,
    StructCoreScorer,
    add_category,
    forget,
    load,
    make_structcore,
    recalibrate,
    remove_category,
    save,
    update,
)
from skstructcore.bank.build import _drawn
from skstructcore.datasets import ImageSet

pytestmark = pytest.mark.filterwarnings(
    "ignore:false_alarm_rate=", "ignore:Fewer than", "ignore:.*training images are forgotten"
)


def patches(n, seed, scale=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    return (shift + scale * rng.normal(size=(n, 3, 4, 6))).astype(np.float32)


def fitted(images, ratio=0.2, n_neighbors=2, categories=None, **knn):
    pipe = make_pipeline(
        CoresetBank(ratio, random_state=0),
        RoutedKNNScorer(n_neighbors, routing="auto", **knn),
        StructCoreScorer(false_alarm_rate=0.1),
    )
    return pipe.fit(images, coresetbank__categories=categories)


def maps(pipe, images):
    return pipe[:-1].transform(images)


def snapshot(pipe, images):
    return pipe[-1].describe(maps(pipe, images)).to_csv(), pipe[-1].offset_, len(pipe[0].bank_)


OLD, NEW, TEST = patches(30, 0), patches(10, 1), patches(20, 2)


@pytest.fixture(scope="module")
def pipe():
    return fitted(OLD)


@pytest.fixture(scope="module")
def routed():
    images = np.concatenate([OLD, patches(30, 3, shift=20)])
    return fitted(images, categories=["a"] * 30 + ["b"] * 30)


def test_with_all_patches_in_the_bank_update_finds_the_distances_of_a_refit():
    grown = update(fitted(OLD, ratio=1.0), NEW)
    whole = fitted(np.concatenate([OLD, NEW]), ratio=1.0)
    assert len(grown[0].bank_) == len(whole[0].bank_) == 480
    np.testing.assert_array_equal(maps(grown, TEST).values, maps(whole, TEST).values)
    # The new images are scored held out as a refit does; the old ones as before, never lower.
    base, expected = grown[-1].training_.base, whole[-1].training_.base
    np.testing.assert_array_equal(base[30:], expected[30:])
    assert (base[:30] >= expected[:30]).all()
    assert -grown[-1].training_.base.max() <= -whole[-1].training_.base.max()


def test_distances_after_update_differ_from_a_refit_by_the_radius_at_most():
    grown = update(fitted(OLD, n_neighbors=1), NEW)
    whole = fitted(np.concatenate([OLD, NEW]), n_neighbors=1)
    bound = max(grown[0].radius_[0], whole[0].radius_[0])
    found = np.abs(maps(grown, TEST).values - maps(whole, TEST).values).max()
    assert 0 < found <= bound * (1 + 1e-6)
    # The radius is what it says: no training patch lies farther from the bank.
    both = maps(grown, np.concatenate([OLD, NEW])).values
    assert both.max() <= grown[0].radius_[0] * (1 + 1e-5)


def test_no_distance_grows_and_the_density_stays(pipe):
    grown = update(pipe, NEW)
    assert (maps(grown, TEST).values <= maps(pipe, TEST).values).all()
    assert len(grown[0].bank_) == len(pipe[0].bank_) * 40 // 30
    assert grown[0].n_images_ == 40
    # New entries are of new images, and old ones are all there.
    np.testing.assert_array_equal(grown[0].bank_.values[:72], pipe[0].bank_.values)
    assert set(grown[0].bank_.image_index[72:]) <= set(range(30, 40))


def test_scores_of_new_images_are_held_out(pipe):
    grown = update(pipe, NEW)
    in_bank = -grown.score_samples(NEW)
    assert np.median(grown[-1].calibration_.decision.scores[30:]) > np.median(in_bank)


def test_update_in_two_steps_has_the_images_of_one(pipe):
    twice = update(update(pipe, NEW[:5]), NEW[5:])
    once = update(pipe, NEW)
    assert twice[0].images_.digests.tolist() == once[0].images_.digests.tolist()
    assert len(twice[-1].training_) == 40 and len(twice[0].bank_) == len(once[0].bank_)


@pytest.mark.parametrize("calibration", ["leave-one-image-out", "in-sample"])
def test_forgetting_what_was_added_gives_back_what_was(calibration):
    pipe = fitted(OLD, calibration=calibration)
    back = forget(update(pipe, NEW, force=True), NEW)
    np.testing.assert_array_equal(back[0].bank_.values, pipe[0].bank_.values)
    np.testing.assert_allclose(back.score_samples(TEST), pipe.score_samples(TEST), rtol=1e-9)
    np.testing.assert_allclose(back[-1].offset_, pipe[-1].offset_)
    assert back[0].n_images_ == 30


def test_adding_and_forgetting_images_unlike_the_others_gives_back_what_was(routed):
    # Their mean is far off, so that squares about it change by more than there are.
    odd = np.concatenate([patches(6, 11, scale=4), patches(6, 12, scale=4, shift=20)])
    back = forget(update(routed, odd, categories=["a"] * 6 + ["b"] * 6, force=True), odd)
    test = np.concatenate([TEST, patches(20, 13, shift=20)])
    np.testing.assert_allclose(back.score_samples(test), routed.score_samples(test), rtol=1e-9)


@pytest.mark.parametrize("calibration", ["leave-one-image-out", "k-fold"])
def test_what_was_forgotten_before_does_not_keep_images_from_leaving_no_trace(calibration):
    less = forget(fitted(OLD, calibration=calibration), OLD[:2])
    more = update(less, NEW[:4])
    back = forget(more, NEW[:4])
    np.testing.assert_allclose(back.score_samples(TEST), less.score_samples(TEST), rtol=1e-9)


def test_folds_of_an_added_product_are_gone_too():
    images, pins = np.concatenate([OLD, patches(30, 3, shift=20)]), patches(12, 6, shift=-20)
    pipe = fitted(images, categories=["a"] * 30 + ["b"] * 30, calibration="k-fold")
    grown = add_category(pipe, pins, "c")
    # Location and scale stay, as nobody knows what the two have contributed.
    less = forget(grown, pins[:2])[1].expectations_[2]
    before = grown[1].expectations_[2]
    for found, expected in ((less.location, before.location), (less.scale, before.scale)):
        assert found.mean() == pytest.approx(expected.mean(), rel=0.05)


def test_images_of_another_route_are_neighbours_where_two_are_searched():
    images = np.concatenate([OLD, patches(30, 3, shift=0.3)])
    knn = RoutedKNNScorer(2, routing="top2")
    pipe = make_pipeline(CoresetBank(0.2, random_state=0), knn, StructCoreScorer())
    pipe.fit(images, coresetbank__categories=["a"] * 30 + ["b"] * 30)
    more = update(update(pipe, NEW, categories="a", force=True), patches(30, 14, shift=0.3),
                  categories="b", force=True)  # fmt: skip
    # The new ones of "b" have become neighbours of NEW: what those had contributed is not known.
    less, before = (p[1].expectations_[0] for p in (forget(more, NEW), more))
    kept = more[0].bank_.select(0).image_index < 60
    np.testing.assert_allclose(less.location, before.location[kept], atol=0.03)
    np.testing.assert_allclose(less.scale, before.scale[kept], atol=0.01)


def test_an_image_given_twice_is_forgotten_once(pipe):
    once, twice = forget(pipe, OLD[:2]), forget(pipe, OLD[[0, 1, 0]])
    assert snapshot(once, TEST) == snapshot(twice, TEST)


def test_a_copy_among_the_training_images_is_forgotten_too():
    copied = fitted(np.concatenate([OLD, OLD[:1]]))
    less = forget(copied, OLD[:1])
    assert less[0].n_images_ == 29 and not (less[0].bank_.image_index == 30).any()
    # It has no part in anything: as many patches are left as 29 images have.
    assert less[1].expectations_[0].sums[0, -1] == 29 * 12


@pytest.mark.parametrize("calibration", ["leave-one-image-out", "k-fold"])
def test_scores_stay_those_of_a_refit_in_about_whatever_comes_and_goes(calibration):
    images = patches(120, 20)
    pipe = update(
        update(fitted(images[:40], calibration=calibration), images[40:60]), images[60:80]
    )
    for first in range(0, 32, 4):  # neighbours of these came, went, and are others now
        pipe = forget(pipe, images[first : first + 4])
    refit = fitted(images[32:80], calibration=calibration)
    (found,), (expected,) = pipe[1].expectations_, refit[1].expectations_
    assert found.sums[0, -1] == expected.sums[0, -1] == 48 * 12
    assert (found.sums[0, :-1] >= 0).all()
    assert np.median(found.scale) == pytest.approx(np.median(expected.scale), rel=0.3)
    scores, true = pipe.score_samples(images[80:]), refit.score_samples(images[80:])
    assert abs(scores.mean() - true.mean()) < true.std()


def test_one_image_of_a_product_is_enough_for_update(routed):
    one = np.concatenate([patches(1, 31), patches(1, 32), patches(1, 33, shift=20)])
    assert update(routed, one[2:])[0].n_images_per_route_.tolist() == [30, 31]
    assert update(routed, one)[0].n_images_per_route_.tolist() == [32, 31]


@pytest.fixture(scope="module")
def streamed():
    rng = np.random.default_rng(0)
    images = gaussian_filter(rng.normal(size=(60, 32, 32)), (0, 1.5, 1.5))
    images = (images / images.std() * 25 + 120).clip(0, 255).astype(np.uint8)
    with pytest.warns(UserWarning, match="selected from a stream"):
        pipe = make_structcore(
            "efficientnet_lite0", features__image_size=32, bank__ratio=30,
            bank__max_memory=250_000, structcore__false_alarm_rate=0.2,
        ).fit(images[:50])  # fmt: skip
    return pipe, images


def test_images_that_calibrate_nothing_take_their_entries_only(streamed):
    pipe, images = streamed
    calibrating = np.unique(pipe[-1].training_.image_index)
    others = np.setdiff1d(np.arange(50), calibrating)
    assert len(calibrating) < 20
    less = forget(pipe, images[others[:20]])
    before, after = pipe["knn"].expectations_[0].sums, less["knn"].expectations_[0].sums
    np.testing.assert_array_equal(before[:2, -1], after[:2, -1])
    assert not np.isin(others[:20], less["bank"].bank_.image_index).any()
    assert np.isfinite(less.score_samples(images[50:])).all()


def test_images_that_calibrate_are_not_all_forgotten(streamed):
    pipe, images = streamed
    calibrating = np.unique(pipe[-1].training_.image_index)
    with pytest.raises(ValueError, match=r"Only 1 calibration image"):
        forget(pipe, images[calibrating[1:]])


def test_a_stream_keeps_images_of_every_product_for_calibration():
    routes, groups = np.array([0] * 90 + [1] * 10), np.arange(100) // 5
    for seed in range(20):
        kept = _drawn(routes, groups, 4, seed)
        assert (kept >= 90).sum() == 2 and len(np.unique(groups[kept])) == 4


def test_forgetting_images_that_were_near_no_other_equals_a_refit_without_them():
    # With all patches in the bank, two defects far from everything and from each other.
    defects = np.concatenate([patches(1, 8, shift=60), patches(1, 9, shift=-60)])
    without = fitted(OLD, ratio=1.0)
    contaminated = fitted(np.concatenate([OLD[:9], defects, OLD[9:]]), ratio=1.0)
    assert contaminated.score_samples(TEST).mean() > without.score_samples(TEST).mean()
    clean = forget(contaminated, defects)
    np.testing.assert_array_equal(maps(clean, TEST).values, maps(without, TEST).values)
    np.testing.assert_allclose(clean[-1].training_.base, without[-1].training_.base, rtol=1e-6)
    # Squares about what was expected while the defects were there are corrected to first order.
    found, expected = (maps(p, TEST).surprise.ravel() for p in (clean, without))
    before = maps(contaminated, TEST).surprise.ravel()
    error, error_before = np.abs(found - expected).mean(), np.abs(before - expected).mean()
    assert error < 0.1 and error < 0.3 * error_before
    assert np.corrcoef(found, expected)[0, 1] > 0.99


def test_distances_after_forget_differ_from_a_refit_by_the_radius_at_most():
    pipe = fitted(np.concatenate([OLD, NEW]), n_neighbors=1)
    shrunk, whole = forget(pipe, NEW), fitted(OLD, n_neighbors=1)
    bound = max(shrunk[0].radius_[0], whole[0].radius_[0])
    found = np.abs(maps(shrunk, TEST).values - maps(whole, TEST).values).max()
    assert 0 < found <= bound * (1 + 1e-6)
    assert maps(shrunk, OLD).values.max() <= shrunk[0].radius_[0] * (1 + 1e-5)
    assert not set(shrunk[0].bank_.image_index) & set(range(30, 40))
    assert shrunk[-1].training_.image_index.tolist() == list(range(30))


def test_images_are_told_by_content_not_by_place(pipe):
    by_one = forget(pipe, OLD[[17, 3]])
    assert sorted(set(range(30)) - set(by_one[-1].training_.image_index)) == [3, 17]
    by_two = forget(forget(pipe, OLD[[3]]), OLD[[17]])
    np.testing.assert_allclose(by_two.score_samples(TEST), by_one.score_samples(TEST), atol=0.05)


def test_only_the_route_of_the_new_images_changes(routed):
    of_a, of_b = TEST, patches(20, 4, shift=20)
    grown = update(routed, patches(10, 5, shift=20), categories="b")
    np.testing.assert_array_equal(grown.score_samples(of_a), routed.score_samples(of_a))
    assert (grown.score_samples(of_b) != routed.score_samples(of_b)).any()
    assert grown[0].n_images_per_route_.tolist() == [30, 40]
    back = forget(grown, patches(10, 5, shift=20))
    np.testing.assert_allclose(back.score_samples(of_b), routed.score_samples(of_b), rtol=1e-6)


def test_images_join_the_route_of_their_product_where_all_are_searched_together():
    images = np.concatenate([OLD, patches(30, 3, shift=20)])
    bank, knn = CoresetBank(0.2, random_state=0), RoutedKNNScorer(2, routing=None)
    pipe = make_pipeline(bank, knn, StructCoreScorer(false_alarm_rate=0.1))
    pipe.fit(images, coresetbank__categories=["a"] * 30 + ["b"] * 30)
    grown = update(pipe, patches(10, 4, shift=20), force=True)
    assert grown[0].n_images_per_route_.tolist() == [30, 40]


def test_route_distances_after_update_are_those_of_a_refit(routed):
    new = patches(10, 5, shift=20)
    grown = update(routed, new)
    images = np.concatenate([OLD, patches(30, 3, shift=20), new])
    whole = fitted(images, categories=["a"] * 30 + ["b"] * 40)
    found, expected = (p[-1].training_.route_distance for p in (grown, whole))
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    found, expected = (p[-1].routes_["b"].tail for p in (grown, whole))
    assert found.n == expected.n and found.location == pytest.approx(expected.location, rel=1e-3)


def test_products_that_come_and_go_are_remembered(routed):
    pins = patches(12, 6, shift=-20)
    grown = update(add_category(routed, pins, "c"), patches(6, 7, shift=-20), categories="c")
    assert grown[0].n_images_per_route_.tolist() == [30, 30, 18]
    smaller = forget(remove_category(grown, "a"), pins[:2])
    assert smaller[0].n_images_per_route_.tolist() == [30, 16]
    with pytest.raises(ValueError, match="30 of 30 images are none that the pipeline was fitted"):
        forget(smaller, OLD)
    assert (smaller.predict(patches(20, 9, shift=-20)) == 1).mean() > 0.6


@pytest.mark.parametrize("change", [lambda p: update(p, NEW), lambda p: forget(p, OLD[:3])])
def test_the_old_pipeline_is_untouched_and_the_new_one_is_saved(pipe, change, tmp_path):
    before = snapshot(pipe, TEST)
    changed = change(pipe)
    assert snapshot(pipe, TEST) == before
    save(changed, tmp_path / "model")
    assert snapshot(load(tmp_path / "model"), TEST) == snapshot(changed, TEST)


def test_a_loaded_pipeline_is_updated_like_the_one_that_was_saved(pipe, tmp_path):
    save(pipe, tmp_path / "model")
    loaded = update(load(tmp_path / "model"), NEW)
    assert snapshot(loaded, TEST) == snapshot(update(pipe, NEW), TEST)


def test_a_lost_recalibration_is_said(pipe):
    fresh = recalibrate(pipe, patches(30, 5))
    with pytest.warns(UserWarning, match="had been recalibrated"):
        grown = update(fresh, NEW)
    assert not hasattr(grown[-1], "recalibration_")
    assert hasattr(fresh[-1], "recalibration_")


def test_another_rate_is_no_recalibration_that_could_be_lost(pipe, recwarn):
    strict = recalibrate(pipe, false_alarm_rate=0.05)
    for changed in (update(strict, NEW), forget(strict, OLD[:2])):
        assert changed[-1].routes_.decisions["all"].asked_rate == 0.05
    assert not [w for w in recwarn if "had been recalibrated" in str(w.message)]


def test_a_lost_recalibration_is_said_after_another_rate_too(pipe):
    fresh = recalibrate(recalibrate(pipe, patches(30, 5)), false_alarm_rate=0.2)
    with pytest.warns(UserWarning, match="had been recalibrated"):
        forget(fresh, OLD[:2])


@pytest.mark.parametrize(
    ("function", "images", "message"),
    [
        (update, [], "list of images is empty"),
        (update, np.concatenate([NEW[:2], OLD[4:5]]), r"1 of 3 images are in the bank already"),
        (update, patches(4, 1, shift=50), "4 of 4 images .* anomalous by a wide margin"),
        (forget, [], "list of images is empty"),
        (forget, np.concatenate([OLD[:1], NEW[:1]]), r"1 of 2 images are none .* at position 1"),
        (forget, OLD[:29], r"Only 1 calibration image"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_and_nothing_changes(pipe, function, images, message):
    before = snapshot(pipe, TEST)
    with pytest.raises(ValueError, match=message):
        function(pipe, images)
    assert snapshot(pipe, TEST) == before


def test_forgetting_many_images_is_no_refit_and_says_so(pipe):
    with pytest.warns(UserWarning, match="30% of the training images are forgotten"):
        forget(pipe, OLD[:9])


def test_images_of_a_removed_product_are_not_counted_as_forgotten(routed):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*training images are forgotten")
        forget(remove_category(routed, "b"), OLD[:1])


def test_what_was_forgotten_can_be_forgotten_once_and_added_again(pipe):
    once = forget(pipe, OLD[:3])
    with pytest.raises(ValueError, match="Files are recognised by their bytes"):
        forget(once, OLD[:1])
    assert update(once, OLD[:3])[0].n_images_ == 30


def test_new_images_that_are_rejected_are_told(pipe, recwarn):
    update(pipe, NEW)
    assert not [w for w in recwarn if "new images are rejected" in str(w.message)]
    more = patches(300, 50)
    table = pipe[-1].describe(maps(pipe, more))
    odd = table[table["is_anomalous"]].sort_values("anomaly_score").index[:4]
    with pytest.warns(UserWarning, match=r"4 of 9 new images are rejected .* at position 5\)"):
        update(pipe, np.concatenate([NEW[[0, 1, 4, 6, 7]], more[odd]]))


def test_arrays_that_come_later_have_names_of_their_own():
    images = np.random.default_rng(0).integers(0, 255, (16, 32, 32, 3), dtype=np.uint8)
    pipe = make_structcore("efficientnet_lite0", features__image_size=32, bank__ratio=0.2)
    names = update(pipe.fit(images[:12]), images[12:], force=True)["bank"].images_.names
    assert names.tolist() == [f"image {i}" for i in range(16)]


def test_of_files_that_are_copies_the_one_that_is_named_is_forgotten(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 255, (16, 32, 32, 3), dtype=np.uint8)
    paths = [str(tmp_path / f"{i:02}.png") for i in range(16)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    shutil.copy(paths[3], paths[15])
    pipe = make_structcore("efficientnet_lite0", features__image_size=32, bank__ratio=0.2)
    pipe.fit(paths, bank__groups=np.arange(16))
    assert np.flatnonzero(~forget(pipe, paths[15:])["bank"].images_.is_there).tolist() == [15]
    monkeypatch.chdir(tmp_path.parent)  # however its path is spelled
    spelled = f"{tmp_path.name}/../{tmp_path.name}/15.png"
    assert np.flatnonzero(~forget(pipe, [spelled])["bank"].images_.is_there).tolist() == [15]
    copied = shutil.copy(paths[3], tmp_path / "elsewhere.png")
    for given in ([str(copied)], [paths[3], str(copied)]):
        both = forget(pipe, given)["bank"].images_
        assert np.flatnonzero(~both.is_there).tolist() == [3, 15]


def test_features_of_another_grid_are_refused(pipe):
    for function in (update, recalibrate):
        with pytest.raises(ValueError, match=r"have 2 x 4 patches.* fitted with 3 x 4"):
            function(pipe, NEW[:, :2])


def test_positions_count_images_that_are_labelled_as_defects():
    random = np.random.default_rng(0)
    train, new = (random.integers(90, 160, (n, 64, 64, 3), dtype=np.uint8) for n in (20, 10))
    pipe = make_pipeline(
        ConvFeatures(Blocks(), layers=("stage1", "stage2"), image_size=32),
        CoresetBank(0.1, random_state=0),
        RoutedKNNScorer(2),
        StructCoreScorer(false_alarm_rate=0.1),
    ).fit(train, coresetbank__groups=None)
    labels = np.array(["scratch"] * 3 + ["good"] * 7)
    odd = new.copy()
    odd[5, :32] = 255
    for function in (update, recalibrate):
        with pytest.raises(ValueError, match=r"1 of 7 images \(at position 5\) is anomalous"):
            function(pipe, ImageSet(odd, labels))
    decisions = recalibrate(pipe, ImageSet(new, labels), force=True)[-1].recalibration_.decisions
    assert decisions.index.tolist() == [3, 4, 5, 6, 7, 8, 9]
    known = ImageSet(np.concatenate([new[:3], train[:2], new[3:8]]), labels)
    with pytest.raises(ValueError, match=r"2 of 7 images are in the bank .*position 3"):
        update(pipe, known)
    added = ImageSet(new, labels)
    more = update(pipe, added, force=True, groups=None)
    assert forget(more, added)[1].n_images_ == 20
    with pytest.raises(ValueError, match="3 of 3 images are none that the pipeline was fitted"):
        forget(more, added[:3])
