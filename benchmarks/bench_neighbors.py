"""Nearest bank entries: against faiss IndexFlatL2, scikit-learn and pynndescent, in one run.

    python benchmarks/bench_neighbors.py FOLDER [--repeats 3] [--full] [--curves curves.png]

FOLDER holds good images (at least 300 of 256 x 256 pixels). The bank is the greedy k-center
selection of half of the patches. faiss is taken if it can be imported. The peers answer a part of
the queries, as each takes a constant time; with ``--full`` faiss answers all. ``--curves`` measures
how the time for a query grows with the bank and the number of features, and draws it.
"""

import numpy as np
from _measure import measure, parser, patch_features, rows_like, table
from sklearn.neighbors import NearestNeighbors

from skstructcore.neighbors import NeighborIndex
from skstructcore.neighbors.coreset import greedy_k_center

try:
    import faiss
except ImportError:
    faiss = None

N_QUERIES, N_BANK, N_PART = 600_000, 6_000, 20_000
PATCHES = 1024  # of an image


def searches(bank, queries, k, full):
    """Name, function that searches, and how many queries it answers."""
    index = NeighborIndex(bank)
    yield "skstructcore, exact", lambda q: index.query(q, k), len(queries)
    if faiss is None:
        yield "faiss IndexFlatL2 (not installed)", None, 0
    else:
        flat = faiss.IndexFlatL2(bank.shape[1])
        flat.add(bank)
        yield "faiss IndexFlatL2", lambda q: flat.search(q, k), len(queries) if full else N_PART
    brute = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(bank)
    yield "scikit-learn, brute", lambda q: brute.kneighbors(q), N_PART


def against_peers(bank, queries, k, full, repeats):
    reference = ours = None
    for name, search, n in searches(bank, queries, k, full):
        if search is None:
            yield name, "", "", "", "", "", "", ""
            continue
        search(queries[:PATCHES])  # compiles, or prepares
        some = queries[:n]
        seconds, cpu_seconds, peak, found = measure(lambda: search(some), repeats)  # noqa: B023
        indices = found[1]
        if reference is None:
            reference, ours = indices, (seconds / n, cpu_seconds / n)
        each, cpu_each = seconds / n, cpu_seconds / n
        yield (
            name, f"{each * len(queries):.2f} s", f"{cpu_each * len(queries):.2f} s",
            f"{each * PATCHES * 1e3:.2f} ms", f"{each / ours[0]:.1f}", f"{cpu_each / ours[1]:.1f}",
            f"{peak:.0f} MB", f"{np.mean(indices == reference[:n]):.5f}",
        )  # fmt: skip


def approximately(bank, queries, repeats):
    """The approximate search, by neighbours asked for."""
    exact = NeighborIndex(bank)
    graph = NeighborIndex(bank, algorithm="approximate")
    some = queries[:N_PART]
    for k in (1, 5):
        graph.query(some[:64], k)
        seconds, cpu_seconds, _, (_, found) = measure(lambda: graph.query(some, k), repeats)  # noqa: B023
        true = exact.query(some, k)[1]
        recall = (found[:, :, None] == true[:, None]).any(axis=2).mean()
        each = f"{seconds / N_PART * 1e6:.1f} µs", f"{cpu_seconds / N_PART * 1e6:.1f} µs"
        yield k, *each, f"{recall:.3f}", f"{graph.recall_:.3f}"


def by_call(bank, queries):
    """How long a call takes, by the number of its queries and neighbours."""
    index = NeighborIndex(bank)
    for k in (1, 5):
        for n in (1, 64, PATCHES, 16 * PATCHES):
            calls = [queries[start : start + n] for start in range(0, 20 * n, n)]
            index.query(calls[0], k)
            seconds = [measure(lambda: index.query(q, k), 1).seconds for q in calls]  # noqa: B023
            peers = [k, f"{n:,}", f"{np.median(seconds) * 1e3:.2f} ms"]
            if faiss is not None:
                flat = faiss.IndexFlatL2(bank.shape[1])
                flat.add(bank)
                seconds = [measure(lambda: flat.search(q, k), 1).seconds for q in calls]  # noqa: B023
                peers.append(f"{np.median(seconds) * 1e3:.2f} ms")
            yield peers


def small_banks(bank, queries):
    """The patches of one image in banks of some hundred entries, beside a plain product.

    The product (numpy, float32, its own threads) gives the nearest entry up to rounding, and no
    exact distance.
    """
    image = queries[:PATCHES]
    for m in (100, 300, 600, 1_000, 3_000):
        some = np.ascontiguousarray(bank[:m])
        index, norms = NeighborIndex(some), np.square(some).sum(axis=1)
        cells = []
        for k in (1, 5):

            def product():
                rough = norms - 2 * image @ some.T  # noqa: B023
                return rough.argmin(axis=1) if k == 1 else rough.argpartition(k, axis=1)[:, :k]  # noqa: B023

            for search in (lambda: index.query(image, k), product):  # noqa: B023
                search()
                seconds = [measure(search, 1).seconds for _ in range(40)]
                cells.append(f"{np.median(seconds) * 1e3:.2f} ms")
        yield f"{m:,}", *cells


def each_query(bank, queries):
    """Processor microseconds a query: ours, and faiss if there."""
    index = NeighborIndex(bank)
    index.query(queries[:64])
    ours = measure(lambda: index.query(queries), 3).cpu_seconds
    if faiss is None:
        return ours / len(queries) * 1e6, float("nan")
    flat = faiss.IndexFlatL2(bank.shape[1])
    flat.add(bank)
    theirs = measure(lambda: flat.search(queries, 1), 3).cpu_seconds
    return ours / len(queries) * 1e6, theirs / len(queries) * 1e6


def curves(rows, path):
    queries = np.ascontiguousarray(rows[: 4 * PATCHES])
    selected = rows_like(rows[4 * PATCHES :], 100_000)
    picks, _ = greedy_k_center(selected, 30_000)
    measured = {"bank": [], "features": []}
    for m in (300, 1_000, 3_000, 10_000, 30_000):
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
        table(
            f"Processor time for a query by {name}: {titles[name]}",
            [name, "skstructcore", "faiss"],
            cells,
        )
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
    axes[0].set_ylabel("processor µs a query")
    axes[0].legend(fontsize=7)
    figure.savefig(path, dpi=100)


def main():
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--full", action="store_true", help="faiss answers all queries")
    options.add_argument("--curves", metavar="PICTURE", help="measure and draw scale curves")
    options = options.parse_args()
    features = patch_features(options.images, options.n_features)
    rows = features.reshape(-1, features.shape[-1]).astype(np.float32, copy=False)
    half = rows_like(rows, len(rows) // 2)
    bank = half[greedy_k_center(half, N_BANK)[0]]
    queries = np.ascontiguousarray(rows[:N_QUERIES])
    size = f"{len(queries):,} x {N_BANK:,} x {rows.shape[1]}"
    header = ["", "time", "processor time", f"{PATCHES} queries", "times ours", "processor"]
    header += ["peak memory", "same neighbour"]
    table(f"{size}, k=1", header, against_peers(bank, queries, 1, options.full, options.repeats))
    some = queries[: len(queries) // 10]
    table(
        "A tenth of these, k=5", header, against_peers(bank, some, 5, options.full, options.repeats)
    )
    header = ["k", "queries", "skstructcore", "faiss"]
    table("A single call", header, by_call(bank, queries))
    header = ["entries", "k=1", "plain product", "k=5", "plain product"]
    table(f"{PATCHES} queries, small banks", header, small_banks(bank, queries))
    if options.curves:
        curves(rows, options.curves)
    header = ["k", "a query", "processor time", "recall", "recall_ stated at fit"]
    table("algorithm='approximate'", header, approximately(bank, queries, options.repeats))


if __name__ == "__main__":
    main()
