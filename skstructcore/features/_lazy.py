"""Patch features that are computed when they are needed, and what computes them.

An `Extraction` decodes, asks the cache and runs the network, side by side.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, overload

import joblib
import numpy as np

from .._utils.computing import progress_bar
from ._ignored import IgnoredByCategory, names_in_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from ..images.geometry import Geometry
    from ..images.image_list import Annotations, ImageList
    from ._backbone import LazyTransformer

_N_LOOKED_AT = 8
_N_AHEAD = 2  # batches in work beside the one that is handed out
_MAX_NETWORKS = 2

_networks = OrderedDict()
_networks_lock = threading.RLock()
_threads_lock = threading.Lock()

_logger = logging.getLogger(__name__)


class LazyFeatures:
    """Patch features of a list of images; the backbone runs when they are asked for.

    The object looks like a float32 array of shape `(n_images, height, width, n_features)`.
    Its shape is known without any computation; `numpy.asarray` computes and returns the
    whole of it, iteration gives it batch by batch. Nothing is kept: asking twice runs the
    backbone twice (unless the feature estimator has a `memory`).

    Parameters
    ----------
    images : ImageList
        The images.
    backbone : fitted feature estimator
        What computes the features, `ConvFeatures` for instance.
    functions : tuple of callables, default=()
        Applied to each batch one after the other.
    n_features : int, default=None
        Length of the last axis after `functions`; None means that of the backbone.
    categories : array of shape (n_images,), default=None
        What each image shows, where that is known; see `showing`.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import ConvFeatures
    >>> photos = np.zeros((3, 64, 48), np.uint8)
    >>> lazy = ConvFeatures(image_size=64).fit_transform(photos)
    >>> lazy
    LazyFeatures(shape=(3, 8, 8, 152), dtype=float32)
    >>> lazy[1:].map(np.abs, n_features=152).shape
    (2, 8, 8, 152)
    >>> lazy[0].shape
    (8, 8, 152)
    """

    dtype = np.dtype(np.float32)
    ndim = 4

    def __init__(
        self,
        images: ImageList,
        backbone: LazyTransformer,
        functions: Sequence[Callable[[NDArray[np.floating]], NDArray[np.floating]]] = (),
        n_features: int | None = None,
        categories: Sequence[str] | None = None,
    ) -> None:
        self.images = images
        self.backbone = backbone
        self.functions = tuple(functions)
        self.n_features = backbone.n_features_out_ if n_features is None else int(n_features)
        self.categories = categories

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.images), *self.backbone.grid_shape_, self.n_features)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"LazyFeatures(shape={self.shape}, dtype={self.dtype})"

    @overload
    def __getitem__(self, index: int) -> NDArray[np.float32]: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | NDArray[Any]) -> LazyFeatures: ...

    def __getitem__(
        self, index: int | slice | Sequence[int] | NDArray[Any]
    ) -> NDArray[np.float32] | LazyFeatures:
        """One image's features as an array for an int, else the lazy features of a subset."""
        rows = [index] if isinstance(index, (int, np.integer)) else index
        categories = None if self.categories is None else self.categories[rows]
        subset = LazyFeatures(
            self.images[index], self.backbone, self.functions, self.n_features, categories
        )
        if isinstance(index, (int, np.integer)):
            return np.asarray(subset)[0]
        return subset

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return self.iter_batches()

    def iter_batches(self) -> Iterator[NDArray[np.float32]]:
        """Yield float32 arrays `(n_in_batch, height, width, n_features)`, in order.

        The features of ignored patches are NaN.
        """
        by_category, picture = self._ignored_by_category(), self.backbone._picture()
        done = 0
        for batch in self.backbone._iter_features(self.images):
            for function in self.functions:
                batch = function(batch)
            batch = np.asarray(batch, dtype=np.float32)
            rows = np.arange(done, done + len(batch))
            images = self.images[rows]
            done += len(batch)
            _check_finite(batch, images)
            picture.mark_ignored(batch, images)
            if by_category is not None and self.categories is not None:
                by_category.mark(batch, rows, self.categories[rows])
            yield batch

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("Lazy features have to be computed: they cannot avoid a copy.")
        if self.ignored_by_category is not None:
            raise ValueError(
                "An array cannot hold what ignore says, because that depends on the category of "
                "each image: pass on the lazy features themselves."
            )
        values = np.empty(self.shape, dtype=self.dtype if dtype is None else dtype)
        start = 0
        for batch in self.iter_batches():
            values[start : start + len(batch)] = batch
            start += len(batch)
        return values

    def map(
        self, function: Callable[[NDArray[np.floating]], NDArray[np.floating]], n_features: int
    ) -> LazyFeatures:
        """Lazy features to which `function` is applied, batch by batch.

        Parameters
        ----------
        function : callable
            Takes an array `(n_in_batch, height, width, n)` and returns one with `n_features`
            in the last axis. It has to be picklable for the lazy features to be.
        n_features : int
            Length of the last axis of the result.
        """
        functions = (*self.functions, function)
        return LazyFeatures(self.images, self.backbone, functions, n_features, self.categories)

    def showing(self, categories: ArrayLike | None) -> LazyFeatures:
        """The same features, once it is known which category each image shows.

        Patches that `ignore` takes out of images of that category are NaN. If nobody knows the
        categories (None), that is an error where `ignore` depends on them.
        """
        if self.ignored_by_category is None:
            return self
        if categories is None:
            raise ValueError(
                "ignore is a dict of categories, so fit has to know the category of each image: "
                "pass bank__categories= to the pipeline's fit, or an ImageSet with categories."
            )
        categories = np.asarray(categories).astype(str)
        unknown = sorted(set(self.backbone._picture().ignored.regions) - set(categories.tolist()))
        if unknown:  # no error: `add_category` comes with the images of one category
            _logger.warning("ignore has regions of %s, of which there is no image", unknown)
        return LazyFeatures(self.images, self.backbone, self.functions, self.n_features, categories)

    def memory(self, **changes: int) -> tuple[int, int, int]:
        """Bytes that the network takes, images in work at a time, and bytes of that work.

        The network runs once, on zeros.

        Parameters
        ----------
        **changes : int
            Other parameters of the feature estimator, `batch_size` or `n_jobs`.
        """
        backbone = copy.copy(self.backbone)
        for name in changes.keys() & backbone.get_params(deep=False).keys():
            setattr(backbone, name, changes[name])
        return backbone._memory(self.images, self.n_features)

    def ignored_share(self) -> float:
        """Share of patches that are ignored, as some of the images tell."""
        picture = self.backbone._picture()
        if picture.ignored is None and not picture.no_background:
            return 0.0
        images = self.images[np.unique(np.linspace(0, len(self) - 1, _N_LOOKED_AT).astype(int))]
        marked = np.zeros((len(images), *self.shape[1:3], 1), np.float32)
        picture.mark_ignored(marked, images)
        return float(np.isnan(marked).mean())

    @property
    def annotations(self) -> Annotations:
        """What came with the images: the labels, groups and categories of an `ImageSet`."""
        return self.images.annotations

    @property
    def ignored_by_category(self) -> IgnoredByCategory | None:
        """Which patches are ignored, while that waits for the category of images; else None."""
        return None if self.categories is not None else self._ignored_by_category()

    def _ignored_by_category(self):
        ignored = self.backbone._picture().ignored
        if ignored is None or not ignored.by_category:
            return None
        names = names_in_list(self.images)
        return IgnoredByCategory(ignored.regions, self.geometry, self.backbone.grid_shape_, names)

    @property
    def geometry(self) -> Geometry:
        """`Geometry` of all images; reads the headers of the files, runs no backbone."""
        return self.backbone._picture().geometry(self.images)


def _check_finite(features, images):
    """NaN means an ignored patch: what a network cannot compute must not pass for one."""
    finite = np.isfinite(features).all(axis=(1, 2, 3))
    if not finite.all():
        raise ValueError(
            f"The features of {names_in_list(images)[int(np.argmin(finite))]} are not finite. "
            "Check the backbone's weights and dtype (float16 overflows where bfloat16 does not)."
        )


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
            except BaseException:  # GeneratorExit is one: the caller does not want the rest
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
            # This sets the number for this thread, and also that with which later threads begin.
            # Another thread sets the latter back.
            torch.set_num_threads(1)
            other = threading.Thread(target=torch.set_num_threads, args=(n_threads,))
            other.start()
            other.join()
