"""ConvFeatures run by OpenVINO: the features of torch, whatever the batch and the threads."""

import pickle
import sys

import numpy as np
import pytest
from networks import Blocks

from skstructcore import ConvFeatures

X = np.random.default_rng(0).integers(0, 256, (5, 48, 64, 3), dtype=np.uint8)
OWN = dict(model=Blocks, layers=("stage2", "stage1"), image_size=32)


def features_of(**params):
    return np.asarray(ConvFeatures(**params).fit_transform(X))


@pytest.fixture
def openvino():
    return pytest.importorskip("openvino")


@pytest.mark.parametrize("params", [OWN, dict(image_size=(64, 96)), dict(image_size=50)])
def test_features_are_those_of_torch(params, openvino):
    found = features_of(**params, runtime="openvino")
    np.testing.assert_allclose(found, features_of(**params), atol=2e-5)


def test_features_do_not_depend_on_batches_and_threads(openvino):
    one = features_of(image_size=64, runtime="openvino")
    for params in ({"batch_size": 1}, {"batch_size": 2, "n_jobs": 1}, {"n_jobs": 4}):
        other = features_of(image_size=64, runtime="openvino", **params)
        np.testing.assert_array_equal(other, one)


def test_tiles_pickles_and_the_cache_work_as_with_torch(openvino, tmp_path):
    params = {**OWN, "tile_size": 16, "tile_overlap": 8}
    features = ConvFeatures(**params, runtime="openvino", memory=tmp_path).fit(X)
    expected = np.asarray(features.transform(X))
    np.testing.assert_allclose(expected, features_of(**params, memory=tmp_path), atol=2e-5)
    loaded = pickle.loads(pickle.dumps(features))
    np.testing.assert_array_equal(np.asarray(loaded.transform(X)), expected)


def test_a_model_may_be_fitted_by_torch_and_run_by_openvino(openvino):
    features = ConvFeatures(**OWN).fit(X)
    expected = np.asarray(features.transform(X))
    features.set_params(runtime="openvino")
    np.testing.assert_allclose(np.asarray(features.transform(X)), expected, atol=2e-5)


def test_half_precision_is_refused(openvino):
    with pytest.raises(ValueError, match=r"CPU in float32; got device cpu, .*bfloat16"):
        ConvFeatures(**OWN, runtime="openvino", dtype="bfloat16").fit(X)


def test_missing_openvino_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ImportError, match=r'pip install "skstructcore\[openvino\]"'):
        ConvFeatures(model=lambda: Blocks(), layers=("stage1",), runtime="openvino").fit(X)


def test_unknown_runtimes_are_refused():
    with pytest.raises(ValueError, match="runtime"):
        ConvFeatures(**OWN, runtime="onnx").fit(X)
