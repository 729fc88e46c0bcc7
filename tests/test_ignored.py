"""What is ignored: how it is given, and that nothing after it counts it."""

from dataclasses import replace

import joblib
import numpy as np
import pytest
from networks import Blocks
from PIL import Image
from sklearn.base import clone
from sklearn.pipeline import Pipeline, make_pipeline

from skstructcore import (
    ConvFeatures,
    CoresetBank,
    RandomProjection,
    RoutedKNNScorer,
    StructCoreScorer,
    estimate_time,
    forget,
    make_structcore,
    update,
)
from skstructcore.datasets import ImageSet
from skstructcore.evaluation import evaluate
from skstructcore.images.geometry import upsample_counted, upsample_maps
from skstructcore.images.ignoring import shares_of_patches
from skstructcore.metrics import aupro_score, pixel_auroc_score
from skstructcore.model_selection import scorers
from skstructcore.scoring.descriptors import compute_descriptors
from skstructcore.serving.latency import stage_times

OWN = dict(layers=("stage1", "stage2"), image_size=32)


def photos(n=3, height=64, width=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def right_third(height=64, width=64):
    mask = np.zeros((height, width), dtype=bool)
    mask[:, 2 * width // 3 :] = True
    return mask


def ignored_by(X, ignore, **params):
    """Which patches are NaN; a patch is so in all of its features or in none."""
    lazy = ConvFeatures(Blocks(), **{**OWN, **params}, ignore=ignore).fit_transform(X)
    missing = np.isnan(np.asarray(lazy))
    assert (missing.all(axis=-1) == missing.any(axis=-1)).all()
    return missing[..., 0]


# Of 16 columns of patches, 4 original pixels each, column 10 begins at 40 and is 2/4 inside
# the region from 42 on; a patch is ignored from one half on.
def expected_right(n=3):
    expected = np.zeros((n, 16, 16), dtype=bool)
    expected[:, :, 10:] = True
    return expected


SQUARE = [(42, 0), (64, 0), (64, 64), (42, 64)]


@pytest.mark.parametrize(
    "ignore",
    [
        right_third(),
        right_third().astype(np.uint8) * 255,
        [SQUARE],
        [np.array(SQUARE)],
        [np.array(SQUARE) / 64],
        [SQUARE[:3], [SQUARE[0], SQUARE[2], SQUARE[3]]],
    ],
    ids=["mask", "bytes", "polygon", "array", "shares", "two triangles"],
)
def test_patches_at_least_half_of_which_lies_in_the_region_are_ignored(ignore):
    np.testing.assert_array_equal(ignored_by(photos(), ignore), expected_right())


def test_a_mask_file_is_stored_in_fit(tmp_path):
    path = tmp_path / "ignore.png"
    Image.fromarray(right_third()).save(path)
    features = ConvFeatures(Blocks(), **OWN, ignore=path).fit(photos())
    path.unlink()
    missing = np.isnan(np.asarray(features.transform(photos())))[..., 0]
    np.testing.assert_array_equal(missing, expected_right())


def test_other_patches_are_what_they_were_and_caches_are_shared(tmp_path):
    module = Blocks()
    params = dict(**OWN, memory=tmp_path)
    whole = np.asarray(ConvFeatures(module, **params).fit_transform(photos()))
    module.n_images = 0
    part = np.asarray(ConvFeatures(module, **params, ignore=[SQUARE]).fit_transform(photos()))
    assert module.n_images == 0
    left = ~expected_right()
    np.testing.assert_array_equal(part[left], whole[left])


def test_a_region_in_shares_fits_images_of_all_sizes():
    X = [photos(1, 64, 64)[0], photos(1, 32, 128)[0]]
    expected = expected_right(2)
    np.testing.assert_array_equal(ignored_by(X, [np.array(SQUARE) / 64]), expected)


def test_a_crop_sees_its_part_of_the_region():
    """Of 64 x 96 the middle 64 x 64 is seen: columns 16 to 80, 4 pixels a patch."""
    mask = np.zeros((64, 96), dtype=bool)
    mask[:, :32] = True
    missing = ignored_by(photos(2, 64, 96), mask, crop=True)
    assert missing[:, :, :4].all() and not missing[:, :, 4:].any()


def test_upright_pixels_count_where_files_lie(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying, 64 wide and 32 high; upright 32 wide and 64 high
    Image.new("L", (64, 32)).save(tmp_path / "turned.png", exif=exif)
    mask = np.zeros((64, 32), dtype=bool)
    mask[:32] = True
    missing = ignored_by([tmp_path / "turned.png"], mask)
    assert missing[0, :8].all() and not missing[0, 8:].any()


@pytest.mark.parametrize(
    "ignore, message",
    [
        (right_third(64, 60), r"has 64 x 64 pixels, but ignore is .* of 64 x 60"),
        (np.zeros((64, 64), bool), "ignore is empty"),
        (np.ones((64, 64), bool), "covers all that the backbone sees"),
        (np.ones((64, 64, 3), bool), r"a mask is an array \(height, width\)"),
        (np.ones((64, 64)), "array of float64"),
        ([], "must be a mask"),
        ([[(0, 0), (1, 1)]], "three corners or more"),
        ([(0, 0), (9, 0), (9, 9)], "three corners or more"),
        ([[(0, 0), (9, 0), (np.nan, 9)]], "not finite"),
        ([[(70, 70), (80, 70), (80, 80)]], "ignore is empty"),
        ([[(0, 0), (1.0000001, 0), (1, 1)]], "a corner at 1, and shares end at 1"),
        ([[(0, 0), (1.5, 0), (1.5, 64)]], "no patch would be ignored"),
        ({}, "empty dict"),
        ({"nut": np.zeros((64, 64), bool)}, r"ignore\['nut'\] is empty"),
        ("no_such.png", "Cannot read the mask 'no_such.png'"),
        (3, "'ignore' parameter"),
    ],
)
def test_what_cannot_be_ignored_is_refused(ignore, message):
    with pytest.raises(ValueError, match=message):
        ConvFeatures(Blocks(), **OWN, ignore=ignore).fit(photos())


def test_polygons_in_pixels_are_for_training_images_of_one_size():
    X = [photos(1, 64, 64)[0], photos(1, 32, 128)[0]]
    with pytest.raises(ValueError, match=r"one size.*32 x 128 and 64 x 64.*shares"):
        ConvFeatures(Blocks(), **OWN, ignore=[SQUARE]).fit(X)


def test_a_later_image_of_another_size_is_refused_by_name(tmp_path):
    path = str(tmp_path / "small.png")
    Image.fromarray(photos(1, 32, 32)[0]).save(path)
    lazy = ConvFeatures(Blocks(), **OWN, ignore=[SQUARE]).fit(photos()).transform([path])
    with pytest.raises(
        ValueError, match=r"small.png' \(position 0 in the list\) has 32 x 32 pixels"
    ):
        np.asarray(lazy)


class Broken(Blocks):
    def forward(self, x):
        return super().forward(x + float("nan"))


def test_what_a_network_cannot_compute_does_not_pass_for_ignored():
    lazy = ConvFeatures(Broken(), **OWN).fit_transform(photos())
    with pytest.raises(
        ValueError, match=r"image <ndarray> \(position 0 in the list\) are not finite"
    ):
        np.asarray(lazy)


def test_a_projection_keeps_ignored_patches():
    values = np.random.default_rng(0).normal(size=(2, 3, 4, 30)).astype(np.float32)
    values[0, 1, 2] = np.nan
    projected = RandomProjection(5).fit_transform(values)
    missing = np.isnan(projected)
    assert missing[0, 1, 2].all() and missing.sum() == 5


def test_patches_that_are_nan_in_part_are_refused():
    values = np.zeros((2, 3, 4, 5), dtype=np.float32)
    values[0, 1, 2, 3] = np.nan
    with pytest.raises(ValueError, match=r"NaN.*some are and some are not"):
        RandomProjection(2).fit(values)
    values[0, 1, 2] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        RandomProjection(2).fit(values)


def grids(n=12, width=10, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 1, width, 4)).astype(np.float32)


def without_columns(X, columns):
    """The same grids with some patches ignored, and without them."""
    ignored = X.copy()
    ignored[:, :, columns] = np.nan
    return ignored, np.delete(X, columns, axis=2)


KNN = {
    "one image": RoutedKNNScorer(n_neighbors=2),
    "folds": RoutedKNNScorer(n_neighbors=2, calibration="k-fold"),
    "in-sample": RoutedKNNScorer(n_neighbors=2, calibration="in-sample"),
    "routes": RoutedKNNScorer(n_neighbors=1, routing="top1"),
    "two routes": RoutedKNNScorer(n_neighbors=1, routing="top2"),
}


@pytest.mark.parametrize("knn", KNN.values(), ids=KNN.keys())
def test_ignored_patches_change_nothing_for_the_others(knn):
    """Grids of one row: to ignore columns is to cut them out."""
    columns = [2, 3, 7]
    X, new = grids(), grids(4, seed=1)
    fit_params = {"bank__categories": np.repeat(["a", "b"], 6)} if knn.routing else {}
    maps = []
    for train, test in zip(without_columns(X, columns), without_columns(new, columns), strict=True):
        pipe = Pipeline([("bank", CoresetBank(0.5, random_state=0)), ("knn", knn)])
        maps.append((pipe.fit_transform(train, **fit_params), pipe.transform(test)))
    for ignored, cut in zip(*maps, strict=True):
        assert cut.ignored is None
        expected = np.isin(np.arange(10), columns)
        np.testing.assert_array_equal(ignored.ignored, np.tile(expected, (len(ignored), 1, 1)))
        assert not ignored.values[ignored.ignored].any()
        np.testing.assert_array_equal(ignored.values[:, :, ~expected], cut.values)
        if cut.surprise is not None:
            assert not ignored.surprise[ignored.ignored].any()
            np.testing.assert_allclose(
                ignored.surprise[:, :, ~expected], cut.surprise, rtol=1e-5, atol=1e-6
            )
        if knn.routing:
            assert ignored.route.tolist() == cut.route.tolist()
            np.testing.assert_allclose(ignored.route_distance, cut.route_distance)


def test_a_stream_takes_no_entry_from_ignored_patches():
    X = photos(12)
    mask = right_third()
    X[:, mask] //= 4  # dark there, and nowhere else
    pipe = make_structcore(
        ConvFeatures(Blocks(), **OWN, ignore=mask),
        projection__n_components=None,
        bank__ratio=20,
    )
    whole = pipe[:3].fit(X)["bank"]
    pipe.set_params(bank__max_memory=80_000)
    streamed = pipe[:3].fit(X)["bank"]
    for bank in (whole.bank_, streamed.bank_):
        assert np.isfinite(bank.values).all() and len(bank) == 20
    left = np.asarray(pipe["features"].transform(X))[~expected_right(12)]
    for entry in streamed.bank_.values:
        assert (np.abs(left - entry).max(axis=1) < 1e-6).any()


def test_ratio_is_a_share_of_what_counts_in_a_stream_too():
    pipe = make_structcore(
        ConvFeatures(Blocks(), **OWN, ignore=right_third()),
        projection__n_components=None,
        bank__ratio=0.05,
    )
    sizes = []
    for change in ({}, {"bank__max_memory": 100_000}, {"bank__shard_size": 4}):
        pipe.set_params(bank__max_memory=2**31, bank__shard_size=None).set_params(**change)
        sizes.append(len(pipe[:3].fit(photos(12))["bank"].bank_))
    assert sizes == [round(0.05 * (~expected_right(12)).sum())] * 3


@pytest.mark.parametrize("n_routes", [None, 1, 2])
def test_an_image_all_of_which_is_ignored_is_refused(n_routes, monkeypatch):
    monkeypatch.setattr("skstructcore._utils.rows._PATCHES_PER_BATCH", 40)  # 4 images a batch
    X = grids()
    bank = CoresetBank(0.5, n_routes=n_routes, random_state=0)
    pipe = Pipeline([("bank", bank), ("knn", RoutedKNNScorer(routing="auto"))]).fit(X)
    X[5] = np.nan
    with pytest.raises(ValueError, match="Every patch of image 5 is ignored"):
        pipe.transform(X)


@pytest.mark.parametrize("calibration", ["leave-one-image-out", "in-sample"])
@pytest.mark.parametrize("routing", ["top1", "top2"])
def test_a_training_image_all_of_which_is_ignored_is_refused(routing, calibration):
    X = grids()
    bank = CoresetBank(0.5, random_state=0)
    patches = bank.fit_transform(X, categories=["a", "b"] * (len(X) // 2))
    values = np.array(patches.values)
    values[5] = np.nan
    knn = RoutedKNNScorer(routing=routing, calibration=calibration)
    with pytest.raises(ValueError, match="Every patch of image 5 is ignored"):
        knn.fit_transform(replace(patches, values=values))


def nuts_and_bolts(seed=0):
    """Eight dark nuts, eight bright bolts; of nuts the left is ignored, of bolts the right."""
    X = photos(16, 32, 32, seed)
    X[:8] //= 4
    X[8:] = 255 - X[8:] // 4
    left = np.zeros((32, 32), dtype=bool)
    left[:, :16] = True
    pipe = make_structcore(
        ConvFeatures(Blocks(), **OWN, ignore={"nut": left, "bolt": ~left}),
        projection__n_components=None,
        bank__ratio=0.3,
        structcore__false_alarm_rate=0.2,
    )
    return X, np.repeat(["nut", "bolt"], 8), pipe


def test_each_category_has_its_own_region():
    X, categories, pipe = nuts_and_bolts()
    images = ImageSet(X, ["good"] * 16, categories=categories)
    maps = pipe[:-1].fit_transform(images)
    new = pipe[:-1].transform(X)  # nobody says which is which
    assert new.route.tolist() == categories.tolist()
    for ignored in (maps.ignored, new.ignored):
        assert ignored[:8, :, :8].all() and not ignored[:8, :, 8:].any()
        assert ignored[8:, :, 8:].all() and not ignored[8:, :, :8].any()
    times = stage_times(pipe.fit(images), X[:1], n_repeats=1)
    assert list(times.index) == ["features", "search", "score", "all"]
    with pytest.raises(ValueError, match="n_repeats must be an int in the range"):
        stage_times(pipe, X[:1], n_repeats=0)


def test_update_keeps_the_density_of_the_patches_that_count():
    X = without_columns(grids(20), [0, 1, 2, 3, 4])[0]
    pipe = make_pipeline(
        CoresetBank(1.0, random_state=0),
        RoutedKNNScorer(routing="auto"),
        StructCoreScorer(false_alarm_rate=0.1),
    )
    grown = update(pipe.fit(X[:12]), X[12:], force=True)
    assert len(pipe[0].bank_) * 20 / 12 == len(grown[0].bank_) == len(clone(pipe).fit(X)[0].bank_)


def test_time_is_estimated_of_regions_by_category():
    X, categories, pipe = nuts_and_bolts()
    assert estimate_time(pipe, X, bank__categories=categories).held_out > 0


@pytest.mark.parametrize("said", [None, "nut"])
def test_update_takes_no_entry_from_ignored_patches(said):
    X, categories, pipe = nuts_and_bolts()
    pipe.fit(X, bank__categories=categories)
    new = nuts_and_bolts(seed=1)[0][:8]
    grown = update(pipe, new, categories=said, force=True)
    entries = grown["bank"].bank_
    entries = entries.values[entries.image_index >= 16]
    counted = np.asarray(pipe[:-3].transform(new).showing(["nut"] * 8))[:, :, 8:]
    counted = {row.tobytes() for row in counted.reshape(-1, counted.shape[-1])}
    assert len(entries) and all(row.tobytes() in counted for row in entries)


@pytest.mark.filterwarnings("ignore:.*training images are forgotten", "ignore:Fewer than")
def test_forget_takes_away_the_patches_that_counted():
    X, categories, pipe = nuts_and_bolts()
    pipe.fit(X, bank__categories=categories)
    smaller = forget(pipe, X[:4])
    # Half of the 256 patches of each image count; bolts come first.
    totals = [expectation.sums[0, -1] for expectation in smaller["knn"].expectations_]
    assert totals == pytest.approx([8 * 128, 4 * 128])
    assert np.isfinite(smaller.score_samples(X)).all()


def test_regions_by_category_need_categories():
    features = ConvFeatures(Blocks(), **OWN, ignore={"nut": right_third()})
    pipe = make_structcore(features, projection__n_components=None)
    with pytest.raises(ValueError, match="fit has to know the category of each image"):
        pipe.fit(photos(6))
    with pytest.raises(ValueError, match="An array cannot hold"):
        np.asarray(features.fit_transform(photos()))
    pipe.set_params(knn__routing=None)
    with pytest.raises(ValueError, match="not routed"):
        pipe.fit(photos(6), bank__categories=["nut"] * 3 + ["bolt"] * 3).predict(photos(1))


def test_shares_of_a_box_that_is_no_whole_pixel():
    mask = np.ones((1, 4), dtype=bool)
    mask[0, 0] = False
    assert shares_of_patches(mask, (0, 0.5, 1, 3.5), (1, 3)).tolist() == [[0.5, 1.0, 1.0]]


DESCRIPTORS_OF_VALUES = ["max", "mean", "std", "median", "top1", "top30", "contrast"]


@pytest.mark.parametrize("name", DESCRIPTORS_OF_VALUES)
def test_descriptors_of_values_are_those_of_the_patches_that_are_left(name):
    maps = np.random.default_rng(0).gamma(2.0, size=(2, 6, 7))
    ignored = np.zeros(maps.shape, dtype=bool)
    ignored[0, 2:5, 3:] = True
    left = maps[0][~ignored[0]].reshape(1, 5, 6)
    found = compute_descriptors(maps, [name], ignored=ignored)
    np.testing.assert_allclose(found[0], compute_descriptors(left, [name])[0])
    np.testing.assert_array_equal(found[1], compute_descriptors(maps, [name])[1])


def test_descriptors_that_look_around_do_not_look_at_ignored_patches():
    """9 is ignored. Differences: 1 and 3 from 1 to 2 and 5, none to 9. Means of what is left of
    each 3 x 3, edges repeated: at 5 of (1, 1, 2), (1, 1, 2), (5, 5, -): 17 / 8."""
    maps, ignored = (
        np.array([[[1.0, 2.0], [5.0, 9.0]]]),
        np.array([[[False, False], [False, True]]]),
    )
    found = compute_descriptors(maps, ["tv", "smoothmax"], ignored=ignored)
    # At 5, rows 1, 1 (repeated) and 0: the corner 5 is there twice by rows and twice by columns.
    neighbours = np.pad(maps[0], 1, mode="edge")[1:4, 0:3]
    counted = ~np.pad(ignored[0], 1, mode="edge")[1:4, 0:3]
    np.testing.assert_allclose(found, [[(1 + 4) / 3, neighbours[counted].mean()]])


@pytest.mark.parametrize("name", ["tv", "smoothmax", "moran", "component"])
def test_what_is_ignored_may_hold_anything(name):
    maps = np.random.default_rng(0).gamma(2.0, size=(3, 8, 9))
    ignored = np.zeros(maps.shape, dtype=bool)
    ignored[:, 2:5, 3:] = True
    expected = compute_descriptors(maps, [name], ignored=ignored)
    other = np.where(ignored, 100.0, maps)
    np.testing.assert_allclose(compute_descriptors(other, [name], ignored=ignored), expected)
    nothing = np.zeros_like(ignored)
    np.testing.assert_allclose(
        compute_descriptors(maps, [name], ignored=nothing), compute_descriptors(maps, [name])
    )


def test_moran_counts_pairs_of_which_neither_is_ignored():
    maps = np.random.default_rng(0).normal(size=(1, 4, 5))
    ignored = np.random.default_rng(1).random((1, 4, 5)) < 0.3
    values = dict(np.ndenumerate(np.where(ignored, np.nan, maps)[0]))
    left = {place: value for place, value in values.items() if not np.isnan(value)}
    centre, variance = np.mean(list(left.values())), np.var(list(left.values()))
    products = [
        (left[r, c] - centre) * (left[other] - centre)
        for r, c in left
        for other in ((r + 1, c), (r, c + 1))
        if other in left
    ]
    found = compute_descriptors(maps, ["moran"], ignored=ignored)
    np.testing.assert_allclose(found, [[np.mean(products) / variance]])


def test_own_descriptors_get_what_is_left():
    def spread(maps):
        return maps.max(axis=(1, 2)) - maps.min(axis=(1, 2))

    maps, ignored = (
        np.array([[[1.0, 2.0], [5.0, 0.0]]]),
        np.array([[[False, False], [False, True]]]),
    )
    assert compute_descriptors(maps, [spread], ignored=ignored).tolist() == [[4.0]]


def fitted(X, **params):
    """A pipeline that ignores the right half; each patch sees 3 pixels around its own."""
    mask = np.zeros(X.shape[1:3], dtype=bool)
    mask[:, X.shape[2] // 2 :] = True
    return make_structcore(
        ConvFeatures(Blocks(), ("stage1",), image_size=64, ignore=mask),
        projection__n_components=None,
        bank__ratio=50,
        structcore__false_alarm_rate=0.2,
        **params,
    ).fit(X)


@pytest.mark.parametrize("resolution", ["grid", "full"])
def test_nothing_in_the_ignored_half_changes_the_judgement(resolution):
    X = photos(12) // 4
    pipe = fitted(X, structcore__resolution=resolution)
    other = X[:3].copy()
    other[:, :, 40:] = 255
    described = [pipe[-1].describe(pipe[:-1].transform(images)) for images in (X[:3], other)]
    assert described[0].equals(described[1])
    pixels = pipe.transform(other)
    np.testing.assert_array_equal(pixels, pipe.transform(X[:3]))
    assert not pixels[:, :, 32:].any() and pixels[:, :, :32].all()


def test_area_over_is_a_share_of_what_counts():
    X = photos(12) // 4
    pipe = fitted(X)
    bad = X[:1].copy()
    bad[:, 32:, :32] = 255 - bad[:, 32:, :32]  # the lower half of the left half
    parts = pipe[-1].describe(pipe[:-1].transform(bad)).iloc[0]
    assert 0.45 < parts["area_over"] < 0.6
    assert parts["region_right"] <= 32


def test_a_pixel_map_without_ignored_patches_is_the_same_beside_one_that_has_some():
    maps = np.random.default_rng(0).random((2, 8, 8)).astype(np.float32)
    ignored = np.zeros((2, 8, 8), dtype=bool)
    ignored[1, :3] = True
    pixels = upsample_counted(maps, ignored, (48, 48), sigma=4.0)
    np.testing.assert_array_equal(pixels[0], upsample_maps(maps[:1], (48, 48), 4.0)[0])


def test_pixel_maps_are_smoothed_by_what_counts_alone():
    ignored = np.zeros((1, 4, 4), dtype=bool)
    ignored[:, 2:, 1:] = True
    maps = np.where(ignored, 0.0, 3.0)
    pixels = upsample_counted(maps, ignored, (32, 32), sigma=4.0)
    out = np.kron(ignored[0], np.ones((8, 8), dtype=bool))
    np.testing.assert_allclose(pixels[0], np.where(out, 0, 3), rtol=1e-5)


@pytest.mark.parametrize("metric", [pixel_auroc_score, aupro_score])
def test_pixel_metrics_do_not_count_ignored_pixels(metric):
    rng = np.random.default_rng(0)
    masks, maps = np.zeros((3, 8, 9), dtype=bool), rng.normal(size=(3, 8, 9))
    masks[0, 1:4, 1:3] = masks[1, 5:, 2:4] = True
    ignored = np.zeros_like(masks)
    ignored[:, :, 5:] = True
    expected = metric(masks[:, :, :5], maps[:, :, :5])
    masks[2, 4:, 6:], maps[:, :, 7] = True, 50
    assert metric(masks, maps, ignored=ignored) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="no anomalous pixel"):
        metric(masks[2:], maps[2:], ignored=ignored[2:])
    with pytest.raises(ValueError, match="one array of the size of its mask"):
        metric(masks, maps, ignored=ignored[:, :, 1:])


def test_evaluation_and_scorers_leave_ignored_pixels_out():
    X = photos(16) // 4
    pipe = fitted(X[:12])
    masks = np.zeros((4, 64, 64), dtype=bool)
    masks[2, 10:20, 10:20] = masks[3, 30:60, 5:15] = True
    test = X[12:].copy()
    test[masks] = 255
    images = ImageSet(test, ["good", "good", "spot", "spot"], masks=[None, None, *masks[2:]])
    row = evaluate(pipe, images).table().loc["all"]
    worse = test.copy()
    worse[:, :, 50:] = 255  # nothing but false alarms, if it counted
    again = ImageSet(worse, images.y, masks=images.masks)
    assert evaluate(pipe, again).table().loc["all"].equals(row)
    assert scorers.aupro_scorer(pipe, again) == row["aupro"]
    assert row["pixel_auroc"] > 0.9

    def area(masks, maps):
        return 1.0

    def ignored_share(masks, maps, **about):
        return about["ignored"].mean()

    with pytest.raises(TypeError, match="unexpected keyword argument 'ignored'"):
        scorers.make_anomaly_scorer(area, on_maps=True)(pipe, images)
    share = scorers.make_anomaly_scorer(ignored_share, on_maps=True)
    assert 0 < share(pipe, images) < 1


def test_models_with_ignored_regions_can_be_kept_and_grown(tmp_path):
    from skstructcore.model_files import load, save

    X = photos(12) // 4
    pipe = fitted(X)
    save(pipe, tmp_path / "model.skstruct")
    images = [Image.fromarray(image) for image in X[:2]]
    expected = pipe.score_samples(images)
    for again in (load(tmp_path / "model.skstruct"), joblib_copy(pipe, tmp_path)):
        again["features"].set_params(model=pipe["features"].model)
        np.testing.assert_array_equal(again.score_samples(images), expected)


def joblib_copy(pipe, folder):
    joblib.dump(pipe, folder / "model.joblib")
    return joblib.load(folder / "model.joblib")


def test_a_region_that_is_changed_in_place_is_noticed():
    mask = np.zeros((64, 64), bool)
    mask[:, :32] = True
    features = ConvFeatures(Blocks(), ignore=mask, **OWN).fit(photos())
    mask[:, :48] = True
    with pytest.raises(ValueError, match=r"ignore is .* fitted with"):
        features.transform(photos())


def test_a_stream_knows_the_patches_that_count_in_each_category():
    features = ConvFeatures(Blocks(), **OWN, ignore={"a": right_third(), "b": right_third()})
    lazy = features.fit_transform(photos()).showing(["a", "b", "a"])
    assert lazy.ignored_share() == expected_right().mean()


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (
            [[(0, 0), (0.01, 0), (0.01, 0.01)]],
            r"ignore\['a'\] covers less than half of every patch",
        ),
        ("background", r"ignore\['a'\] holds 'background', which is looked for in all images"),
    ],
)
def test_a_region_of_a_category_without_effect_is_refused(region, message):
    features = ConvFeatures(Blocks(), **OWN, ignore={"a": region, "b": right_third()})
    with pytest.raises(ValueError, match=message):
        features.fit_transform(photos()).showing(["a", "b", "a"])
