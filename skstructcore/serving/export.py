"""A fitted pipeline as one ONNX graph that was seen to agree, and carries what proves it."""

from __future__ import annotations

import numpy as np
from PIL import Image
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .._utils.files import atomic_file, check_writable
from .._utils.pages import base64_of
from .._utils.versions import import_extra
from ..bank.coreset_bank import CoresetBank
from ..features._lazy import LazyTransformer
from ..images.image_list import ImagesLike, StrPath, as_images
from ..knn.scorer import RoutedKNNScorer
from ..pipeline.describe import describe
from ..projection import RandomProjection
from ..scoring.descriptors import resolve_descriptor
from ..scoring.structcore import StructCoreScorer
from .exported import (
    KEY,
    ExportCheck,
    ExportError,
    compare,
    note_text,
    onnxruntime_graph,
    pixels_of_size,
)

__all__ = ["export_onnx"]

OPSETS = (18, 19, 20)
_LARGEST = 2**31 - 2**20  # bytes; protobuf holds 2 GB


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
        If a decision differs, or a score by more than 1e-4 of the larger of itself and the
        threshold: no file is written then. Also if the pipeline has something that a graph cannot
        hold: the message names it. It is a ValueError.
    ImportError
        Without ``pip install "skstructcore[onnx]"``.
    """
    import_extra("onnxruntime", "onnx", "An ONNX file")  # an error before the work
    onnx = import_extra("onnx", "onnx", "An ONNX file")
    _check_exportable(pipe, opset)
    check_writable(path)
    images, picture = as_images(check_images), pipe[0].picture_
    # Grey images cannot tell whether red and blue were exchanged.
    tinted = (np.asarray(images.read(0)) * [1.0, 0.8, 0.5]).astype(np.uint8)
    images = as_images([*images.items, tinted], max_pixels=images.max_pixels)
    pixels = [
        picture.pixels(images, i) if resize_from is None else pixels_of_size(images, i, resize_from)
        for i in range(len(images))
    ]
    ignored = _ignored_patches(pipe[0], images)
    model = _build(pipe, picture.framing.size, ignored, resize_from, opset)
    table = describe(pipe, images).rename(columns={"anomaly_score": "score"})
    table["decision"] = np.where(table["is_anomalous"], -1, 1)
    expected = table[["score", "p_value", "decision"]].to_dict("records")
    threshold = -float(pipe[-1].offset_)
    # The least and the most anomalous image, one in between, and the coloured one.
    order = np.argsort([row["score"] for row in expected[:-1]])
    sealed = dict.fromkeys([*order[[0, len(order) // 2, -1]].tolist(), len(pixels) - 1])
    note = {
        "image_size": picture.framing.size,
        "original_size": None if ignored is None else images.sizes()[0].tolist(),
        "resize_from": resize_from,
        **{name: getattr(picture.framing, name) for name in ("resize", "crop", "region")},
        "routes": list(pipe[3].search_.entries.route_names),
        "threshold": threshold,
        "backbone": {"source": pipe[0].model_source_, "checksum": pipe[0].model_checksum_},
        "sealed": [
            {"png": base64_of(Image.fromarray(pixels[i]).save, "png"), **expected[i]}
            for i in sealed
        ],
    }
    onnx.helper.set_model_props(model, {KEY: note_text(note)})
    content = model.SerializeToString()
    run, _ = onnxruntime_graph(content)
    outputs = [run(image[np.newaxis]) for image in pixels]
    check = compare(outputs, expected, threshold, len(content))
    if not check.agrees:
        raise ExportError(
            f"The exported graph does not agree with the pipeline ({check}), so it is not written. "
            "Check images within rounding of the threshold can do that: leave them out."
        )
    with atomic_file(path) as file:
        file.write(content)
    return check


def _check_exportable(pipe, opset):
    """Raise an error that names what a graph cannot hold."""
    step_classes = LazyTransformer, RandomProjection, CoresetBank, RoutedKNNScorer, StructCoreScorer
    steps = [step for _, step in getattr(pipe, "steps", [])]
    if len(steps) != 5 or not all(map(isinstance, steps, step_classes)):
        given = ", ".join(type(step).__name__ for step in steps) or type(pipe).__name__
        wanted = "features, RandomProjection, CoresetBank, RoutedKNNScorer, StructCoreScorer"
        raise ExportError(f"Pipelines of {wanted} can be exported; found {given}.")
    check_is_fitted(pipe)
    features, _, _, knn, scorer = steps
    for name, way in _refusals(features, knn, scorer):
        raise ExportError(f"No ONNX graph can hold {name} yet: {way}, or ask `skstructcore serve`.")
    if opset not in OPSETS:
        raise ExportError(f"opset must be one of {OPSETS}, got {opset!r}.")


def _refusals(features, knn, scorer):
    """What a graph cannot hold, and what to do without it."""
    for descriptor in filter(callable, scorer.descriptors_):
        name = f"the descriptor {resolve_descriptor(descriptor)[0]!r}, a Python function"
        yield name, "fit with descriptors that have a name"
    picture = features.picture_
    if picture.no_background:
        yield "ignore='background'", "fit with a mask or crop="
    if picture.by_category:
        yield "what each category ignores", "fit with one mask for all"
    for backbone in features.backbones:
        intensity = backbone.picture_.intensity
        if intensity.window is not None:
            yield "images of more than 8 bits", "fit with images of 8 bits"
        if intensity.channels is not None:
            yield "channels", "fit with RGB images"
    if knn.algorithm == "approximate":
        yield "algorithm='approximate'", "fit with knn__algorithm='exact'"


def _ignored_patches(features, images):
    """Which patches do not count, in all images of the size of these; None if all count."""
    picture = features.picture_
    if picture.ignored is None:
        return None
    sizes = np.unique(images.sizes(), axis=0)
    if len(sizes) > 1:
        raise ExportError(
            f"The graph ignores the same patches of each image, and images of {len(sizes)} sizes "
            "show other things there: check with images of one size, those of the camera."
        )
    features = np.zeros((1, *features.grid_shape_, 1), np.float32)
    picture.mark_ignored(features, images[:1])
    return np.isnan(features[0, ..., 0])


def _build(pipe, size, ignored, resize_from, opset):
    import onnx

    from ._graph import Graph, scaled_pixels
    from ._network import traced_network
    from ._scoring import append_scoring

    network = onnx.compose.add_prefix(traced_network(pipe[0], size, opset), "net/")
    before, after = Graph("in/"), Graph()
    shape = [1, *(size if resize_from is None else resize_from), 3]
    pixels = "pixels"
    if resize_from is not None:
        box = pipe[0].picture_.framing.box(resize_from)
        pixels = scaled_pixels(before, pixels, resize_from, box, size)
    before("Identity", pixels, outputs=(network.graph.input[0].name,))
    append_scoring(after, network.graph.output[0].name, pipe, ignored)
    value, types = onnx.helper.make_tensor_value_info, onnx.TensorProto
    outputs = [value("map", types.FLOAT, [1, *size])]
    outputs += [value(name, types.DOUBLE, [1]) for name in ("score", "p_value")]
    outputs += [value(name, types.INT64, [1]) for name in ("decision", "route")]
    nodes = [*before.nodes, *network.graph.node, *after.nodes]
    constants = [*before.constants, *network.graph.initializer, *after.constants]
    given = [value("pixels", types.UINT8, shape)]
    graph = onnx.helper.make_graph(nodes, KEY, given, outputs, constants)
    options = {"opset_imports": [onnx.helper.make_opsetid("", opset)], "producer_name": KEY}
    model = onnx.helper.make_model(graph, ir_version=network.ir_version, **options)
    if model.ByteSize() > _LARGEST:
        raise ExportError(
            f"The graph takes {model.ByteSize() / 1e9:.1f} GB, and one file holds 2 GB at most: "
            "use a smaller bank (ratio) or network."
        )
    return model
