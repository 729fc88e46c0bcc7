"""What is ignored: how it is given, and that nothing after it counts it."""

import numpy as np
import pytest
from networks import Blocks
from PIL import Image
from sklearn.pipeline import Pipeline

from skstructcore import (
    ConvFeatures,
    CoresetBank,
    RandomProjection,
    RoutedKNNScorer,
    make_structcore,
)
from skstructcore.datasets import ImageSet
from skstructcore.features._ignored import is_background
from skstructcore.images.ignoring import find_foreground, shares_of_patches

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
    with pytest.raises(ValueError, match=r"several sizes.*32 x 128.*64 x 64.*shares"):
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


@pytest.mark.parametrize("kind", ["gaussian", "sparse"])
def test_a_projection_keeps_ignored_patches(kind):
    values = np.random.default_rng(0).normal(size=(2, 3, 4, 30)).astype(np.float32)
    values[0, 1, 2] = np.nan
    projected = RandomProjection(5, kind=kind).fit_transform(values)
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
    "folds": RoutedKNNScorer(n_neighbors=2, calibration="k-fold", n_folds=3),
    "in-sample": RoutedKNNScorer(n_neighbors=2, calibration="in-sample"),
    "routes": RoutedKNNScorer(n_neighbors=1, routing="top1", n_route_patches=None),
    "two routes": RoutedKNNScorer(n_neighbors=1, routing="top2", n_route_patches=None),
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
        bank__n_patches=20,
    )
    whole = pipe[:3].fit(X)["bank"]
    pipe.set_params(bank__max_memory=80_000)
    streamed = pipe[:3].fit(X)["bank"]
    for bank in (whole.bank_, streamed.bank_):
        assert np.isfinite(bank.values).all() and len(bank) == 20
    left = np.asarray(pipe["features"].transform(X))[~expected_right(12)]
    for entry in streamed.bank_.values:
        assert (np.abs(left - entry).max(axis=1) < 1e-6).any()


def test_an_image_all_of_which_is_ignored_is_refused():
    X = grids()
    pipe = Pipeline([("bank", CoresetBank(0.5, random_state=0)), ("knn", RoutedKNNScorer())])
    pipe.fit(X)
    X[5] = np.nan
    with pytest.raises(ValueError, match="Every patch of image 5 is ignored"):
        pipe.transform(X)


def test_each_category_has_its_own_region():
    """Nuts are dark and bolts bright; of nuts the left is ignored, of bolts the right."""
    X = photos(16, 32, 32)
    X[:8] //= 4
    X[8:] = 255 - X[8:] // 4
    left = np.zeros((32, 32), dtype=bool)
    left[:, :16] = True
    categories = np.repeat(["nut", "bolt"], 8)
    images = ImageSet(X, ["good"] * 16, categories=categories)
    pipe = make_structcore(
        ConvFeatures(Blocks(), **OWN, ignore={"nut": left, "bolt": ~left}),
        projection__n_components=None,
        bank__ratio=0.3,
        structcore__quantile=0.8,
    )
    maps = pipe[:-1].fit_transform(images)
    new = pipe[:-1].transform(X)  # nobody says which is which
    assert new.route.tolist() == categories.tolist()
    for ignored in (maps.ignored, new.ignored):
        assert ignored[:8, :, :8].all() and not ignored[:8, :, 8:].any()
        assert ignored[8:, :, 8:].all() and not ignored[8:, :, :8].any()


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


def part_on(background, size=96):
    """A bright disc with a hole on a plain, noisy background."""
    rng = np.random.default_rng(0)
    rows, cols = np.mgrid[:size, :size] - size / 2
    radius = np.hypot(rows, cols)
    image = background + rng.normal(scale=3, size=(size, size))
    image[(radius < 30) & (radius > 6)] = 230
    return np.stack([np.clip(image, 0, 255).astype(np.uint8)] * 3, axis=-1), radius


@pytest.mark.parametrize("background", [10, 120, 160])
def test_the_part_is_what_differs_from_the_border(background):
    image, radius = part_on(background)
    found = find_foreground(image)
    assert found[radius < 28].all()  # its hole is part of it
    assert not found[radius > 32].any()


def test_without_a_part_the_whole_image_counts():
    """An empty conveyor is not to pass as good."""
    image, _ = part_on(100)
    image[:] = image[0, 0]
    assert find_foreground(image).all()


def test_a_patch_is_background_if_it_shows_nothing_of_the_part():
    image, radius = part_on(10)
    ignored = is_background(image, (12, 12))
    shows = (radius < 30).reshape(12, 8, 12, 8).any(axis=(1, 3))
    assert not ignored[shows].any()
    assert ignored.sum() > 0.5 * (~shows).sum()
    lazy = ConvFeatures(image_size=96, foreground="auto").fit_transform([image])
    np.testing.assert_array_equal(np.isnan(np.asarray(lazy)[0, ..., 0]), ignored)


def test_shares_of_a_box_that_is_no_whole_pixel():
    mask = np.ones((1, 4), dtype=bool)
    mask[0, 0] = False
    assert shares_of_patches(mask, (0, 0.5, 1, 3.5), (1, 3)).tolist() == [[0.5, 1.0, 1.0]]
