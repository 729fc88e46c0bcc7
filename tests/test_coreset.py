import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skstructcore.neighbors import NeighborIndex, coreset
from skstructcore.neighbors.coreset import greedy_k_center


def textbook(X, n_select, start=0):
    """Farthest first, as it is written in books, in float64."""
    X = np.asarray(X, dtype=np.float32).astype(np.float64)
    picked, radii = [start], []
    nearest = np.full(len(X), np.inf)
    for _ in range(n_select):
        nearest = np.minimum(nearest, ((X - X[picked[-1]]) ** 2).sum(axis=1))
        radii.append(np.sqrt(nearest.max()))
        nearest[picked] = -1.0  # never twice, even where all that is left are duplicates
        picked.append(int(np.argmax(nearest)))
    return np.array(picked[:n_select]), np.array(radii)


def clustered(n, d, seed, offset=0.0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(2, n // 50), d)) * 3
    return (centres[rng.integers(len(centres), size=n)] + rng.normal(size=(n, d)) + offset).astype(
        np.float32
    )


grids = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 60), st.integers(1, 4)),
    elements=st.integers(-2, 2).map(float),
)


@settings(deadline=None, max_examples=80)
@given(X=grids, data=st.data())
def test_picks_are_the_textbook_ones_with_ties_and_duplicates(X, data):
    n_select = data.draw(st.integers(1, len(X)))
    start = data.draw(st.integers(0, len(X) - 1))
    expected, expected_radii = textbook(X, n_select, start)
    indices, radii = greedy_k_center(X, n_select, start=start)
    assert indices.tolist() == expected.tolist()
    np.testing.assert_allclose(radii, expected_radii, rtol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_picks_are_the_textbook_ones_over_many_rounds_and_blocks(offset, dtype):
    X = clustered(6000, 24, seed=0, offset=offset).astype(dtype)
    expected, expected_radii = textbook(X, 700, start=17)
    indices, radii = greedy_k_center(X, 700, start=17)
    assert indices.dtype == np.int64 and radii.dtype == np.float32
    assert indices.tolist() == expected.tolist()
    np.testing.assert_allclose(radii, expected_radii, rtol=1e-6)


def test_of_duplicated_rows_the_first_is_picked_whichever_way_its_distance_was_computed():
    X = clustered(1500, 33, seed=1)
    indices, _ = greedy_k_center(np.concatenate([X, X, X]), 400)
    assert indices.max() < len(X)


def test_more_live_rows_than_one_round_takes(monkeypatch):
    monkeypatch.setattr(coreset, "_LIVE_ROWS", 16)
    X = np.random.default_rng(2).integers(0, 3, size=(400, 3)).astype(np.float32)
    assert greedy_k_center(X, 300)[0].tolist() == textbook(X, 300)[0].tolist()


@pytest.mark.parametrize("scale", [1e-22, 1e-12, 1e15])
def test_scale_of_the_rows_does_not_matter(scale):
    X = clustered(800, 8, seed=3) * np.float32(scale)
    assert greedy_k_center(X, 100)[0].tolist() == textbook(X, 100)[0].tolist()


def test_fewer_distinct_rows_than_picks_gives_the_remaining_indices_in_order_at_radius_0():
    X = np.array([[1.0], [1.0], [4.0], [1.0], [4.0]])
    indices, radii = greedy_k_center(X, 5, start=3)
    # farthest from row 3 is 4.0 (first: row 2); then only duplicates: 0, 1, 4
    assert indices.tolist() == [3, 2, 0, 1, 4]
    assert radii.tolist() == [3.0, 0.0, 0.0, 0.0, 0.0]


def test_every_row_lies_within_the_last_radius_of_a_pick():
    X = clustered(2000, 16, seed=4)
    indices, radii = greedy_k_center(X, 60)
    distance = np.linalg.norm(X[:, None] - X[indices], axis=2).min(axis=1)
    assert distance.max() == pytest.approx(radii[-1], rel=1e-5)
    assert np.all(np.diff(radii) <= 0)


def test_torch_picks_the_same():
    X = clustered(1500, 16, seed=5)
    indices, radii = greedy_k_center(X, 200)
    on_torch, torch_radii = greedy_k_center(X, 200, device="torch:cpu")
    assert on_torch.tolist() == indices.tolist()
    np.testing.assert_allclose(torch_radii, radii, rtol=1e-5)


def test_X_is_not_modified():
    X = clustered(500, 8, seed=7)
    before = X.copy()
    greedy_k_center(X, 100)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("device", ["cpu", "torch:cpu"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("row", [0, 2])
def test_rows_that_are_not_finite_are_named(device, bad, row):
    X = np.zeros((4, 3), dtype=np.float32)
    X[row, 1] = bad
    with pytest.raises(ValueError, match=f"row {row} holds NaN or infinity"):
        greedy_k_center(X, 2, device=device)


def test_values_too_large_for_float32_distances():
    with pytest.raises(ValueError, match="overflow float32"):
        greedy_k_center(np.array([[0.0], [1e19]]), 2)


@pytest.mark.parametrize(
    "X, arguments, message",
    [
        (np.zeros((3, 2)), {"n_select": 4}, "n_select must be an integer from 1 to 3; got 4"),
        (np.zeros((3, 2)), {"n_select": 0}, "n_select must be an integer from 1 to 3; got 0"),
        (np.zeros((3, 2)), {"n_select": 1, "start": 3}, "start must be an integer from 0 to 2"),
        (np.zeros((0, 2)), {"n_select": 1}, r"got shape \(0, 2\)"),
        (np.zeros(3), {"n_select": 1}, r"got shape \(3,\)"),
    ],
)
def test_bad_arguments(X, arguments, message):
    with pytest.raises(ValueError, match=message):
        greedy_k_center(X, **arguments)


@pytest.mark.parametrize("device", ["cpu", "torch:cpu"])
def test_k_center_that_goes_on_is_k_center(device):
    rows = np.random.default_rng(0).normal(size=(5000, 5)).astype(np.float32)
    picks, radii = greedy_k_center(rows, 60, start=7)
    squared = NeighborIndex(rows[picks[:20]]).query(rows)[0][:, 0]
    before = squared.copy()
    more, more_radii = greedy_k_center(rows, 40, nearest=squared, device=device)
    np.testing.assert_array_equal(more, picks[20:])
    np.testing.assert_allclose(more_radii, radii[20:], rtol=1e-5)
    np.testing.assert_array_equal(squared, before)


def test_k_center_goes_on_where_rows_are_equal_and_all_are_wanted():
    rows = np.repeat(np.arange(3, dtype=np.float32), 4)[:, np.newaxis]
    picks, radii = greedy_k_center(rows, 12, nearest=rows[:, 0] ** 2)
    assert sorted(picks.tolist()) == list(range(12))
    # A centre at 0, then the row at 2, then one at 1.
    assert radii[:2].tolist() == [1, 0] and radii[-1] == 0
    with pytest.raises(ValueError, match="nearest must be 12 finite squared distances"):
        greedy_k_center(rows, 1, nearest=[1.0])


@pytest.mark.parametrize("nearest", [[9.0, 1, 1, 1], [1.0, 1, 1, 9]])
def test_rows_that_are_not_finite_are_refused_beside_centres_too(nearest):
    with pytest.raises(ValueError, match="X must be finite; row 0 holds NaN"):
        greedy_k_center([[np.nan], [1], [5], [9]], 3, nearest=nearest)
    with pytest.raises(ValueError, match="nearest must be 4 finite squared distances"):
        greedy_k_center([[0], [1], [5], [9]], 3, nearest=[*nearest[1:], np.inf])
