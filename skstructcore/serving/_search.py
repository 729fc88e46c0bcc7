"""Routes, distances and surprise of patches, as nodes of an ONNX graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from ..routing.prototypes import compared_patches

if TYPE_CHECKING:
    from typing import Any

    from ._graph import Graph

_FAR = 1e30  # squared distance of entries that an image is not compared with
_SPARE = 8  # candidates beyond the nearest: rounding of products may change their order


def directions(g: Graph, rows: str) -> str:
    """Rows of length one; zero vectors stay zero."""
    norms = g("Sqrt", g.reduce("Sum", g("Mul", rows, rows), -1, keepdims=1))
    positive = g("Greater", norms, np.float32(0))
    return g("Div", rows, g.where(positive, norms, np.float32(1)))


def choose_routes(g: Graph, along: str, knn: Any, n_patches: int, n_counted: int) -> str:
    """The routes ``(n_searched,)`` whose prototypes are nearest to patches of length one.

    `along` holds those that count.
    """
    search = knn.search_
    compared = np.unique(compared_patches(n_patches) * n_counted // n_patches)
    along, n_patches = g("Gather", along, compared, axis=0), len(compared)
    prototypes = [profile.prototypes for profile in search.bank.profiles]
    most = max(map(len, prototypes))
    table = np.concatenate([p[np.arange(most) % len(p)] for p in prototypes]).astype(np.float32)
    cosines = g("MatMul", table, g("Transpose", along, perm=[1, 0]))
    cosines = g.double(g.shaped(cosines, len(prototypes), most, n_patches))
    nearest = g("Sub", 2.0, g("Mul", g.reduce("Max", cosines, 1), 2.0))
    nearest = g("Sqrt", g("Max", nearest, 0.0))
    square = g("Mul", g("Mul", nearest, nearest), 0.5)
    nearest = g.where(g("LessOrEqual", nearest, 1.0), square, g("Sub", nearest, 0.5))
    return g("TopK", g.reduce("Mean", nearest, 1), [search.n_searched], outputs=2, largest=0)[1]


def distance_to_route(g: Graph, along: str, route: str, profiles: Any) -> str:
    """Mahalanobis distance of the mean patch to the images of its route, see `RouteProfile`."""
    rank = max(len(p.axes) for p in profiles)

    def of_route(values):
        return g("Gather", np.stack(values), route, axis=0)

    def padded(rows):
        return np.concatenate([rows, np.zeros((rank - len(rows), *rows.shape[1:]))])

    row = g("Sub", g.reduce("Mean", g.double(along), 0), of_route([p.centre for p in profiles]))
    part = g("MatMul", of_route([padded(p.axes) for p in profiles]), row)
    shares = of_route([padded(p.shares) for p in profiles])
    normal = g.reduce("Sum", g("Mul", shares, g("Mul", part, part)))
    square = g("Sub", g.reduce("Sum", g("Mul", row, row)), normal)
    floor = of_route([np.float64(p.floor) for p in profiles])
    return g("Sqrt", g("Div", g("Max", square, 0.0), floor))


def search_bank(g: Graph, rows: str, knn: Any, routes: str | None) -> tuple[str, str | None]:
    """Distances and surprise ``(n_patches,)`` of all patches; the surprise may be None."""
    search = knn.search_
    bank = np.concatenate([index.bank for index in search.indexes]).astype(np.float32)
    k = min(search.n_context, len(bank))
    origin = bank.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = bank - origin
    norms = np.square(centred.astype(np.float64)).sum(axis=1).astype(np.float32)
    entries = g.constant(bank)
    products = g("MatMul", g("Sub", rows, origin), np.ascontiguousarray(-2 * centred.T))
    rough = g("Add", products, norms)
    if routes is not None:
        owner = np.repeat(np.arange(len(search.indexes)), [len(i.bank) for i in search.indexes])
        same = g("Equal", owner[np.newaxis], g("Unsqueeze", routes, [1]))
        searched = g.reduce("Max", g("Cast", same, to=TensorProto.FLOAT), 0)
        far = g("Mul", g("Sub", np.float32(1), searched), np.float32(_FAR))
        rough = g("Add", rough, far)
    n_looked_at = min(k + _SPARE, len(bank))
    _, chosen = g("TopK", rough, [n_looked_at], outputs=2, largest=0)
    difference = g("Sub", g("Unsqueeze", rows, [1]), g("Gather", entries, chosen, axis=0))
    squared = g.reduce("Sum", g("Mul", difference, difference), 2)
    if routes is not None:
        squared = g("Add", squared, g("Gather", far, chosen, axis=0))
    squared, place = g("TopK", squared, [k], outputs=2, largest=0)
    neighbors = g("GatherElements", chosen, place, axis=1)
    nearest = g.cut(squared, 1, 0, search.n_neighbors)
    nearest = g("Sqrt", nearest) if search.metric == "euclidean" else nearest
    distances = g.reduce("Mean", nearest, 1)
    if knn.expectations_ is None:
        return distances, None
    there = g.double(g("Less", squared, np.float32(_FAR / 10)))
    count = g.reduce("Sum", there, 1)

    def expected(name):
        table = np.concatenate([getattr(e, name) for e in knn.expectations_])
        around = g("Mul", g("Gather", table, neighbors, axis=0), there)
        return g("Div", g.reduce("Sum", around, 1), count)

    floor = g.constant([e.floor for e in knn.expectations_])
    floor = g("Gather", floor, [0] if routes is None else g.cut(routes, 0, 0, 1), axis=0)
    logs = g("Log", g("Max", g.double(distances), floor))
    surprise = g("Div", g("Sub", logs, expected("location")), expected("scale"))
    return distances, g.float(surprise)
