import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from skstructcore.neighbors import NeighborIndex
from skstructcore.neighbors import index as neighbors
from skstructcore.neighbors.index import ExactSearch

DEVICES = ["cpu", "torch:cpu"]


def low_rank(n, d, seed, rank=12, offset=0.0):
    """Rows most of whose variance lies in a few directions, as that of patch features does."""
    axes = np.random.default_rng(0).normal(size=(rank, d))
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, rank)) @ axes + 0.3 * rng.normal(size=(n, d)) + offset
    return rows.astype(np.float32)


def kneighbors(queries, bank, k=1, exclude=(None, None), **options):
    index = NeighborIndex(bank, groups=exclude[1], **options)
    return index.query(queries, k, exclude=exclude[0])


def brute_force(queries, bank, k, query_groups=None, bank_groups=None):
    """All squared distances in float64, sorted; equal ones by index."""
    difference = queries[:, None].astype(np.float64) - bank[None].astype(np.float64)
    distances = (difference**2).sum(axis=2)
    if query_groups is not None:
        distances[np.equal.outer(query_groups, bank_groups)] = np.inf
    indices = np.argsort(distances, axis=1, kind="stable")[:, :k]
    distances = np.take_along_axis(distances, indices, axis=1)
    return distances, np.where(np.isinf(distances), -1, indices)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("d", [3, 20, 96])
def test_agrees_with_scikit_learn(device, k, d):
    queries, bank = low_rank(300, d, seed=1), low_rank(1500, d, seed=2)
    distances, indices = kneighbors(queries, bank, k, device=device)
    expected, expected_indices = NearestNeighbors(n_neighbors=k).fit(bank).kneighbors(queries)
    assert distances.dtype == np.float32 and indices.dtype == np.int64
    np.testing.assert_allclose(np.sqrt(distances), expected, rtol=1e-5)
    np.testing.assert_array_equal(indices, expected_indices)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), k=st.integers(1, 4), seed=st.integers(0, 2**20))
def test_exact_with_ties_duplicates_and_excluded_groups(data, k, seed):
    rng = np.random.default_rng(seed)
    d = data.draw(st.sampled_from([1, 2, 16, 40]))
    m = data.draw(st.sampled_from([k + 1, 30, 700]))
    bank = rng.integers(-2, 3, size=(m, d)).astype(np.float32)
    queries = rng.integers(-2, 3, size=(70, d)).astype(np.float32)
    groups, own = rng.integers(3, size=m), rng.integers(4, size=70)
    groups[:2] = 0, 1  # no query is without any entry
    distances, indices = kneighbors(queries, bank, k, exclude=(own, groups))
    expected, expected_indices = brute_force(queries, bank, k, own, groups)
    np.testing.assert_array_equal(distances, expected)
    np.testing.assert_array_equal(indices, expected_indices)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("n_copies", [20, 150])
def test_of_equal_entries_the_first_are_found_on_every_device(device, n_copies):
    rng = np.random.default_rng(0)
    bank, queries = rng.normal(size=(300, 8)), rng.normal(size=(30, 8))
    bank[rng.permutation(300)[:n_copies]] = bank[0]
    bank, queries = bank.astype(np.float32), np.r_[queries, bank[:3]].astype(np.float32)
    found = kneighbors(queries, bank, 5, device=device)[1]
    np.testing.assert_array_equal(found, brute_force(queries, bank, 5)[1])


@pytest.mark.parametrize("device", DEVICES)
def test_distances_near_zero_survive_cancellation(device):
    # Around 1000, float32 norms of 64 features are 6.4e7 with steps of 4, so that their
    # differences say nothing about distances below that.
    bank = low_rank(800, 64, seed=3, offset=1000.0)
    queries = bank[::8] + np.float32(0.01) * low_rank(100, 64, seed=4)
    distances, indices = kneighbors(queries, bank, device=device)
    expected, expected_indices = brute_force(queries, bank, 1)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_allclose(distances, expected, rtol=1e-6)
    assert expected.max() < 4


@pytest.mark.parametrize("device", DEVICES)
def test_a_query_that_is_in_the_bank_has_distance_exactly_zero(device):
    bank = low_rank(600, 32, seed=5, offset=50.0)
    distances, indices = kneighbors(bank, bank, 2, device=device)
    assert np.all(distances[:, 0] == 0.0)
    assert np.all(distances[:, 1] > 0.0)
    np.testing.assert_array_equal(indices[:, 0], np.arange(600))


@pytest.mark.parametrize("scale", [1e-20, 1e-6, 1e12])
def test_scale_of_the_rows_does_not_matter(scale):
    scale = np.float32(scale)
    queries, bank = low_rank(50, 24, seed=6) * scale, low_rank(400, 24, seed=7) * scale
    _, indices = kneighbors(queries, bank, 3)
    np.testing.assert_array_equal(indices, brute_force(queries, bank, 3)[1])


def test_bank_larger_than_a_block():
    queries, bank = low_rank(20, 16, seed=8), low_rank(14000, 16, seed=9)
    _, indices = kneighbors(queries, bank, 3)
    np.testing.assert_array_equal(indices, brute_force(queries, bank, 3)[1])


@pytest.mark.parametrize("device", DEVICES)
def test_missing_entries_after_exclusion_are_infinitely_far(device):
    bank = np.array([[0.0], [1.0], [2.0]])
    distances, indices = kneighbors(
        np.array([[0.0], [5.0]]), bank, 2, exclude=([7, 9], [7, 7, 8]), device=device
    )
    # The first may only meet 2.0, the second, of a group without entries, meets all.
    assert distances.tolist() == [[4.0, np.inf], [9.0, 16.0]]
    assert indices.tolist() == [[2, -1], [2, 1]]


def test_nothing_left_after_exclusion():
    with pytest.raises(ValueError, match="Every bank entry belongs to group 4"):
        kneighbors(np.zeros((2, 1)), np.ones((3, 1)), exclude=([1, 4], [4, 4, 4]))


@pytest.mark.parametrize("device", DEVICES)
def test_no_queries(device):
    distances, indices = kneighbors(np.zeros((0, 3)), np.ones((5, 3)), 2, device=device)
    assert distances.shape == indices.shape == (0, 2)


def test_index_pickles_to_little_more_than_its_bank_and_answers_the_same():
    bank, queries = low_rank(1000, 32, seed=10), low_rank(50, 32, seed=11)
    index = NeighborIndex(bank)
    before = index.query(queries, 3)
    data = pickle.dumps(index)
    assert len(data) < bank.nbytes + 2000
    for one, other in zip(pickle.loads(data).query(queries, 3), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_matrix_library_has_its_threads_back_after_a_query():
    from threadpoolctl import threadpool_info, threadpool_limits

    with threadpool_limits(2, "blas"):
        kneighbors(low_rank(200, 32, seed=12), low_rank(300, 32, seed=13))
        blas = [i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"]
    assert set(blas) == {2}


@pytest.mark.parametrize("n_wrong", [0, 1, 3])
def test_recall_is_the_share_of_true_neighbours_that_are_found(monkeypatch, n_wrong):
    class KnownErrors:
        """Finds all neighbours but the last few, in whose place it gives what is excluded."""

        def __init__(self, rows):
            self.exact = ExactSearch(rows)

        def __call__(self, rows, k, own, groups):
            distances, found = self.exact(rows, k, own, groups)
            if n_wrong:
                found[:, -n_wrong:] = own[:, np.newaxis]
            return distances, found

    monkeypatch.setattr(neighbors, "ApproximateSearch", KnownErrors)
    index = NeighborIndex(low_rank(2048, 16, seed=14), algorithm="approximate")
    assert index.recall_ == 1 - n_wrong / neighbors._RECALL_NEIGHBORS


def test_few_entries_are_searched_exactly_without_compiling_the_walk(monkeypatch):
    monkeypatch.setattr(neighbors, "ApproximateSearch", None)  # calling it would raise
    index = NeighborIndex(low_rank(128, 16, seed=14), algorithm="approximate")
    assert index.recall_ == 1.0


@pytest.mark.slow
def test_approximate_states_its_recall_and_honours_exclusion():
    bank = low_rank(3000, 32, seed=14)
    # Queries like the entries that the recall is measured with: entries, without themselves.
    queries, own = bank[::8], np.arange(3000)[::8]
    groups = np.arange(3000)
    index = NeighborIndex(bank, groups=groups, algorithm="approximate")
    distances, indices = index.query(queries, neighbors._RECALL_NEIGHBORS, exclude=own)
    expected, expected_indices = brute_force(
        queries, bank, neighbors._RECALL_NEIGHBORS, own, groups
    )
    found = (indices[:, :, None] == expected_indices[:, None]).any(axis=2).mean()
    assert found > 0.5
    assert found == pytest.approx(index.recall_, abs=0.05)
    assert not np.any(groups[indices] == own[:, None])
    assert np.all(distances >= expected.astype(np.float32) * (1 - 1e-5))


def test_exact_recall_is_one():
    assert NeighborIndex(np.zeros((2, 1))).recall_ == 1.0


@pytest.mark.parametrize(
    "queries, bank, arguments, message",
    [
        (np.zeros((2, 3)), np.zeros((5, 4)), {}, r"rows \(q, 4\) like the bank; got \(2, 3\)"),
        (np.zeros((2, 3)), np.zeros((0, 3)), {}, r"bank must be a table .* got shape \(0, 3\)"),
        (
            np.zeros((2, 3)),
            np.zeros((5, 3)),
            {"k": 6},
            "n_neighbors must be an integer",
        ),
        (
            np.zeros((2, 3)),
            np.zeros((5, 3)),
            {"k": 0},
            "n_neighbors must be an integer",
        ),
        (
            np.zeros((2, 3)),
            np.zeros((5, 3)),
            {"k": 2.0},
            "n_neighbors must be an integer",
        ),
        (np.zeros((2, 3)), np.zeros((5, 3)), {"algorithm": "best"}, "got 'best'"),
        (np.zeros((2, 3)), np.zeros((5, 3)), {"exclude": ([1], [1] * 5)}, "each of the 2 queries"),
        (np.zeros((2, 3)), np.zeros((5, 3)), {"exclude": ([1, 1], [1])}, "each of the 5 bank"),
        (np.full((2, 3), np.nan), np.zeros((5, 3)), {}, "queries must be finite; row 0"),
        (np.zeros((2, 3)), np.full((5, 3), np.inf), {}, "bank must be finite; row 0"),
        (np.full((2, 3), 1e19), np.zeros((5, 3)), {}, "queries must be smaller: row 0"),
    ],
)
@pytest.mark.parametrize("device", DEVICES)
def test_bad_arguments(queries, bank, arguments, message, device):
    with pytest.raises(ValueError, match=message):
        kneighbors(queries, bank, device=device, **arguments)


def test_numbers_exclude_no_groups_that_are_named():
    index = NeighborIndex(np.zeros((4, 1)), groups=["1", "1", "2", "2"])
    with pytest.raises(ValueError, match="must be of one kind: 1 is not '1'"):
        index.query(np.zeros((4, 1)), 1, exclude=[1, 1, 2, 2])


def test_names_of_groups_may_come_from_pandas():
    names = pd.Series(["a", "b"], dtype=object)
    index = NeighborIndex(np.eye(2), groups=names)
    assert index.query(np.eye(2), exclude=["a", "b"])[1].ravel().tolist() == [1, 0]
    assert index.query(np.eye(2), exclude=names)[1].ravel().tolist() == [1, 0]


def test_exclude_needs_groups_of_the_bank():
    with pytest.raises(ValueError, match="NeighborIndex\\(groups=\\)"):
        NeighborIndex(np.zeros((2, 1))).query(np.zeros((1, 1)), exclude=[0])
