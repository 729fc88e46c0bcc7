import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from skstructcore import (
    AnomalyMaps,
    CoresetBank,
    RoutedKNNScorer,
    StructCoreScorer,
    regions,
)
from skstructcore.containers import TrainingImages
from skstructcore.images import Geometry
from skstructcore.scoring.calibration import NORMS
from skstructcore.scoring.descriptors import compute_descriptors
from skstructcore.scoring.map_functions import std

pytestmark = pytest.mark.filterwarnings("ignore:false_alarm_rate=")

PAPER = {
    "norm": "l2",
    "descriptors": ("std", "top1", "tv"),
    "threshold": "quantile",
}


@pytest.fixture
def maps():
    return np.random.default_rng(0).gamma(4.0, size=(60, 6, 8)).astype(np.float32)


def with_surprise(values, seed=1):
    surprise = np.random.default_rng(seed).normal(size=values.shape).astype(np.float32)
    return AnomalyMaps(values, surprise=surprise)


def test_paper_settings_are_the_formula_of_the_paper(maps):
    scorer = StructCoreScorer(false_alarm_rate=0.1, **PAPER).fit(maps[:40])
    values = maps.astype(np.float64)
    phi = np.column_stack(
        [
            values.std(axis=(1, 2)),
            values.max(axis=(1, 2)),  # 1 % of 48 pixels is one pixel
            (
                np.abs(np.diff(values, axis=1)).sum(axis=(1, 2))
                + np.abs(np.diff(values, axis=2)).sum(axis=(1, 2))
            )
            / 48,
        ]
    )
    z = (phi - phi[:40].mean(axis=0)) / phi[:40].std(axis=0)
    d_struct, base = np.sqrt((z**2).sum(axis=1)), values.max(axis=(1, 2))
    score = base + base[:40].std() / d_struct[:40].std() * d_struct
    np.testing.assert_allclose(-scorer.score_samples(maps), score, rtol=1e-5)
    assert -scorer.offset_ == pytest.approx(np.quantile(score[:40], 0.9), rel=1e-5)


def test_default_score_is_a_weighted_sum_of_all_z(maps):
    maps = with_surprise(maps)
    scorer = StructCoreScorer().fit(maps[:40])
    distance = compute_descriptors(maps.values, ["max", "std", "top1"])
    names = ["max", "top1", "smoothmax", "contrast", "component", "moran"]
    phi = np.hstack([distance, compute_descriptors(maps.surprise, names)])
    z = (phi - phi[:40].mean(axis=0)) / phi[:40].std(axis=0)
    weights = np.array([1, 1 / 2, 1 / 4] + 6 * [1 / 4])
    expected = phi[:40, 0].mean() + phi[:40, 0].std() * (z @ weights)
    np.testing.assert_allclose(-scorer.score_samples(maps), expected, rtol=1e-6)


def test_other_descriptors_count_the_same_unless_weights_are_given(maps):
    z = StructCoreScorer(descriptors=("std", "tv")).fit(maps[:40])
    expected = StructCoreScorer(descriptors={"std": 1, "tv": 1}).fit(maps[:40])
    np.testing.assert_array_equal(z.score_samples(maps), expected.score_samples(maps))


def test_without_surprise_the_distances_take_its_place(maps):
    plain = StructCoreScorer().fit(maps[:40])
    names = ["std", "top1", "max", "smoothmax", "contrast", "component", "moran"]
    weights = [0.5] + 6 * [0.25]
    named = dict(zip(names, weights, strict=True))
    assert plain.descriptors_ == named
    named = StructCoreScorer(descriptors=named).fit(maps[:40])
    assert not any("surprise" in column for column in plain.describe(maps).columns)
    np.testing.assert_array_equal(plain.score_samples(maps), named.score_samples(maps))
    assert not plain.uses_surprise_
    # Maps that carry more than the training maps did are no obstacle.
    np.testing.assert_array_equal(
        plain.score_samples(with_surprise(maps)), plain.score_samples(maps)
    )


def test_maps_without_the_surprise_that_training_had_are_an_error(maps):
    scorer = StructCoreScorer().fit(with_surprise(maps))
    with pytest.raises(ValueError, match="training maps carried surprise and these do not"):
        scorer.predict(AnomalyMaps(maps))


@pytest.mark.parametrize("norm", NORMS)
def test_defects_score_higher_than_any_good_image(maps, norm):
    maps[50:, 2:4, 3:6] += 40
    scorer = StructCoreScorer(norm=norm).fit(maps[:40])
    assert (scorer.predict(maps[50:]) == -1).all()
    assert scorer.score_samples(maps[50:]).max() < scorer.score_samples(maps[:50]).min()


def test_describe_tells_how_the_decision_came_about(maps):
    maps[50, 2:4, 3:6] = 90
    scorer = StructCoreScorer(false_alarm_rate=0.05).fit(maps[:40])
    parts = scorer.describe(maps)
    names = ["max", *scorer.descriptors_]
    z = parts[[f"z_{name}" for name in names]].to_numpy()
    weighted = z[:, 1:] @ [*scorer.descriptors_.values()]
    np.testing.assert_allclose(parts["d_struct"], weighted)
    np.testing.assert_allclose(
        parts["anomaly_score"], parts["base"] + scorer.calibration_.lam * parts["d_struct"]
    )
    np.testing.assert_allclose(parts["anomaly_score"], -scorer.score_samples(maps))
    np.testing.assert_array_equal(parts["is_anomalous"], scorer.predict(maps) == -1)
    np.testing.assert_array_equal(parts["is_anomalous"], parts["p_value"] <= 0.05)
    counts = z * [1, *scorer.descriptors_.values()]
    assert parts["decided_by"].tolist() == [names[i] for i in counts.argmax(axis=1)]
    defect = parts.loc[50]
    assert defect["is_anomalous"] and defect["p_value"] == parts["p_value"].min() < 0.001
    assert 2 <= defect["peak_row"] < 4 and 3 <= defect["peak_col"] < 6
    box = defect[["region_top", "region_left", "region_bottom", "region_right"]]
    assert box.tolist() == [2, 3, 4, 6]
    assert defect["area_over"] == 6 / 48


def test_what_does_not_count_decides_nothing(maps):
    weights = {"std": 1, "tv": 0, "median": -1}
    parts = StructCoreScorer(lam="struct-only", descriptors=weights).fit(maps[:40]).describe(maps)
    z = parts[["z_std", "z_median"]] * [1, -1]
    expected = np.where(z["z_std"] >= z["z_median"], "std", "median")
    assert parts["decided_by"].tolist() == expected.tolist()
    parts = StructCoreScorer(lam=0.0, descriptors=["std"]).fit(maps[:40]).describe(maps)
    assert set(parts["decided_by"]) == {"max"}


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_with_a_norm_what_is_far_below_normal_decides(maps, norm):
    paper = StructCoreScorer(norm, descriptors=("std", "tv"), threshold="quantile").fit(maps[:40])
    calm = np.full((1, *maps.shape[1:]), maps[:40].max(axis=(1, 2)).mean())
    (row,) = paper.describe(calm).to_dict("records")
    assert row["is_anomalous"] and min(row["z_std"], row["z_tv"]) < -3
    assert row["decided_by"] == ("std" if row["z_std"] < row["z_tv"] else "tv")


def test_describe_shows_the_descriptors_of_the_paper_in_any_case(maps):
    parts = StructCoreScorer(false_alarm_rate=0.05).fit(maps[:40]).describe(maps[40:])
    paper = StructCoreScorer(
        "l2", false_alarm_rate=0.05, descriptors=("std", "top1", "tv"), threshold="quantile"
    )
    expected = paper.fit(maps[:40]).describe(maps[40:])
    names = ["z_std", "z_top1", "z_tv"]
    np.testing.assert_allclose(parts[names], expected[names])
    assert (parts["route"] == "all").all()


def test_region_is_the_one_that_holds_the_peak_and_nan_without_any(maps):
    quiet = np.ones((2, 6, 8), dtype=np.float32)
    quiet[1, 0, 0], quiet[1, 5, 6:] = 100, 200
    parts = StructCoreScorer().fit(maps).describe(quiet)
    box = parts[["region_top", "region_left", "region_bottom", "region_right"]]
    assert box.iloc[0].isna().all()
    assert box.iloc[1].tolist() == [5, 6, 6, 8]
    assert parts["area_over"].tolist() == [0, 3 / 48]


def test_places_are_in_pixels_of_the_original_image(maps):
    values = maps.copy()
    values[0, 1, 2] = 100
    # The backbone saw columns 20 to 100 and rows 0 to 60: a patch is 10 x 10 pixels.
    geometry = Geometry((12, 16), [[60, 120]] * 60, [[0, 20, 60, 100]] * 60)
    parts = StructCoreScorer().fit(maps).describe(AnomalyMaps(values, geometry=geometry))
    columns = ["peak_row", "peak_col", "region_top", "region_left", "region_bottom", "region_right"]
    assert parts.loc[0, columns].tolist() == [15, 45, 10, 40, 20, 50]


def test_groups_of_the_maps_reach_the_threshold(maps):
    groups = np.arange(40) // 10
    with pytest.warns(UserWarning, match="40 training images in 4 groups"):
        scorer = StructCoreScorer(false_alarm_rate=0.1, threshold="guaranteed").fit(
            AnomalyMaps(maps[:40], images=TrainingImages(groups))
        )
    assert scorer.false_alarm_rate_ == 1 / 5
    # Four independent images, not forty: the tail is wider.
    alone, alike = (
        StructCoreScorer().fit(AnomalyMaps(maps[:40], images=images)).calibration_.decision
        for images in (None, TrainingImages(groups))
    )
    assert (alone.held_out.n_independent, alike.held_out.n_independent) == (40, 4)
    assert alike.threshold > alone.threshold


def test_constant_maps_give_finite_scores():
    maps = np.full((5, 3, 3), 2.0)
    scorer = StructCoreScorer(threshold="guaranteed").fit(maps)
    parts = scorer.describe(np.concatenate([maps, 3 * maps[:1]]))
    assert np.isfinite(parts["anomaly_score"]).all()
    assert (parts["anomaly_score"][:5] == parts["base"][:5]).all()
    assert parts["is_anomalous"].tolist() == [False] * 5 + [True]


def test_full_resolution_looks_at_the_smoothed_pixel_map(maps):
    geometry = Geometry((48, 64), [[48, 64]] * 60, [[0, 0, 48, 64]] * 60)
    smooth = AnomalyMaps(maps, geometry=geometry)
    scorer = StructCoreScorer(resolution="full").fit(smooth)
    base = scorer.describe(smooth)["base"]
    np.testing.assert_allclose(base, scorer.transform(smooth).max(axis=(1, 2)))
    assert (base < maps.max(axis=(1, 2))).all()


def test_full_resolution_takes_a_few_images_at_a_time_without_a_difference(maps, monkeypatch):
    geometry = Geometry((48, 64), [[48, 64]] * 60, [[0, 0, 48, 64]] * 60)
    maps = AnomalyMaps(maps, geometry=geometry)
    sizes = []

    def looked_at(pixels):
        sizes.append(len(pixels))
        return np.where((len(sizes) == 2) & (np.arange(len(pixels)) == 2), np.nan, 0.0)

    scorer = StructCoreScorer(resolution="full", descriptors=["std", "tv", "max"])
    at_once = scorer.fit(maps).score_samples(maps)
    monkeypatch.setattr("skstructcore.scoring.evidence._PIXELS_AT_ONCE", 7 * 48 * 64 + 1)
    np.testing.assert_array_equal(scorer.fit(maps).score_samples(maps), at_once)
    with pytest.raises(ValueError, match="'looked_at' returned nan for image 9;"):
        StructCoreScorer(resolution="full", descriptors=[looked_at]).fit(maps)
    assert sizes == [7, 7]


def regions_of_maps(scorer, maps):
    return regions(make_pipeline(scorer), maps)


@pytest.mark.parametrize("where", [StructCoreScorer.describe, regions_of_maps])
def test_places_at_full_resolution_take_the_memory_of_a_few_images(maps, monkeypatch, where):
    geometry = Geometry((96, 128), [[96, 128]] * 60, [[0, 0, 96, 128]] * 60)
    ignored = np.zeros(maps.shape, bool)
    ignored[::2, 0] = True
    maps = AnomalyMaps(maps, geometry=geometry, ignored=ignored)
    scorer = StructCoreScorer(resolution="full", descriptors=["std", "tv"]).fit(maps)

    def peak_and_table():
        tracemalloc.start()
        table = where(scorer, maps)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak, table

    at_once, expected = peak_and_table()
    monkeypatch.setattr("skstructcore.scoring.evidence._PIXELS_AT_ONCE", 4 * 96 * 128)
    few, table = peak_and_table()
    assert len(table) > 0 and few < at_once / 4
    pd.testing.assert_frame_equal(table, expected, check_exact=True)


def test_a_function_of_the_user_is_a_part_of_the_score(maps):
    def n_components(maps):
        return np.array([ndimage.label(m > 8)[1] for m in maps])

    scorer = StructCoreScorer(descriptors=["std", n_components]).fit(maps[:40])
    z = scorer.describe(maps)["z_n_components"]
    counts = n_components(maps)
    np.testing.assert_allclose(z, (counts - counts[:40].mean()) / counts[:40].std())


def test_bad_input_is_an_error_that_names_it(maps):
    for quantile in (0.0, 1.0, 1.5):
        with pytest.raises(ValueError, match="quantile"):
            StructCoreScorer(quantile=quantile).fit(maps)
        with pytest.raises(ValueError, match="false_alarm_rate"):
            StructCoreScorer(false_alarm_rate=quantile).fit(maps)
    with pytest.raises(ValueError, match="norm"):
        StructCoreScorer(norm="l3").fit(maps)
    with pytest.raises(ValueError, match="Unknown descriptor 'surprise_sharpness'"):
        StructCoreScorer(descriptors=("surprise_sharpness",)).fit(maps)
    with pytest.raises(ValueError, match="at least 2 good training images"):
        StructCoreScorer().fit(maps[:1])
    maps[3, 0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 60 images, first in image 3"):
        StructCoreScorer().fit(maps)


def test_weights_multiply_z(maps):
    scorer = StructCoreScorer(descriptors={"max": 2.0, "std": -1.0}, lam="struct-only")
    scorer.fit(maps[:40])
    z = scorer.describe(maps)
    np.testing.assert_allclose(-scorer.score_samples(maps), 2 * z["z_max"] - z["z_std"])


def test_the_order_of_maps_in_memory_does_not_matter(maps):
    scorer = StructCoreScorer().fit(maps)
    scores = scorer.score_samples(np.asfortranarray(maps))
    np.testing.assert_array_equal(scores, scorer.score_samples(maps))


def test_maps_may_be_lists(maps):
    scorer = StructCoreScorer().fit(maps)
    assert StructCoreScorer().fit([*maps]).offset_ == scorer.offset_
    np.testing.assert_array_equal(scorer.score_samples(list(maps)), scorer.score_samples(maps))
    with pytest.raises(ValueError, match="maps must be a non-empty array"):
        scorer.predict([maps])


def test_maps_of_another_size_or_kind_are_an_error(maps):
    scorer = StructCoreScorer().fit(maps)
    with pytest.raises(ValueError, match=r"The maps have 6 x 4 patches, but .* with 6 x 8"):
        scorer.predict(maps[:, :, :4])
    with pytest.raises(ValueError, match="real numbers; found dtype complex64"):
        scorer.predict(maps.astype(np.complex64))
    with pytest.raises(ValueError, match="real numbers; found dtype <U"):
        StructCoreScorer().fit(maps.astype(str))


def test_after_a_fit_that_failed_nothing_is_judged():
    scorer = StructCoreScorer()
    with pytest.raises(ValueError, match="copies of each other"):
        scorer.fit(np.ones((20, 3, 3)))
    with pytest.raises(NotFittedError):
        scorer.predict(np.ones((2, 3, 3)))


@pytest.mark.parametrize("norm", NORMS)
def test_an_image_alone_is_judged_as_one_of_many_to_the_last_bit(maps, norm):
    maps = with_surprise(maps)
    scorer = StructCoreScorer(norm).fit(maps)
    alone = [scorer.describe(maps[i]) for i in range(len(maps))]
    pd.testing.assert_frame_equal(
        scorer.describe(maps), pd.concat(alone, ignore_index=True), check_exact=True
    )


def test_a_warning_points_at_the_line_of_the_user(maps):
    scorer = StructCoreScorer(threshold="guaranteed")
    with pytest.warns(UserWarning, match="false_alarm_rate=0.01 takes 99 ") as caught:
        scorer.fit(maps[:40])
    with pytest.warns(UserWarning) as piped:
        make_pipeline(scorer).fit(maps[:40])
    assert [w.filename for w in (*caught, *piped)] == [__file__] * 2


def test_a_score_that_is_no_number_is_never_an_acceptance():
    maps = np.random.default_rng(0).random((40, 6, 6))
    scorer = StructCoreScorer(false_alarm_rate=0.1).fit(maps)
    scorer.calibration_.weights[0] = np.nan  # a damaged model, say
    assert np.isnan(scorer.score_samples(maps)).all()
    assert (scorer.predict(maps) == -1).all()
    assert scorer.describe(maps)["is_anomalous"].all()


@pytest.mark.parametrize("odd", [np.nan, np.inf, None, "1", 1j])
def test_weights_that_are_no_numbers_are_refused_by_fit(odd):
    maps = np.random.default_rng(0).random((40, 6, 6))
    with pytest.raises(ValueError, match="Weights must be finite numbers, got"):
        StructCoreScorer(descriptors={"std": odd, "top1": 1}).fit(maps)


@pytest.mark.parametrize(
    "settings",
    [
        {"descriptors": {"std": 1e308, "top1": -1e308}},
        {"descriptors": {"std": 1e200, "top1": 0}},
        {"lam": 1e308},
    ],
)
def test_scores_that_would_end_in_infinity_are_refused_by_fit(settings):
    # The threshold was infinite, and no image anomalous.
    maps = np.random.default_rng(0).random((40, 6, 6))
    with pytest.raises(ValueError, match="too large for floating-point numbers"):
        StructCoreScorer(**settings).fit(maps)


@pytest.mark.filterwarnings("ignore:overflow")
def test_maps_that_would_end_in_infinity_are_refused_by_fit():
    with pytest.raises(ValueError, match=r"too large for floating-point numbers|must be finite"):
        StructCoreScorer().fit(1e200 * np.random.default_rng(0).random((40, 6, 6)))


def test_a_descriptor_is_there_once(maps):
    with pytest.raises(ValueError, match="found twice: max"):
        StructCoreScorer(descriptors=("max", "std", "max")).fit(maps)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"surprise": np.ones((2, 4, 4))}, r"surprise of the maps must have the shape \(2, 6, 8\)"),
        ({"ignored": np.ones((2, 4, 4), bool)}, "ignored of the maps must have the shape"),
        ({"ignored": np.ones((2, 6, 8), bool)}, "Every patch of image 0 is ignored"),
        ({"images": TrainingImages(np.arange(3))}, "3 training images, but 2 rows"),
        ({"route": np.array(["a", "a"])}, "both route and route_distance"),
        ({"route": np.array(["a"]), "route_distance": np.ones(2)}, "values has 2, route has 1"),
    ],
)
def test_what_comes_with_maps_is_there_for_each(maps, parts, message):
    scorer = StructCoreScorer().fit(maps)
    with pytest.raises(ValueError, match=message):
        scorer.predict(AnomalyMaps(maps[:2], **parts))


def test_patches_that_were_compared_with_themselves_are_not_held_out():
    X = np.random.default_rng(0).normal(size=(12, 3, 3, 4)).astype(np.float32)
    patches = CoresetBank(0.9, random_state=0).fit_transform(X, groups=None)
    knn = RoutedKNNScorer()
    held_out = StructCoreScorer().fit(knn.fit_transform(patches))
    assert not held_out.training_.in_sample
    in_sample = StructCoreScorer().fit(knn.transform(patches))
    assert in_sample.training_.in_sample


def test_the_function_of_a_descriptor_can_be_given_instead_of_its_name():
    maps = np.random.default_rng(0).random((30, 8, 8))
    by_function = StructCoreScorer(descriptors=[std]).fit(maps).score_samples(maps)
    assert (
        by_function == StructCoreScorer(descriptors=["std"]).fit(maps).score_samples(maps)
    ).all()

    def tv(maps):
        return maps.max(axis=(1, 2))

    with pytest.raises(ValueError, match="'tv' belongs to a descriptor of the package"):
        StructCoreScorer(descriptors=[tv]).fit(maps)
