"""Peak memory of CoresetBank.fit, by number of images, on generated features.

    python benchmarks/bench_memory.py [--cases 1000 3000 10000]

Each case runs in a process of its own. Features are made up image by image (784 patches of 512
features, as DINOv2 gives after projection), so that there is no backbone to subtract. Peaks are
resident memory above what the process holds before `fit`, packages loaded and kernels compiled.
A second table compares the radius of streamed selections with that of all rows at once.
"""

import argparse
import multiprocessing
import time

import numpy as np
from _measure import peak_above, reset_peak, table

from skstructcore._utils.rows import LazyRows


class GeneratedFeatures(LazyRows):
    """Lazy patch features that no backbone computed: smooth maps in few dimensions, and noise."""

    dtype = np.dtype(np.float32)
    ndim = 4

    def __init__(self, n_images, n_features=512):
        self.shape = (n_images, 28, 28, n_features)

    def __getitem__(self, rows):
        raise NotImplementedError

    def iter_batches(self):
        n_images, height, width, n_features = self.shape
        axes = np.random.default_rng(0).normal(size=(24, n_features)).astype(np.float32)
        for start in range(0, n_images, 16):
            rng = np.random.default_rng(start)
            size = (min(16, n_images - start), height, width)
            batch = rng.standard_normal((*size, 24), dtype=np.float32) @ axes
            batch += rng.standard_normal((*size, n_features), dtype=np.float32)
            yield batch

    __iter__ = iter_batches


CASES = {
    "1,000 images": {"n_images": 1_000, "ratio": 0.01},
    "1,000 images, max_memory 1 GB": {"n_images": 1_000, "ratio": 0.01, "max_memory": 2**30},
    "3,000 images, max_memory 1 GB": {"n_images": 3_000, "ratio": 0.002, "max_memory": 2**30},
    "10,000 images, max_memory 2 GB": {
        "n_images": 10_000, "ratio": 4_000, "max_memory": 2**31,
    },
    "10,000 images, max_memory 4 GB": {
        "n_images": 10_000, "ratio": 4_000, "max_memory": 2**32,
    },
}  # fmt: skip


def run(n_images, **parameters):
    """Fit in this process; MB above before, seconds, entries and radius of the bank."""
    from skstructcore import CoresetBank

    CoresetBank(0.1).fit(GeneratedFeatures(2))
    bank = CoresetBank(random_state=0, **parameters)
    before = reset_peak()
    start = time.perf_counter()
    bank.fit(GeneratedFeatures(n_images))
    seconds = time.perf_counter() - start
    return peak_above(before), seconds, len(bank.bank_), float(bank.radius_[0])


def rows(chosen):
    for name, parameters in CASES.items():
        if parameters["n_images"] not in chosen:
            continue
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peak, seconds, entries, radius = pool.apply(run, kwds=parameters)
        all_values = parameters["n_images"] * 784 * 512 * 4 / 2**20
        yield (
            name, f"{entries:,}", f"{all_values:,.0f} MB", f"{peak:,.0f} MB",
            f"{seconds:.0f} s", f"{radius:.1f}",
        )  # fmt: skip


def streamed(n_images=200, n_features=128, n_select=1_500):
    """Radius of streamed selections, true and bound, by how much the buffer holds."""
    from skstructcore.neighbors import NeighborIndex
    from skstructcore.neighbors.coreset import greedy_k_center
    from skstructcore.neighbors.streaming import StreamingCoreset

    batches = list(GeneratedFeatures(n_images, n_features).iter_batches())
    rows = np.concatenate(batches).reshape(-1, n_features)
    at_once = greedy_k_center(rows, n_select)[1][-1]
    for share in (1.1, 0.5, 0.2, 0.1):
        stream = StreamingCoreset(n_select, max_memory=int(share * 1.1 * rows.nbytes))
        for number, batch in enumerate(batches):
            stream.add(batch.reshape(-1, n_features), number)
        values, _, bound = stream.result()
        radius = np.sqrt(NeighborIndex(values).query(rows)[0].max())
        yield (
            f"{len(stream._rows) / len(rows):.2f}", stream.n_reductions,
            f"{radius / at_once:.3f}", f"{bound / at_once:.2f}", 2 * stream.n_reductions,
        )  # fmt: skip


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument(
        "--cases", type=int, nargs="+", default=[1_000, 3_000, 10_000], help="numbers of images"
    )
    header = ["", "entries", "all patches", "peak of fit", "time", "radius (bound)"]
    table("Memory of CoresetBank.fit", header, rows(options.parse_args().cases))
    header = [
        "buffer / rows",
        "reductions",
        "radius / at once",
        "bound returned",
        "bound in theory",
    ]
    table("Radius of streamed selections", header, streamed())


if __name__ == "__main__":
    main()
