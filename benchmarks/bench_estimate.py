"""`estimate_memory` and `estimate_time` beside the fit that they speak of, over settings.

    python benchmarks/bench_estimate.py [--only NAME ...]
    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/bench_estimate.py --time

Each fit runs in a process of its own, on generated photographs. Its peak is resident memory above
what the process holds before, packages loaded and kernels compiled. --time is processor time.
"""

import argparse
import multiprocessing
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from _measure import peak_above, reset_peak, table
from PIL import Image

CASES = {
    "100 images": {"n": 100},
    "400 images": {"n": 400},
    "images of 4000 pixels": {"n": 60, "side": 4000},
    "image_size=1024": {"n": 30, "side": 1000, "features__image_size": 1024},
    "tiles": {"n": 40, "side": 1000, "features__image_size": 1024, "features__tile_size": 256},
    "n_jobs=1, batch_size=4": {"n": 200, "features__n_jobs": 1, "features__batch_size": 4},
    "two networks": {"n": 100, "joined": True},
    "three categories": {"n": 300, "n_categories": 3},
    "foreground": {"n": 200, "features__ignore": "background"},
    "k-fold": {"n": 200, "knn__calibration": "k-fold"},
    "in-sample, as published": {"n": 200, "preset": "paper"},
    "bank of 10 %, 512 features": {"n": 60, "bank__ratio": 0.1, "projection__n_components": 512},
    "streamed": {"n": 400, "bank__max_memory": 100_000_000},
    "full resolution": {"n": 200, "structcore__resolution": "full"},
}
TIMED = {
    "100 images": {"n": 100},
    "300 images": {"n": 300},
    "1000 images": {"n": 1000},
    "image_size=512": {"n": 100, "side": 600, "features__image_size": 512},
    "two networks, 5 neighbours": {"n": 100, "joined": True, "knn__n_neighbors": 5},
    "bank of 10 %, 512 features": {"n": 60, "bank__ratio": 0.1, "projection__n_components": 512},
    "three categories": {"n": 300, "n_categories": 3},
    "streamed": {"n": 400, "bank__max_memory": 100_000_000},
}


def photographs(folder, n, side):
    """Files of smooth colours."""
    rng = np.random.default_rng(0)
    files = []
    for i in range(n):
        small = rng.integers(0, 256, (max(side // 8, 2), max(side // 8, 2), 3), dtype=np.uint8)
        files.append(Path(folder, f"{i:04}.jpg"))
        Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(files[-1])
    return files


def make(joined=False, **params):
    from skstructcore import ConvFeatures, JoinedFeatures, make_structcore

    features = "efficientnet_lite0"
    if joined:
        features = JoinedFeatures([ConvFeatures(), ConvFeatures("efficientnet_lite1")])
    return make_structcore(features, **params)


def estimated(files, fit_params, params):
    from skstructcore import estimate_memory

    return estimate_memory(make(**params), files, **fit_params)


def make_ready():
    """Load packages and compile kernels."""
    small = [np.full((64, 64, 3), 20 * i, np.uint8) for i in range(8)]
    make(features__image_size=64, bank__ratio=0.5).fit(small)


def measured(files, fit_params, params):
    make_ready()
    before = reset_peak()
    make(**params).fit(files, **fit_params)
    return 2**20 * peak_above(before)


def estimated_time(files, fit_params, params):
    from skstructcore.pipeline import estimates

    make_ready()
    estimates.perf_counter = time.process_time
    return estimates.estimate_time(make(**params), files, **fit_params)


def measured_time(files, fit_params, params):
    make_ready()
    start = time.process_time()
    make(**params).fit(files, **fit_params)
    return time.process_time() - start


def compare(functions, n, side=300, n_categories=0, **params):
    """What the functions give, an estimate and what was measured, each of a new process."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        files = photographs(folder, n, side)
        names = [f"product{i % n_categories}" for i in range(n)] if n_categories else None
        fit_params = {"bank__categories": names} if names else {}
        results = []
        for function in functions:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                results.append(pool.apply(function, (files, fit_params, params)))
    return results


def rows(chosen):
    for name, settings in CASES.items():
        if chosen and name not in chosen:
            continue
        estimate, peak = compare((estimated, measured), **settings)
        parts = (estimate.network, estimate.patches, estimate.extraction, estimate.selection)
        yield (
            name, settings["n"], *(f"{part / 1e6:,.0f}" for part in (*parts, estimate.held_out)),
            f"**{estimate.peak / 1e6:,.0f}**", f"{peak / 1e6:,.0f}",
            f"{estimate.peak / peak - 1:+.0%}",
        )  # fmt: skip


def timed_rows(chosen):
    for name, settings in TIMED.items():
        if chosen and name not in chosen:
            continue
        estimate, seconds = compare((estimated_time, measured_time), **settings)
        parts = (estimate.features, estimate.selection, estimate.held_out)
        yield (
            name, *(f"{part:.1f}" for part in parts), f"**{estimate.total:.1f}**",
            f"{seconds:.1f}", f"{estimate.total / seconds - 1:+.0%}",
        )  # fmt: skip


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", nargs="+", metavar="NAME", help="some of the settings")
    options.add_argument("--time", action="store_true", help="time instead of memory")
    options = options.parse_args()
    if options.time:
        header = ["", "features", "selection", "held out", "estimate, s", "fit, s", "difference"]
        table("Time of a fit, estimated and measured", header, timed_rows(options.only))
        return
    header = ["", "images", "network", "patches", "extraction", "selection", "held out"]
    header += ["estimate, MB", "peak of fit, MB", "difference"]
    table("Memory of a fit, estimated and measured", header, rows(options.only))


if __name__ == "__main__":
    main()
