"""A file of `export_onnx` at work: no torch, scikit-learn or pandas is imported for it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .._utils.versions import import_extra
from .._version import __version__
from ..images.geometry import Framing
from ..images.image_list import ImagesLike, StrPath, as_images
from ..images.intensity import Intensity

Runtime = Literal["onnxruntime", "openvino"]

__all__ = ["ExportCheck", "ExportError", "ExportedModel", "verify_export"]

TOLERANCE = 1e-4  # difference of scores, as a share of the larger of score and threshold
KEY, FORMAT = "skstructcore", 1  # where a file says what it is, and the format of what it says


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


class ExportedModel:
    """The decisions of a fitted pipeline, from the ONNX file that `export_onnx` has written.

    A new process has its first answer within half a second, because neither torch nor
    scikit-learn is imported. Images are read and scaled as the pipeline does.

    Parameters
    ----------
    path : str or path-like
        A file of `export_onnx`.
    runtime : {"onnxruntime", "openvino"}, default="onnxruntime"
        What runs it, on the CPU. OpenVINO (``pip install "skstructcore[openvino]"``) takes
        longer to start, and less for an image.

    Attributes
    ----------
    note : dict
        What the file says of itself: "routes" (their names), "threshold", "image_size" (height
        and width that the network sees), "backbone", and the "sealed" images of `verify_export`.

    Raises
    ------
    ExportError
        If the file is damaged, or was not written by `export_onnx`.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from skstructcore import ExportedModel, export_onnx, make_structcore
    >>> photos = np.random.default_rng(0).integers(0, 256, (8, 64, 64), dtype=np.uint8)
    >>> pipe = make_structcore("efficientnet_lite0", features__image_size=64).fit(photos)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     check = export_onnx(pipe, f"{folder}/line3.onnx", photos[:3])
    ...     model = ExportedModel(f"{folder}/line3.onnx")
    >>> bool((model.run(photos)["decision"] == pipe.predict(photos)).all())
    True
    """

    def __init__(self, path: StrPath, *, runtime: Runtime = "onnxruntime") -> None:
        if runtime not in _RUNTIMES:
            raise ValueError(f"runtime must be one of {[*_RUNTIMES]}, got {runtime!r}.")
        with open(path, "rb") as file:
            content = file.read()
        self.bytes = len(content)
        self._graph, text = _RUNTIMES[runtime](content, os.fspath(path))
        self.note = _read_note(text, os.fspath(path))

    def run(self, X: ImagesLike) -> dict[str, NDArray[Any]]:
        """Judge images, one after the other.

        Parameters
        ----------
        X : see `skstructcore.images.as_images`

        Returns
        -------
        outputs : dict of ndarray, a row an image
            "score" and "p_value", float64; "decision", int64, +1 good and -1 anomalous; "route",
            its name, "unknown" for an unknown product; "map", float32 ``(n, height, width)``.

        Raises
        ------
        ImageReadError
            If an image cannot be read; the message names it. It is an OSError and a ValueError.
        """
        images = as_images(X)
        rows = [self.run_pixels(self._pixels(images, i)) for i in range(len(images))]
        outputs = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
        outputs["route"] = np.array([*self.note["routes"], "unknown"])[outputs["route"]]
        return outputs

    def run_pixels(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """The outputs of the graph for RGB levels ``(height, width, 3)`` of its own size."""
        return self._graph(np.ascontiguousarray(pixels)[np.newaxis])

    def _pixels(self, images, i):
        if images.check(i, Intensity()) != "levels":
            raise ExportError(
                f"{images.place(i)} has more than 8 bits, and an exported graph takes 8: convert "
                "it as your program does, or let the pipeline score it."
            )
        if self.note["resize_from"] is not None:
            return pixels_of_size(images, i, self.note["resize_from"])
        if self.note["original_size"] is not None:
            _check_size(images, i, self.note["original_size"])
        cut = {name: self.note[name] for name in ("resize", "crop", "region")}
        return images.pixels(i, Framing(tuple(self.note["image_size"]), **cut))


def verify_export(
    path: StrPath,
    run: Callable[[NDArray[np.uint8]], float] | None = None,
    *,
    runtime: Runtime = "onnxruntime",
) -> ExportCheck:
    """Let an exported file judge the images that are sealed in it, and compare.

    Parameters
    ----------
    path, runtime : see `ExportedModel`
    run : callable, default=None
        Takes an RGB image, uint8 ``(height, width, 3)``, and returns its anomaly score: the way
        of your own program. None: `runtime`, on the CPU.

    Returns
    -------
    check : ExportCheck

    Raises
    ------
    ExportError
        If the file is damaged, was not written by `export_onnx`, or a score or decision differs.
    """
    model = ExportedModel(path, runtime=runtime)
    sealed, threshold = model.note["sealed"], model.note["threshold"]

    def judge(pixels):
        if run is None:
            return model.run_pixels(pixels)
        score = float(run(pixels))
        return {"score": [score], "decision": [1 if score <= threshold else -1]}

    files = (io.BytesIO(base64.b64decode(entry["png"])) for entry in sealed)
    outputs = [judge(np.asarray(Image.open(file))) for file in files]
    check = compare(outputs, sealed, threshold, model.bytes)
    if not check.agrees:
        raise ExportError(
            f"{os.fspath(path)!r} does not give the scores that are sealed in it ({check}). "
            "Compare the order of the channels (RGB), the type (uint8, 0 to 255) and how images "
            "are scaled."
        )
    return check


def compare(outputs, expected, threshold, n_bytes):
    """How far the outputs for images are from those that are expected, a dict each."""
    score = np.array([row["score"][0] for row in outputs])
    wanted = np.array([row["score"] for row in expected])
    scale = np.maximum(np.abs(wanted), max(abs(threshold), np.finfo(float).tiny))
    difference = np.abs(score - wanted) / scale
    pairs = zip(outputs, expected, strict=True)
    n_flipped = sum(int(row["decision"][0] != of["decision"]) for row, of in pairs)
    return ExportCheck(len(expected), float(difference.max()), n_flipped, n_bytes)


def pixels_of_size(images, i, size):
    """An image as it is, if it has the size that the graph is for."""
    _check_size(images, i, size)
    return np.asarray(images.read(i))


def _check_size(images, i, size):
    if images.size(i) != tuple(size):
        given, wanted = (" x ".join(map(str, part)) for part in (images.size(i), size))
        raise ExportError(f"{images.name(i)} has {given} pixels; the export is for {wanted}.")


def onnxruntime_graph(content, name="the export"):
    """A function from pixels to the outputs, and what the file says about itself."""
    ort = import_extra("onnxruntime", "onnx", "An ONNX file")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of onnxruntime's own kinds
        raise ExportError(f"onnxruntime cannot load {name!r}: {error}") from error
    names = [output.name for output in session.get_outputs()]

    def run(pixels):
        return dict(zip(names, session.run(None, {"pixels": pixels}), strict=True))

    return run, session.get_modelmeta().custom_metadata_map.get(KEY)


def _openvino_graph(content, name):
    openvino = import_extra("openvino", "openvino", "An ONNX file")
    core = openvino.Core()
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    try:
        model = core.read_model(io.BytesIO(content))
        compiled = core.compile_model(model, "CPU", options)
    except RuntimeError as error:
        raise ExportError(f"OpenVINO cannot load {name!r}: {error}") from error
    names = [output.any_name for output in compiled.outputs]

    def run(pixels):
        outputs = compiled([pixels])
        return {name: np.array(outputs[name]) for name in names}

    place = ["framework", KEY]
    return run, model.get_rt_info(place).astype(str) if model.has_rt_info(place) else None


_RUNTIMES = {"onnxruntime": onnxruntime_graph, "openvino": _openvino_graph}


def note_text(note):
    """What a file says of itself, with its format and a digest."""
    note = {"format": FORMAT, "version": __version__, **note}
    return json.dumps({**note, "sha256": _digest(note)})


def _read_note(text, name):
    if text is None:
        raise ExportError(f"{name!r} was not written by skstructcore: nothing is sealed in it.")
    note = json.loads(text)
    if note.get("format") != FORMAT:
        raise ExportError(
            f"{name!r} has the format {note.get('format')} of skstructcore {note.get('version')}, "
            f"and this release reads {FORMAT}: use that one, or export anew."
        )
    if note.pop("sha256", None) != _digest(note):
        raise ExportError(f"{name!r} is damaged: what is sealed in it has changed.")
    return note


def _digest(note):
    return hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()
