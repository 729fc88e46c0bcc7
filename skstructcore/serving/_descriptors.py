"""Descriptors of a map, as nodes of an ONNX graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx.parser
from onnx import TensorProto

from ..scoring.descriptors import SURPRISE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._graph import Graph


class Descriptors:
    """The descriptors of one map ``(h, w)``, float64; a method each of `DESCRIPTORS`.

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
