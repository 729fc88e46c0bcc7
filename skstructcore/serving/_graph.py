"""From patch features to map, score, p-value and decision, as nodes of an ONNX graph.

Each function appends nodes to a `Graph` and returns the names of their results. They say again,
in ONNX, what `knn`, `routing` and `scoring` say in numpy; `export_onnx` compares the two on real
images before it writes a file.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from ..images.resampling import _resize_matrix, ignored_pixels
from ..routing.prototypes import compared_patches
from ..scoring.decision import ROUNDING
from ..scoring.descriptors import BASE, SURPRISE, looks_at_surprise
from ..scoring.evidence import SIGMA
from .exported import ExportError

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray


_FAR = 1e30  # squared distance of entries that an image is not compared with
_SPARE = 8  # candidates beyond the nearest: rounding of products may change their order


class Graph:
    """Nodes and constants of an ONNX graph. A value is its name; arrays become constants."""

    def __init__(self, prefix: str = ""):
        self.prefix = prefix  # of all names, which must be unlike those of other graphs
        self.nodes, self.constants = [], []

    def __call__(self, op: str, *inputs: Any, outputs: int | tuple[str, ...] = 1, **attributes):
        """Append a node; return the name of its result, or a list of several."""
        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        if isinstance(outputs, int):
            outputs = [f"{self.prefix}{op}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, names, list(outputs), **attributes))
        return outputs[0] if len(outputs) == 1 else outputs

    def constant(self, value: Any) -> str:
        name = f"{self.prefix}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value), name))
        return name

    def double(self, value):
        return self("Cast", value, to=TensorProto.DOUBLE)

    def float(self, value):
        return self("Cast", value, to=TensorProto.FLOAT)

    def shaped(self, value, *shape):
        return self("Reshape", value, np.array(shape, np.int64))

    def reduce(self, kind, value, *axes, keepdims=0):
        """Sum, Mean or Max over some axes, or all."""
        inputs = (np.array(axes, np.int64),) if axes else ()
        return self(f"Reduce{kind}", value, *inputs, keepdims=keepdims)

    def cut(self, value, axis, start, stop):
        return self("Slice", value, [start], [stop], [axis])

    def where(self, condition, there, elsewhere):
        return self("Where", condition, there, elsewhere)


def scaled_pixels(
    g: Graph, pixels: str, size: tuple[int, int], box: tuple, seen: tuple[int, int]
) -> str:
    """Scale levels ``(1, *size, 3)`` as Pillow does: bilinear, widened, rounded along each axis."""
    x = g("Transpose", g.double(g.shaped(pixels, *size, 3)), perm=[2, 0, 1])
    top, left, bottom, right = box
    columns = _pillow_matrix(size[1], left, right, seen[1])
    rows = _pillow_matrix(size[0], top, bottom, seen[0])
    x = g("Floor", g("Add", g("MatMul", x, columns.T.copy()), 0.5))
    x = g("Floor", g("Add", g("MatMul", rows, x), 0.5))
    x = g("Transpose", g("Clip", x, 0.0, 255.0), perm=[1, 2, 0])
    return g("Cast", g.shaped(x, 1, *seen, 3), to=TensorProto.UINT8)


def _pillow_matrix(n_in, low, high, n_out):
    """What each pixel of an axis weighs, as in Pillow's ``resize(box=)`` with a triangle."""
    low, high = np.float32(low), np.float32(high)  # as Pillow keeps the corners
    step = float(high - low) / n_out
    width = max(step, 1.0)
    centres = low + (np.arange(n_out)[:, np.newaxis] + 0.5) * step
    first = np.maximum(np.trunc(centres - width + 0.5), 0)
    last = np.minimum(np.trunc(centres + width + 0.5), n_in)
    place = np.arange(n_in)
    weight = np.maximum(1 - np.abs(place + 0.5 - centres) / width, 0)
    weight[(place < first) | (place >= last)] = 0
    # In whole 22-bit units, as there: halves are rounded as Pillow rounds them.
    return np.floor(weight / weight.sum(axis=1, keepdims=True) * 2**22 + 0.5) / 2**22


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


def resized_map(
    g: Graph,
    grid: str,
    ignored: NDArray[np.bool_] | None,
    shape: tuple[int, int],
    size: tuple[int, int],
    sigma: float,
):
    """A map of patches at the size that the backbone saw, smoothed: see `at_pixels`."""
    rows, columns = (
        _resize_matrix(n_in, n_out, sigma) for n_in, n_out in zip(shape, size, strict=True)
    )
    pixels = g("MatMul", g("MatMul", rows, grid), columns.T.copy())
    if ignored is None:
        return pixels
    out, shares = ignored_pixels(ignored[np.newaxis], size)[0], rows @ ~ignored @ columns.T
    return g("Mul", pixels, np.where(out, 0, 1 / np.where(out, 1, shares)).astype(np.float32))


class Descriptors:
    """The descriptors of one map ``(h, w)``, float64; a method each, see `map_functions`.

    Where pixels are `ignored`, those that look at single pixels take the others as a list.
    """

    def __init__(
        self,
        g: Graph,
        values: str,
        shape: tuple[int, int],
        ignored: NDArray[np.bool_] | None = None,
    ):
        self.g, self.shape = g, shape
        self.there = np.ones(shape, bool) if ignored is None else ~ignored
        self.n = int(self.there.sum())
        self.map = g.double(values)
        self.values = g.shaped(self.map, -1)
        if ignored is not None:
            self.values = g("Gather", self.values, np.flatnonzero(self.there), axis=0)

    def of(self, name: str) -> str:
        name = name.removeprefix(SURPRISE)
        if name.startswith("top"):
            return self.top(float(name[3:] or 1))
        if not hasattr(self, name):
            raise ExportError(
                f"No ONNX graph can hold the descriptor {name!r} yet: fit with other descriptors."
            )
        return getattr(self, name)()

    def max(self):
        return self.g.reduce("Max", self.values)

    def mean(self):
        return self.g.reduce("Mean", self.values)

    def _variance(self):
        centred = self.g("Sub", self.values, self.mean())
        return self.g.reduce("Mean", self.g("Mul", centred, centred))

    def std(self):
        return self.g("Sqrt", self._variance())

    def _largest(self, k):
        return self.g("TopK", self.values, [k], outputs=2)[0]

    def top(self, percent):
        return self.g.reduce("Mean", self._largest(max(1, round(percent / 100 * self.n))))

    def median(self):
        largest, middle = self._largest(self.n // 2 + 1), self.n // 2
        two = self.g.cut(largest, 0, middle - (self.n % 2 == 0), middle + 1)
        return self.g.reduce("Mean", two)

    def contrast(self):
        return self.g("Sub", self.max(), self.median())

    def _neighbours(self, values):
        """Each pixel but the last of an axis, the next one, and which pairs count, by axis."""
        for axis, length in enumerate(self.shape):
            ends = (0, length - 1), (1, length)
            there = [self.there.take(range(*end), axis) for end in ends]
            yield *(self.g.cut(values, axis, *end) for end in ends), there[0] & there[1]

    def _sum(self, values, there):
        """The sum of those that are there."""
        values = values if there.all() else self.g("Mul", values, there.astype(np.float64))
        return self.g.reduce("Sum", values)

    def tv(self):
        g = self.g
        pairs = self._neighbours(self.map)
        parts = [self._sum(g("Abs", g("Sub", b, a)), there) for a, b, there in pairs]
        return g("Div", g("Add", *parts), float(self.n))

    def smoothmax(self):
        g, smooth = self.g, []
        for length in self.shape:
            places = np.clip(np.arange(length)[:, np.newaxis] + [-1, 0, 1], 0, length - 1)
            smooth.append((places[..., np.newaxis] == np.arange(length)).sum(axis=1) / 3)
        rows, columns = smooth[0], smooth[1].T.copy()
        values = g("MatMul", g("MatMul", rows, self.map), columns)
        if not self.there.all():
            share = np.where(self.there, rows @ self.there @ columns, 1)
            values = g.where(self.there, g("Div", values, share), -np.inf)
        return g.reduce("Max", values)

    def moran(self):
        g = self.g
        centred, variance = g("Sub", self.map, self.mean()), self._variance()
        pairs = [*self._neighbours(centred)]
        total = g("Add", *(self._sum(g("Mul", a, b), there) for a, b, there in pairs))
        n_pairs = float(max(sum(there.sum() for _, _, there in pairs), 1e-300))
        varies = g("Greater", variance, 0.0)
        scale = g("Mul", g.where(varies, variance, 1.0), n_pairs)
        return g.where(varies, g("Div", total, scale), 0.0)

    def concentration(self):
        g = self.g
        above = g("Sub", self.values, g("ReduceMin", self.values, keepdims=0))
        total = g.reduce("Sum", above)
        varies = g("Greater", total, 0.0)
        share = g.where(varies, g("Div", above, g.where(varies, total, 1.0)), 1 / self.n)
        positive = g("Greater", share, 0.0)
        entropy = g("Mul", share, g("Log", g.where(positive, share, 1.0)))
        return g("Add", g("Div", g.reduce("Sum", entropy), float(np.log(max(self.n, 2)))), 1.0)

    def component(self):
        """The largest region: numbers of pixels spread to their neighbours until they are one."""
        g, (height, width) = self.g, self.shape
        n_pixels = height * width
        limit = g("Add", self.mean(), g("Mul", self.std(), 2.0))
        over = g.float(g("And", g("Greater", self.map, limit), self.there))
        over = g.shaped(over, 1, 1, height, width)
        numbers = np.arange(1, n_pixels + 1, dtype=np.float32).reshape(1, 1, height, width)
        body = Graph(f"spread_{len(g.nodes)}/")
        before, round_, going, go_on = (
            body.prefix + n for n in ("before", "round", "going", "go_on")
        )
        pooled = body("MaxPool", before, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        after = body("Mul", pooled, over, outputs=(f"{body.prefix}after",))
        changed = body("Sub", after, before)
        changed = body("ReduceSum", body("Abs", changed), keepdims=0)
        body("Greater", changed, np.float32(0), outputs=(go_on,))
        shape, boolean = [1, 1, height, width], TensorProto.BOOL
        body_graph = helper.make_graph(
            body.nodes,
            "spread",
            [
                helper.make_tensor_value_info(round_, TensorProto.INT64, []),
                helper.make_tensor_value_info(going, boolean, []),
                helper.make_tensor_value_info(before, TensorProto.FLOAT, shape),
            ],
            [
                helper.make_tensor_value_info(go_on, boolean, []),
                helper.make_tensor_value_info(after, TensorProto.FLOAT, shape),
            ],
            body.constants,
        )
        spread = g(
            "Loop", np.int64(n_pixels), np.bool_(True), g("Mul", over, numbers), body=body_graph
        )
        places = g("Cast", g.shaped(spread, -1), to=TensorProto.INT64)
        sizes = np.zeros(n_pixels + 1, np.float32)
        sizes = g("ScatterElements", sizes, places, g.shaped(over, -1), axis=0, reduction="add")
        largest = g.double(g.reduce("Max", g.cut(sizes, 0, 1, n_pixels + 1)))
        return g("Log", g("Add", largest, 1.0))


def judge(
    g: Graph, phi: str, constants: dict[str, NDArray[Any]], route: str, distance: str | None
) -> tuple[str, str, str, str]:
    """Score, p-value, whether the image is good and its route known: scalars.

    `phi` is ``(1 + p,)``, the base score first; `constants` are those of `score_constants`, and
    `route` a scalar, a row of them.
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
    known, rate, above = g.constant(np.bool_(True)), of_route("rate"), float(np.nextafter(1.0, 2))
    if distance is not None:
        score = g.where(good, g("Min", score, 1.0), g("Max", score, above))
        tiny = float(np.finfo(np.float64).tiny)
        logs = g("Sub", g("Log", g("Max", distance, tiny)), of_route("tail_location"))
        far = g("Div", logs, of_route("tail_scale"))
        known = g("LessOrEqual", far, of_route("tail_critical"))
        beyond = g("Max", score, g("Div", far, of_route("tail_critical")), above)
        rare = _interpolated(g, far, of_route("tail_levels"), of_route("tail_p_values"))
        score = g.where(known, score, beyond)
        p_value = g.where(known, p_value, g("Min", p_value, g("Mul", rare, rate)))
        good = g("And", good, known)
    least = g("Add", rate, 2 * ROUNDING)
    p_value = g.where(good, g("Max", p_value, least), g("Min", p_value, rate))
    return score, p_value, good, known


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


def append_scoring(
    g: Graph,
    features: str,
    pipe: Any,
    constants: dict[str, NDArray[Any]],
    ignored: NDArray[np.bool_] | None,
    outputs: dict[str, str],
) -> None:
    """Append all that comes after the network, up to the named `outputs`."""
    first, projection, _, knn, scorer = (step for _, step in pipe.steps)
    shape, size = tuple(first.grid_shape_), first._picture().framing.size
    n_patches = n_counted = shape[0] * shape[1]
    rows = g.shaped(features, n_patches, first.n_features_out_)
    if ignored is not None:
        counted = np.flatnonzero(~ignored)
        rows, n_counted = g("Gather", rows, counted, axis=0), len(counted)
    if projection.components_ is not None:
        matrix = np.ascontiguousarray(projection.components_.T)
        rows = g("MatMul", rows, matrix)
    routes, route, distance = None, g.constant(np.int64(0)), None
    if knn.search_.is_routed:
        along = directions(g, rows)
        routes = choose_routes(g, along, knn, n_patches, n_counted)
        route = g("Squeeze", g.cut(routes, 0, 0, 1), [0])
        distance = distance_to_route(g, along, route, knn.bank_.profiles)

    def as_grid(values):
        if ignored is not None:  # 0 there
            places = np.full(n_patches, n_counted)
            places[counted] = np.arange(n_counted)
            values = g("Gather", g("Concat", values, np.zeros(1, np.float32), axis=0), places)
        return g.shaped(values, *shape)

    found = [None if f is None else as_grid(f) for f in search_bank(g, rows, knn, routes)]
    options = {"ignored": ignored, "shape": shape, "size": size, "sigma": SIGMA}
    resized = partial(resized_map, g, **options)
    pixel_map = g.shaped(resized(found[0]), 1, *size)
    g("Identity", pixel_map, outputs=(outputs["map"],))
    if scorer.resolution == "full":
        found, shape = [None if f is None else resized(f) for f in found], size
        ignored = None if ignored is None else ignored_pixels(ignored[np.newaxis], size)[0]
    maps = [None if f is None else Descriptors(g, f, shape, ignored) for f in found]
    wanted = [BASE, *scorer.descriptors_]
    phi = [g.shaped(maps[looks_at_surprise(name)].of(name), 1) for name in wanted]
    phi = g("Concat", *phi, axis=0)
    score, p_value, good, known = judge(g, phi, constants, route, distance)
    decision = g.where(good, np.int64(1), np.int64(-1))
    route = g.where(known, route, np.int64(-1))
    results = {"score": score, "p_value": p_value, "decision": decision, "route": route}
    for name, value in results.items():
        g("Reshape", value, np.array([1], np.int64), outputs=(outputs[name],))
