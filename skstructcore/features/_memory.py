"""How much memory it takes to compute features, before it is done."""

import weakref
from concurrent.futures import ThreadPoolExecutor

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ._extraction import N_AHEAD, compute_in_one_thread, n_threads_for

_RUNTIME = 10 * 2**20  # what torch sets up for the first pass of a network
_ORIGINAL_PIXEL = 4  # bytes, as Pillow holds colours
_BATCHES = N_AHEAD + 1.5  # of features that are there at once: one handed out, one begun


def extraction_memory(backbone, images, n_projected):
    """Bytes for a network, and what a run over images takes beside it.

    `n_projected` are the features of a patch after the projection, of which two batches are there
    at once. Returns bytes of the weights and what stays with them; the number of images whose
    features are not yet stored while the last of them are computed; and bytes of pixels,
    activations and batches of features.
    """
    network, tile = backbone._network().eager, backbone.picture_.tile
    size = backbone.picture_.framing.size
    weights, activations = measure_pass(network, *(tile or size))
    if network.module is not None:
        tensors = [*network.module.parameters(), *network.module.buffers()]
        weights = max(weights, sum(t.nbytes for t in tensors if t.device.type == "cpu"))
    on_cpu = network.device.type == "cpu"
    n_threads = n_threads_for(backbone.n_jobs, on_cpu)
    largest = max((int(h) * int(w) for h, w in images.sizes()), default=0)
    seen = 3 * size[0] * size[1]
    patch = 4 * backbone.grid_shape_[0] * backbone.grid_shape_[1]
    features, projected = patch * backbone.n_features_out_, patch * n_projected
    n = 1 if tile else min(len(images), backbone.batch_size)
    if tile:
        batches = 2 * (seen + features + projected)
    else:
        batches = min(len(images), _BATCHES * n) * features + 2 * n * projected
    decoding = n_threads * (_ORIGINAL_PIXEL * largest + seen)
    if not on_cpu:
        decoding += 3 * backbone.batch_size * seen
    return weights + _RUNTIME, n, int(batches + decoding + n_threads * activations)


def measure_pass(network, height, width):
    """Bytes on the CPU of a network's weights, and the most that one image takes beside them.

    An image of zeros runs through the network, and the tensors that are alive are counted.
    """
    counter = _LiveTensors()

    def run():
        compute_in_one_thread()
        with torch.inference_mode(), counter:
            network(torch.zeros(1, height, width, 3, dtype=torch.uint8))

    with ThreadPoolExecutor(1) as pool:
        pool.submit(run).result()
    return counter.given, counter.peak


class _LiveTensors(TorchDispatchMode):
    """Counts the bytes of tensors that operations make while they live, and of those given."""

    def __init__(self):
        super().__init__()
        self.given = self.peak = self._alive = 0
        self._known = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for storage in _storages((args, kwargs)):
            if storage.data_ptr() not in self._known:
                self._known.add(storage.data_ptr())
                self.given += storage.nbytes()
        made = function(*args, **kwargs)
        for storage in _storages(made):
            place, size = storage.data_ptr(), storage.nbytes()
            if place not in self._known:
                self._known.add(place)
                self._alive += size
                weakref.finalize(storage, self._forget, place, size)
        self.peak = max(self.peak, self._alive)
        return made

    def _forget(self, place, size):
        self._known.discard(place)
        self._alive -= size


def _storages(values):
    tensors = (v for v in tree_leaves(values) if isinstance(v, torch.Tensor))
    on_cpu = (tensor.untyped_storage() for tensor in tensors if tensor.device.type == "cpu")
    return [storage for storage in on_cpu if storage.nbytes()]
