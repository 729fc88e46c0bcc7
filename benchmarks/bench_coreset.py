"""Greedy k-center: against the textbook loop and anomalib's KCenterGreedy, on the same rows.

    python benchmarks/bench_coreset.py FOLDER [--repeats 3] [--full] [--curves curves.png]

FOLDER holds good images (at least 300 of 256 x 256 pixels). anomalib is taken if it can be
imported. The slow ones run 200 picks, which are extrapolated (their time per pick is constant);
``--full`` runs all of them once. ``--curves`` measures how the time grows with the number of rows
(10^4 to 10^7, made up beyond the real ones), of picks and of features, and draws it.
"""

import contextlib
import io
import time

import numpy as np
import torch
from _measure import measure, parser, patch_features, rows_like, table

from skstructcore.neighbors.coreset import greedy_k_center

try:
    from anomalib.models.components.sampling.k_center_greedy import KCenterGreedy
except ImportError:
    KCenterGreedy = None

SAMPLE = 200


def textbook(rows, n_select):
    """The loop of textbooks in torch, with norms computed once."""
    rows = torch.from_numpy(rows)
    norms = rows.square().sum(dim=1)
    nearest = torch.full((len(rows),), torch.inf)
    picks = [0]
    for _ in range(n_select):
        centre = picks[-1]
        distance = norms + norms[centre] - 2 * (rows @ rows[centre])
        torch.minimum(nearest, distance, out=nearest)
        picks.append(int(nearest.argmax()))
    return np.array(picks[:n_select])


def differences(rows, n_select):
    """The same loop without norms: the squared differences to each pick."""
    rows = torch.from_numpy(rows)
    nearest = torch.full((len(rows),), torch.inf)
    picks = [0]
    for _ in range(n_select):
        distance = (rows - rows[picks[-1]]).square().sum(dim=1)
        torch.minimum(nearest, distance, out=nearest)
        picks.append(int(nearest.argmax()))
    return np.array(picks[:n_select])


def textbook_float64(rows, n_select):
    """What the picks should be: sums of squared differences in float64."""
    rows = torch.from_numpy(rows)
    nearest = torch.full((len(rows),), torch.inf, dtype=torch.float64)
    picks = [0]
    for _ in range(n_select):
        centre = rows[picks[-1]].double()
        for start in range(0, len(rows), 16384):
            part = slice(start, start + 16384)
            distance = (rows[part].double() - centre).square_().sum(dim=1)
            torch.minimum(nearest[part], distance, out=nearest[part])
        picks.append(int(nearest.argmax()))
    return np.array(picks[:n_select])


def anomalib(rows, n_select):
    """Seconds and picks of anomalib's selection, with its projection."""
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        sampler = KCenterGreedy(torch.from_numpy(rows), (n_select + 0.5) / len(rows))
        return sampler.select_coreset_idxs()


def extrapolated(select, rows, n_select, full, repeats):
    """Wall-clock and processor seconds and peak MB for all picks, from all of them or the first."""
    if full:
        return (*measure(lambda: select(rows, n_select), 1)[:3], "measured")
    few = measure(lambda: select(rows, SAMPLE // 4), repeats)
    many = measure(lambda: select(rows, SAMPLE), repeats)
    more = (n_select - SAMPLE) / (SAMPLE - SAMPLE // 4)
    seconds = many.seconds + more * (many.seconds - few.seconds)
    cpu_seconds = many.cpu_seconds + more * (many.cpu_seconds - few.cpu_seconds)
    return seconds, cpu_seconds, many.peak, f"from {SAMPLE} picks"


def against_peers(rows, n_select, full, repeats):
    ours, cpu_ours, peak, (picks, _) = measure(lambda: greedy_k_center(rows, n_select), repeats)
    yield "skstructcore", f"{ours:.2f} s", f"{cpu_ours:.2f} s", "1", "1", f"{peak:.0f} MB", ""
    peers = {
        "torch loop, cached norms": textbook,
        "torch loop, differences": differences,
        "anomalib KCenterGreedy": anomalib,
    }
    for name, select in peers.items():
        if select is anomalib and KCenterGreedy is None:
            yield name, "not installed", "", "", "", "", ""
            continue
        seconds, cpu_seconds, peak, how = extrapolated(select, rows, n_select, full, repeats)
        yield (
            name, f"{seconds:.1f} s", f"{cpu_seconds:.1f} s", f"{seconds / ours:.0f}",
            f"{cpu_seconds / cpu_ours:.0f}", f"{peak:.0f} MB", how,
        )  # fmt: skip
    n_checked = n_select if full else SAMPLE
    same = np.array_equal(picks[:n_checked], textbook_float64(rows, n_checked))
    yield "same picks as textbook in float64", same, "", "", "", "", f"first {n_checked}"


def seconds_of(rows, n_select):
    start = time.process_time()
    greedy_k_center(rows, n_select)
    return time.process_time() - start


def curves(rows, path):
    measured = {"rows": [], "picks": [], "features": []}
    for n in (10**4, 3 * 10**4, 10**5, 3 * 10**5, 10**6, 3 * 10**6, 10**7):
        some = rows_like(rows, n)
        measured["rows"].append((n, seconds_of(some, 1000)))
        del some
    some = rows_like(rows, 10**5)
    for n_select in (100, 300, 1000, 3000, 10000, 30000):
        measured["picks"].append((n_select, seconds_of(some, n_select)))
    wide = some @ np.random.default_rng(0).normal(size=(rows.shape[1], 1024)).astype(np.float32)
    for d in (16, 32, 64, 128):
        measured["features"].append((d, seconds_of(np.ascontiguousarray(some[:, :d]), 1000)))
    for d in (256, 512, 1024):
        measured["features"].append((d, seconds_of(np.ascontiguousarray(wide[:, :d]), 1000)))
    titles = {
        "rows": f"{rows.shape[1]} features, 1,000 picks",
        "picks": f"100,000 rows, {rows.shape[1]} features",
        "features": "100,000 rows, 1,000 picks",
    }
    for name, points in measured.items():
        cells = ((f"{x:,}", f"{seconds:.3f} s") for x, seconds in points)
        table(f"Growth with {name}: {titles[name]}", [name, "processor time"], cells)
    draw(measured, titles, path)


def draw(measured, titles, path):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), sharey=True, layout="constrained")
    for axis, (name, points) in zip(axes, measured.items(), strict=True):
        axis.loglog(*zip(*points, strict=True), marker="o", markersize=3)
        axis.set(xlabel=name, title=titles[name])
        axis.title.set_fontsize(8)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("processor seconds")
    figure.savefig(path, dpi=100)


def main():
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--full", action="store_true", help="run all picks of the slow ones")
    options.add_argument("--curves", metavar="PICTURE", help="measure and draw scale curves")
    options = options.parse_args()
    features = patch_features(options.images, options.n_features)
    rows = features.reshape(-1, features.shape[-1]).astype(np.float32, copy=False)
    greedy_k_center(rows[:2000], 100)  # compiles
    header = ["", "time", "processor time", "times ours", "processor", "peak memory", ""]
    for n, n_select in ((100_000, 1_000), (300_000, 6_000)):
        some = rows_like(rows, n)
        full = options.full and n == 100_000
        found = against_peers(some, n_select, full, options.repeats)
        table(f"{n:,} x {rows.shape[1]} -> {n_select:,}", header, found)
    if options.curves:
        curves(rows, options.curves)


if __name__ == "__main__":
    main()
