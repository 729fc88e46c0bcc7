"""Compiled loops of the greedy k-center selection: arrays in, arrays out."""

import numpy as np

from .._utils.compiled import compiled

# The order of a sum is left to the compiler, which vectorises it; NaN and infinity keep
# their meaning. Every distance that decides anything comes out of `squared_distance`.
_REORDER = {"reassoc", "nsz", "contract"}
_TINY = np.float32(1e-36)  # outweighs what products lose to underflow


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
def _smallest(offsets, products):
    """A lower bound of ``offsets - products``, of at most 256, and where it is (nearly) reached.

    Compilers vectorise a minimum of integers, but not one of floats with its position:
    so take the bits of each float, in an order-preserving form, and give the last 8,
    which rounds down, to the position.
    """
    smallest = np.int32(0x7FFFFFFF)
    for j in range(products.shape[0]):
        bits = np.float32(offsets[j] - products[j]).view(np.int32)
        bits = np.int32(bits ^ np.int32(np.int32(bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))
        bits = np.int32(np.int32(bits & np.int32(-256)) | np.int32(j))
        smallest = bits if bits < smallest else smallest
    bits = np.int32(smallest & np.int32(-256))
    bits = np.int32(bits ^ np.int32(np.int32(bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))
    return bits.view(np.float32), smallest & 255


@compiled()
def _count_below(offsets, products, bound):
    count = np.int32(0)
    for j in range(products.shape[0]):
        count += np.int32(np.float32(offsets[j] - products[j]) < bound)
    return count


@compiled()
def lower_to_block(rows, halves, picks, offsets, products, nearest):
    """Lower `nearest` to the exact distance to the picks, where one of at most 256 is nearer.

    ``halves[i] + offsets[j] - products[i, j]`` is never above half the squared distance.
    """
    for i in range(rows.shape[0]):
        bound = np.float32(0.5 * nearest[i] - halves[i]) + _TINY
        smallest, j = _smallest(offsets, products[i])
        if smallest >= bound:
            continue
        nearest[i] = min(nearest[i], squared_distance(rows[i], picks[j]))
        bound = np.float32(0.5 * nearest[i] - halves[i]) + _TINY
        if _count_below(offsets, products[i], bound) > 1:
            for j in range(picks.shape[0]):
                if offsets[j] - products[i, j] < bound:
                    nearest[i] = min(nearest[i], squared_distance(rows[i], picks[j]))


@compiled()
def pick_within(rows, names, threshold, last_name, slack, nearest, seen, indices, radii, done):
    """Farthest-first picks among some rows, as long as they come before all the others.

    `rows` (copies, consumed) are ``X[names]``, names ascending. Of the others, none
    has a `nearest` above `threshold`, and those that have just that have names above
    `last_name`. `nearest` and `seen` (over all of X) are kept up to date for `rows`.
    Returns the number of picks done in all.
    """
    values = nearest[names]
    left = rows.shape[0]
    while True:
        best, best_row = -1.0, -1
        for i in range(left):
            if values[i] > best:
                best, best_row = values[i], i
        if best_row < 0 or (best == threshold and names[best_row] > last_name):
            break
        radii[done - 1] = np.sqrt(best)
        if done == indices.shape[0]:
            break
        indices[done] = names[best_row]
        done += 1
        centre = rows[best_row].copy()
        values[best_row] = -1.0
        kept = 0
        for i in range(left):
            value = values[i]
            if _rough_distance(rows[i], centre) * (1.0 - slack) < value:
                value = min(value, squared_distance(rows[i], centre))
            if value < threshold:
                nearest[names[i]] = value
                seen[names[i]] = done
                continue
            if kept < i:
                rows[kept] = rows[i]
                names[kept] = names[i]
            values[kept] = value
            kept += 1
        left = kept
    for i in range(left):
        nearest[names[i]] = values[i]
        seen[names[i]] = done
    return done
