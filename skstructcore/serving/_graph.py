"""The nodes of an ONNX graph: how they scale images and maps, and what they sum maps up by.

This module and `_scoring` say again, in ONNX, what other rooms say in numpy: they append nodes to a
`Graph`, and return the names of the results. `export_onnx` compares both before it writes a file.
"""

from typing import Any

import numpy as np
import onnx.parser
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from scipy.ndimage import uniform_filter1d

from ..images.geometry import Size, ignored_pixels, resize_matrix
from ..scoring.descriptors import SURPRISE
from ..scoring.evidence import SIGMA


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

    def reduce(self, operation, value, *axes, keepdims=0):
        """Sum, Mean or Max over some axes, or all."""
        inputs = (np.array(axes, np.int64),) if axes else ()
        return self(f"Reduce{operation}", value, *inputs, keepdims=keepdims)

    def cut(self, value, axis, start, stop):
        return self("Slice", value, [start], [stop], [axis])


def scaled_pixels(g: Graph, pixels: str, size: Size, box: tuple, seen: Size) -> str:
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
    """What each pixel of an axis weighs: Pillow scales a unit matrix, in whole 22-bit units."""
    units = Image.fromarray(np.eye(n_in, dtype=np.int32) << 22)
    weights = units.resize((n_in, n_out), Image.Resampling.BILINEAR, (0, low, n_in, high))
    return np.asarray(weights) / 2**22  # of levels, it rounds the weights to such units


def resized_map(g: Graph, grid: str, ignored: NDArray[np.bool_] | None, shape: Size, size: Size):
    """A map of patches at the size that the backbone saw, smoothed: see `at_pixels`."""
    rows, columns = map(resize_matrix, shape, size, (SIGMA, SIGMA))
    pixels = g("MatMul", g("MatMul", rows, grid), columns.T.copy())
    if ignored is None:
        return pixels
    out, shares = ignored_pixels(ignored[np.newaxis], size)[0], rows @ ~ignored @ columns.T
    return g("Mul", pixels, np.where(out, 0, 1 / np.where(out, 1, shares)).astype(np.float32))


class Descriptors:
    """The descriptors of one map ``(h, w)``, float64; a method each of `DESCRIPTORS`.

    Where pixels are `ignored`, those that look at single pixels take the others as a list.
    """

    def __init__(self, g: Graph, values: str, shape: Size, ignored=None):
        self.g, self.shape = g, shape
        self.there = np.ones(shape, bool) if ignored is None else ~ignored
        self.n = int(self.there.sum())
        self.map = g.double(values)
        self.values = g.shaped(self.map, -1)
        if ignored is not None:
            self.values = g("Gather", self.values, np.flatnonzero(self.there), axis=0)

    def of(self, name: str) -> str:
        name = name.removeprefix(SURPRISE)
        return self.top(float(name[3:])) if name.startswith("top") else getattr(self, name)()

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
            counted = [self.there.take(range(*end), axis) for end in ends]
            yield *(self.g.cut(values, axis, *end) for end in ends), counted[0] & counted[1]

    def _sum(self, values, counted):
        """The sum of those that are there."""
        return self.g.reduce("Sum", self.g("Mul", values, counted.astype(np.float64)))

    def tv(self):
        g = self.g
        pairs = self._neighbours(self.map)
        parts = [self._sum(g("Abs", g("Sub", b, a)), counted) for a, b, counted in pairs]
        return g("Div", g("Add", *parts), float(self.n))

    def smoothmax(self):
        g = self.g
        rows, columns = (uniform_filter1d(np.eye(n), 3, axis=0, mode="nearest") for n in self.shape)
        columns = columns.T.copy()
        values = g("MatMul", g("MatMul", rows, self.map), columns)
        if not self.there.all():
            share = np.where(self.there, rows @ self.there @ columns, 1)
            values = g("Where", self.there, g("Div", values, share), -np.inf)
        return g.reduce("Max", values)

    def moran(self):
        g = self.g
        centred, variance = g("Sub", self.map, self.mean()), self._variance()
        pairs = [*self._neighbours(centred)]
        total = g("Add", *(self._sum(g("Mul", a, b), counted) for a, b, counted in pairs))
        n_pairs = float(max(sum(counted.sum() for _, _, counted in pairs), 1e-300))
        varies = g("Greater", variance, 0.0)
        scale = g("Mul", g("Where", varies, variance, 1.0), n_pairs)
        return g("Where", varies, g("Div", total, scale), 0.0)

    def component(self):
        """The largest region: numbers of pixels spread to their neighbours until they are one."""
        g, (height, width) = self.g, self.shape
        n_pixels = height * width
        limit = g("Add", self.mean(), g("Mul", self.std(), 2.0))
        over = g.float(g("And", g("Greater", self.map, limit), self.there))
        over = g.shaped(over, 1, 1, height, width)
        numbers = np.arange(1, n_pixels + 1, dtype=np.float32).reshape(1, 1, height, width)
        # Names in a loop must be unlike all others.
        before, after, go_on = (f"{name}_{len(g.nodes)}" for name in ("before", "after", "go_on"))
        body = onnx.parser.parse_graph(f"""
            spread (int64 i_{go_on}, bool was_{go_on}, float[1, 1, {height}, {width}] {before})
            => (bool {go_on}, float[1, 1, {height}, {width}] {after}) {{
                pooled_{after} = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> ({before})
                {after} = Mul (pooled_{after}, {over})
                change_{after} = Sub ({after}, {before})
                grown_{after} = ReduceMax <keepdims = 0> (change_{after})
                {go_on} = Cast <to = 9> (grown_{after})
            }}""")
        start = g("Mul", over, numbers)
        spread = g("Loop", np.int64(n_pixels), np.bool_(True), start, body=body)
        places = g("Cast", g.shaped(spread, -1), to=TensorProto.INT64)
        sizes = np.zeros(n_pixels + 1, np.float32)
        sizes = g("ScatterElements", sizes, places, g.shaped(over, -1), axis=0, reduction="add")
        largest = g.double(g.reduce("Max", g.cut(sizes, 0, 1, n_pixels + 1)))
        return g("Log", g("Add", largest, 1.0))
