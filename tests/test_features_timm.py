"""TimmFeatures: random weights in local files, against timm's own forward pass."""

import json
import pickle
import sys

import joblib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.base import clone

from skstructcore import ConvFeatures, JoinedFeatures, TimmFeatures
from skstructcore.features._picture import find_picture
from skstructcore.images import as_images

try:
    import timm
except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision of another torch
    timm, reason = None, f"timm cannot be imported: {error}"
else:
    reason = ""

needs_timm = pytest.mark.skipif(timm is None, reason=reason)

X = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), dtype=np.uint8)
SMALL = {"embed_dim": 48, "depth": 3, "num_heads": 4}
# Name, parameters, layers, whether layers are averaged over 3x3.
NETWORKS = {
    "vit": ("vit_tiny_patch16_224", SMALL, (2, 0), False),
    "dinov3": ("vit_small_patch16_dinov3", {**SMALL, "num_heads": 2}, (0, -1), False),
    "siglip": ("vit_base_patch16_siglip_224", SMALL, (1, 2), False),
    "convnext": ("convnext_atto", {"dims": (8, 16, 24, 32), "depths": (1, 1, 1, 1)}, (2, 1), True),
    "resnet": ("resnet10t", {}, (1, 2, 3), True),
    "efficientnet": ("efficientnet_lite0", {}, (2, 3), True),
}


def random_network(name, params, **options):
    torch.manual_seed(0)
    if name.startswith("vit"):
        options["dynamic_img_size"] = True
    module = timm.create_model(name, num_classes=0, **options, **params).eval()
    with torch.no_grad():  # layer scales near 0 would hide what a block does
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def save(module, path):
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file({k: v.contiguous() for k, v in module.state_dict().items()}, path)
    else:
        torch.save({"state_dict": module.state_dict()}, path)
    return path


@pytest.fixture
def vit(tmp_path):
    name, params, layers, _ = NETWORKS["vit"]
    path = save(random_network(name, params), tmp_path / "vit.pth")
    return dict(model=name, layers=layers, weights=path, model_params=params, image_size=(32, 48))


@needs_timm
@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_features_are_those_of_timm(kind, suffix, tmp_path):
    name, params, layers, averaged = NETWORKS[kind]
    module = random_network(name, params)
    path = save(module, tmp_path / f"weights{suffix}")
    found = np.asarray(
        TimmFeatures(name, layers, path, model_params=params, image_size=(64, 96)).fit_transform(X)
    )
    config = module.pretrained_cfg
    mean, std = torch.tensor(config["mean"]), torch.tensor(config["std"])
    x = ((torch.tensor(X) / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        _, maps = module.forward_intermediates(x)  # of all layers, to the end of the network
    maps = [maps[n] for n in layers]
    if averaged:
        maps = [F.avg_pool2d(m, 3, 1, 1, count_include_pad=False) for m in maps]
    size = max(m.shape[-2:] for m in maps)
    maps = [F.interpolate(m, size, mode="bilinear") if m.shape[-2:] != size else m for m in maps]
    maps = [m / m.norm(dim=1, keepdim=True) for m in maps]
    expected = torch.cat(maps, dim=1).permute(0, 2, 3, 1).numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)


@needs_timm
def test_default_layers_are_those_of_the_other_estimators():
    from skstructcore.features.timm_features import build, choose_layers

    assert choose_layers(build("vit_tiny_patch16_224", {}), None) == [0, 3, 6, 9, 11]
    assert choose_layers(build("convnext_atto", {}), None) == [1, 2]
    assert choose_layers(build("resnet10t", {}), None) == [2, 3]


@needs_timm
def test_features_do_not_depend_on_batches_and_threads(vit):
    one = np.asarray(TimmFeatures(**vit).fit_transform(X))
    other = np.asarray(TimmFeatures(**vit, batch_size=2, n_jobs=3).fit_transform(X))
    np.testing.assert_array_equal(one, other)


@needs_timm
def test_clone_pickle_cache_and_tiles(vit, tmp_path):
    features = TimmFeatures(**vit, memory=tmp_path / "cache").fit(X)
    assert clone(features).get_params() == features.get_params()
    expected = np.asarray(features.transform(X))
    content = pickle.dumps(features)
    assert len(content) < 2000
    np.testing.assert_array_equal(np.asarray(pickle.loads(content).transform(X)), expected)
    lazy = features.transform(X)
    assert joblib.hash(lazy) == joblib.hash(pickle.loads(pickle.dumps(lazy)))
    tiled = TimmFeatures(**{**vit, "image_size": (64, 96)}, tile_size=(32, 48))
    assert tiled.fit_transform(X).shape == (3, 4, 6, 96)


@needs_timm
def test_other_weights_than_at_fit_are_an_error(vit):
    features = TimmFeatures(**vit).fit(X)
    state = torch.load(vit["weights"], weights_only=True)["state_dict"]
    torch.save({k: v + 1 for k, v in state.items()}, vit["weights"])
    with pytest.raises(ValueError, match=r"checksum .* Bring the same weights back"):
        np.asarray(features.transform(X))


@needs_timm
def test_it_joins_with_others(vit):
    parts = [TimmFeatures(**vit), ConvFeatures(image_size=(32, 48))]
    assert JoinedFeatures(parts).fit_transform(X).shape == (3, 4, 6, 96 + 152)


@needs_timm
@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"model": "vit_tinny_patch16_224"}, ValueError, "unknown to timm .*vit_tiny_patch16_224"),
        ({"layers": (0, 3)}, ValueError, "the network has 3, .* each once"),
        ({"layers": ()}, ValueError, "positions of layers, at least one and each once"),
        ({"layers": (1, 1)}, ValueError, "positions of layers, at least one and each once"),
        ({"weights": "nowhere.pth"}, FileNotFoundError, "'nowhere.pth': there is no such file"),
        ({"layers": (2, -1)}, ValueError, "the network has 3, .* each once"),
        (
            {"image_size": 40},
            ValueError,
            "and 40 x 40 pixels .*another image_size, or .*'img_size'",
        ),
        ({"model_params": {**SMALL, "depht": 4}}, ValueError, "model_params=.*'depht'"),
        ({"model_params": {"act_layer": torch.nn.ReLU}}, ValueError, "numbers, strings, lists"),
        ({"model_params": {**SMALL, "pretrained": True}}, ValueError, "that is what weights is"),
        ({"model_params": None}, ValueError, "does not fit the network"),
        (
            {"model_params": {**SMALL, "depth": 4}},
            ValueError,
            "hold the weights .*missing",
        ),
        ({"model_params": {**SMALL, "depth": 2}, "layers": None}, ValueError, "is unknown"),
    ],
)
def test_bad_parameters_are_named(vit, params, error, message):
    with pytest.raises(error, match=message):
        TimmFeatures(**{**vit, **params}).fit(X)


def test_a_network_without_intermediate_outputs_is_sent_to_conv_features():
    from skstructcore.features.timm_features import choose_layers

    with pytest.raises(ValueError, match=r"Conv2d has no forward_intermediates.*use ConvFeatures"):
        choose_layers(torch.nn.Conv2d(3, 4, 1), None)


class Hostile:
    def __reduce__(self):
        return print, ("code from a weights file was run",)


@needs_timm
def test_files_that_would_run_code_are_refused(vit, tmp_path, capsys):
    torch.save({"state_dict": Hostile()}, tmp_path / "hostile.pth")
    with pytest.raises(ValueError, match=r"hostile.pth.*holds tensors only"):
        TimmFeatures(**{**vit, "weights": tmp_path / "hostile.pth"}).fit(X)
    assert "code" not in capsys.readouterr().out


def test_weights_have_to_be_named():
    with pytest.raises(ValueError, match=r'path \(\*.safetensors, \*.pth\) or "hub"'):
        TimmFeatures("vit_tiny_patch16_224").fit(X)


def test_missing_timm_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "timm", None)
    (tmp_path / "weights.pth").touch()
    with pytest.raises(ImportError, match=r'pip install "skstructcore\[timm\]".*torchvision'):
        TimmFeatures("vit_tiny_patch16_224", weights=tmp_path / "weights.pth").fit(X)


def test_numbers_of_numpy_are_those_of_python():
    plain = dict(model_params={"img_size": 448}, mean=(0.5, 0.5, 0.5), std=(0.5, 1, 0.25))
    numpy = {
        "model_params": {"img_size": np.int64(448)},
        "mean": [np.float32(0.5)] * 3,
        "std": tuple(np.array([0.5, 1, 0.25], np.float32)),
    }
    recipes = [
        json.dumps(TimmFeatures("vit", weights="w.pth", **given)._network_recipe())
        for given in (plain, numpy)
    ]
    assert recipes[0] == recipes[1]


@needs_timm
def test_parameters_of_the_hubs_networks_may_hold_dicts(monkeypatch):
    given = []
    monkeypatch.setattr(
        "skstructcore.features.timm_features.build",
        lambda name, params, pretrained: (
            given.append(params) or random_network(*NETWORKS["vit"][:2])
        ),
    )
    params = {"block": {"depth": 2}, "img_size": [64, 32]}
    TimmFeatures("some_network", weights="hub", model_params=params, image_size=64).fit(X)
    assert given == [{"block": {"depth": 2}, "img_size": [64, 32]}]


@needs_timm
@pytest.mark.parametrize(
    ("model", "params", "message"),
    [
        ("convnext_tinny", None, "unknown to timm .*convnext_tiny"),
        ("test_vit", {"depht": 4}, "model_params=.*'depht'"),
    ],
)
def test_with_the_hubs_weights_bad_parameters_are_named_too(model, params, message):
    with pytest.raises(ValueError, match=message):
        TimmFeatures(model, weights="hub", model_params=params).fit(X)


@needs_timm
@pytest.mark.parametrize("model", ["test_vit", "hf-hub:nobody/nothing"])
def test_missing_weights_of_the_hub_are_no_bad_parameters(model, monkeypatch):
    class LocalEntryNotFoundError(FileNotFoundError, ValueError):  # as huggingface_hub has it
        pass

    def create_model(name, **options):
        raise LocalEntryNotFoundError("not in the cache")

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(FileNotFoundError, match=r"not in the cache.*Run once with access"):
        TimmFeatures(model, weights="hub").fit(X)


@pytest.mark.parametrize(
    ("model", "params", "step"),
    [
        ("vit_small_patch14_dinov2", None, 14),
        ("vit_tiny_patch16_224", {"patch_size": 14}, 14),
        ("vit_tiny_patch16_224", {"patch_size": "none"}, 32),
        ("vit_tiny_patch16_224", None, 32),
        ("vit_base_patch8_224", None, 32),
        ("convnext_tiny", None, 32),
    ],
)
@pytest.mark.parametrize(("image_size", "shape"), [("native", (140, 280)), (224, (60, 240))])
def test_sizes_that_are_found_are_multiples_of_the_patch_size(
    model, params, step, image_size, shape
):
    images = as_images(np.zeros((2, *shape), np.uint8))
    features = TimmFeatures(model, model_params=params, image_size=image_size)
    picture, _ = find_picture(images, features, features._side_step)
    assert all(side % step == 0 for side in picture.framing.size)
    assert (picture.framing.size == (140, 280)) == (step == 14 and image_size == "native")
