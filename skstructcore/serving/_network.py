"""The frozen networks alone, from levels to patch features, as torch traces them for ONNX."""

import io
import warnings

import onnx
import torch
import torch.nn.functional as F
from torch import nn

from .._utils.copies import with_attributes
from ..images.geometry import resize_matrix
from .exported import ExportError


def traced_network(features: object, size: tuple[int, int], opset: int) -> onnx.ModelProto:
    """The graph of a fitted feature estimator, joined ones too, for levels ``(1, *size, 3)``."""
    module = _Networks(features).eval()
    file = io.BytesIO()
    try:
        # The newer exporter (dynamo) cannot follow a forward pass that stops early.
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            levels = torch.zeros(1, *size, 3, dtype=torch.uint8)
            names = {"input_names": ["pixels"], "output_names": ["features"]}
            torch.onnx.export(module, (levels,), file, dynamo=False, opset_version=opset, **names)
    except Exception as error:  # of many kinds
        reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        raise ExportError(
            f"The network of {type(features).__name__} ({features.model_source_}) cannot be "
            f"written with ONNX's operators (opset {opset}): {reason}"
        ) from error
    return onnx.load_from_string(file.getvalue())


class _Networks(nn.Module):
    """All networks of an estimator, each in its tiles, at one grid."""

    def __init__(self, features):
        super().__init__()
        self.grid_shape = tuple(features.grid_shape_)
        self.parts = [_eager(backbone) for backbone in features.backbones]
        # Registered, because the exporter writes weights of registered modules only.
        held = (value for network, _ in self.parts for value in vars(network).values())
        self.networks = nn.ModuleList(value for value in held if isinstance(value, nn.Module))

    def forward(self, pixels):
        grids = [_in_tiles(network, tiling, pixels) for network, tiling in self.parts]
        return torch.cat([_at_grid(grid, self.grid_shape) for grid in grids], dim=-1)


def _eager(features):
    """The network of one estimator, in a form that can be traced, and the tiles that it sees."""
    features = with_attributes(features, device="cpu", dtype="float32")
    network = features.network().eager
    network.on_black(*features.picture_.network_size)  # what it keeps for this size is not traced
    return network, features.tiling


def _in_tiles(network, tiling, pixels):
    """Features ``(1, h, w, d)``; all tiles of an image are one batch. See `Tiling`."""
    if tiling is None:
        return network(pixels)
    cut = torch.stack([tiling.cut(pixels[0], tile) for tile in range(len(tiling))])
    grid, (height, width) = 0.0, tiling.grid_shape
    for tile, features in enumerate(network(cut)):
        rows, cols, weights = tiling.tiles[tile]
        around = (0, 0, cols.start, width - cols.stop, rows.start, height - rows.stop)
        grid = grid + F.pad(features * torch.from_numpy(weights), around)
    return grid[None]


def _at_grid(features, grid_shape):
    """Features at another grid, bilinear: `upsample_maps`."""
    shape = features.shape[1:3]
    if tuple(shape) == grid_shape:
        return features
    matrices = map(resize_matrix, map(int, shape), grid_shape, (0.0, 0.0))
    rows, columns = map(torch.from_numpy, matrices)
    return (rows @ features.permute(0, 3, 1, 2) @ columns.T).permute(0, 2, 3, 1)
