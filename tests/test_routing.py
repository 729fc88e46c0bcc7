import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from skstructcore import CoresetBank
from skstructcore.routing import (
    choose_routes,
    pool_patches,
    routing_distances,
    select_prototypes,
)


def products(n_products=3, n_images=8, grid=(3, 4), n_features=10, spread=0.2, seed=0):
    """Images (n, h, w, d) of products whose patches lie around two directions in turn."""
    rng = np.random.default_rng(seed)
    kinds = rng.normal(size=(n_products, 2, n_features))
    which = np.indices(grid).sum(axis=0) % 2
    images = np.repeat(kinds[:, np.newaxis, which], n_images, axis=1)
    images = images + spread * rng.normal(size=images.shape)
    labels = np.repeat([f"p{p}" for p in range(n_products)], n_images)
    return images.reshape(-1, *grid, n_features).astype(np.float32), labels


def test_prototypes_are_the_directions_of_the_patches():
    # Two directions; lengths and a little noise must not matter.
    rng = np.random.default_rng(0)
    rows = np.concatenate([np.outer(rng.uniform(1, 9, 50), [3, 4]), np.outer([1, 2, 5], [-1, 0])])
    found = select_prototypes(rows, 2)
    np.testing.assert_allclose(found[np.argsort(found[:, 0])], [[-1, 0], [0.6, 0.8]], atol=1e-6)


def test_there_are_no_more_prototypes_than_rows():
    assert select_prototypes(np.eye(3), 16).shape == (3, 3)


def test_prototypes_come_closer_to_the_patches_than_k_center_picks():
    rows = products(1, 30)[0].reshape(-1, 10)

    def mean_distance(prototypes):
        return routing_distances(rows[np.newaxis], [prototypes])[0, 0]

    assert mean_distance(select_prototypes(rows, 4)) < mean_distance(
        select_prototypes(rows, 4, n_iter=0)
    )


def test_the_distance_to_a_route_by_hand():
    # At distances of 0, 1 and 2 from the only prototype: 0, 0.5 and 2 - 0.5.
    patches = [[[7.0, 0.0], [0.5, 0.75**0.5], [-2.0, 0.0]]]
    found = routing_distances(patches, [np.array([[1, 0]], np.float32)])
    assert found == pytest.approx(np.array([[2 / 3]]), abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 5))
def test_routing_distances_are_those_of_a_direct_computation(seed, n_routes, n_patches):
    def huber(x):
        return x**2 / 2 if x <= 1 else x - 0.5

    rng = np.random.default_rng(seed)
    patches = rng.normal(size=(2, n_patches, 6))
    prototypes = [select_prototypes(rng.normal(size=(5, 6)), 3) for _ in range(n_routes)]
    unit = patches / np.linalg.norm(patches, axis=2, keepdims=True)
    expected = [
        [
            np.mean([huber(min(np.linalg.norm(row - p) for p in entries)) for row in image])
            for entries in prototypes
        ]
        for image in unit
    ]
    found = routing_distances(patches, prototypes)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_distance_to_a_route_does_not_depend_on_the_others():
    images, _ = products()
    prototypes = [select_prototypes(images[i : i + 8].reshape(-1, 10), 4) for i in (0, 8, 16)]
    flat = images.reshape(len(images), -1, 10)
    together = routing_distances(flat, prototypes)
    np.testing.assert_array_equal(together[:, 1], routing_distances(flat, prototypes[1:2])[:, 0])


def test_pooled_patches_are_the_mean_direction():
    images = np.array([[[[3.0, 4.0], [0.0, 0.0]]]])  # a zero patch has no direction
    np.testing.assert_allclose(pool_patches(images), [[0.3, 0.4]], rtol=1e-6)


def test_groups_are_found_without_labels():
    images, labels = products(5, 10)
    routes = choose_routes(pool_patches(images))
    assert adjusted_rand_score(labels, routes) == 1.0


def test_one_product_is_one_group():
    images, _ = products(1, 40)
    assert choose_routes(pool_patches(images)).max() == 0


def test_a_lone_odd_image_makes_no_group():
    pooled = np.random.default_rng(0).normal(size=(20, 3))
    pooled[7] += 50
    assert choose_routes(pooled).max() == 0


def test_number_of_groups_can_be_given():
    assert choose_routes(pool_patches(products(4)[0]), 2).max() == 1
    with pytest.raises(ValueError, match="n_routes=9 is more than the 8 images"):
        choose_routes(np.zeros((8, 2)), 9)


def test_each_category_gets_a_bank_and_a_profile():
    images, labels = products()
    bank = CoresetBank(ratio=5, random_state=0)
    bank = bank.fit(images, categories=labels).bank_
    assert bank.route_names == ("p0", "p1", "p2")
    assert [len(bank.select(route)) for route in range(3)] == [5, 5, 5]
    assert [profile.prototypes.shape for profile in bank.profiles] == [(16, 10)] * 3
    assert (labels[bank.image_index] == np.array(bank.route_names)[bank.routes]).all()


def test_bank_of_a_category_does_not_depend_on_the_others():
    images, labels = products()
    together = CoresetBank(0.2, random_state=3).fit(images, categories=labels).bank_
    alone = CoresetBank(0.2, random_state=3).fit(images[8:16], categories=labels[8:16]).bank_
    np.testing.assert_array_equal(together.select(1).values, alone.values)
    np.testing.assert_array_equal(together.profiles[1].prototypes, alone.profiles[0].prototypes)


def test_bank_groups_images_without_labels():
    images, labels = products(4, 10)
    patches = CoresetBank(0.2, n_routes="auto", random_state=0).fit_transform(images)
    assert patches.bank.route_names == ("route0", "route1", "route2", "route3")
    assert adjusted_rand_score(labels, patches.routes) == 1.0


def test_bank_without_categories_has_no_profiles():
    assert CoresetBank(0.2).fit(products()[0]).bank_.profiles is None


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        (["p0"] * 23 + ["lone"], r"'lone' has 1 good training image"),
        (["p0"] * 20 + ["unknown"] * 4, "cannot be called 'unknown'"),
        (["p0"] * 20 + [" "] * 4, "categories has no entry for image 20: got ' '"),
        (["p0"] * 3, "categories must have one entry per image: expected 24"),
        ([], "categories must have one entry per image: expected 24"),
    ],
)
def test_categories_that_cannot_be_used_are_errors(categories, message):
    bank = CoresetBank(0.2, random_state=0).fit(products()[0])
    before = bank.bank_
    with pytest.raises(ValueError, match=message):
        bank.fit(products()[0], categories=categories)
    assert bank.bank_ is before


def test_a_category_of_one_group_is_an_error():
    images, labels = products()
    groups = np.where(labels == "p1", 99, np.arange(24))
    with pytest.raises(ValueError, match=r"'p1' has 8 good training image\(s\) in 1 group"):
        CoresetBank(0.2).fit(images, categories=labels, groups=groups)


def test_a_category_of_defects_only_is_an_error():
    images, labels = products()
    y = np.where(labels == "p2", "scratch", "good")
    with pytest.raises(ValueError, match="No good image is left in 'p2'"):
        CoresetBank(0.2).fit(images, y, categories=labels)


def test_categories_and_n_routes_exclude_each_other():
    images, labels = products()
    with pytest.raises(ValueError, match="n_routes=2 groups images that have no labels"):
        CoresetBank(0.2, n_routes=2).fit(images, categories=labels)


def test_bank_of_a_route_shares_the_memory_of_the_whole():
    images, labels = products()
    bank = CoresetBank(0.2, random_state=0).fit(images, categories=labels).bank_
    assert np.shares_memory(bank.select(1).values, bank.values)
    np.testing.assert_array_equal(bank.select(1).values, bank.values[bank.routes == 1])


def test_a_route_to_which_nothing_is_unknown_is_told_of(caplog):
    X, labels = products(n_images=3)
    with caplog.at_level("WARNING", "skstructcore"):
        CoresetBank(20).fit(X, categories=labels)
        assert not caplog.text
        CoresetBank(20).fit(X[1:], categories=labels[1:])
    assert "Route 'p0' has 2 images in 2 groups" in caplog.text


def test_a_number_of_groups_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"n_routes must be an int in the range .*'three'"):
        choose_routes(np.zeros((9, 2)), "three")
