"""DinoFeatures: weights from three sources against an independent forward pass."""

import json
import subprocess
import sys
import textwrap

import dino_reference
import joblib
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from sklearn.base import clone

from skstructcore import DinoFeatures, load, make_structcore, save
from skstructcore.cli import main

LAYERS = (2, 1)


def photos(n=3, height=42, width=56, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


@pytest.fixture(params=["plain", "registers", "swiglu", "swiglu-registers"])
def state(request):
    return dino_reference.random_state(
        128, registers=4 * ("registers" in request.param), swiglu="swiglu" in request.param
    )


def features_of(X, **params):
    return np.asarray(DinoFeatures(layers=LAYERS, **params).fit_transform(X))


# Grids: other than that of the position table, not square; and the table's own.
@pytest.mark.parametrize("size", [(42, 56), (70, 70)])
def test_original_checkpoint_gives_the_reference_features(state, size, tmp_path):
    torch.save(state, tmp_path / "vit.pth")
    X = photos(3, *size)
    found = features_of(X, model=None, weights=tmp_path / "vit.pth", image_size=size)
    expected = dino_reference.forward(state, X, LAYERS, n_heads=2)
    assert found.shape == (3, size[0] // 14, size[1] // 14, 256)
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("as_bin", [False, True])
def test_folder_gives_the_reference_features(state, as_bin, tmp_path):
    folder = dino_reference.save_folder(state, tmp_path, n_heads=4, as_bin=as_bin)
    X = photos()
    found = features_of(X, model=None, weights=folder, image_size=(42, 56))
    expected = dino_reference.forward(state, X, LAYERS, n_heads=4)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_hub_name_is_found_in_the_local_cache(state, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    name = f"someone/tiny-{tmp_path.name}"  # names that were found are remembered
    dino_reference.save_hub_cache(state, tmp_path, name, n_heads=2)
    X = photos()
    found = features_of(X, model=name, image_size=(42, 56))
    expected = dino_reference.forward(state, X, LAYERS, n_heads=2)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_checkpoint_of_a_training_run_is_read(tmp_path):
    """It holds a teacher whose backbone has its blocks in groups, and heads beside it."""
    state = dino_reference.random_state(64)
    nested = {f"backbone.{k.replace('blocks.', 'blocks.0.')}": v for k, v in state.items()}
    torch.save({"teacher": {**nested, "dino_head.mlp.0.weight": torch.ones(2)}}, tmp_path / "t.pth")
    X = photos()
    found = features_of(X, model=None, weights=tmp_path / "t.pth", image_size=(42, 56))
    expected = dino_reference.forward(state, X, LAYERS, n_heads=1)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_features_do_not_depend_on_batches_and_threads(tiny_dino):
    X = photos(7)
    params = dict(model=None, weights=tiny_dino, image_size=(42, 70))
    one = features_of(X, **params, batch_size=16)
    for batch_size, n_jobs in [(1, 1), (3, 2), (7, 4)]:
        other = features_of(X, **params, batch_size=batch_size, n_jobs=n_jobs)
        np.testing.assert_array_equal(one, other)


def test_half_precision_is_near_single_precision(tiny_dino):
    X = photos()
    params = dict(model=None, weights=tiny_dino, image_size=70)
    half = features_of(X, **params, dtype="bfloat16")
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, features_of(X, **params), atol=0.05)


def test_loading_other_weights_after_pickling_is_an_error(tmp_path):
    folder = dino_reference.save_folder(dino_reference.random_state(), tmp_path, n_heads=2)
    features = DinoFeatures(None, LAYERS, folder, image_size=70).fit(photos())
    joblib.dump(features, tmp_path / "features.joblib")
    assert (tmp_path / "features.joblib").stat().st_size < 2000
    expected = np.asarray(features.transform(photos()))
    loaded = joblib.load(tmp_path / "features.joblib")
    np.testing.assert_array_equal(np.asarray(loaded.transform(photos())), expected)

    dino_reference.save_folder(dino_reference.random_state(seed=1), tmp_path, n_heads=2)
    with pytest.raises(ValueError, match=r"checksum .* fitted with .* Bring the same weights back"):
        np.asarray(loaded.transform(photos()))


def test_weights_may_move_to_another_folder(tmp_path):
    state = dino_reference.random_state()
    here = dino_reference.save_folder(state, tmp_path / "here", n_heads=2)
    there = dino_reference.save_folder(state, tmp_path / "there", n_heads=2)
    features = DinoFeatures(None, LAYERS, here, image_size=70).fit(photos())
    expected = np.asarray(features.transform(photos()))
    features.set_params(weights=there)
    np.testing.assert_array_equal(np.asarray(features.transform(photos())), expected)


def test_a_model_file_is_told_where_its_weights_are(tmp_path):
    here = dino_reference.save_folder(dino_reference.random_state(), tmp_path / "here", n_heads=2)
    features = DinoFeatures(None, LAYERS, here, image_size=70)
    pipe = make_structcore(features, bank__ratio=0.2, structcore__false_alarm_rate=0.2)
    X = np.random.default_rng(0).integers(0, 256, (8, 70, 70, 3), dtype=np.uint8)
    save(pipe.fit(X), tmp_path / "model")
    expected = pipe.predict(X).tolist()
    Image.fromarray(X[0]).save(tmp_path / "a.png")
    here = here.rename(tmp_path / "there")
    command = [main, ["score", str(tmp_path / "model"), str(tmp_path / "a.png"), "--json"]]
    lost = CliRunner().invoke(*command)
    assert lost.exit_code == 2 and "in commands --weights" in lost.output
    command[1] += ["--weights", str(here)]
    assert json.loads(CliRunner().invoke(*command).stdout)["images"] == 1
    assert load(tmp_path / "model", weights=here).predict(X).tolist() == expected
    with pytest.raises(ValueError, match="weights: 2 given, but 1 networks"):
        load(tmp_path / "model", weights=[here, here])


def test_number_of_heads_belongs_to_the_checksum(tmp_path):
    state = dino_reference.random_state()
    two = dino_reference.save_folder(state, tmp_path / "two", n_heads=2)
    four = dino_reference.save_folder(state, tmp_path / "four", n_heads=4)
    checksums = {
        DinoFeatures(None, LAYERS, folder, image_size=70).fit(photos()).model_checksum_
        for folder in (two, four)
    }
    assert len(checksums) == 2


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"image_size": 80}, ValueError, "multiple of the patch size 14; got 80, and 70 and 84"),
        ({"image_size": (70, 5)}, ValueError, "got 5, and 14 would do"),
        ({"layers": (1, 3)}, ValueError, "blocks 1 to 2"),
        ({"layers": (0, 1)}, ValueError, "from 1 on, at least one and each once"),
        ({"layers": (1, 1)}, ValueError, "from 1 on, at least one and each once"),
        ({"layers": ()}, ValueError, "from 1 on, at least one and each once"),
        ({"layers": ("one",)}, ValueError, "from 1 on, at least one and each once"),
        ({"model": "dinov2_vits14"}, ValueError, "32 features and 2 blocks.*has 384 features"),
        ({"model": "dinov3"}, ValueError, "one of dinov2_vits14, "),
        ({"weights": "nowhere"}, FileNotFoundError, "'nowhere': there is no such file"),
        ({"weights": None, "model": None}, ValueError, "needs weights"),
        ({"device": 3}, ValueError, "device"),
    ],
)
def test_bad_parameters_are_named(tiny_dino, params, error, message):
    params = {"model": None, "layers": LAYERS, "weights": tiny_dino, "image_size": 70, **params}
    with pytest.raises(error, match=message):
        DinoFeatures(**params).fit(photos())


def test_incomplete_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        DinoFeatures(None, weights=tmp_path).fit(photos())
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"no \*\.safetensors"):
        DinoFeatures(None, weights=tmp_path).fit(photos())
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="model of the type 'vit'"):
        DinoFeatures(None, weights=tmp_path).fit(photos())


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", b'{"model_type": "dinov2", ', "config.json' is no configuration"),
        ("config.json", b"[]", "config.json' is no configuration"),
        ("config.json", b"\xff", "config.json' is no configuration"),
        ("model.safetensors", b"cut", "model.safetensors' cannot be read"),
    ],
)
def test_damaged_folders_are_an_error_that_names_the_file(tmp_path, file, content, message):
    state = dino_reference.random_state(64)
    folder = dino_reference.save_folder(state, tmp_path, n_heads=2)
    (folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        DinoFeatures(None, LAYERS, folder, image_size=70).fit(photos())


def test_checkpoints_of_other_models_are_refused(tmp_path):
    path = tmp_path / "vit.pth"
    path.write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        DinoFeatures(None, weights=path).fit(photos())
    torch.save({"conv1.weight": torch.ones(3)}, path)
    with pytest.raises(ValueError, match=r"it lacks cls_token.*it has conv1\.weight"):
        DinoFeatures(None, weights=path).fit(photos())
    state = dino_reference.random_state(64)
    state["blocks.1.norm1.weight"] = torch.ones(63)
    del state["blocks.0.ls1.gamma"]
    torch.save(state, path)
    wrong = "layer_scale1.lambda1 is missing; .*norm1.weight has another shape"
    with pytest.raises(ValueError, match=wrong):
        DinoFeatures(None, LAYERS, path, image_size=70).fit(photos())


def test_offline_without_weights_fails_and_names_the_ways(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"(?s)HF_HOME.*weights=<folder>.*weights=<file"):
        DinoFeatures("dinov2_vitb14").fit(photos())


def test_nothing_is_loaded_before_fit():
    code = """
        import sys
        from skstructcore import DinoFeatures
        DinoFeatures("dinov2_vitg14").get_params()
        assert not {"torch", "transformers"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_missing_transformers_says_what_to_install(tiny_dino, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    X, params = photos(), dict(layers=(1,), image_size=(14, 28))
    with pytest.raises(ImportError, match=r'pip install "skstructcore\[dino\]"'):
        DinoFeatures(None, weights=tiny_dino, **params).fit(X)
    with pytest.raises(ImportError, match=r'pip install "skstructcore\[dino\]"'):
        DinoFeatures("dinov2_vits14", **params).fit(X)


def test_clone_and_names(tiny_dino):
    features = DinoFeatures(None, LAYERS, tiny_dino, image_size=70).fit(photos())
    assert clone(features).get_params() == features.get_params()
    assert features.get_feature_names_out()[[0, -1]].tolist() == ["dinofeatures0", "dinofeatures63"]


def test_tiles_without_overlap_are_images_of_their_own(tmp_path):
    torch.save(dino_reference.random_state(64), tmp_path / "vit.pth")
    X = photos(2, 56, 84)
    params = dict(model=None, weights=tmp_path / "vit.pth")
    tiled = features_of(X, image_size=(56, 84), tile_size=(28, 42), **params)
    alone = features_of(X[:, 28:, 42:], image_size=(28, 42), **params)
    np.testing.assert_array_equal(tiled[:, 2:, 3:], alone)


def test_with_a_cache_model_is_checked_too(tiny_dino, tmp_path):
    options = dict(layers=(2,), weights=tiny_dino, image_size=28, memory=tmp_path / "cache")
    np.asarray(DinoFeatures(None, **options).fit_transform(photos()))
    for _ in range(2):
        with pytest.raises(ValueError, match="dinov2_vits14 has 384 features"):
            DinoFeatures("dinov2_vits14", **options).fit(photos())


def test_one_network_serves_an_estimator_that_names_its_model_and_one_that_does_not(
    tiny_dino, monkeypatch
):
    from skstructcore.features import dino

    loaded, load_weights = [], dino.load_weights
    monkeypatch.setattr(
        dino, "load_weights", lambda *args: loaded.append(args) or load_weights(*args)
    )
    tiny = dino.Architecture(32, 2, False, "someone/tiny")
    monkeypatch.setitem(dino.ARCHITECTURES, "tiny", tiny)
    options = dict(layers=(1, 2), weights=tiny_dino, image_size=28)
    for model in (None, "tiny"):
        DinoFeatures(model, **options).fit(photos())
    assert len(loaded) == 1
    with pytest.raises(ValueError, match=r"32 features and 2 blocks.*has 384 features"):
        DinoFeatures("dinov2_vits14", **options).fit(photos())
    assert len(loaded) == 1
