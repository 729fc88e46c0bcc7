"""The way of a device that is not the CPU: threads decode, the network gets whole batches."""

import numpy as np
import pytest
import torch

from skstructcore.features._cache import FeatureCache
from skstructcore.features._extraction import Extraction, shared_network
from skstructcore.images import as_images
from skstructcore.images.geometry import Framing

SHAPE = (2, 2, 1)


class Network:
    """Gives each 2 x 2 image its red channel, and remembers the sizes of its batches."""

    def __init__(self):
        self.batch_sizes = []

    def __call__(self, pixels):
        self.batch_sizes.append(len(pixels))
        return pixels[..., :1].to(torch.float32)


def extraction(X, network, cache=None):
    return Extraction(
        as_images(X),
        SHAPE,
        read=lambda images, i: images.pixels(i, Framing(SHAPE[:2])),
        network=lambda: network,
        cache=cache,
        on_cpu=False,
        n_threads=2,
    )


@pytest.fixture
def X():
    return np.random.default_rng(0).integers(0, 256, (7, 2, 2), dtype=np.uint8)


@pytest.mark.parametrize(("batch_size", "sizes"), [(3, [3, 3, 1]), (7, [7]), (20, [7])])
def test_network_gets_batches_in_order(X, batch_size, sizes):
    network = Network()
    batches = list(extraction(X, network).iter_batches(batch_size))
    assert network.batch_sizes == sizes == [len(batch) for batch in batches]
    np.testing.assert_array_equal(np.concatenate(batches)[..., 0], X)


def test_network_gets_only_what_is_not_cached(X, tmp_path):
    cache = FeatureCache(tmp_path, {"recipe": 1})
    list(extraction(X[[1, 2, 5]], Network(), cache).iter_batches(3))
    network = Network()
    batches = list(extraction(X, network, cache).iter_batches(3))
    np.testing.assert_array_equal(np.concatenate(batches)[..., 0], X)
    assert network.batch_sizes == [1, 2, 1]  # 0; 3 and 4; 6
    network = Network()
    list(extraction(X, network, cache).iter_batches(3))
    assert network.batch_sizes == []


def test_what_the_consumer_does_with_a_batch_is_not_cached(X, tmp_path):
    cache = FeatureCache(tmp_path, {"recipe": 1})
    for batch in extraction(X, Network(), cache).iter_batches(3):
        batch[...] = -1
    batches = list(extraction(X, Network(), cache).iter_batches(3))
    np.testing.assert_array_equal(np.concatenate(batches)[..., 0], X)


def test_errors_reach_the_consumer_at_their_batch(X, tmp_path):
    images = [*X[:4], str(tmp_path / "missing.png"), *X[4:]]
    batches = extraction(images, Network()).iter_batches(2)
    assert [len(next(batches)), len(next(batches))] == [2, 2]
    with pytest.raises(OSError, match=r"missing.png' \(position 4 in the list\)"):
        next(batches)


def test_the_last_two_networks_are_shared(monkeypatch):
    monkeypatch.setattr("skstructcore.features._extraction._n_kept", 2)
    made = []

    def load(name):
        made.append(name)
        return object()

    def get(name):
        return shared_network(("test", name), lambda: load(name))

    first = get("a")
    assert get("a") is first
    get("b")
    assert get("a") is first
    get("c")  # b was used before a
    assert get("a") is first
    get("b")
    assert made == ["a", "b", "c", "b"]
