"""From patch features to routes, map, score, p-value and decision, as nodes of an ONNX graph."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from scipy.special import stdtr

from ..images.geometry import ignored_pixels
from ..routing import compared_patches
from ..scoring.decision import ROUNDING, Expected
from ..scoring.descriptors import BASE, looks_at_surprise
from ._graph import Descriptors, Graph, resized_map

_FAR = 1e30  # squared distance of entries that an image is not compared with
_SPARE = 8  # candidates beyond the nearest: rounding of products may change their order
# Smooth tails are read from tables, linear between their points: these are standardised scores,
# dense where scores are. The largest relative error of a p-value is below 1e-4.
_Z = np.sinh(np.linspace(np.arcsinh(-40.0), np.arcsinh(2000.0), 8192))


def append_scoring(g: Graph, features: str, pipe: Any, ignored: NDArray[np.bool_] | None) -> None:
    """Append all that comes after the network, up to "map", "score", "p_value" and the others."""
    first, projection, _, knn, scorer = (step for _, step in pipe.steps)
    shape, size = tuple(first.grid_shape_), first.picture_.framing.size
    n_patches = n_counted = shape[0] * shape[1]
    rows = g.shaped(features, n_patches, first.n_features_out_)
    if ignored is not None:
        counted = np.flatnonzero(~ignored)
        rows, n_counted = g("Gather", rows, counted, axis=0), len(counted)
    if projection.components_ is not None:
        rows = g("MatMul", rows, np.ascontiguousarray(projection.components_.T))
    routes, route, distance = None, g.constant(np.int64(0)), None
    if knn.search_.is_routed:
        along = _directions(g, rows)
        routes = _choose_routes(g, along, knn, n_patches, n_counted)
        route = g("Squeeze", g.cut(routes, 0, 0, 1), [0])
        distance = _distance_to_route(g, along, route, knn.bank_.profiles)

    def as_grid(values):
        if ignored is not None:  # 0 there
            places = np.full(n_patches, n_counted)
            places[counted] = np.arange(n_counted)
            values = g("Gather", g("Concat", values, np.zeros(1, np.float32), axis=0), places)
        return g.shaped(values, *shape)

    grids = [*map(as_grid, _search_bank(g, rows, knn, routes))]
    resized = partial(resized_map, g, ignored=ignored, shape=shape, size=size)
    pixel_map = g.shaped(resized(grids[0]), 1, *size)
    g("Identity", pixel_map, outputs=("map",))
    if scorer.resolution == "full":
        grids, shape = [*map(resized, grids)], size
        ignored = None if ignored is None else ignored_pixels(ignored[np.newaxis], size)[0]
    maps = [Descriptors(g, grid, shape, ignored) for grid in grids]
    wanted = [BASE, *scorer.descriptors_]
    phi = [g.shaped(maps[looks_at_surprise(name)].of(name), 1) for name in wanted]
    phi = g("Concat", *phi, axis=0)
    constants = _score_constants(scorer, knn.search_.entries.route_names)
    score, p_value, good, is_near = _judge(g, phi, constants, route, distance)
    decision = g("Where", good, np.int64(1), np.int64(-1))
    route = g("Where", is_near, route, np.int64(-1))
    results = {"score": score, "p_value": p_value, "decision": decision, "route": route}
    for name, value in results.items():
        g("Reshape", value, np.array([1], np.int64), outputs=(name,))


def _judge(g, phi, constants, route, distance):
    """Score, p-value, whether the image is good and its route known: scalars.

    `phi` is ``(1 + p,)``, the base score first; `route`, a scalar, is a row of `_score_constants`.
    """

    def of_route(name):
        return g("Gather", constants[name], route, axis=0)

    base, phi = g.cut(phi, 0, 0, 1), g.cut(phi, 0, 1, np.iinfo(np.int64).max)
    z = g("Div", g("Sub", phi, of_route("location")), of_route("scale"))
    z, norm = g("Mul", z, of_route("weights")), constants["norm"][0]
    if norm == "sum":
        structure = g.reduce("Sum", z)
    elif norm == "linf":
        structure = g.reduce("Max", g("Abs", z))
    else:
        structure = g("Sqrt", g.reduce("Sum", g("Mul", z, z)))
    base = g("Mul", g.shaped(base, 1), of_route("base_weight"))
    raw = g("Add", g.reduce("Sum", base), g("Mul", structure, of_route("lam")))
    p_value = _interpolated(g, raw, of_route("levels"), of_route("p_values"))
    score = g("Div", g("Sub", raw, of_route("score_location")), of_route("score_span"))
    good = g("LessOrEqual", raw, of_route("threshold"))
    is_near, rate, above = g.constant(np.bool_(True)), of_route("rate"), float(np.nextafter(1.0, 2))
    if distance is not None:
        score = g("Where", good, g("Min", score, 1.0), g("Max", score, above))
        tiny = float(np.finfo(np.float64).tiny)
        logs = g("Sub", g("Log", g("Max", distance, tiny)), of_route("tail_location"))
        far = g("Div", logs, of_route("tail_scale"))
        is_near = g("LessOrEqual", far, of_route("tail_critical"))
        beyond = g("Max", score, g("Div", far, of_route("tail_critical")), above)
        rare = _interpolated(g, far, of_route("tail_levels"), of_route("tail_p_values"))
        score = g("Where", is_near, score, beyond)
        p_value = g("Where", is_near, p_value, g("Min", p_value, g("Mul", rare, rate)))
        good = g("And", good, is_near)
    least = g("Add", rate, 2 * ROUNDING)
    p_value = g("Where", good, g("Max", p_value, least), g("Min", p_value, rate))
    return score, p_value, good, is_near


def _interpolated(g, at, levels, values):
    """Linear between the points of a table, as `numpy.interp`."""
    below = g.reduce("Sum", g("Cast", g("Less", levels, at), to=TensorProto.INT64), 0)
    last = g("Sub", g("Size", levels), np.int64(1))
    place = g("Max", g("Min", below, last), np.int64(1))
    before = g("Sub", place, np.int64(1))
    x0, x1, y0, y1 = (
        g("Gather", part, i, axis=0) for part in (levels, values) for i in (before, place)
    )
    share = g("Div", g("Sub", at, x0), g("Sub", x1, x0))
    share = g("Max", g("Min", share, 1.0), 0.0)
    return g("Add", y0, g("Mul", share, g("Sub", y1, y0)))


def _directions(g, rows):
    """Rows of length one; zero vectors stay zero."""
    norms = g("Sqrt", g.reduce("Sum", g("Mul", rows, rows), -1, keepdims=1))
    positive = g("Greater", norms, np.float32(0))
    return g("Div", rows, g("Where", positive, norms, np.float32(1)))


def _choose_routes(g, along, knn, n_patches, n_counted):
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
    nearest = g("Where", g("LessOrEqual", nearest, 1.0), square, g("Sub", nearest, 0.5))
    return g("TopK", g.reduce("Mean", nearest, 1), [search.n_searched], outputs=2, largest=0)[1]


def _distance_to_route(g, along, route, profiles):
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


def _search_bank(g, rows, knn, routes):
    """Distances ``(n_patches,)`` of all patches and, if it was learned, their surprise."""
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
        return [distances]
    is_entry = g.double(g("Less", squared, np.float32(_FAR / 10)))
    count = g.reduce("Sum", is_entry, 1)

    def expected(name):
        table = np.concatenate([getattr(e, name) for e in knn.expectations_])
        around = g("Mul", g("Gather", table, neighbors, axis=0), is_entry)
        return g("Div", g.reduce("Sum", around, 1), count)

    floor = g.constant([e.floor for e in knn.expectations_])
    floor = g("Gather", floor, [0] if routes is None else g.cut(routes, 0, 0, 1), axis=0)
    logs = g("Log", g("Max", g.double(distances), floor))
    surprise = g("Div", g("Sub", logs, expected("location")), expected("scale"))
    return [distances, g.float(surprise)]


def _score_constants(scorer, route_names):
    """All numbers that turn descriptors into score, p-value and decision, with a row a route.

    With ``z = (phi - location) / scale * weights``, an image has the raw score ``base_weight *
    base + lam * combine(z, norm)``, is rejected if that is above ``threshold``, and has the score
    ``(raw - score_location) / score_span``. P-values lie on the lines between ``levels``, raw
    scores in ascending order, and ``p_values``; where an image is rejected they are at most
    ``rate``. Of a distance to the route ``z = (log distance - tail_location) / tail_scale``; it is
    of no known product if that exceeds ``tail_critical``.
    """
    routes = [_of_route(scorer.routes_[name], scorer.unknown_level) for name in route_names]
    longest = max(len(route["levels"]) for route in routes)
    for route in routes:
        more = 0, longest - len(route["levels"])
        route["levels"] = np.pad(route["levels"], more, constant_values=np.inf)
        route["p_values"] = np.pad(route["p_values"], more, "edge")
    return {name: np.stack([route[name] for route in routes]) for name in routes[0]}


def _of_route(route, unknown_level):
    calibration, decision, tail = route.calibration, route.calibration.decision, route.tail
    if isinstance(decision, Expected):
        levels = decision.tail.location + decision.tail.predictive_scale * _Z
    else:
        scores = np.unique(decision.scores)
        # P-values that fall in steps do so between a score and the next larger number.
        levels = np.unique([scores, np.nextafter(scores, np.inf)])
    names = "weights", "norm", "base_weight", "lam"
    constants = {name: getattr(calibration, name) for name in names} | {
        "location": calibration.location[: len(calibration.weights)],
        "scale": calibration.scale[: len(calibration.weights)],
        "threshold": decision.threshold,
        "score_location": 0.0 if tail is None else decision.threshold - route.score_span,
        "score_span": 1.0 if tail is None else route.score_span,
        "rate": decision.rate,
        "levels": levels,
        "p_values": decision.p_values(levels),
    }
    if tail is not None:
        constants |= {
            "tail_location": tail.location,
            "tail_scale": float(tail.scale * np.sqrt(1 + 1 / tail.n)),
            "tail_critical": tail.critical_z(unknown_level),
            "tail_levels": _Z,
            "tail_p_values": np.minimum(stdtr(tail.n - 1, -_Z) / unknown_level, 1.0),
        }
    return constants
