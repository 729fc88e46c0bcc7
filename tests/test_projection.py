import numpy as np
import pytest
from sklearn.base import clone
from sklearn.random_projection import GaussianRandomProjection

from skstructcore import ConvFeatures, RandomProjection


@pytest.fixture
def patches():
    return np.random.default_rng(0).random((3, 2, 4, 20), dtype=np.float32)


def test_projection_equals_that_of_scikit_learn(patches):
    rows = patches.reshape(-1, 20)
    expected = GaussianRandomProjection(6, random_state=3).fit(rows).transform(rows)
    projected = RandomProjection(6, random_state=3).fit_transform(patches)
    assert projected.shape == (3, 2, 4, 6)
    np.testing.assert_allclose(projected.reshape(-1, 6), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("grid", [(1, 1), (3, 3), (7, 7), (8, 8)])
@pytest.mark.parametrize("n_components", [6, 64])
def test_an_image_is_projected_alike_alone_and_in_any_batch(grid, n_components):
    # A matrix product of other shape may differ in the last bit, in old and new OpenBLAS.
    batch = np.random.default_rng(0).normal(size=(5, *grid, 152)).astype(np.float32)
    projection = RandomProjection(n_components).fit(batch)
    alone = [projection.transform(batch[i : i + 1])[0] for i in range(5)]
    np.testing.assert_array_equal(projection.transform(batch), alone)


def test_matrix_of_a_seed_is_fixed():
    # Written down once: a change here would break every saved model's reproducibility.
    components = RandomProjection(2, random_state=42).fit(np.zeros((1, 3))).components_
    expected = [[0.3512, -0.0978, 0.4580], [1.0769, -0.1656, -0.1656]]
    np.testing.assert_allclose(components, expected, atol=1e-4)


def test_matrix_does_not_depend_on_the_data(patches):
    first = RandomProjection(6).fit(patches).components_
    second = RandomProjection(6).fit(np.zeros((1, 20))).components_
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(patches, dtype):
    projection = RandomProjection(6)
    assert projection.fit_transform(patches.astype(dtype)).dtype == dtype


def test_no_components_leaves_features_as_they_are(patches):
    np.testing.assert_array_equal(RandomProjection(None).fit_transform(patches), patches)


def test_squared_distances_are_preserved_in_expectation():
    rows = np.random.default_rng(1).normal(size=(30, 400)).astype(np.float32)
    projected = RandomProjection(256).fit_transform(rows)

    def squared(values):
        differences = values[:, np.newaxis] - values[np.newaxis]
        return (differences**2).sum(-1)[np.triu_indices(30, 1)]

    ratio = squared(projected) / squared(rows)
    assert abs(ratio.mean() - 1) < 0.05
    assert ratio.std() < 1.5 * np.sqrt(2 / 256)


def test_other_number_of_features_is_an_error(patches):
    projection = RandomProjection(6).fit(patches)
    with pytest.raises(ValueError, match=r"X has 19 features.*expecting 20"):
        projection.transform(patches[..., :19])


def test_three_axes_are_an_error():
    with pytest.raises(ValueError, match=r"got an array of shape \(2, 3, 4\)"):
        RandomProjection(2).fit(np.zeros((2, 3, 4)))


def test_feature_names_count_the_components(patches):
    names = RandomProjection(3).fit(patches).get_feature_names_out()
    assert names.tolist() == ["randomprojection0", "randomprojection1", "randomprojection2"]


def test_clone_keeps_parameters():
    assert clone(RandomProjection(7)).get_params() == {
        "n_components": 7,
        "random_state": 0,
    }


@pytest.mark.parametrize(
    ("width", "n_components"), [(3840, 512), (513, 512), (512, 512), (152, 152), (7, 7)]
)
def test_number_of_components_goes_by_the_width_of_the_features(width, n_components):
    features = np.ones((1, 2, 2, width), dtype=np.float32)

    projection = RandomProjection().fit(features)

    assert projection.transform(features).shape == (1, 2, 2, n_components)
    assert (projection.components_ is None) == (width <= 512)


def test_lazy_features_keep_the_matrix_that_they_were_transformed_with():
    photos = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    lazy = ConvFeatures(image_size=64).fit_transform(photos)
    projection = RandomProjection(4, random_state=0).fit(lazy)
    projected, expected = projection.transform(lazy), np.asarray(projection.transform(lazy))
    projection.set_params(random_state=1).fit(lazy)
    np.testing.assert_array_equal(projected, expected)
