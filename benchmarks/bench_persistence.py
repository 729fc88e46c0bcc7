"""Models on disk: this package's file beside joblib's and skops', and the memory of workers.

    python benchmarks/bench_persistence.py --megabytes 500

The bank is made of random numbers: nothing here depends on what they are. skops is compared if
it is installed; it has to be told to trust this package's classes.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
from _measure import measure, table

import skstructcore
from skstructcore import ConvFeatures, MemoryBank, make_structcore
from skstructcore.knn.surprise import DistanceExpectation

WORKER = """
import os, sys, time
from pathlib import Path
import joblib, numpy as np
import skstructcore

path, how = sys.argv[1:]
if how == "joblib":
    pipe = joblib.load(path)
else:
    pipe = skstructcore.load(path, mmap_mode="r" if how == "mapped" else None)
photo = np.random.default_rng(0).integers(0, 256, (2, 64, 64), dtype=np.uint8)
score = pipe.score_samples(photo)
print("ready", repr(score.tolist()), flush=True)
sys.stdin.readline()  # until all are there
for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
    if line.startswith(("Rss:", "Pss:", "Private_Clean:", "Private_Dirty:")):
        print(*line.split()[:2])
sys.stdout.flush()
sys.stdin.readline()
"""


def model_of(megabytes):
    """A fitted pipeline whose bank is as large as that."""
    photos = np.random.default_rng(0).integers(0, 256, (8, 64, 64), dtype=np.uint8)
    pipe = make_structcore(ConvFeatures(image_size=64), bank__ratio=0.1).fit(photos)
    n_features = pipe["projection"].n_components or pipe["features"].n_features_out_
    n = megabytes * 2**20 // (4 * n_features)
    values = np.random.default_rng(1).normal(size=(n, n_features)).astype(np.float32)
    images = np.arange(n, dtype=np.int64) // 100
    bank = MemoryBank(values, images, images, np.zeros(n, np.int64))
    knn = pipe["knn"]
    pipe["bank"].bank_ = bank
    knn.expectations_ = (DistanceExpectation(np.zeros(n), np.ones(n), 1e-3),)
    knn.search_ = replace(knn.search_, bank=bank)
    return pipe


def ways(folder):
    yield "joblib", joblib.dump, joblib.load, folder / "model.joblib"
    yield "this package", skstructcore.save, skstructcore.load, folder / "model.structcore"
    yield (
        "the same, mapped",
        skstructcore.save,
        lambda path: skstructcore.load(path, mmap_mode="r"),
        folder / "model.structcore",
    )
    try:
        import skops.io
    except ImportError:
        return
    yield (
        "skops",
        skops.io.dump,
        lambda path: skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path)),
        folder / "model.skops",
    )


def one_way(pipe, name, save, load, path):
    try:
        saved = measure(lambda: save(pipe, path), 3)
        loaded = measure(lambda: load(path), 3)
    except Exception as error:
        return [name, f"{type(error).__name__}: {error}"[:90], "", "", "", ""]
    return [
        name,
        f"{saved.seconds:.2f}",
        f"{saved.peak:.0f}",
        f"{loaded.seconds:.2f}",
        f"{loaded.peak:.0f}",
        f"{path.stat().st_size / 2**20:.0f}",
    ]


def workers(path, how, n=4):
    """Memory of processes that have loaded the model and scored an image, all at one time."""
    command = [sys.executable, "-c", WORKER, str(path), how]
    options = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    running = [subprocess.Popen(command, **options) for _ in range(n)]
    scores = {process.stdout.readline() for process in running}
    sums = {}
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
        for _ in range(4):
            field, kilobytes = process.stdout.readline().split()
            sums[field] = sums.get(field, 0) + int(kilobytes) / 1024
    for process in running:
        process.communicate("\n")
    assert len(scores) == 1, scores
    private = sums["Private_Clean:"] + sums["Private_Dirty:"]
    return [how, n, f"{sums['Rss:']:.0f}", f"{sums['Pss:']:.0f}", f"{private:.0f}"]


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--megabytes", type=int, default=500)
    options = options.parse_args()
    pipe = model_of(options.megabytes)
    with tempfile.TemporaryDirectory() as folder:
        table(
            f"A model with a bank of {options.megabytes} MB",
            ["way", "save s", "peak MB", "load s", "peak MB", "file MB"],
            (one_way(pipe, *way) for way in ways(Path(folder))),
        )
        del pipe
        table(
            "Memory of four workers, MB in all",
            ["loaded", "workers", "sum of RSS", "sum of PSS (true use)", "private"],
            (
                workers(Path(folder) / name, how)
                for name, how in [
                    ("model.joblib", "joblib"),
                    ("model.structcore", "read"),
                    ("model.structcore", "mapped"),
                ]
            ),
        )


if __name__ == "__main__":
    main()
