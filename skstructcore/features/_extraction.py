"""From images to batches of features: decoding, the network and the cache, side by side."""

import threading
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np

from .._utils.progress import progress_bar

_N_AHEAD = 2  # batches in work beside the one that is handed out
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

    Parameters
    ----------
    images : ImageList
        What to go through.
    shape : tuple of (int, int, int)
        Shape of the features of one image.
    read : callable
        `read(images, i)` gives the levels `(H, W, 3)` for the network.
    network : callable
        Without arguments; returns the loaded network. Called only if it is needed.
    cache : FeatureCache or None
        Where features may be already, and are stored.
    on_cpu : bool
        Which of the two ways to go.
    n_threads : int or None
        None: on the CPU as many as torch would use, else as many as there are cores, up to 8.
    """

    def __init__(self, images, shape, *, read, network, cache, on_cpu, n_threads):
        self.images = images
        self.shape = shape
        self.read = read
        self.network = network
        self.cache = cache
        self.on_cpu = on_cpu
        self.n_threads = n_threads

    def iter_batches(self, batch_size, verbose=0):
        """Yield float32 arrays `(n_in_batch, *shape)`, in the order of the images."""
        n_threads = self.n_threads or default_n_threads(self.on_cpu)
        n_images = len(self.images)
        pending = deque()
        with (
            progress_bar(
                verbose=verbose, total=n_images, desc="features", unit="image"
            ) as progress,
            ThreadPoolExecutor(n_threads) as pool,
        ):
            try:
                for start in range(0, n_images + _N_AHEAD * batch_size, batch_size):
                    if start < n_images:
                        rows = range(start, min(start + batch_size, n_images))
                        pending.append(self._submit(pool, rows))
                    if start < _N_AHEAD * batch_size or not pending:
                        continue
                    batch = self._finish(pool, *pending.popleft())
                    yield batch
                    progress.update(len(batch))
            except BaseException:  # among them: nobody wants the rest
                pool.shutdown(cancel_futures=True)
                raise

    def _submit(self, pool, rows):
        batch = np.empty((len(rows), *self.shape), np.float32)
        return rows, batch, [pool.submit(self._work, i, batch[k]) for k, i in enumerate(rows)]

    def _work(self, i, out):
        """Fill `out` from the cache or the network; return the pixels if that is left to do."""
        if self.cache is not None and self.cache.load(self.images.digest(i), out):
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

    def _run(self, pixels):
        import torch

        with torch.inference_mode():
            return self.network()(torch.from_numpy(pixels)).numpy()

    def _store(self, i, values):
        if self.cache is not None:
            self.cache.store(self.images.digest(i), values)


def default_n_threads(on_cpu):
    import torch

    return torch.get_num_threads() if on_cpu else min(8, joblib.cpu_count())


def compute_in_one_thread():
    """Let torch compute in the thread that calls this, without helpers."""
    import torch

    n_threads = torch.get_num_threads()
    if n_threads > 1:
        with _threads_lock:
            # Holds for this thread, but also becomes what threads to come begin with; another
            # thread puts that back.
            torch.set_num_threads(1)
            other = threading.Thread(target=torch.set_num_threads, args=(n_threads,))
            other.start()
            other.join()
