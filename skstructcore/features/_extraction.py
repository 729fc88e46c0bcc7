"""What computes patch features: it decodes, asks the cache and runs the network, side by side.

Large images in overlapping tiles, whose grids of features are blended into one. And how much memory
all that takes, before it is done.
"""

import contextlib
import math
import operator
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, groupby, islice, product

import joblib
import numpy as np

from .._utils.computing import device_memory, progress_bar, slices
from ..images.image_list import ImageList
from ._cache import FeatureCache

_N_BATCHES_BEGUN = 3  # of pixels: one is handed out, two are in work
_RUNTIME = 10 * 2**20  # bytes that torch sets up for the first pass of a network
_ORIGINAL_PIXEL = 4  # bytes, as Pillow holds colours
_N_BATCHES_HELD = (
    _N_BATCHES_BEGUN + 0.5
)  # of features that are there at once: one handed out, one begun

_networks = OrderedDict()
_n_kept = 2  # of them
_networks_lock = threading.RLock()
_threads_lock = threading.Lock()


def shared_network(key, load):
    """The network of this key, loaded once a process; the last ones are kept, see `keep_networks`.

    Estimators hold no network, so that they are small to pickle, and clones in a grid search
    share one.
    """
    with _networks_lock:
        network = _networks.pop(key, None) or load()
        _networks[key] = network
        while len(_networks) > _n_kept:
            _networks.popitem(last=False)
        return network


def keep_networks(n):
    """Keep as many networks as one estimator joins, from now on."""
    global _n_kept
    with _networks_lock:
        _n_kept = max(_n_kept, n)


@dataclass(eq=False)
class Extraction:
    """One run over a list of images.

    On the CPU each thread decodes an image and runs the network on it, with one thread of its
    own: small networks gain little from several threads on one image, and the features of an
    image depend neither on the batch it is in nor on the number of threads. On other devices
    the threads decode, and the network gets whole batches.
    """

    images: ImageList
    shape: tuple[int, ...]  # of the features of one image
    read: Callable  # with the images and a position: its levels
    network: Callable  # gives the loaded network, asked for only if it is needed
    cache: FeatureCache | None  # which may have features already
    on_cpu: bool
    n_threads: int
    on_read: Callable | None = None  # gets position and levels of each image, cached ones too

    def iter_batches(self, batch_size, verbose=0):
        """Yield float32 arrays `(n_in_batch, *shape)`, in the order of the images."""
        with self._workers(verbose) as (pool, progress):
            every = range(len(self.images))
            batches = (self._submit(pool, every[part]) for part in slices(len(every), batch_size))
            for rows, batch, jobs in begun_ahead(batches, _N_BATCHES_BEGUN):
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
        pixels = self._read(i, out)
        if pixels is None or not self.on_cpu:
            return pixels
        compute_in_one_thread()
        out[...] = self._run(pixels[np.newaxis])[0]
        self._store(i, out)
        return None

    def _read(self, i, out):
        """Fill `out` from the cache, or return the pixels that it is to be computed from."""
        is_cached = self.cache is not None and self.cache.load(self._key(i), out)
        if is_cached and self.on_read is None:
            return None
        pixels = self.read(self.images, i)
        if self.on_read is not None:
            self.on_read(i, pixels)
        return None if is_cached else pixels

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


def tile_starts(side, tile, overlap):
    """Where tiles begin along one axis: as few as cover it, evenly spread, sharing `overlap`."""
    if tile >= side:
        return [0]
    n_tiles = -(-(side - overlap) // (tile - overlap))  # two at least, as a tile is shorter
    return [i * (side - tile) // (n_tiles - 1) for i in range(n_tiles)]


def blend_weights(starts, tile, side):
    """Share that each tile has in each position that it covers, along one axis.

    It falls linearly from the middle of a tile to its edges, where the network knows least of
    the surroundings; the shares of all tiles at one position add up to 1.
    """
    position = np.arange(tile) + 0.5
    tent = np.minimum(position, tile - position)
    total = np.zeros(side)
    for start in starts:
        total[start : start + tile] += tent
    return np.stack([tent / total[start : start + tile] for start in starts])


@dataclass(frozen=True)
class Tiling:
    """How a scaled image is cut into tiles, and its grid of features put together.

    All lengths are pixels, heights first. They are multiples of `steps`, the pixels from one patch
    to the next. Neighbouring tiles share at least `overlap`.
    """

    image_size: tuple[int, int]
    tile_size: tuple[int, int]
    overlap: int
    steps: tuple[int, int]

    @classmethod
    def of_grids(cls, image_size, tile_size, overlap, tile_grid, doubled_grid):
        """The tiling for a network that gives a tile, and one twice its size, these grids.

        ValueError if it gives no whole number of pixels a patch, or a length is no multiple.
        """
        steps = []
        for axis, (side, tile) in enumerate(zip(image_size, tile_size, strict=True)):
            more = doubled_grid[axis] - tile_grid[axis]
            step = max(round(tile / max(more, 1)), 1)
            lengths = {"tile_size": tile, "tile_overlap": overlap, "image_size": side}
            for name, length in lengths.items():
                if length % step:
                    low = length // step * step
                    near = f"{low} and {low + step}" if low else f"{step}"
                    raise ValueError(
                        f"With tiles, {name} must be a multiple of {step}, the pixels from one "
                        f"patch to the next; got {length}, and {near} would do."
                    )
            if tile_grid[axis] * step != tile:
                raise ValueError(
                    f"The network gives {tile_grid[axis]} patches for a tile of {tile} pixels, and "
                    f"{more} more for one twice its size: such tiles do not fit together. Choose "
                    "another tile_size, or None."
                )
            steps.append(step)
        return cls(tuple(image_size), tuple(tile_size), overlap, tuple(steps))

    @property
    def grid_shape(self):
        return tuple(s // step for s, step in zip(self.image_size, self.steps, strict=True))

    @cached_property
    def tiles(self):
        """Rows and columns of the grid that each tile covers, and its share in each position."""
        axes = []
        for axis, step in enumerate(self.steps):
            side, tile = self.grid_shape[axis], self.tile_size[axis] // step
            starts = tile_starts(side, tile, self.overlap // step)
            weights = blend_weights(starts, tile, side).astype(np.float32)
            axes.append([(slice(n, n + tile), w) for n, w in zip(starts, weights, strict=True)])
        return [
            (rows, cols, by_row[:, np.newaxis, np.newaxis] * by_col[:, np.newaxis])
            for (rows, by_row), (cols, by_col) in product(*axes)
        ]

    def __len__(self):
        return len(self.tiles)

    def cut(self, pixels, tile):
        """Pixels of one tile: a view of those of the scaled image."""
        rows, cols, _ = self.tiles[tile]
        row, col = rows.start * self.steps[0], cols.start * self.steps[1]
        return pixels[row : row + self.tile_size[0], col : col + self.tile_size[1]]

    def blend(self, grid, tile, features):
        """Add the features of a tile, weighted, to the grid of the image, which begins as 0."""
        rows, cols, weights = self.tiles[tile]
        grid[rows, cols] += weights * features


def _jobs_of_tiles(n_threads, on_cpu, batch_size):
    """Tiles of one job, and how many jobs are begun ahead."""
    return (1, 2 * n_threads) if on_cpu else (batch_size, _N_BATCHES_BEGUN)


@dataclass(eq=False)
class TiledExtraction(Extraction):
    """One run over a list of images in tiles: the memory of one grid and of some tiles.

    Threads work on tiles, not on images, so that one large image keeps all of them busy. The
    tiles are blended in their order: the features depend neither on the number of threads nor,
    on the CPU, on the batch size.
    """

    tiling: Tiling = field(kw_only=True)

    def iter_batches(self, batch_size, verbose=0):
        """Yield float32 arrays `(1, *shape)`; `batch_size` counts tiles."""
        n_tiles, n_begun = _jobs_of_tiles(self.n_threads, self.on_cpu, batch_size)
        with self._workers(verbose) as (pool, progress):
            jobs = begun_ahead(self._jobs(pool, n_tiles), n_begun)
            for i, (image, of_image) in enumerate(groupby(jobs, operator.itemgetter(0))):
                grid, pixels = image.result()
                if pixels is not None:
                    self._blend(grid, (job.result() for _, job in of_image))
                    self._store(i, grid)
                yield grid[np.newaxis]
                progress.update()

    def _jobs(self, pool, n_tiles):
        """Begin the work in order; yield the jobs of tiles, with the one that opens their image."""
        # The next image is decoded while the tiles of this one are in work.
        for image in begun_ahead((pool.submit(self._open, i) for i in range(len(self.images))), 2):
            for tiles in slices(len(self.tiling), n_tiles):
                yield image, pool.submit(self._work_on_tiles, image, tiles)

    def _open(self, i):
        """The grid of an image, and None if it came from the cache, else the pixels for it."""
        grid = np.empty(self.shape, np.float32)
        return grid, self._read(i, grid)

    def _blend(self, grid, results):
        """Fill the grid of an image with what the jobs of its tiles gave."""
        if not self.on_cpu:
            results = map(self._run, results)
        grid[...] = 0
        for tile, features in enumerate(chain.from_iterable(results)):
            self.tiling.blend(grid, tile, features)

    def _work_on_tiles(self, image, tiles):
        """Features of some tiles; on other devices than the CPU their pixels; None if cached."""
        _, pixels = image.result()
        if pixels is None:
            return None
        cut = np.stack([self.tiling.cut(pixels, t) for t in range(tiles.start, tiles.stop)])
        if not self.on_cpu:
            return cut
        compute_in_one_thread()
        return self._run(cut)


def begun_ahead(jobs, n):
    """Yield jobs in order, up to `n` begun ahead; taking one from the iterator begins it."""
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


def extraction_memory(features, images, n_projected):
    """Bytes for the networks of a fitted estimator, and what a run over images takes beside them.

    `n_projected` are the features of a patch after the projection. Returns bytes of the weights
    and what stays with them; the largest batch, in images; and bytes of pixels, activations and
    batches of features. Each network runs once, on zeros.
    """
    backbones = features.backbones
    weights, n, work = zip(*(_backbone_memory(part, images) for part in backbones), strict=True)
    # Of the last batches two are there at once. Joined features are there before, too.
    n_last = n_projected + (0 if features in backbones else features.n_features_out_)
    last = 2 * max(n) * 4 * math.prod(features.grid_shape_) * n_last
    return sum(weights), max(n), sum(work) + last


def _backbone_memory(backbone, images):
    """What `extraction_memory` returns, of one network and without what is projected."""
    picture, network = backbone.picture_, backbone.network().eager
    weights, activations = network.pass_memory(*picture.network_size)
    if network.module is not None:
        tensors = [*network.module.parameters(), *network.module.buffers()]
        weights = max(weights, sum(t.nbytes for t in tensors if t.device.type == "cpu"))
    on_cpu = network.device.type == "cpu"
    n_threads = n_threads_for(backbone.n_jobs, on_cpu)
    largest = max((int(h) * int(w) for h, w in images.sizes()), default=0)
    seen = 3 * math.prod(picture.framing.size)
    features = 4 * math.prod(backbone.grid_shape_) * backbone.n_features_out_
    n = 1 if picture.tile else min(len(images), backbone.batch_size)
    if picture.tile:  # the image that is handed out, the next one, and those of tiles begun ahead
        n_begun = math.prod(_jobs_of_tiles(n_threads, on_cpu, backbone.batch_size))
        n_images = min(len(images), 2 + math.ceil(n_begun / len(backbone.tiling)))
        batches = n_images * (seen + features)
    else:
        batches = min(len(images), _N_BATCHES_HELD * n) * features
    decoding = n_threads * (_ORIGINAL_PIXEL * largest + seen)
    if not on_cpu:
        decoding += _N_BATCHES_BEGUN * backbone.batch_size * 3 * math.prod(picture.network_size)
    return weights + _RUNTIME, n, int(batches + decoding + n_threads * activations)
