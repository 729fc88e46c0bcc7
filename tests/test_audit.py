import numpy as np
import pytest
from PIL import Image
from scipy.stats import false_discovery_control
from scipy.stats import t as student_t
from sklearn.pipeline import make_pipeline

from skstructcore import (
    CoresetBank,
    RoutedKNNScorer,
    StructCoreScorer,
    add_category,
    audit,
    forget,
    make_structcore,
    recalibrate,
    update,
)
from skstructcore.datasets import ImageSet
from skstructcore.scoring import predictive
from skstructcore.scoring.predictive import tail_p_values

pytestmark = pytest.mark.filterwarnings("ignore:false_alarm_rate=", "ignore:Fewer than")


def patches(n, seed, shift=0.0):
    return (shift + np.random.default_rng(seed).normal(size=(n, 3, 4, 6))).astype(np.float32)


def fitted(images, categories=None, groups=None, **knn):
    pipe = make_pipeline(
        CoresetBank(0.2, random_state=0),
        RoutedKNNScorer(2, routing="auto", **knn),
        StructCoreScorer(false_alarm_rate=0.1),
    )
    return pipe.fit(images, coresetbank__categories=categories, coresetbank__groups=groups)


def test_tail_is_students_and_a_few_defects_hardly_move_it():
    scores = student_t(predictive.DEGREES_OF_FREEDOM).rvs(size=20_000, random_state=0)
    expected = student_t.sf(scores, predictive.DEGREES_OF_FREEDOM)
    np.testing.assert_allclose(tail_p_values(scores), expected, atol=0.03)
    moved = tail_p_values(np.append(scores, np.full(1000, 50.0)))
    assert (moved[-1000:] < 1e-4).all()
    np.testing.assert_allclose(moved[:-1000], expected, atol=0.05)


def test_of_clean_sets_few_have_a_suspect():
    # The false-discovery rate of a clean set is the chance of any suspect at all.
    rng = np.random.default_rng(0)
    scores = student_t(8).rvs(size=(400, 100), random_state=rng)
    any_found = [(false_discovery_control(tail_p_values(row)) <= 0.1).any() for row in scores]
    assert np.mean(any_found) < 0.2  # location and scale of 100 images are estimates


def test_planted_defects_are_suspects_and_forgetting_them_restores_the_threshold():
    # Each of its own kind: defects that are alike explain each other, and hide.
    clean, defects = patches(80, 0), patches(4, 1)
    defects += 12 * np.eye(6, dtype=np.float32)[:4, np.newaxis, np.newaxis]
    pipe = fitted(np.concatenate([clean[:50], defects, clean[50:]]))
    table = audit(pipe)
    assert sorted(table.loc[table["suspect"], "image"]) == [50, 51, 52, 53]
    assert table["image"].head(4).isin([50, 51, 52, 53]).all()
    again = audit(forget(pipe, defects))
    assert not again["suspect"].any() and len(again) == 80
    assert sorted(again["image"]) == [*range(50), *range(54, 84)]


def test_scores_are_those_of_training_even_after_a_recalibration():
    pipe = fitted(patches(40, 0))
    later = recalibrate(pipe, patches(40, 1))
    by_image = audit(pipe).set_index("image").sort_index()
    np.testing.assert_allclose(by_image["anomaly_score"], pipe[-1].calibration_.decision.scores)
    after = audit(later).set_index("image").sort_index()
    np.testing.assert_allclose(after["anomaly_score"], by_image["anomaly_score"])


def test_each_route_has_its_own_scores():
    images = np.concatenate([patches(40, 0), 3 * patches(40, 1) + 40])
    images[70] += 30
    table = audit(fitted(images, categories=["a"] * 40 + ["b"] * 40))
    assert table["route"][0] == "b" and table["image"][0] == 70
    assert table.loc[table["suspect"], "image"].tolist() == [70]


def test_positions_are_those_of_the_images_that_the_fit_got():
    images = np.random.default_rng(0).integers(0, 256, (26, 32, 32), dtype=np.uint8)
    images[15], images[20] = 255, images[17]
    pipe = make_structcore("efficientnet_lite0", features__image_size=32, bank__ratio=0.2)
    pipe.fit(images[:24], np.array(["scratch"] * 5 + ["good"] * 19), bank__groups=None)
    for given in (None, images[:24]):
        table = audit(pipe, given).set_index("image")
        assert sorted(table.index) == [*range(5, 24)] and table.index[0] == 15
        assert (table["name"] == [f"image {i}" for i in table.index]).all()
        assert table.loc[20, "copy_of"] == 17
    more = audit(update(pipe, ImageSet(images[24:], ["scratch", "good"]), force=True))
    assert sorted(more["image"]) == [*range(5, 24), 25]
    assert (more["name"] == [f"image {i}" for i in more["image"]]).all()


def test_positions_of_an_added_product_are_numbered_on():
    images = np.random.default_rng(0).integers(0, 256, (24, 32, 32), dtype=np.uint8)
    pipe = make_structcore("efficientnet_lite0", features__image_size=32, bank__ratio=0.2)
    pipe.fit(images[:16], bank__categories=["nut"] * 8 + ["bolt"] * 8)
    table = audit(add_category(pipe, images[16:], "pin")).set_index("image").sort_index()
    assert table["route"].tolist() == ["nut"] * 8 + ["bolt"] * 8 + ["pin"] * 8
    assert table["name"].tolist() == [f"image {i}" for i in range(24)]


def test_equal_images_are_found_without_images_and_near_ones_with_them(caplog):
    images = patches(30, 0)
    images[7] = images[3]
    near = images.copy()
    near[21] = near[12] + 0.01 * patches(1, 5)[0]
    table = audit(fitted(near))
    copies = table[table["copy_of"] >= 0]
    assert copies[["image", "copy_of", "copy_distance"]].to_numpy().tolist() == [[7, 3, 0]]
    table = audit(fitted(near), near[::-1])
    pairs = {
        frozenset(pair)
        for pair in table.loc[table["copy_of"] >= 0, ["image", "copy_of"]].to_numpy()
    }
    assert pairs == {frozenset({3, 7}), frozenset({12, 21})} and "the fit got" not in caplog.text
    audit(fitted(near), near + 1e-4)  # as stored anew
    assert "30 of 30 images are none that the fit got" in caplog.text
    # Copies within a group are what a group is for.
    groups = np.arange(30)
    groups[[7, 21]] = 3, 12
    assert (audit(fitted(near, groups=groups), near)["copy_of"] == -1).all()


def test_each_of_two_copies_has_its_own_name(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(8):
        pixels = rng.integers(0, 256, (32, 32), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "5.png").write_bytes((tmp_path / "3.png").read_bytes())
    pipe = make_structcore("efficientnet_lite0", features__image_size=64, bank__ratio=0.2)
    table = audit(pipe.fit(tmp_path, bank__groups=None)).set_index("image")
    assert [name[-5:] for name in table["name"].sort_index()] == [f"{i}.png" for i in range(8)]
    assert table.loc[5, "copy_of"] == 3


def test_what_cannot_be_audited_is_refused():
    pipe = fitted(patches(20, 0), calibration="in-sample")
    pipe[1].set_params(calibration="leave-one-image-out")  # too late: it is fitted
    with pytest.raises(ValueError, match="calibrated in-sample"):
        audit(pipe)
    with pytest.raises(ValueError, match=r"fdr must be a float in the range \(0.0, 1.0\), got 1"):
        audit(fitted(patches(20, 0)), fdr=1)
