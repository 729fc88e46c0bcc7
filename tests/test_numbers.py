"""Hard numbers: against the distances of float64, or a clear error."""

import numpy as np
import pytest

from skstructcore import RoutedKNNScorer, make_structcore
from skstructcore.neighbors import NeighborIndex

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def reference(queries, bank):
    """Squared distances to the nearest entry, in float64 of what float32 holds."""
    queries, bank = (np.float32(rows).astype(np.float64) for rows in (queries, bank))
    return ((queries[:, None] - bank[None]) ** 2).sum(-1).min(1)


@pytest.mark.parametrize("scale", [1e-10, 1e-5, 1.0, 1e5, 1e10])
def test_distances_hold_over_twenty_orders_of_magnitude(scale):
    rng = np.random.default_rng(0)
    bank, queries = scale * rng.normal(size=(300, 24)), scale * rng.normal(size=(100, 24))
    found = NeighborIndex(bank).query(queries)[0][:, 0]
    np.testing.assert_allclose(found, reference(queries, bank), rtol=1e-6)


@pytest.mark.parametrize(
    ("scale", "message"),
    [(1e20, "must be smaller"), (1e-23, "must be larger"), (1e-30, "must be larger")],
)
def test_beyond_the_range_of_float32_there_is_an_error(scale, message):
    rows = scale * np.random.default_rng(0).normal(size=(50, 4))
    with pytest.raises(ValueError, match=f"bank {message}.*by a constant"):
        RoutedKNNScorer(n_neighbors=1).fit(rows)


@pytest.mark.parametrize("offset", [0.0, 1.0, 1000.0])
def test_near_duplicates_far_from_the_origin_are_told_apart(offset):
    """Where |a|² + |b|² - 2ab loses everything."""
    rng = np.random.default_rng(0)
    bank = np.float32(offset + rng.normal(size=(200, 16)))
    queries = np.float32(bank + 1e-3 * rng.normal(size=bank.shape))
    found = NeighborIndex(bank).query(queries)[0][:, 0]
    np.testing.assert_allclose(found, reference(queries, bank), rtol=1e-6)


@pytest.mark.parametrize("level", [0, 7, 255])
def test_sets_of_one_colour_are_an_error_or_finite(level):
    photos = np.full((12, 32, 32), level, np.uint8)
    pipe = make_structcore("efficientnet_lite0", features__image_size=64, bank__ratio=0.1)
    odd = photos[:2].copy()
    odd[1, 8:20, 8:20] = 255 - level // 2
    scores = pipe.fit(photos).score_samples(odd)
    assert np.isfinite(scores).all()
    assert scores[1] < scores[0]
    assert pipe.predict(odd).tolist() == [1, -1]
