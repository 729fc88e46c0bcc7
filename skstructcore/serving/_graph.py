"""The nodes of an ONNX graph, and how they scale images and maps.

Modules beside this one say again, in ONNX, what other rooms say in numpy: `_scoring` what `knn`,
`routing` and `scoring` say, `_descriptors` what `scoring.map_functions` says. They append nodes to
a `Graph`, and return the names of the results. `export_onnx` compares the two on real images before
it writes a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from ..images.geometry import ignored_pixels, resize_matrix

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray


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
        resize_matrix(n_in, n_out, sigma) for n_in, n_out in zip(shape, size, strict=True)
    )
    pixels = g("MatMul", g("MatMul", rows, grid), columns.T.copy())
    if ignored is None:
        return pixels
    out, shares = ignored_pixels(ignored[np.newaxis], size)[0], rows @ ~ignored @ columns.T
    return g("Mul", pixels, np.where(out, 0, 1 / np.where(out, 1, shares)).astype(np.float32))
