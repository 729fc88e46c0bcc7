import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skstructcore.neighbors import streaming
from skstructcore.neighbors.coreset import greedy_k_center
from skstructcore.neighbors.streaming import StreamingCoreset


def room_for(n_rows, n_select, n_features, itemsize=4):
    """Bytes with which the buffer holds just `n_rows`."""
    per_row = n_features * itemsize + streaming._WORK_PER_ROW
    return n_rows * per_row + 12 * n_features * n_select


def rows_of(n, d, seed):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) * rng.gamma(2.0, size=(n, 1))).astype(np.float32)


def covering_radius(X, values):
    return np.sqrt(((X[:, None].astype(float) - values[None]) ** 2).sum(axis=2).min(axis=1).max())


def test_while_everything_fits_it_is_the_greedy_selection():
    X = rows_of(300, 5, seed=0)
    stream = StreamingCoreset(20)
    for image in range(30):
        stream.add(X[10 * image : 10 * image + 10], image)
    values, images, radius = stream.result(start=7)
    picks, radii = greedy_k_center(X, 20, start=7)
    np.testing.assert_array_equal(values, X[picks])
    np.testing.assert_array_equal(images, picks // 10)
    assert radius == radii[-1]
    assert stream.n_reductions == 1 and stream.n_seen == stream.n_held == 300


@settings(deadline=None, max_examples=25)
@given(
    n_select=st.integers(1, 12),
    room=st.integers(4, 12),
    batch=st.integers(1, 90),
    seed=st.integers(0, 100),
)
def test_radius_stays_within_the_bound_and_the_bound_within_its_factor(n_select, room, batch, seed):
    X = rows_of(600, 3, seed)
    stream = StreamingCoreset(n_select, max_memory=room_for(room * n_select, n_select, 3))
    for start in range(0, 600, batch):
        stream.add(X[start : start + batch], np.arange(start, min(start + batch, 600)))
    values, images, bound = stream.result()
    np.testing.assert_array_equal(values, X[images])
    radius = covering_radius(X, values)
    greedy_radius = greedy_k_center(X, n_select)[1][-1]
    assert radius <= bound * (1 + 1e-6)
    assert bound <= 2 * stream.n_reductions * greedy_radius * (1 + 1e-5)


def test_result_can_be_asked_for_again_after_more_rows():
    X = rows_of(200, 4, seed=1)
    stream = StreamingCoreset(10)
    stream.add(X[:100], 0)
    stream.result()
    stream.add(X[100:], 1)
    picks, _ = greedy_k_center(X, 10)
    np.testing.assert_array_equal(stream.result()[0], X[picks])


def test_rows_of_another_width_are_refused():
    stream = StreamingCoreset(3)
    stream.add(rows_of(5, 4, seed=0), 0)
    with pytest.raises(ValueError, match=r"Rows of 4 features came before, not \(5, 1\)"):
        stream.add(rows_of(5, 1, seed=0), 1)


def test_memory_stays_below_max_memory():
    n_select, d = 500, 64
    limit = room_for(4000, n_select, d)
    batch = rows_of(2000, d, seed=3)
    greedy_k_center(batch, 10)  # whatever is loaded once
    tracemalloc.start()
    stream = StreamingCoreset(n_select, max_memory=limit)
    for image in range(50):
        stream.add(batch + image, image)
    stream.result()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert stream.n_held < 4000 < stream.n_seen
    assert peak < limit + batch.nbytes + 2**23 < stream.n_seen * batch[0].nbytes


def test_fewer_rows_than_wanted_are_all_kept():
    stream = StreamingCoreset(5)
    stream.add([[1.0], [2.0]], [4, 5])
    values, images, radius = stream.result()
    assert values.tolist() == [[1.0], [2.0]] and images.tolist() == [4, 5] and radius == 0.0


def test_too_little_memory_says_how_much_it_takes():
    needed = room_for(4 * 1000, 1000, 16)
    with pytest.raises(ValueError, match=f"it takes at least {needed}"):
        StreamingCoreset(1000, max_memory=needed - 1).add(np.zeros((1, 16)), 0)


def test_no_rows():
    with pytest.raises(ValueError, match="no rows to select from"):
        StreamingCoreset(3).result()


def test_rows_are_checked_where_they_come():
    stream = StreamingCoreset(3)
    with pytest.raises(
        ValueError, match=r"rows must be a table of rows \(n, d\), got shape \(2,\)"
    ):
        stream.add([1.0, 2.0], 0)
    stream.add(np.zeros((0, 2)), 0)
    with pytest.raises(ValueError, match="rows must be finite; row 1 holds NaN"):
        stream.add([[1.0, 2.0], [np.nan, 0.0]], 0)
    assert stream.n_seen == stream.n_held == 0


def test_more_rows_than_announced():
    with pytest.raises(ValueError, match="n_rows=2 were announced, but 3 came"):
        StreamingCoreset(3, n_rows=2).add(np.zeros((3, 1)), 0)


@pytest.mark.parametrize("wrong", [{"n_select": 0}, {"n_select": 2.5}, {"max_memory": "1GB"}])
def test_parameters_are_checked_where_they_are_given(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be an integer from 1 "):
        StreamingCoreset(**{"n_select": 2, **wrong})
