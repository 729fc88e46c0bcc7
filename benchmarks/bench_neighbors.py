"""Nearest bank entries: against faiss IndexFlatL2, scikit-learn and pynndescent, in one run.

    python benchmarks/bench_neighbors.py FOLDER [--repeats 3] [--curves curves.png]

FOLDER holds good images (at least 300 of 256 x 256 pixels). The bank is the greedy k-center
selection of half of the patches. faiss is taken if it can be imported. scikit-learn and
pynndescent answer a part of the queries, as they take a constant time each. ``--curves`` measures
how the time for a query grows with the bank and the number of features, and draws it.
"""

import numpy as np
from _measure import measure, parser, patch_features, rows_like, table
from sklearn.neighbors import NearestNeighbors

from skstructcore.coreset import greedy_k_center
from skstructcore.neighbors import NeighborIndex

try:
    import faiss
except ImportError:
    faiss = None

N_QUERIES, N_BANK, N_PART = 600_000, 6_000, 20_000
PATCHES = 1024  # of an image


def searches(bank, queries, k):
    """Name, function that searches, and how many queries it answers."""
    index = NeighborIndex(bank)
    yield "skstructcore, exact", lambda q: index.query(q, k), len(queries)
    if faiss is None:
        yield "faiss IndexFlatL2 (not installed)", None, 0
    else:
        flat = faiss.IndexFlatL2(bank.shape[1])
        flat.add(bank)
        yield "faiss IndexFlatL2", lambda q: flat.search(q, k), len(queries)
    brute = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(bank)
    yield "scikit-learn, brute", lambda q: brute.kneighbors(q)[::-1], N_PART
    graph = NeighborIndex(bank, algorithm="approximate", random_state=0)
    name = f"skstructcore, approximate (recall_ {graph.recall_:.2f})"
    yield name, lambda q: graph.query(q, k), N_PART


def against_peers(bank, queries, k, repeats):
    reference = ours = None
    for name, search, n in searches(bank, queries, k):
        if search is None:
            yield name, "", "", "", "", ""
            continue
        search(queries[:PATCHES])  # compiles, or prepares
        some = queries[:n]
        seconds, peak, (first, second) = measure(lambda: search(some), repeats)  # noqa: B023
        indices = second if np.issubdtype(second.dtype, np.integer) else first
        if reference is None:
            reference, ours = indices, seconds / n
        same = np.mean(indices == reference[:n])
        each = seconds / n
        yield (
            name, f"{each * len(queries):.2f} s", f"{each * PATCHES * 1e3:.2f} ms",
            f"{each / ours:.1f}", f"{peak:.0f} MB", f"{same:.5f}",
        )  # fmt: skip


def by_call(bank, queries):
    """How long a call takes, by the number of its queries and neighbours."""
    index = NeighborIndex(bank)
    for k in (1, 5):
        for n in (1, 64, PATCHES, 16 * PATCHES):
            calls = [queries[start : start + n] for start in range(0, 20 * n, n)]
            index.query(calls[0], k)
            seconds = [measure(lambda: index.query(q, k), 1)[0] for q in calls]  # noqa: B023
            peers = [k, f"{n:,}", f"{np.median(seconds) * 1e3:.2f} ms"]
            if faiss is not None:
                flat = faiss.IndexFlatL2(bank.shape[1])
                flat.add(bank)
                seconds = [measure(lambda: flat.search(q, k), 1)[0] for q in calls]  # noqa: B023
                peers.append(f"{np.median(seconds) * 1e3:.2f} ms")
            yield peers


def each_query(bank, queries):
    """Microseconds a query: ours, and faiss if there."""
    index = NeighborIndex(bank)
    index.query(queries[:64])
    ours = measure(lambda: index.query(queries), 3)[0]
    if faiss is None:
        return ours / len(queries) * 1e6, float("nan")
    flat = faiss.IndexFlatL2(bank.shape[1])
    flat.add(bank)
    theirs = measure(lambda: flat.search(queries, 1), 3)[0]
    return ours / len(queries) * 1e6, theirs / len(queries) * 1e6


def curves(rows, path):
    queries = np.ascontiguousarray(rows[: 4 * PATCHES])
    selected = rows_like(rows[4 * PATCHES :], 200_000)
    picks, _ = greedy_k_center(selected, 100_000)
    measured = {"bank": [], "features": []}
    for m in (300, 1_000, 3_000, 10_000, 30_000, 100_000):
        bank = np.ascontiguousarray(selected[picks[:m]])
        measured["bank"].append((m, *each_query(bank, queries)))
    bank = selected[picks[:N_BANK]]
    mix = np.random.default_rng(0).normal(size=(rows.shape[1], 1024)).astype(np.float32)
    for d in (16, 32, 64, 128, 256, 512, 1024):
        some = [
            np.ascontiguousarray(x[:, :d] if d <= x.shape[1] else x @ mix[:, :d])
            for x in (bank, queries)
        ]
        measured["features"].append((d, *each_query(*some)))
    titles = {"bank": f"{rows.shape[1]} features", "features": f"bank of {N_BANK:,}"}
    for name, points in measured.items():
        cells = ((f"{x:,}", f"{ours:.1f} µs", f"{other:.1f} µs") for x, ours, other in points)
        table(f"Time for a query by {name}: {titles[name]}", [name, "skstructcore", "faiss"], cells)
    draw(measured, titles, path)


def draw(measured, titles, path):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(7, 2.8), sharey=True, layout="constrained")
    for axis, (name, points) in zip(axes, measured.items(), strict=True):
        x, ours, other = zip(*points, strict=True)
        axis.loglog(x, ours, marker="o", markersize=3, label="skstructcore")
        axis.loglog(x, other, marker="s", markersize=3, label="faiss IndexFlatL2")
        axis.set(xlabel=name, title=titles[name])
        axis.title.set_fontsize(8)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("µs a query")
    axes[0].legend(fontsize=7)
    figure.savefig(path, dpi=100)


def main():
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--curves", metavar="PICTURE", help="measure and draw scale curves")
    options = options.parse_args()
    features = patch_features(options.images, options.n_features)
    rows = features.reshape(-1, features.shape[-1]).astype(np.float32, copy=False)
    half = rows_like(rows, len(rows) // 2)
    bank = half[greedy_k_center(half, N_BANK)[0]]
    queries = np.ascontiguousarray(rows[:N_QUERIES])
    size = f"{len(queries):,} x {N_BANK:,} x {rows.shape[1]}"
    header = [
        "",
        "all queries",
        f"{PATCHES} queries",
        "times ours",
        "peak memory",
        "same neighbour",
    ]
    table(f"{size}, k=1", header, against_peers(bank, queries, 1, options.repeats))
    some = queries[: len(queries) // 10]
    table("A tenth of these, k=5", header, against_peers(bank, some, 5, options.repeats))
    header = ["k", "queries", "skstructcore", "faiss"]
    table("A single call", header, by_call(bank, queries))
    if options.curves:
        curves(rows, options.curves)


if __name__ == "__main__":
    main()
