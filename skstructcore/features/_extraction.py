"""What computes patch features: it decodes, asks the cache and runs the network, side by side."""

import contextlib
import threading
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import joblib
import numpy as np

from .._utils.computing import device_memory, parts, progress_bar

N_AHEAD = 2  # batches in work beside the one that is handed out
_MAX_NETWORKS = 2

_networks = OrderedDict()
_networks_lock = threading.RLock()
_threads_lock = threading.Lock()


def shared_network(key, load):
    """The network of this key, loaded once a process; the last two are kept.

    Estimators hold no network, so that they are small to pickle, and clones in a grid search
    share one.
    """
    with _networks_lock:
        network = _networks.pop(key, None) or load()
        _networks[key] = network
        while len(_networks) > _MAX_NETWORKS:
            _networks.popitem(last=False)
        return network


class Extraction:
    """One run over a list of images.

    On the CPU each thread decodes an image and runs the network on it, with one thread of its
    own: small networks gain little from several threads on one image, and the features of an
    image depend neither on the batch it is in nor on the number of threads. On other devices
    the threads decode, and the network gets whole batches.

    `shape` is that of the features of one image; `read(images, i)` gives its levels; `network()`
    the loaded network, asked for only if it is needed; `cache` may have features already.
    """

    def __init__(self, images, shape, *, read, network, cache, on_cpu, n_jobs):
        self.images = images
        self.shape = shape
        self.read = read
        self.network = network
        self.cache = cache
        self.on_cpu = on_cpu
        self.n_threads = n_threads_for(n_jobs, on_cpu)

    def iter_batches(self, batch_size, verbose=0):
        """Yield float32 arrays `(n_in_batch, *shape)`, in the order of the images."""
        with self._workers(verbose) as (pool, progress):
            every = range(len(self.images))
            batches = (self._submit(pool, every[part]) for part in parts(len(every), batch_size))
            for rows, batch, jobs in begun_ahead(batches, 1 + N_AHEAD):
                yield self._finish(pool, rows, batch, jobs)
                progress.update(len(rows))

    @contextlib.contextmanager
    def _workers(self, verbose):
        """Threads and a progress bar. Work that nobody waits for any more is dropped."""
        bar = progress_bar(verbose=verbose, total=len(self.images), desc="features", unit="image")
        with bar as progress, ThreadPoolExecutor(self.n_threads) as pool:
            try:
                yield pool, progress
            except BaseException:  # GeneratorExit is one: the caller does not want the rest
                pool.shutdown(cancel_futures=True)
                raise

    def _submit(self, pool, rows):
        batch = np.empty((len(rows), *self.shape), np.float32)
        return rows, batch, [pool.submit(self._work, i, batch[k]) for k, i in enumerate(rows)]

    def _work(self, i, out):
        """Fill `out` from the cache or the network; return the pixels if that is left to do."""
        if self.cache is not None and self.cache.load(self._key(i), out):
            return None
        pixels = self.read(self.images, i)
        if not self.on_cpu:
            return pixels
        compute_in_one_thread()
        out[...] = self._run(pixels[np.newaxis])[0]
        self._store(i, out)
        return None

    def _finish(self, pool, rows, batch, jobs):
        pixels = [job.result() for job in jobs]
        missing = [k for k, image in enumerate(pixels) if image is not None]
        if missing:
            batch[missing] = self._run(np.stack([pixels[k] for k in missing]))
            for k in missing:
                pool.submit(self._store, rows[k], batch[k].copy())
        return batch

    def _key(self, i):
        # A PIL image may hold the same as an array, of which channels="bgr" exchanges the colours.
        is_pil = not isinstance(self.images.items[i], str | np.ndarray)
        return self.images.digest(i) + ("-pil" if is_pil else "")

    @device_memory("use a smaller features__batch_size, image_size or tile_size")
    def _run(self, pixels):
        import torch

        with torch.inference_mode():
            return self.network()(torch.from_numpy(pixels)).numpy()

    def _store(self, i, values):
        if self.cache is not None:
            self.cache.store(self._key(i), values)


def begun_ahead(jobs, n):
    """Hand out jobs in order. An iterator begins them, `n` at a time."""
    begun = deque(islice(jobs, n))
    while begun:
        yield begun.popleft()
        begun.extend(islice(jobs, 1))


def n_threads_for(n_jobs, on_cpu):
    import torch

    if n_jobs is not None:
        return joblib.effective_n_jobs(n_jobs)
    return torch.get_num_threads() if on_cpu else min(8, joblib.cpu_count())


def compute_in_one_thread():
    """Let torch compute in the thread that calls this, without helpers."""
    import torch

    n_threads = torch.get_num_threads()
    if n_threads > 1:
        with _threads_lock:
            # This sets the number for this thread, and also that with which later threads begin.
            # Another thread sets the latter back.
            torch.set_num_threads(1)
            other = threading.Thread(target=torch.set_num_threads, args=(n_threads,))
            other.start()
            other.join()
