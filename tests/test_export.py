"""Exported graphs: the same maps, scores, p-values and decisions, or no file."""

import copy
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from networks import Blocks
from PIL import Image
from sklearn.base import clone

import skstructcore
from skstructcore import ConvFeatures, DinoFeatures, export_onnx, make_structcore, verify_export
from skstructcore.cli import main
from skstructcore.scoring.descriptors import DESCRIPTORS
from skstructcore.serving.exported import ExportError

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

EXAMPLES = Path(__file__).parents[1] / "examples" / "onnx"
MONO_PATH = os.environ.get("MONO_PATH", "")


def pictures(n, seed=0, size=(32, 40)):
    """Coloured stripes with noise; every fifth has a bright spot."""
    rng = np.random.default_rng(seed)
    stripes = 80 + 60 * np.sin(np.arange(size[1]) / 3)[:, np.newaxis] * [1.0, 0.5, -0.6]
    X = stripes + rng.normal(0, 12, (n, *size, 3))
    X[::5, 8:16, 8 : 8 + 2 * (seed % 5)] += 90
    return np.clip(X, 0, 255).astype(np.uint8)


def fitted(X=None, features=None, **params):
    features = features or ConvFeatures(Blocks, layers=("stage2", "stage1"), image_size=(32, 40))
    params = {"projection__n_components": 6, "bank__ratio": 0.1, **params}
    fit_params = {k: params.pop(k) for k in ("bank__categories",) if k in params}
    return make_structcore(features, **params).fit(pictures(20) if X is None else X, **fit_params)


@pytest.fixture(scope="module")
def pipe():
    return fitted()


def run(path, X):
    """Outputs of the file for images, one at a time, joined."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = [session.run(None, {"pixels": image[np.newaxis]}) for image in X]
    names = [output.name for output in session.get_outputs()]
    return {
        name: np.concatenate(part)
        for name, part in zip(names, zip(*found, strict=True), strict=True)
    }


def assert_same(path, pipe, X, seen=None):
    found, maps = run(path, X if seen is None else seen), pipe[:-1].transform(X)
    expected = pipe[-1].describe(maps)
    np.testing.assert_allclose(found["map"], pipe.transform(X), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["score"], expected["anomaly_score"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["p_value"], expected["p_value"], rtol=1e-3)
    assert (found["decision"] == pipe.predict(X)).all()
    return found, expected


def test_file_gives_maps_scores_p_values_and_decisions(pipe, tmp_path):
    check = export_onnx(pipe, tmp_path / "m.onnx", pictures(10, seed=3))
    assert check.n_images == 11 and check.agrees  # with the coloured copy of one
    new = pictures(10, seed=4)
    found, _ = assert_same(str(tmp_path / "m.onnx"), pipe, new)
    assert set(found["decision"]) == {-1, 1}  # else the comparison says little
    assert found["map"].shape == (10, 32, 40) and found["map"].dtype == np.float32
    assert verify_export(tmp_path / "m.onnx").agrees


@pytest.mark.parametrize(
    "params",
    [
        {"structcore__norm": "l2", "structcore__threshold": "guaranteed"},
        {
            "structcore__descriptors": {"std": 2.0, "moran": -1.0},
            "structcore__threshold": "quantile",
        },
        {"structcore__norm": "linf", "structcore__resolution": "full"},
        {"preset": "paper"},
        {"knn__n_neighbors": 7, "structcore__lam": "struct-only"},
        {"projection__n_components": None},
    ],
)
def test_other_ways_to_score_are_exported_too(params, tmp_path):
    pipe = fitted(**params)
    export_onnx(pipe, tmp_path / "m.onnx", pictures(4, seed=3))
    assert_same(str(tmp_path / "m.onnx"), pipe, pictures(10, seed=4))


@pytest.mark.slow
def test_all_descriptors_are_exported(tmp_path):
    names = [*DESCRIPTORS, *(f"surprise_{name}" for name in DESCRIPTORS), "top7"]
    pipe = fitted(structcore__descriptors=names)
    export_onnx(pipe, tmp_path / "m.onnx", pictures(4, seed=3))
    assert_same(str(tmp_path / "m.onnx"), pipe, pictures(10, seed=4))
    # Each for itself: in the sum, a small one that is wrong would pass.
    for name in names:
        one = pipe[-1].set_params(descriptors=[name], lam="struct-only")
        one.fit(pipe[:-1].transform(pictures(20)))
        path = tmp_path / "one.onnx"
        export_onnx(pipe, path, pictures(4, seed=3))
        assert_same(str(path), pipe, pictures(5, seed=4))


@pytest.mark.parametrize("routing", ["top1", "top2"])
def test_routes_are_chosen_and_unknown_products_found(routing, tmp_path):
    X = np.concatenate([pictures(20), 255 - pictures(20), pictures(12).transpose(0, 1, 2, 3) // 4])
    names = np.repeat(["plain", "inverse", "dark"], [20, 20, 12])
    pipe = fitted(X, bank__categories=names, knn__routing=routing)
    new = np.concatenate([pictures(6, 7), 255 - pictures(6, 7), pictures(4, 7) // 4])
    odd = np.random.default_rng(0).integers(0, 256, (3, 32, 40, 3)).astype(np.uint8)
    new = np.concatenate([new, odd])
    path = str(tmp_path / "m.onnx")
    export_onnx(pipe, path, new)
    found, expected = assert_same(path, pipe, new)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    note = json.loads(session.get_modelmeta().custom_metadata_map["skstructcore"])
    routes = np.array([*note["routes"], "unknown"])[found["route"]]
    assert routes.tolist() == expected["route"].tolist()
    assert set(routes) == {"plain", "inverse", "dark", "unknown"}


@pytest.mark.parametrize("crop", [False, True])
def test_graph_scales_images_as_the_pipeline_does(crop, tmp_path):
    X = pictures(20, size=(70, 100))
    features = ConvFeatures(Blocks, layers=("stage2",), image_size=(32, 40), crop=crop)
    pipe = fitted(X, features)
    new = pictures(6, seed=4, size=(70, 100))
    export_onnx(pipe, tmp_path / "m.onnx", new, resize_from=(70, 100))
    assert_same(str(tmp_path / "m.onnx"), pipe, new)
    verify_export(tmp_path / "m.onnx")
    with pytest.raises(ExportError, match="32 x 40 pixels; the export is for 70 x 100"):
        export_onnx(pipe, tmp_path / "m.onnx", pictures(2), resize_from=(70, 100))


HALF = np.zeros((32, 40), bool)
HALF[:, 24:] = HALF[4:9, 3:9] = True


@pytest.mark.parametrize(
    "params",
    [
        {"structcore__descriptors": [*DESCRIPTORS, *(f"surprise_{name}" for name in DESCRIPTORS)]},
        {"structcore__resolution": "full", "structcore__descriptors": [*DESCRIPTORS]},
        {"preset": "paper"},
    ],
    ids=["patches", "pixels", "paper"],
)
def test_what_is_ignored_is_ignored_in_the_graph_too(params, tmp_path):
    pipe = fitted(features__ignore=HALF, **params)
    new, path = pictures(10, seed=4), tmp_path / "m.onnx"
    export_onnx(pipe, path, pictures(10, seed=3))
    found, _ = assert_same(str(path), pipe, new)
    assert set(found["decision"]) == {-1, 1} and (found["map"][:, :, 26:] == 0).all()
    with pytest.raises(ExportError, match="40 x 32 pixels; the export is for 32 x 40"):
        skstructcore.ExportedModel(path).run(new.transpose(0, 2, 1, 3))


@pytest.mark.parametrize("resize_from", [None, (64, 80)])
def test_routes_are_found_by_what_is_not_ignored(resize_from, tmp_path):
    X = np.concatenate([pictures(20, 0, (64, 80)), 255 - pictures(20, 0, (64, 80))])
    names = np.repeat(["plain", "inverse"], 20)
    region = [[(0.6, 0), (1, 0), (1, 1), (0.6, 1)]]
    pipe = fitted(X, features__ignore=region, bank__categories=names)
    new = np.concatenate([pictures(6, 7, (64, 80)), 255 - pictures(6, 7, (64, 80))])
    path = tmp_path / "m.onnx"
    export_onnx(pipe, path, new, resize_from=resize_from)
    found = skstructcore.ExportedModel(path).run(new)
    expected = pipe[-1].describe(pipe[:-1].transform(new))
    np.testing.assert_allclose(found["score"], expected["anomaly_score"], rtol=1e-4, atol=1e-5)
    assert found["route"].tolist() == expected["route"].tolist()
    assert {"plain", "inverse"} <= {*found["route"]}
    other = [*pictures(2), *pictures(1, 0, (30, 40))]
    with pytest.raises(ExportError, match="images of 2 sizes"):
        export_onnx(pipe, path, other)


def test_tiles_and_joined_networks_are_exported(tmp_path):
    new = pictures(10, seed=4)
    tiles = {"tile_size": (16, 24), "tile_overlap": 4}
    tiled = ConvFeatures(Blocks, layers=("stage2", "stage1"), image_size=(32, 40), **tiles)
    whole = ConvFeatures(Blocks, layers=("stage2",), image_size=(32, 40))
    joined = skstructcore.JoinedFeatures([clone(whole).set_params(ignore=HALF), clone(tiled)])
    for features in (tiled, joined):
        pipe = fitted(features=features)
        export_onnx(pipe, tmp_path / "m.onnx", pictures(10, seed=3))
        found, _ = assert_same(str(tmp_path / "m.onnx"), pipe, new)
        assert set(found["decision"]) == {-1, 1}


def test_vision_transformers_are_exported(tiny_dino, tmp_path):
    features = DinoFeatures(None, layers=(1, 2), weights=tiny_dino, image_size=70)
    pipe = fitted(pictures(20, size=(70, 70)), features)
    export_onnx(pipe, tmp_path / "m.onnx", pictures(4, 3, (70, 70)))
    assert_same(str(tmp_path / "m.onnx"), pipe, pictures(6, 4, (70, 70)))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_new_process_answers_without_torch_and_scikit_learn(runtime, pipe, tmp_path):
    pytest.importorskip(runtime)
    export_onnx(pipe, tmp_path / "m.onnx", pictures(4, seed=3))
    Image.fromarray(pictures(1, seed=9)[0]).save(tmp_path / "new.png")
    code = (
        "import sys; from skstructcore import ExportedModel\n"
        "model = ExportedModel(sys.argv[1], runtime=sys.argv[3])\n"
        "print(model.run([sys.argv[2]])['score'][0])\n"
        "assert not {'torch', 'sklearn', 'pandas', 'scipy', 'numba'} & {*sys.modules}\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "m.onnx", tmp_path / "new.png", runtime]
    score = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert score == pytest.approx(-pipe.score_samples([tmp_path / "new.png"])[0], rel=1e-4)
    assert verify_export(tmp_path / "m.onnx", runtime=runtime).agrees


@pytest.mark.parametrize(
    "params",
    [
        {"crop": (10, 4, 90, 64)},
        {"crop": 50},
        {"crop": (0.1, 0, 1, 1)},
    ],
)
@pytest.mark.parametrize("resize_from", [None, (70, 100)])
def test_images_are_cropped_as_by_the_pipeline(params, resize_from, tmp_path):
    X, new = pictures(20, size=(70, 100)), pictures(6, seed=4, size=(70, 100))
    features = ConvFeatures(Blocks, layers=("stage2",), image_size=(32, 40), **params)
    pipe = fitted(X, features)
    export_onnx(pipe, tmp_path / "m.onnx", new, resize_from=resize_from)
    found = skstructcore.ExportedModel(tmp_path / "m.onnx").run(new)
    np.testing.assert_allclose(found["score"], -pipe.score_samples(new), rtol=1e-4, atol=1e-5)
    assert (found["decision"] == pipe.predict(new)).all()
    np.testing.assert_allclose(found["map"], pipe.transform(new), rtol=1e-4, atol=1e-5)
    assert found["route"].tolist() == ["all"] * 6


def test_exported_models_name_what_they_cannot_take(pipe, tmp_path):
    export_onnx(pipe, tmp_path / "m.onnx", pictures(4, seed=3))
    with pytest.raises(ValueError, match="runtime must be one of"):
        skstructcore.ExportedModel(tmp_path / "m.onnx", runtime="torch")
    (tmp_path / "no.png").write_bytes(b"no image")
    with pytest.raises(skstructcore.images.ImageReadError, match=r"no\.png"):
        skstructcore.ExportedModel(tmp_path / "m.onnx").run([tmp_path / "no.png"])
    deep = pictures(1, seed=3).astype(np.uint16) * 200
    with pytest.raises(ExportError, match=r"position 0 in the list\) has more than 8"):
        skstructcore.ExportedModel(tmp_path / "m.onnx").run(deep)


@pytest.mark.parametrize(
    "sabotage",
    [
        lambda pixels: pixels[..., ::-1],
        lambda pixels: (pixels // 2 + 20).astype(np.uint8),
        lambda pixels: np.asarray(Image.fromarray(pixels).resize((20, 16)).resize((40, 32))),
    ],
    ids=["channels", "scaling", "resize"],
)
def test_callers_that_prepare_images_otherwise_are_caught(sabotage, pipe, tmp_path):
    export_onnx(pipe, tmp_path / "m.onnx", pictures(4, seed=3))
    session = ort.InferenceSession(str(tmp_path / "m.onnx"))

    def score(pixels):
        return session.run(["score"], {"pixels": np.ascontiguousarray(pixels)[np.newaxis]})[0][0]

    assert verify_export(tmp_path / "m.onnx", score).agrees
    with pytest.raises(ExportError, match=r"does not give the scores.*RGB"):
        verify_export(tmp_path / "m.onnx", lambda pixels: score(sabotage(pixels)))


def compiled(folder, *command):
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if "onnxruntime_cxx_api.h: No such file" in done.stderr:
        pytest.skip("needs onnxruntime's C++ headers in CPLUS_INCLUDE_PATH")
    assert done.returncode == 0, done.stderr


def caller_in_cpp(folder, library):
    """The example, compiled with the runtime's headers and the library of its wheel."""
    (folder / "libonnxruntime.so.1").symlink_to(library)  # as the library calls itself
    rest = (library, f"-Wl,-rpath,{folder}", "-o", "score")
    compiled(folder, "g++", "-std=c++17", EXAMPLES / "score.cpp", *rest)
    return [folder / "score"]


def caller_in_csharp(folder, library):
    """The example, compiled with the runtime's assembly, for Mono."""
    places = [Path(place, "Microsoft.ML.OnnxRuntime.dll") for place in MONO_PATH.split(":")]
    assembly = next((place for place in places if place.exists()), None)
    if assembly is None:
        pytest.skip("needs Microsoft.ML.OnnxRuntime.dll in MONO_PATH")
    shutil.copy(assembly, folder)
    (folder / "libonnxruntime.so").symlink_to(library)
    compiled(folder, "mcs", f"-r:{assembly.name}", "-out:score.exe", EXAMPLES / "Score.cs")
    return ["mono", folder / "score.exe"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("compiler", "build"), [("g++", caller_in_cpp), ("mcs", caller_in_csharp)], ids=["c++", "c#"]
)
def test_callers_in_other_languages_give_the_sealed_scores(compiler, build, pipe, tmp_path):
    library = next(Path(ort.__file__).parent.glob("capi/libonnxruntime.so*"), None)
    if shutil.which(compiler) is None or library is None:
        pytest.skip(f"needs {compiler} and onnxruntime for Linux")
    caller = build(tmp_path, library)
    model, image = tmp_path / "m.onnx", tmp_path / "image.rgb"
    export_onnx(pipe, model, pictures(10, seed=3))
    command = [*caller, model, image]

    def run(pixels):
        image.write_bytes(pixels.tobytes())
        words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert words[2] == ("good" if float(words[0]) <= -pipe[-1].offset_ else "anomalous")
        return float(words[0])

    assert verify_export(model, run).agrees
    image.write_bytes(bytes(100))
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2 and "takes 32 x 40 RGB pixels" in refused.stderr


@pytest.mark.skipif(shutil.which("mcs") is None, reason="needs mcs, a compiler of C#")
def test_the_example_in_csharp_compiles(tmp_path):
    """Against the signatures that it uses; with the runtime itself in the slow test."""
    stub = Path(__file__).parent / "data" / "onnxruntime_stub.cs"
    compiled(tmp_path, "mcs", "-target:library", "-out:runtime.dll", stub)
    compiled(tmp_path, "mcs", "-r:runtime.dll", "-out:score.exe", EXAMPLES / "Score.cs")


def test_changed_graphs_and_notes_are_caught(pipe, tmp_path):
    path = tmp_path / "m.onnx"
    export_onnx(pipe, path, pictures(4, seed=3))
    model = onnx.load(path)
    entries = list(pipe[2].bank_.values.shape)
    bank = next(part for part in model.graph.initializer if list(part.dims) == entries)
    values = onnx.numpy_helper.to_array(bank)
    bank.CopyFrom(onnx.numpy_helper.from_array(values * 1.01, bank.name))
    onnx.save(model, tmp_path / "changed.onnx")
    with pytest.raises(ExportError, match="does not give the scores"):
        verify_export(tmp_path / "changed.onnx")
    model.metadata_props[0].value = model.metadata_props[0].value.replace('"score": ', '"score": 1')
    onnx.save(model, tmp_path / "changed.onnx")
    with pytest.raises(ExportError, match="sealed in it has changed"):
        verify_export(tmp_path / "changed.onnx")
    model.metadata_props[0].value = model.metadata_props[0].value.replace('t": 1,', 't": 2,')
    onnx.save(model, tmp_path / "changed.onnx")
    with pytest.raises(ExportError, match=r"has the format 2 of skstructcore .* reads 1: use"):
        verify_export(tmp_path / "changed.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "changed.onnx")
    with pytest.raises(ExportError, match="not written by skstructcore"):
        verify_export(tmp_path / "changed.onnx")
    (tmp_path / "changed.onnx").write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ExportError, match="cannot load"):
        verify_export(tmp_path / "changed.onnx")


def test_every_descriptor_has_nodes():
    from skstructcore.serving._graph import Descriptors

    assert [name for name in DESCRIPTORS if not callable(vars(Descriptors).get(name))] == []


def test_graph_that_does_not_agree_is_not_written(pipe, tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"the old one")
    from skstructcore.serving import _graph

    monkeypatch.setattr(_graph.Descriptors, "std", _graph.Descriptors.mean)
    with pytest.raises(ExportError, match="does not agree with the pipeline"):
        export_onnx(pipe, path, pictures(4, seed=3))
    assert path.read_bytes() == b"the old one"


def spread(maps):
    return np.ptp(maps, axis=(1, 2))


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"structcore__descriptors": ["std", spread]}, "'spread', a Python function yet: fit with"),
        ({"structcore__descriptors": ["std", partial(spread)]}, "the descriptor 'partial', a"),
        ({"features__ignore": "background"}, "ignore='background' yet: fit with a mask or crop="),
        ({"features__channels": (2, 1, 0)}, "channels yet: fit with RGB"),
    ],
)
def test_what_no_graph_can_hold_is_refused_by_name_with_the_way_out(params, named, tmp_path):
    X = pictures(20)
    X[:, :3] = X[:, -3:] = X[:, :, :3] = X[:, :, -3:] = 0  # a background
    with pytest.raises(ExportError, match=named):
        export_onnx(fitted(X, **params), tmp_path / "m.onnx", X[:2])
    assert not (tmp_path / "m.onnx").exists()


def test_deep_images_and_masks_by_category_are_refused_with_the_way_out(tmp_path):
    deep = pictures(20)[..., 0].astype(np.uint16) * 16
    with pytest.raises(ExportError, match="more than 8 bits yet: fit with images of 8 bits, or"):
        export_onnx(fitted(deep), tmp_path / "m.onnx", deep[:2])
    X, names = np.concatenate([pictures(20), 255 - pictures(20)]), np.repeat(["a", "b"], 20)
    pipe = fitted(X, features__ignore={"a": HALF}, bank__categories=names)
    with pytest.raises(ExportError, match="each category ignores yet: fit with one mask for all"):
        export_onnx(pipe, tmp_path / "m.onnx", X[:2])


class Sorting(Blocks):
    """ONNX has no operator for the bits of a number."""

    def forward(self, x):
        x = x * torch_of(x).frexp(x).mantissa
        return super().forward(x)


def torch_of(x):
    import torch

    return torch


def test_networks_without_onnx_operators_are_refused_by_name(tmp_path):
    pipe = fitted(features=ConvFeatures(Sorting, layers=("stage2",), image_size=(32, 40)))
    with pytest.raises(ExportError, match=r"ConvFeatures \(module Sorting\).*frexp"):
        export_onnx(pipe, tmp_path / "m.onnx", pictures(2))


def test_unknown_opset_and_other_pipelines_are_refused(pipe, tmp_path):
    with pytest.raises(ExportError, match="opset must be one of"):
        export_onnx(pipe, tmp_path / "m.onnx", pictures(2), opset=7)
    approximate = copy.deepcopy(pipe).set_params(knn__algorithm="approximate")
    with pytest.raises(ExportError, match="algorithm='approximate'"):
        export_onnx(approximate, tmp_path / "m.onnx", pictures(2))
    with pytest.raises(ExportError, match="found RandomProjection"):
        export_onnx(pipe[1:], tmp_path / "m.onnx", pictures(2))


def test_commands_export_verify_and_measure(pipe, tmp_path):
    model, file = tmp_path / "m.structcore", tmp_path / "m.onnx"
    lite = make_structcore("efficientnet_lite0", features__image_size=64).fit(pictures(8))
    skstructcore.save(lite, model)
    for i, image in enumerate(pictures(3, seed=3)):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    checks = [part for i in range(3) for part in ("--check", str(tmp_path / f"{i}.png"))]
    done = CliRunner().invoke(main, ["export", str(model), "-o", str(file), *checks])
    assert done.exit_code == 0, done.output
    assert "4 images: 0 decisions differ" in done.output
    assert CliRunner().invoke(main, ["verify", str(file)]).output.startswith("agrees, ")
    times = CliRunner().invoke(main, ["latency", str(model), checks[1], "--repeats", "2", "--json"])
    found = json.loads(times.stdout)
    assert list(found) == ["features", "search", "score", "all"]
    assert all(0 < row["p50"] <= row["p95"] <= row["p99"] for row in found.values())
