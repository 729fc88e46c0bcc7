import pickle
import sys

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import NearestNeighbors

from skstructcore import CoresetBank, Patches, RoutedKNNScorer, make_structcore
from skstructcore.knn.held_out import assign_folds
from skstructcore.knn.search import score_held_out


@pytest.fixture
def images():
    """Ten images of 3 x 4 patches with 6 features."""
    return np.random.default_rng(0).normal(size=(10, 3, 4, 6)).astype(np.float32)


def fitted_patches(images, ratio=0.2, **fit_params):
    return CoresetBank(ratio, random_state=0).fit_transform(images, **fit_params)


@pytest.mark.parametrize("n_neighbors", [1, 3])
@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
def test_maps_are_mean_distances_to_the_nearest_entries(images, n_neighbors, metric):
    bank = CoresetBank(0.2, random_state=0)
    scorer = RoutedKNNScorer(n_neighbors, metric=metric).fit(bank.fit_transform(images))
    new = np.random.default_rng(1).normal(size=(4, 3, 4, 6)).astype(np.float32)
    maps = scorer.transform(bank.transform(new))
    reference = NearestNeighbors(n_neighbors=n_neighbors, metric=metric).fit(bank.bank_.values)
    expected = reference.kneighbors(new.reshape(-1, 6))[0].mean(axis=1).reshape(4, 3, 4)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(np.asarray(maps), expected, rtol=1e-5)


def test_training_images_are_scored_without_their_own_entries(images):
    patches = fitted_patches(images)
    maps = RoutedKNNScorer(2).fit_transform(patches)
    bank = patches.bank
    for image in range(len(images)):
        others = bank.values[bank.image_index != image]
        reference = NearestNeighbors(n_neighbors=2).fit(others)
        expected = reference.kneighbors(images[image].reshape(-1, 6))[0].mean(axis=1)
        np.testing.assert_allclose(maps.values[image].ravel(), expected, rtol=1e-5)


def test_groups_are_left_out_together(images):
    groups = np.repeat(["a", "b"], 5)
    patches = fitted_patches(images, groups=groups)
    maps = RoutedKNNScorer(1, calibration="leave-one-image-out").fit_transform(patches)
    bank = patches.bank
    others = bank.values[bank.groups == 1]
    expected = NearestNeighbors(n_neighbors=1).fit(others).kneighbors(images[0].reshape(-1, 6))[0]
    np.testing.assert_allclose(maps.values[0].ravel(), expected.ravel(), rtol=1e-5)


def test_k_fold_scores_with_banks_of_the_same_size_from_the_other_folds(images):
    images = images[:5]
    patches = fitted_patches(images)
    maps = RoutedKNNScorer(1, calibration="k-fold").fit_transform(patches)
    # With as many folds as images each is scored by a coreset of the four others: no patch
    # can be farther than from all patches of the others, scaled by the coverage radius.
    others = images[1:].reshape(-1, 6)
    nearest = NearestNeighbors(n_neighbors=1).fit(others).kneighbors(images[0].reshape(-1, 6))[0]
    assert (maps.values[0].ravel() >= nearest.ravel() - 1e-5).all()
    assert maps.values[0].min() > 0


@pytest.mark.parametrize("groups", [None, [*range(10), 10, 11], [0] * 8 + [1, 1, 2, 3]])
def test_no_bank_of_k_fold_holds_what_contamination_left_out(groups):
    X = np.random.default_rng(0).normal(size=(12, 2, 2, 3)).astype(np.float32)
    X[10] += 50
    X[11] += 80
    bank = CoresetBank(1.0, contamination=0.15, random_state=0)
    patches = bank.fit_transform(X, groups=groups)
    assert bank.left_out_.tolist() == [10, 11]
    maps = RoutedKNNScorer(1, calibration="k-fold").fit_transform(patches)
    good = X[:10].reshape(-1, 3)
    for i in (10, 11):  # neither is near to the other: only good images are in the banks
        least = NearestNeighbors(n_neighbors=1).fit(good).kneighbors(X[i].reshape(-1, 3))[0]
        assert (maps.values[i].ravel() >= least.ravel() - 1e-4).all()


def test_in_sample_scores_are_those_of_transform(images):
    patches = fitted_patches(images)
    scorer = RoutedKNNScorer(1, calibration="in-sample")
    maps = scorer.fit_transform(patches)
    np.testing.assert_array_equal(maps.values, scorer.transform(patches).values)
    assert (maps.values == 0).sum() == len(patches.bank)


def test_held_out_scores_are_higher_than_in_sample(images):
    patches = fitted_patches(images)
    held_out = RoutedKNNScorer(1).fit_transform(patches).values
    in_sample = RoutedKNNScorer(1, calibration="in-sample").fit_transform(patches).values
    assert (held_out >= in_sample).all() and held_out.mean() > in_sample.mean()


def test_score_samples_is_minus_max_pooling(images):
    patches = fitted_patches(images)
    scorer = RoutedKNNScorer(1).fit(patches)
    maps = scorer.transform(patches)
    np.testing.assert_allclose(scorer.score_samples(patches), -maps.values.max(axis=(1, 2)))


def test_few_entries_outside_of_a_group_are_averaged_over_those_left():
    # Two images; the bank holds two entries of image 0 and one of image 1.
    images = np.array([[0.0, 3.0], [5.0, 5.0]], dtype=np.float32).reshape(2, 1, 2, 1)
    patches = CoresetBank(ratio=3, random_state=0).fit_transform(images)
    maps = RoutedKNNScorer(2).fit_transform(patches)
    assert maps.values[0].ravel().tolist() == [5.0, 2.0]


def test_patches_of_transform_cannot_be_scored_held_out(images):
    bank = CoresetBank(random_state=0).fit(images)
    for learn in (RoutedKNNScorer(1).fit, RoutedKNNScorer(1).fit_transform):
        with pytest.raises(ValueError, match=r"CoresetBank\.fit_transform.*'in-sample'"):
            learn(bank.transform(images))
    in_sample = RoutedKNNScorer(1, calibration="in-sample").fit(bank.transform(images))
    assert in_sample.expectations_ is None


def test_patches_of_another_bank_are_an_error(images):
    scorer = RoutedKNNScorer(1).fit(fitted_patches(images))
    other = CoresetBank(0.3, random_state=1).fit(images)
    with pytest.raises(ValueError, match="another memory bank than the one"):
        scorer.transform(other.transform(images))
    # A bank that was saved and loaded by itself is the same bank.
    copy = pickle.loads(pickle.dumps(CoresetBank(0.2, random_state=0).fit(images)))
    scorer.transform(copy.transform(images))


def test_one_training_image_is_an_error_that_names_the_way_out(images):
    with pytest.raises(ValueError, match=r"at least two training images.*in-sample"):
        RoutedKNNScorer(1).fit_transform(fitted_patches(images[:1]))


def test_of_fewer_images_than_folds_each_is_a_fold(images):
    maps = RoutedKNNScorer(1, calibration="k-fold").fit_transform(fitted_patches(images[:3]))
    assert maps.values.min() > 0


def test_more_neighbours_than_entries_is_an_error(images):
    with pytest.raises(ValueError, match="n_neighbors=9 is larger than the bank"):
        RoutedKNNScorer(9).fit(CoresetBank(ratio=8).fit_transform(images))


def test_raw_patch_grids_without_a_bank_are_an_error(images):
    with pytest.raises(ValueError, match="needs a bank"):
        RoutedKNNScorer(1).fit(images)


def test_copies_of_training_images_are_scored_without_their_originals(images):
    patches = fitted_patches(images)
    scorer = RoutedKNNScorer(2)
    held_out = scorer.fit_transform(patches)
    maps, _ = score_held_out(scorer.search_, patches)
    np.testing.assert_array_equal(maps.values, held_out.values)


@pytest.fixture
def two_products():
    """Ten images of each of two products that share no content, and their labels."""
    rng = np.random.default_rng(2)
    centres = 4 * rng.normal(size=(2, 1, 1, 1, 6))
    images = centres + rng.normal(size=(2, 10, 3, 4, 6))
    return images.reshape(20, 3, 4, 6).astype(np.float32), np.repeat(["left", "right"], 10)


@pytest.mark.parametrize("routing", ["auto", "top1"])
def test_routed_images_are_compared_with_the_bank_of_their_route(two_products, routing):
    images, labels = two_products
    bank = CoresetBank(0.2, random_state=0)
    patches = bank.fit_transform(images, categories=labels)
    scorer = RoutedKNNScorer(2, routing=routing).fit(patches)
    new = images + np.float32(0.1)
    maps = scorer.transform(bank.transform(new))
    assert (maps.route == labels).all()
    for product in ("left", "right"):
        entries = bank.bank_.values[labels[bank.bank_.image_index] == product]
        mine = new[labels == product].reshape(-1, 6)
        expected = NearestNeighbors(n_neighbors=2).fit(entries).kneighbors(mine)[0].mean(axis=1)
        np.testing.assert_allclose(maps.values[labels == product].ravel(), expected, rtol=1e-5)


def test_routed_training_images_are_scored_without_their_own_entries(two_products):
    images, labels = two_products
    patches = CoresetBank(0.2, random_state=0).fit_transform(images, categories=labels)
    maps = RoutedKNNScorer(1, routing="top1").fit_transform(patches)
    bank = patches.bank
    others = bank.values[(bank.image_index != 3) & (labels[bank.image_index] == "left")]
    expected = NearestNeighbors(n_neighbors=1).fit(others).kneighbors(images[3].reshape(-1, 6))[0]
    np.testing.assert_allclose(maps.values[3].ravel(), expected.ravel(), rtol=1e-5)
    # Their distance to the route is held out as well: larger than that of a seen image.
    scorer = RoutedKNNScorer(1, routing="top1").fit(patches)
    seen = scorer.transform(Patches(images, patches.bank))
    assert maps.route_distance.mean() > seen.route_distance.mean()


def test_all_routes_together_are_the_whole_bank(two_products):
    images, labels = two_products
    patches = CoresetBank(0.2, random_state=0).fit_transform(images, categories=labels)
    for calibration in ("leave-one-image-out", "k-fold", "in-sample"):
        scorers = [RoutedKNNScorer(2, routing=r, calibration=calibration) for r in (None, "top2")]
        whole, both = (scorer.fit_transform(patches) for scorer in scorers)
        if calibration != "k-fold":  # whose banks are selected route by route
            np.testing.assert_array_equal(whole.values, both.values)
        assert whole.route is None and (both.route == labels).all()


def test_without_routing_a_bank_of_several_routes_is_searched_as_one(two_products):
    images, labels = two_products
    bank = CoresetBank(0.2, random_state=0)
    scorer = RoutedKNNScorer(1).fit(bank.fit_transform(images, categories=labels))
    maps = scorer.transform(bank.transform(images))
    expected = NearestNeighbors(n_neighbors=1).fit(bank.bank_.values)
    expected = expected.kneighbors(images.reshape(-1, 6))[0]
    np.testing.assert_allclose(maps.values.ravel(), expected.ravel(), rtol=1e-5, atol=1e-6)


def test_routing_auto_without_routes_searches_the_whole_bank(images):
    patches = fitted_patches(images)
    auto, none = (RoutedKNNScorer(2, routing=r).fit_transform(patches) for r in ("auto", None))
    np.testing.assert_array_equal(auto.values, none.values)
    assert auto.route is None


def test_patches_of_transform_are_scored_in_sample_by_their_route(two_products):
    X, categories = two_products
    bank = CoresetBank(0.5, random_state=0).fit(X, categories=categories)
    knn = RoutedKNNScorer(1, routing="auto", calibration="in-sample")
    maps = knn.fit_transform(bank.transform(X))
    again = knn.transform(bank.transform(X))
    np.testing.assert_array_equal(maps.values, again.values)
    np.testing.assert_array_equal(maps.route_distance, again.route_distance)


def test_one_training_image_of_a_route_is_an_error_that_names_the_route(two_products):
    X, categories = two_products
    patches = CoresetBank(0.5, random_state=0).fit_transform(X, categories=categories)
    first = [*np.flatnonzero(patches.routes == 0), np.flatnonzero(patches.routes == 1)[0]]
    name = patches.bank.route_names[1]
    with pytest.raises(ValueError, match=f"Of route {name} there are 1 training image"):
        RoutedKNNScorer(1, routing="auto").fit_transform(patches[first])


@pytest.mark.parametrize("routing", ["top0", "best", "top", "top-1"])
def test_unknown_routing_is_an_error(two_products, routing):
    with pytest.raises(ValueError, match=r"routing must be None, 'auto', 'top1'"):
        RoutedKNNScorer(1, routing=routing).fit(fitted_patches(two_products[0]))


def test_routing_without_routes_is_an_error_that_says_how_to_get_them(images):
    with pytest.raises(ValueError, match="bank__categories="):
        RoutedKNNScorer(1, routing="top1").fit(fitted_patches(images))


def test_more_neighbours_than_a_route_has_entries_is_an_error_that_names_it(two_products):
    images, labels = two_products
    patches = CoresetBank(ratio=3).fit_transform(images, categories=labels)
    with pytest.raises(ValueError, match="larger than the bank of route 'left', which has 3"):
        RoutedKNNScorer(4, routing="top1").fit(patches)


@pytest.mark.parametrize("routing", [None, "top1"])
def test_a_torch_device_finds_what_the_processor_finds(two_products, routing):
    images, labels = two_products
    patches = CoresetBank(0.3, random_state=0, device="cpu").fit_transform(
        images, categories=labels
    )
    maps = [
        RoutedKNNScorer(2, routing=routing, device=device).fit_transform(patches)
        for device in ("cpu", "torch:cpu")
    ]
    np.testing.assert_allclose(maps[1].values, maps[0].values, rtol=1e-5)
    with pytest.raises(ValueError, match="device='cuda:9' cannot be used here"):
        RoutedKNNScorer(2, device="cuda:9").fit(patches)
    # The device is where the exact search computes: another one has no use for it.
    RoutedKNNScorer(2, device="cuda:9", algorithm="approximate").fit_transform(patches)


def test_the_first_fit_of_a_small_bank_compiles_no_approximate_search(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynndescent", None)  # importing it would raise
    images = np.random.default_rng(0).normal(size=(20, 4, 4, 6)).astype(np.float32)
    pipes = [
        make_structcore("efficientnet_lite0", bank__ratio=0.4, knn__algorithm=algorithm)[2:]
        for algorithm in ("exact", "approximate")
    ]
    scores = [pipe.fit(images).score_samples(images + np.float32(0.3)) for pipe in pipes]
    assert len(pipes[1]["bank"].bank_) == 128 and pipes[1]["knn"].recall_ == 1.0
    np.testing.assert_array_equal(*scores)


@pytest.mark.slow  # pynndescent compiles for a minute
def test_the_approximate_search_says_what_it_misses(monkeypatch):
    monkeypatch.setattr("skstructcore.neighbors.index.FEW_ENTRIES", 0)
    images = np.random.default_rng(0).normal(size=(30, 4, 4, 6)).astype(np.float32)
    patches = CoresetBank(0.5, random_state=0).fit_transform(images)
    exact, near = (RoutedKNNScorer(1, algorithm=a).fit(patches) for a in ("exact", "approximate"))
    assert exact.recall_ == 1.0 and 0.8 < near.recall_ <= 1.0
    new = Patches(images + np.float32(0.3), patches.bank)
    values = [scorer.transform(new).values for scorer in (exact, near)]
    assert (values[1] >= values[0] - 1e-6).all()  # it can miss the nearest, never invent one
    assert (values[1] == values[0]).mean() > 0.8


def test_folds_keep_groups_together_and_spread_every_route():
    groups, routes = np.arange(30) // 2, np.repeat([0, 1], [20, 10])
    folds = assign_folds(groups, routes, np.random.RandomState(0))
    assert (folds[::2] == folds[1::2]).all()
    for route, size in ((0, 4), (1, 2)):
        assert np.bincount(folds[routes == route]).tolist() == [size] * 5


def test_k_fold_takes_a_bank_whose_folds_have_fewer_entries_than_neighbours():
    X = np.random.default_rng(0).normal(size=(6, 3))
    patches = CoresetBank(1.0, random_state=0).fit_transform(X)
    maps = RoutedKNNScorer(5, calibration="k-fold").fit_transform(patches)
    assert np.isfinite(maps.values).all()
    with pytest.raises(ValueError, match="n_neighbors=7 is larger"):
        RoutedKNNScorer(7, calibration="k-fold").fit(patches)


@pytest.mark.parametrize(
    ("estimator", "n_images"),
    [(CoresetBank(ratio=9), 3), (RoutedKNNScorer(9), 3), (RoutedKNNScorer(1), 1)],
    ids=["ratio", "n_neighbors", "one image"],
)
def test_after_a_fit_that_failed_nothing_is_fitted(estimator, n_images):
    X = np.zeros((n_images, 2))
    with pytest.raises(ValueError, match=r"is larger than|needs at least two training images"):
        estimator.fit(X)
    with pytest.raises(NotFittedError):
        estimator.transform(X)
