"""Shared by the benchmarks: medians of repeated runs, peak memory, real features, tables."""

import argparse
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np


def reset_peak():
    """Start the process's peak of resident memory anew (Linux); return what is resident now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return float("nan")
    return _status("VmRSS")


def peak_above(before):
    """Peak resident memory since `reset_peak`, above what it returned, in MB."""
    return _status("VmHWM") - before


def _status(field):
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


class Measured(NamedTuple):
    """Medians of wall-clock and processor seconds, peak MB above before, the last result."""

    seconds: float
    cpu_seconds: float
    peak: float
    result: object


def measure(function, repeats):
    """Run a function some times. Processor time (of all threads) is what to compare where other
    programs share the machine."""
    seconds, cpu_seconds, peaks, result = [], [], [], None
    for _ in range(repeats):
        result = None
        before = reset_peak()
        start, cpu_start = time.perf_counter(), time.process_time()
        result = function()
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
        peaks.append(peak_above(before))
    median = statistics.median
    return Measured(median(seconds), median(cpu_seconds), max(peaks), result)


def spread(areas):
    """Mean and standard deviation over seeds, of numbers in percent; of one seed the number."""
    return f"{np.mean(areas):.1f}" + (f" ± {np.std(areas):.1f}" if len(areas) > 1 else "")


def table(title, header, rows):
    """Print a Markdown table as it fills: `rows` may be a generator."""
    print(f"\n### {title}\n\n| {' | '.join(header)} |\n|{'---|' * len(header)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |", flush=True)


def parser(description):
    options = argparse.ArgumentParser(description=description)
    options.add_argument(
        "images", help="folder of good images, or a .npy file with their patch features"
    )
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--n-features", type=int, default=128, help="after random projection")
    return options


def patch_features(images, n_features):
    """Patch features (n, h, w, n_features) of a folder's images, or those kept in a .npy file."""
    from skstructcore import ConvFeatures, RandomProjection

    if images.endswith(".npy"):
        return np.load(images)
    features = ConvFeatures().fit_transform(images)
    projected = RandomProjection(n_features, random_state=0).fit_transform(features)
    return np.asarray(projected, dtype=np.float32)


def rows_like(rows, n, seed=0):
    """`n` of the rows, at random; beyond their number, rows on lines between two of them."""
    rng = np.random.default_rng(seed)
    if n <= len(rows):
        return rows[np.sort(rng.choice(len(rows), n, replace=False))]
    out = np.empty((n, rows.shape[1]), dtype=np.float32)
    for start in range(0, n, 2**18):
        part = out[start : start + 2**18]
        one, other = rng.integers(len(rows), size=(2, len(part)))
        weight = rng.random((len(part), 1), dtype=np.float32)
        part[:] = rows[one] * weight + rows[other] * (1 - weight)
    return out
