"""Compiled loops of the exact nearest-neighbour search: arrays in, arrays out."""

import numpy as np

from .._utils.compiled import compiled
from ._coreset_kernels import half_norms, squared_distance

__all__ = ["half_norms", "search_block"]

LANES = 512
_TINY = np.float32(1e-36)  # outweighs what products lose to underflow
_INFINITE = np.float32(np.inf)


@compiled()
def _lower_lanes(offsets, products, lanes):
    """Minimum of ``offsets - products`` over every `LANES`-th entry, for each remainder."""
    n_lanes = lanes.shape[0]
    for lane in range(n_lanes):
        lanes[lane] = offsets[lane] - products[lane]
    for start in range(LANES, products.shape[0], LANES):
        # Slices of their own length are what the compiler can vectorise.
        some_offsets = offsets[start : start + LANES]
        some_products = products[start : start + LANES]
        for lane in range(some_products.shape[0]):
            value = some_offsets[lane] - some_products[lane]
            lowest = lanes[lane]
            lanes[lane] = value if value < lowest else lowest


@compiled()
def _smallest_lane(lanes):
    """Lane with (nearly) the smallest value: integers, as compilers vectorise their minimum."""
    smallest = np.int32(0x7FFFFFFF)
    for lane in range(lanes.shape[0]):
        bits = np.float32(lanes[lane]).view(np.int32)
        bits = np.int32(bits ^ np.int32(np.int32(bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))
        bits = np.int32(np.int32(bits & np.int32(-LANES)) | np.int32(lane))
        smallest = bits if bits < smallest else smallest
    return smallest & (LANES - 1)


@compiled()
def _any_within(values, bound):
    count = np.int32(0)
    for j in range(values.shape[0]):
        count += np.int32(values[j] <= bound)
    return count > 0


@compiled()
def _insert(distance, index, distances, indices):
    """Put an entry where it belongs among the k best, unless it is there or lies beyond."""
    k = distances.shape[0]
    if distance > distances[k - 1] or (distance == distances[k - 1] and index > indices[k - 1]):
        return
    for position in range(k):
        if indices[position] == index:
            return
    position = k - 1
    while position > 0 and (
        distances[position - 1] > distance
        or (distances[position - 1] == distance and indices[position - 1] > index)
    ):
        distances[position] = distances[position - 1]
        indices[position] = indices[position - 1]
        position -= 1
    distances[position] = distance
    indices[position] = index


@compiled()
def search_block(
    queries, halves, products, bank, first, offsets, query_groups, bank_groups, distances, indices
):
    """Improve the k best entries of each query by those of one block of the bank.

    ``halves[i] + offsets[j] - products[i, j]`` is never above half the squared distance of
    query i to entry ``first + j``. Entries of the query's own group are passed over, if
    groups are given (not empty). `distances` hold inf and `indices` -1 where there is none yet.
    """
    n_entries = products.shape[1]
    lanes = np.empty(min(LANES, n_entries), dtype=np.float32)
    k = distances.shape[1]
    n_likely = min(k, lanes.shape[0])
    likely = np.empty(n_likely, dtype=np.int64)
    likely_values = np.empty(n_likely, dtype=np.float32)
    grouped = bank_groups.shape[0] > 0
    for i in range(queries.shape[0]):
        _lower_lanes(offsets, products[i], lanes)
        own = query_groups[i] if grouped else 0
        if distances[i, k - 1] == np.inf:
            # The likely nearest come first, so that few others get past their distance.
            for round_ in range(n_likely):
                lane = _smallest_lane(lanes)
                likely[round_], likely_values[round_] = lane, lanes[lane]
                lanes[lane] = _INFINITE
                best, best_entry = _INFINITE, -1
                for j in range(lane, n_entries, LANES):
                    value = offsets[j] - products[i, j]
                    if value < best and not (grouped and bank_groups[first + j] == own):
                        best, best_entry = value, j
                if best_entry >= 0:
                    distance = squared_distance(queries[i], bank[first + best_entry])
                    _insert(distance, first + best_entry, distances[i], indices[i])
            for round_ in range(n_likely - 1, -1, -1):  # a lane may have come up twice
                lanes[likely[round_]] = likely_values[round_]
        bound = np.float32(0.5 * distances[i, k - 1] - halves[i]) + _TINY
        for start in range(0, lanes.shape[0], 32):
            if not _any_within(lanes[start : start + 32], bound):
                continue
            for lane in range(start, min(start + 32, lanes.shape[0])):
                if lanes[lane] > bound:
                    continue
                for j in range(lane, n_entries, LANES):
                    if offsets[j] - products[i, j] > bound or (
                        grouped and bank_groups[first + j] == own
                    ):
                        continue
                    distance = squared_distance(queries[i], bank[first + j])
                    _insert(distance, first + j, distances[i], indices[i])
                bound = np.float32(0.5 * distances[i, k - 1] - halves[i]) + _TINY
