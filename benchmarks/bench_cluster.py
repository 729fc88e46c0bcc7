"""Fit one bank in shards, with one worker of dask and with two.

    python benchmarks/bench_cluster.py FOLDER_OF_IMAGES [--sizes 100 200 400]

Wall-clock seconds of the whole fit, and processor seconds of this process and of the workers,
beside a fit in this process; how far they grow with the number of images; the radius that is
stated, and the correlation of scores with those of the plain fit.
With one worker of one thread joblib seems to work in this process: what differs then is the shards.
"""

import argparse
import logging
import time
import warnings

import distributed
import joblib
import numpy as np
from _measure import table
from sklearn.base import clone

from skstructcore import make_structcore
from skstructcore.datasets import load_images


def fitted(images, n_workers):
    options = {"features__n_jobs": 1}
    if n_workers:
        options["bank__shard_size"] = 32
    pipe = make_structcore("efficientnet_lite0", **options)
    if not n_workers:
        return pipe, timed(lambda: pipe.fit(images))
    cluster = distributed.LocalCluster(
        n_workers=n_workers,
        threads_per_worker=1,
        dashboard_address=None,
        env={"OMP_NUM_THREADS": "1"},  # one thread of the network a worker, as of one core
    )
    with cluster, distributed.Client(cluster) as client:
        with joblib.parallel_config(backend="dask"):
            # Workers of a cluster are there: libraries, network and kernels have been loaded.
            clone(pipe).set_params(bank__shard_size=4).fit(images[:16])
            return pipe, timed(lambda: pipe.fit(images), client)


def timed(work, client=None):
    """Wall-clock seconds; processor seconds here + those of the workers."""

    def processor():
        return time.process_time(), sum(client.run(time.process_time).values()) if client else 0.0

    start, before = time.perf_counter(), processor()
    work()
    wall, after = time.perf_counter() - start, processor()
    return f"{wall:.1f} ({after[0] - before[0]:.1f} + {after[1] - before[1]:.1f})"


def rows(images, sizes):
    new = images[-50:]
    for n in sizes:
        plain, alone = fitted(images[:n], 0)
        one, with_one = fitted(images[:n], 1)
        two, with_two = fitted(images[:n], 2)
        scores = [pipe.score_samples(new) for pipe in (plain, one, two)]
        yield (
            n, alone, with_one, with_two,
            f"{plain['bank'].radius_[0]:.3f}", f"{two['bank'].radius_[0]:.3f}",
            f"{np.corrcoef(scores[0], scores[2])[0, 1]:.4f}",
            "yes" if np.array_equal(scores[1], scores[2]) else "no",
        )  # fmt: skip


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folder")
    options.add_argument("--sizes", type=int, nargs="+", default=[100, 200, 400])
    args = options.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    header = ("images", "this process, s", "1 worker, s", "2 workers, s", "radius", "in shards",
              "correlation of scores", "1 and 2 workers alike")  # fmt: skip
    table("Fit of one bank", header, rows(load_images(args.folder), args.sizes))


if __name__ == "__main__":
    main()
