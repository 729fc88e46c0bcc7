"""Compiled loops of the greedy k-center selection and of the exact search: arrays in and out."""

import contextlib
import logging

import numpy as np
from numba import njit
from numba.core import config
from numba.misc.appdirs import user_cache_dir

_logger = logging.getLogger(__name__)

# The order of a sum is left to the compiler, which vectorises it; NaN and infinity keep
# their meaning. Every distance that decides anything comes out of `squared_distance`.
_REORDER = {"reassoc", "nsz", "contract"}
_TINY = np.float32(1e-36)  # outweighs what products lose to underflow
_INFINITE = np.float32(np.inf)
_LANES = 512


def compiled(**options):
    """Compile a function with numba, without the interpreter lock, and keep the result.

    It is kept in NUMBA_CACHE_DIR, or the user's cache folder: what lies beside the source stays
    when the package is uninstalled, and hides an editable install. What cannot be kept, and what is
    found damaged, costs the time to compile and nothing else.
    """

    def decorate(function):
        before = config.CACHE_DIR
        config.CACHE_DIR = before or user_cache_dir("skstructcore", appauthor=False)
        try:
            dispatcher = njit(cache=True, nogil=True, **options)(function)
            if dispatcher is not function:  # as it is under NUMBA_DISABLE_JIT
                _never_in_the_way(dispatcher._cache)
            return dispatcher
        except RuntimeError:  # no locator: nowhere to keep it
            return njit(nogil=True, **options)(function)
        finally:
            config.CACHE_DIR = before

    return decorate


def _never_in_the_way(cache):
    """Let no error of a cache of numba's reach whoever calls the function."""
    load, save = cache.load_overload, cache.save_overload

    def load_overload(signature, target):
        try:
            return load(signature, target)
        except Exception as error:  # a damaged pickle raises nearly anything
            reason = f"{type(error).__name__}: {error}"
            _logger.warning("Code in %s is damaged (%s): compiled again", cache.cache_path, reason)
            with contextlib.suppress(OSError):
                cache.flush()
            return None

    def save_overload(signature, data):
        try:
            save(signature, data)
        except OSError as error:
            _logger.warning("Compiled code is not kept in %s: %s", cache.cache_path, error)

    cache.load_overload, cache.save_overload = load_overload, save_overload


@compiled(fastmath=_REORDER)
def squared_distance(x, y):
    """Squared distance of two float32 rows, summed in float64."""
    total = 0.0
    for j in range(x.shape[0]):
        difference = np.float64(x[j]) - np.float64(y[j])
        total += difference * difference
    return total


@compiled(fastmath=_REORDER)
def _rough_distance(x, y):
    total = np.float32(0.0)
    for j in range(x.shape[0]):
        difference = x[j] - y[j]
        total += difference * difference
    return total


@compiled()
def distances_to(rows, centre, out):
    """Write the squared distance of every row to `centre`."""
    for i in range(rows.shape[0]):
        out[i] = squared_distance(rows[i], centre)


@compiled(fastmath=_REORDER)
def half_norms(rows):
    """Half the squared norm of every row, in float32."""
    out = np.empty(rows.shape[0], dtype=np.float32)
    for i in range(rows.shape[0]):
        total = np.float32(0.0)
        for j in range(rows.shape[1]):
            total += rows[i, j] * rows[i, j]
        out[i] = np.float32(0.5) * total
    return out


@compiled()
def _differences(offsets, products, lanes):
    """Minimum of ``offsets - products`` over every `_LANES`-th entry, for each remainder."""
    n_lanes = lanes.shape[0]
    for lane in range(n_lanes):
        lanes[lane] = offsets[lane] - products[lane]
    for start in range(_LANES, products.shape[0], _LANES):
        # Slices of their own length are what the compiler can vectorise.
        some_offsets = offsets[start : start + _LANES]
        some_products = products[start : start + _LANES]
        for lane in range(some_products.shape[0]):
            value = some_offsets[lane] - some_products[lane]
            lowest = lanes[lane]
            lanes[lane] = value if value < lowest else lowest


@compiled()
def _smallest(values):
    """Position of (nearly) the smallest of at most `_LANES` values.

    Compilers vectorise a minimum of integers: the bits of each float, in an order-preserving form,
    the last of which are the position.
    """
    smallest = np.int32(0x7FFFFFFF)
    for j in range(values.shape[0]):
        bits = np.float32(values[j]).view(np.int32)
        bits = np.int32(bits ^ np.int32(np.int32(bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))
        bits = np.int32(np.int32(bits & np.int32(-_LANES)) | np.int32(j))
        smallest = bits if bits < smallest else smallest
    return smallest & (_LANES - 1)


@compiled()
def _count_within(values, bound):
    count = np.int32(0)
    for j in range(values.shape[0]):
        count += np.int32(values[j] <= bound)
    return count


@compiled()
def lower_to_block(rows, halves, picks, offsets, products, nearest):
    """Lower `nearest` to the exact distance to the picks, where one of at most `_LANES` is nearer.

    ``halves[i] + offsets[j] - products[i, j]`` is never above half the squared distance.
    """
    values = np.empty(picks.shape[0], dtype=np.float32)
    for i in range(rows.shape[0]):
        bound = np.float32(0.5 * nearest[i] - halves[i]) + _TINY
        _differences(offsets, products[i], values)
        if _count_within(values, bound) == 0:
            continue
        nearest[i] = min(nearest[i], squared_distance(rows[i], picks[_smallest(values)]))
        bound = np.float32(0.5 * nearest[i] - halves[i]) + _TINY
        if _count_within(values, bound) > 1:
            for j in range(picks.shape[0]):
                if values[j] <= bound:
                    nearest[i] = min(nearest[i], squared_distance(rows[i], picks[j]))


@compiled()
def pick_within(rows, places, threshold, last, slack, nearest, seen, indices, radii, done):
    """Farthest-first picks among some rows, as long as they come before all the others.

    `rows` (copies, consumed) are ``X[places]``, places ascending. No other has a `nearest` above
    `threshold`, and those that have just that have places above `last`. `nearest` and `seen` (of
    all of X) are kept up to date for `rows`. Returns the number of picks done in all.
    """
    values = nearest[places]
    left = rows.shape[0]
    while True:
        best, best_row = -1.0, -1
        for i in range(left):
            if values[i] > best:
                best, best_row = values[i], i
        if best_row < 0 or (best == threshold and places[best_row] > last):
            break
        radii[done - 1] = np.sqrt(best)
        if done == indices.shape[0]:
            break
        indices[done] = places[best_row]
        done += 1
        centre = rows[best_row].copy()
        values[best_row] = -1.0
        kept = 0
        for i in range(left):
            value = values[i]
            if _rough_distance(rows[i], centre) * (1.0 - slack) < value:
                value = min(value, squared_distance(rows[i], centre))
            if value < threshold:
                nearest[places[i]] = value
                seen[places[i]] = done
                continue
            if kept < i:
                rows[kept] = rows[i]
                places[kept] = places[i]
            values[kept] = value
            kept += 1
        left = kept
    for i in range(left):
        nearest[places[i]] = values[i]
        seen[places[i]] = done
    return done


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

    ``halves[i] + offsets[j] - products[i, j]`` is never above half the squared distance of query i
    to entry ``first + j``. Entries of the query's own group are passed over, if there are groups.
    `distances` hold inf and `indices` -1 where there is none yet.
    """
    n_entries = products.shape[1]
    lanes = np.empty(min(_LANES, n_entries), dtype=np.float32)
    k = distances.shape[1]
    n_likely = min(k, lanes.shape[0])
    likely = np.empty(n_likely, dtype=np.int64)
    likely_values = np.empty(n_likely, dtype=np.float32)
    grouped = bank_groups.shape[0] > 0
    for i in range(queries.shape[0]):
        _differences(offsets, products[i], lanes)
        own_group = query_groups[i] if grouped else 0
        if distances[i, k - 1] == np.inf:
            # The likely nearest come first, so that few others get past their distance.
            for round_ in range(n_likely):
                lane = _smallest(lanes)
                likely[round_], likely_values[round_] = lane, lanes[lane]
                lanes[lane] = _INFINITE
                best, best_entry = _INFINITE, -1
                for j in range(lane, n_entries, _LANES):
                    value = offsets[j] - products[i, j]
                    if value < best and not (grouped and bank_groups[first + j] == own_group):
                        best, best_entry = value, j
                if best_entry >= 0:
                    distance = squared_distance(queries[i], bank[first + best_entry])
                    _insert(distance, first + best_entry, distances[i], indices[i])
            for round_ in range(n_likely - 1, -1, -1):  # a lane may have come up twice
                lanes[likely[round_]] = likely_values[round_]
        bound = np.float32(0.5 * distances[i, k - 1] - halves[i]) + _TINY
        for start in range(0, lanes.shape[0], 32):
            if _count_within(lanes[start : start + 32], bound) == 0:
                continue
            for lane in range(start, min(start + 32, lanes.shape[0])):
                if lanes[lane] > bound:
                    continue
                for j in range(lane, n_entries, _LANES):
                    if offsets[j] - products[i, j] > bound or (
                        grouped and bank_groups[first + j] == own_group
                    ):
                        continue
                    distance = squared_distance(queries[i], bank[first + j])
                    _insert(distance, first + j, distances[i], indices[i])
                bound = np.float32(0.5 * distances[i, k - 1] - halves[i]) + _TINY
