"""A fitted pipeline as one ONNX graph that was seen to agree, and carries what proves it."""

from __future__ import annotations

import base64
import copy
import hashlib
import io
import json
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._utils.files import atomic_file, check_writable
from .._version import __version__
from ..bank.coreset_bank import CoresetBank
from ..features._backbone import PatchFeatures
from ..images.image_list import as_images
from ..images.reading import source_box
from ..knn.scorer import RoutedKNNScorer
from ..projection import RandomProjection
from ..scoring.constants import score_constants
from ..scoring.structcore import StructCoreScorer

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray
    from sklearn.pipeline import Pipeline

    from ..images.image_list import ImagesLike, StrPath

__all__ = ["ExportCheck", "ExportError", "export_onnx", "verify_export"]

#: Scores of an export may differ by so much, as a share of the score or of the threshold.
TOLERANCE = 1e-4
OPSETS = (18, 19, 20)
_KEY = "skstructcore"
_OUTPUTS = {name: name for name in ("map", "score", "p_value", "decision", "route")}
_LARGEST = 2**31 - 2**20  # of what protobuf can hold
_N_SEALED = 3


class ExportError(ValueError):
    """A pipeline cannot be exported, or an export does not give the scores that it has to."""


@dataclass(frozen=True)
class ExportCheck:
    """How far the scores of an export were from those that it has to give.

    Attributes
    ----------
    n_images : int
    largest_difference : float
        Of two scores, as a share of the larger of the score and the threshold.
    n_flipped : int
        Images that are decided otherwise.
    bytes : int
        Size of the file.
    """

    n_images: int
    largest_difference: float
    n_flipped: int
    bytes: int

    @property
    def agrees(self) -> bool:
        return self.n_flipped == 0 and self.largest_difference <= TOLERANCE

    def __str__(self) -> str:
        return (
            f"{self.n_images} images: {self.n_flipped} decisions differ, scores by "
            f"{self.largest_difference:.1e} at most; {self.bytes / 1e6:.1f} MB"
        )


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
    ort, onnx = _import("onnxruntime"), _import("onnx")
    constants = _check_exportable(pipe, opset)
    check_writable(path)
    images = as_images(check_images)
    first = pipe[0]
    size = first._picture().size
    if resize_from is None:
        pixels = [first._picture().pixels(images, i) for i in range(len(images))]
    else:
        pixels = [_of_size(images, i, resize_from) for i in range(len(images))]
    # Grey images cannot tell whether red and blue were exchanged.
    tinted = (pixels[0] * np.array([1.0, 0.8, 0.5])).astype(np.uint8)
    pixels.append(tinted)
    model = _build(pipe, constants, size, resize_from, opset, onnx)
    expected = _judge(pipe, images, tinted)
    content = model.SerializeToString()
    check = _compare(_session(ort, content), pixels, expected, len(content))
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
        "routes": [c.name for c in constants],
        "threshold": -pipe[-1].offset_,
        "backbone": {"source": first.model_source_, "checksum": first.model_checksum_},
        "sealed": [_sealed(pixels[i], expected, i) for i in sealed],
    }
    entry = model.metadata_props.add()
    entry.key, entry.value = _KEY, json.dumps({**note, "sha256": _digest(note)})
    with atomic_file(path) as file:
        file.write(model.SerializeToString())
    return check


def verify_export(
    path: StrPath, run: Callable[[NDArray[np.uint8]], float] | None = None
) -> ExportCheck:
    """Let an exported file judge the images that are sealed in it, and compare.

    Parameters
    ----------
    path : str or path-like
        A file of `export_onnx`.
    run : callable, default=None
        Takes an RGB image, uint8 ``(height, width, 3)``, and returns its anomaly score: the way
        of another runtime, or that of your own program. None: onnxruntime on the CPU.

    Returns
    -------
    check : ExportCheck

    Raises
    ------
    ExportError
        If the file is damaged, was not written by `export_onnx`, or a score or decision differs.
    """
    with open(path, "rb") as file:
        content = file.read()
    session = _session(_import("onnxruntime"), content, path)
    note = export_note(session, path)
    sealed = note["sealed"]
    pixels = [_decode(entry["png"]) for entry in sealed]
    expected = {k: np.array([entry[k] for entry in sealed]) for k in ("score", "decision")}
    expected["threshold"] = note["threshold"]
    if run is not None:
        session = _Foreign(run, note["threshold"])
    check = _compare(session, pixels, expected, len(content))
    if not check.agrees:
        raise ExportError(
            f"{str(path)!r} does not give the scores that are sealed in it ({check}). Compare the "
            "order of the channels (RGB), the type (uint8, 0 to 255) and how images are scaled."
        )
    return check


def export_note(session: Any, path: StrPath = "the file") -> dict[str, Any]:
    """What a file of `export_onnx` says about itself: a dict; see there."""
    text = session.get_modelmeta().custom_metadata_map.get(_KEY)
    if text is None:
        raise ExportError(
            f"{str(path)!r} was not written by skstructcore: nothing is sealed in it."
        )
    note = json.loads(text)
    found = note.pop("sha256", None)
    if found != _digest(note):
        raise ExportError(f"{str(path)!r} is damaged: what is sealed in it has changed.")
    return note


class _Foreign:
    """Another way from pixels to scores, with the face of a session."""

    def __init__(self, run, threshold):
        self._run, self._threshold = run, threshold

    def run(self, names, inputs):
        score = float(self._run(inputs["pixels"][0]))
        return np.array([score]), np.array([1 if score <= self._threshold else -1])


def _check_exportable(pipe, opset):
    """The constants of the scores; an error that names what a graph cannot hold."""
    kinds = PatchFeatures, RandomProjection, CoresetBank, RoutedKNNScorer, StructCoreScorer
    steps = [step for _, step in getattr(pipe, "steps", [])]
    if len(steps) != 5 or not all(map(isinstance, steps, kinds)):
        found = ", ".join(type(step).__name__ for step in steps) or type(pipe).__name__
        wanted = "features, RandomProjection, CoresetBank, RoutedKNNScorer, StructCoreScorer"
        raise ExportError(f"Pipelines of {wanted} can be exported; found {found}.")
    check_is_fitted(pipe)
    features, _, _, knn, scorer = steps
    own = [d for d in (scorer.base, *scorer.descriptors_) if callable(d)]
    refused = {
        f"the descriptor {own[0].__name__!r}, a Python function" if own else "": bool(own),
        "tile_size": features.tile_size is not None,
        "ignore": features.ignore is not None,
        "foreground": features.foreground is not None,
        "a window for images of more than 8 bits": features.window_ is not None,
        "channels": features.channels is not None,
        f"the base score {scorer.base!r} of the surprise": "surprise" in str(scorer.base),
        "algorithm='approximate'": knn.algorithm == "approximate",
    }
    found = [name for name, there in refused.items() if there]
    if found:
        raise ExportError(f"The pipeline has {' and '.join(found)}: no ONNX graph can hold it yet.")
    if opset not in OPSETS:
        raise ExportError(f"opset must be one of {OPSETS}, got {opset!r}.")
    names = knn.bank_.route_names if knn.search_.n_searched else ("all",)
    return score_constants(scorer, names)


def _build(pipe, constants, size, resize_from, opset, onnx):
    from ._graph import Graph, append_scoring, scaled_pixels

    network = onnx.compose.add_prefix(_network(pipe[0], size, opset, onnx), "net/")
    before, after = Graph("in/"), Graph()
    shape = [1, *(size if resize_from is None else resize_from), 3]
    pixels = "pixels"
    if resize_from is not None:
        box = source_box(resize_from, *pipe[0]._picture().scaling)
        pixels = scaled_pixels(before, pixels, resize_from, box, size)
    before("Identity", pixels, outputs=(network.graph.input[0].name,))
    append_scoring(after, network.graph.output[0].name, pipe, constants, _OUTPUTS)
    value, kinds = onnx.helper.make_tensor_value_info, onnx.TensorProto
    outputs = [value("map", kinds.FLOAT, [1, *size])]
    outputs += [value(name, kinds.DOUBLE, [1]) for name in ("score", "p_value")]
    outputs += [value(name, kinds.INT64, [1]) for name in ("decision", "route")]
    graph = onnx.helper.make_graph(
        [*before.nodes, *network.graph.node, *after.nodes],
        _KEY,
        [value("pixels", kinds.UINT8, shape)],
        outputs,
        [*before.constants, *network.graph.initializer, *after.constants],
    )
    imports = [onnx.helper.make_opsetid("", opset)]
    model = onnx.helper.make_model(
        graph, opset_imports=imports, ir_version=network.ir_version, producer_name=_KEY
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
        # The exporter that traces: the newer one cannot follow a pass that ends at the last
        # layer that is needed.
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


def _judge(pipe, images, tinted):
    """Score, p-value and decision of the check images, by the pipeline itself."""
    found = [pipe[-1].describe(pipe[:-1].transform(part)) for part in (images, [tinted])]
    columns = {"score": "anomaly_score", "p_value": "p_value", "decision": "is_anomalous"}
    expected = {
        name: np.concatenate([part[column].to_numpy() for part in found])
        for name, column in columns.items()
    }
    expected["decision"] = np.where(expected["decision"], -1, 1)
    expected["threshold"] = -pipe[-1].offset_
    return expected


def _compare(session, pixels, expected, n_bytes):
    found = [session.run(["score", "decision"], {"pixels": p[np.newaxis]}) for p in pixels]
    score, decision = (np.concatenate(part) for part in zip(*found, strict=True))
    scale = np.maximum(np.abs(expected["score"]), abs(expected["threshold"]))
    difference = np.abs(score - expected["score"]) / np.maximum(scale, np.finfo(float).tiny)
    flipped = decision != expected["decision"]
    return ExportCheck(len(pixels), float(difference.max()), int(flipped.sum()), n_bytes)


def _of_size(images, i, size):
    pixels = np.asarray(images.read(i))
    if pixels.shape[:2] != tuple(size):
        found = " x ".join(map(str, pixels.shape[:2]))
        raise ExportError(f"{images.name(i)} has {found} pixels; resize_from says {size}.")
    return pixels


def _session(ort, content, path="the export"):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of onnxruntime's own kinds
        raise ExportError(f"onnxruntime cannot load {str(path)!r}: {error}") from error


def _sealed(pixels, expected, i):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    values = {k: expected[k][i].item() for k in ("score", "p_value", "decision")}
    return {"png": base64.b64encode(file.getvalue()).decode(), **values}


def _decode(png):
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


def _digest(note):
    return hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()


def _import(name):
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f'ONNX files need {name}: pip install "skstructcore[onnx]"') from error
