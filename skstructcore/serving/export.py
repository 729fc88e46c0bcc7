"""A fitted pipeline as one ONNX graph that was seen to agree, and carries what proves it."""

from __future__ import annotations

import base64
import copy
import io
import json
import warnings
from typing import TYPE_CHECKING

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .._utils.files import atomic_file, check_writable
from .._version import __version__
from ..bank.coreset_bank import CoresetBank
from ..features._backbone import PatchFeatures
from ..features.joined import JoinedFeatures
from ..images.image_list import as_images
from ..knn.scorer import RoutedKNNScorer
from ..projection import RandomProjection
from ..scoring.constants import score_constants
from ..scoring.structcore import StructCoreScorer
from .exported import (
    KEY,
    ExportError,
    compare,
    digest_of_note,
    import_for_onnx,
    onnxruntime_graph,
    pixels_of_size,
)

if TYPE_CHECKING:
    from ..images.image_list import ImagesLike, StrPath
    from .exported import ExportCheck

__all__ = ["export_onnx"]

OPSETS = (18, 19, 20)
_OUTPUTS = {name: name for name in ("map", "score", "p_value", "decision", "route")}
_LARGEST = 2**31 - 2**20  # of what protobuf can hold
_N_SEALED = 3
_SERVE = "let other programs ask `skstructcore serve`"


def export_onnx(
    pipe: Pipeline,
    path: StrPath,
    check_images: ImagesLike,
    *,
    resize_from: tuple[int, int] | None = None,
    opset: int = 18,
) -> ExportCheck:
    """Write a fitted pipeline as one ONNX file, after it has been seen to give the same scores.

    The file needs an ONNX runtime only: neither this package nor torch. It has one input,
    "pixels", uint8 of shape ``(1, height, width, 3)``, RGB, as the backbone sees images; and five
    outputs of one row: "map", float32 ``(1, height, width)``, the pixel map; "score", float64, the
    anomaly score; "p_value", float64; "decision", int64, +1 good and -1 anomalous; "route", int64,
    the position of the route in the names that the file carries, -1 for an unknown product.

    Parameters
    ----------
    pipe : Pipeline
        Fitted, as `make_structcore` builds it.
    path : str or path-like
        The file; one that is there is replaced, once the new one agrees.
    check_images : folder, sequence of paths, PIL images or arrays, or ndarray
        Images, good and with defects, that both must judge alike. Three of them, and a coloured
        copy of one, are sealed in the file with their scores, for `verify_export`.
    resize_from : (int, int), default=None
        Height and width of the camera's images: the graph scales (and crops) them as Pillow does,
        bilinear with a widened filter. None: the caller does, to the size the backbone sees.
    opset : {18, 19, 20}, default=18
        Version of ONNX's operators.

    Returns
    -------
    check : ExportCheck

    Raises
    ------
    ExportError
        If a decision differs or a score by more than 1e-4 of the larger of itself and the
        threshold (no file is written then), or the pipeline has something that a graph cannot
        hold: the message names it. It is a ValueError.
    ImportError
        Without ``pip install "skstructcore[onnx]"``.
    """
    import_for_onnx("onnxruntime")  # an error before the work
    onnx = import_for_onnx("onnx")
    constants = _check_exportable(pipe, opset)
    check_writable(path)
    images = as_images(check_images)
    first = pipe[0]
    size = first._picture().framing.size
    if resize_from is None:
        pixels = [first._picture().pixels(images, i) for i in range(len(images))]
    else:
        pixels = [pixels_of_size(images, i, resize_from) for i in range(len(images))]
    # Grey images cannot tell whether red and blue were exchanged.
    tinted = (pixels[0] * np.array([1.0, 0.8, 0.5])).astype(np.uint8)
    pixels.append(tinted)
    model = _build(pipe, constants, size, resize_from, opset, onnx)
    as_it_is = pipe if resize_from else _without_scaling(pipe)
    expected = _judge([(pipe, images), (as_it_is, [tinted])])
    content = model.SerializeToString()
    run, _ = onnxruntime_graph(content)
    check = compare(lambda image: run(image[np.newaxis]), pixels, expected, len(content))
    if not check.agrees:
        raise ExportError(
            f"The exported graph does not agree with the pipeline ({check}), so it is not written. "
            "Check images within rounding of the threshold can do that: leave them out."
        )
    # The least and the most anomalous image, one in between, and the coloured one.
    order = np.argsort(expected["score"][:-1])
    sealed = dict.fromkeys([*order[[0, len(order) // 2, -1]].tolist(), len(pixels) - 1])
    note = {
        "format": 1,
        "version": __version__,
        "image_size": size,
        "resize_from": resize_from,
        **_scaling(first),
        "routes": [c.name for c in constants],
        "threshold": -pipe[-1].offset_,
        "backbone": {"source": first.model_source_, "checksum": first.model_checksum_},
        "sealed": [_sealed(pixels[i], expected, i) for i in sealed],
    }
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps({**note, "sha256": digest_of_note(note)})
    with atomic_file(path) as file:
        file.write(model.SerializeToString())
    return check


def _check_exportable(pipe, opset):
    """The constants of the scores; an error that names what a graph cannot hold."""
    kinds = PatchFeatures, RandomProjection, CoresetBank, RoutedKNNScorer, StructCoreScorer
    steps = [step for _, step in getattr(pipe, "steps", [])]
    if steps and isinstance(steps[0], JoinedFeatures):
        raise ExportError(
            f"No ONNX graph can hold joined networks yet: fit with one of them alone, or {_SERVE}."
        )
    if len(steps) != 5 or not all(map(isinstance, steps, kinds)):
        found = ", ".join(type(step).__name__ for step in steps) or type(pipe).__name__
        wanted = "features, RandomProjection, CoresetBank, RoutedKNNScorer, StructCoreScorer"
        raise ExportError(f"Pipelines of {wanted} can be exported; found {found}.")
    check_is_fitted(pipe)
    features, _, _, knn, scorer = steps
    own = [d for d in scorer.descriptors_ if callable(d)]
    named = f"the descriptor {own[0].__name__!r}, a Python function" if own else ""
    refused = (  # whether it is there, how it is called, what to do without
        (own, named, "fit with descriptors that have a name"),
        (features.tile_size is not None, "tile_size", "fit with a larger image_size"),
        (features.ignore is not None, "ignore", "fit with crop= a box around what matters"),
        (features.window_ is not None, "images of more than 8 bits", "fit with images of 8 bits"),
        (features.channels is not None, "channels", "fit with RGB images"),
        (
            knn.algorithm == "approximate",
            "algorithm='approximate'",
            "fit with knn__algorithm='exact'",
        ),
    )
    for is_there, name, way in refused:
        if is_there:
            raise ExportError(f"No ONNX graph can hold {name} yet: {way}, or {_SERVE}.")
    if opset not in OPSETS:
        raise ExportError(f"opset must be one of {OPSETS}, got {opset!r}.")
    return score_constants(scorer, knn.search_.entries.route_names)


def _build(pipe, constants, size, resize_from, opset, onnx):
    from ._graph import Graph, append_scoring, scaled_pixels

    network = onnx.compose.add_prefix(_network(pipe[0], size, opset, onnx), "net/")
    before, after = Graph("in/"), Graph()
    shape = [1, *(size if resize_from is None else resize_from), 3]
    pixels = "pixels"
    if resize_from is not None:
        box = pipe[0]._picture().framing.box(resize_from)
        pixels = scaled_pixels(before, pixels, resize_from, box, size)
    before("Identity", pixels, outputs=(network.graph.input[0].name,))
    append_scoring(after, network.graph.output[0].name, pipe, constants, _OUTPUTS)
    value, kinds = onnx.helper.make_tensor_value_info, onnx.TensorProto
    outputs = [value("map", kinds.FLOAT, [1, *size])]
    outputs += [value(name, kinds.DOUBLE, [1]) for name in ("score", "p_value")]
    outputs += [value(name, kinds.INT64, [1]) for name in ("decision", "route")]
    graph = onnx.helper.make_graph(
        [*before.nodes, *network.graph.node, *after.nodes],
        KEY,
        [value("pixels", kinds.UINT8, shape)],
        outputs,
        [*before.constants, *network.graph.initializer, *after.constants],
    )
    imports = [onnx.helper.make_opsetid("", opset)]
    model = onnx.helper.make_model(
        graph, opset_imports=imports, ir_version=network.ir_version, producer_name=KEY
    )
    if model.ByteSize() > _LARGEST:
        raise ExportError(
            f"The graph takes {model.ByteSize() / 1e9:.1f} GB, and one file holds 2 GB at most: "
            "use a smaller bank (ratio) or network."
        )
    return model


def _network(features, size, opset, onnx):
    """The frozen network alone, from levels to patch features."""
    import torch

    features = copy.copy(features)
    features.device, features.dtype = "cpu", "float32"
    network = features._network()
    network = getattr(network, "eager", network)
    if hasattr(network, "_grid_positions"):  # of transformers: a table that is fixed here
        network = copy.copy(network)
        grid = tuple(side // network.patch_size for side in size)
        positions = network._grid_positions(grid)
        network._grid_positions = lambda grid: positions

    class Pixels(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, part in vars(network).items():  # so that the exporter knows the weights
                if isinstance(part, torch.nn.Module):
                    self.add_module(name, part)

        def forward(self, pixels):
            return network(pixels)

    black = torch.zeros(1, *size, 3, dtype=torch.uint8)
    file = io.BytesIO()
    try:
        # This is the exporter that traces. The newer one cannot follow a forward pass that is ended
        # at the last layer that is needed.
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                Pixels().eval(),
                (black,),
                file,
                dynamo=False,
                opset_version=opset,
                input_names=["pixels"],
                output_names=["features"],
            )
    except Exception as error:  # of many kinds
        reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        raise ExportError(
            f"The network of {type(features).__name__} ({features.model_source_}) cannot be "
            f"written with ONNX's operators (opset {opset}): {reason}"
        ) from error
    return onnx.load_from_string(file.getvalue())


def _scaling(features):
    """What becomes of an image before the backbone sees it, beside its size."""
    framing = features._picture().framing
    return {"resize": framing.resize, "crop": framing.crop, "region": framing.region}


def _without_scaling(pipe):
    """The pipeline for images that have been cropped and scaled already."""
    features = copy.copy(pipe[0]).set_params(crop=False)
    features.recipe_ = features._recipe()
    return Pipeline([("features", features), *pipe.steps[1:]])


def _judge(judged):
    """Score, p-value and decision of images, by pipelines."""
    found = [pipe[-1].describe(pipe[:-1].transform(images)) for pipe, images in judged]
    columns = {"score": "anomaly_score", "p_value": "p_value", "decision": "is_anomalous"}
    expected = {
        name: np.concatenate([part[column].to_numpy() for part in found])
        for name, column in columns.items()
    }
    expected["decision"] = np.where(expected["decision"], -1, 1)
    expected["threshold"] = -judged[0][0][-1].offset_
    return expected


def _sealed(pixels, expected, i):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    values = {k: expected[k][i].item() for k in ("score", "p_value", "decision")}
    return {"png": base64.b64encode(file.getvalue()).decode(), **values}
