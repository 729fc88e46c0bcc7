"""What is asked for, promised and realised: rates, p-values, regions, drift alarms, suspects.

Each row repeats fit and test on normal data, in which nothing changes and nothing is anomalous
(but two planted defects a fit for audit): features of 4 x 4 patches go in where a backbone's would.

    python benchmarks/study_promises.py                  # minutes
    python benchmarks/study_promises.py --repeats 60 --streams 0       # all but drift alarms
    python benchmarks/study_promises.py --repeats 0 --streams 300      # these, for an hour
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from skstructcore import DriftMonitor, audit, make_structcore, recalibrate, regions

SHAPE = (4, 4, 6)
KINDS = ("plain", "groups", "routes", "recalibrated")
RATE, ALPHA, FDR = 0.1, 0.1, 0.1
RATES = (0.2, 0.1, 0.05)  # of the lines that a monitor watches


class Line:
    """Good images of a line: `kind` says how they are told apart."""

    def __init__(self, kind: str, rng: np.random.Generator) -> None:
        self.kind, self.rng = kind, rng

    def images(self, n: int) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Features of n images, their groups and their products."""
        strength = self.rng.normal(size=(n, 1, 1, 1))
        groups = products = None
        if self.kind == "groups":  # three exposures of a part
            groups = np.arange(n) // 3
            strength = strength[groups]
        X = self.rng.normal(size=(n, *SHAPE)) * np.exp(0.2 * strength)
        if self.kind == "routes":
            products = np.where(np.arange(n) % 2, "b", "a")
            X[products == "b"] += 12
        return X.astype(np.float32), groups, products

    def fit(self, n: int, rule: str, rate: float = RATE):
        pipe = make_structcore(
            "efficientnet_lite0",
            bank__ratio=0.1,
            structcore__false_alarm_rate=rate,
            structcore__threshold=rule,
        )[2:]
        X, groups, products = self.images(n)
        options = {"bank__groups": groups, "bank__categories": products}
        if self.kind != "recalibrated":
            return pipe.fit(X, **options)
        # The line has changed since the fit: its images are more uneven now.
        pipe.fit(0.9 * self.images(n)[0], **options)
        return recalibrate(pipe, X, groups=None, force=True)


def realised(line: Line, n: int, rule: str, n_test: int) -> dict[str, tuple[float, float]]:
    """Shares of good images that are rejected, have small p-values, or a region: (promised, is)."""
    pipe = line.fit(n, rule)
    X, *_ = line.images(n_test)
    maps = pipe[:-1].transform(X)
    table = pipe[-1].describe(maps)
    with_region = regions(pipe, maps)["image"].nunique()
    promised = pipe[-1].false_alarm_rate_
    return {
        "rejected": (promised, table["is_anomalous"].mean()),
        "p <= 0.05": (0.05, (table["p_value"] <= 0.05).mean()),
        "with a region": (promised, with_region / n_test),
    }


def alarms(line: Line, n: int, rule: str, n_stream: int) -> dict[str, bool]:
    """Whether a monitor alarms on an unchanged line: at each rate, in all and test by test."""
    pipe = line.fit(n, rule)
    X, groups, _ = line.images(n_stream)
    maps = pipe[:-1].transform(X)
    found = {}
    for rate in RATES:
        at_rate = recalibrate(pipe, false_alarm_rate=rate)
        monitor = DriftMonitor(at_rate, alpha=ALPHA)
        kinds = {alarm.kind for alarm in monitor.update(at_rate[-1].describe(maps), groups=groups)}
        for test in ("higher scores", "changed scores", "more rejects"):
            found[f"drift, rate {rate:g}: {test}"] = test in kinds
        found[f"drift, rate {rate:g}: any alarm"] = bool(kinds)
    return found


def false_suspects(line: Line, n: int) -> float:
    """Share of good images among the suspects, where two images of `n` have a defect."""
    X, *_ = line.images(n)
    X[:2, 1, 1] += np.float32(6)
    pipe = make_structcore("efficientnet_lite0", bank__ratio=0.1)[2:].fit(X, bank__groups=None)
    table = audit(pipe, fdr=FDR)
    suspects = table.loc[table["suspect"], "image"]
    return float((suspects >= 2).mean()) if len(suspects) else 0.0


def summary(values) -> tuple[float, float]:
    """Mean and standard error over the repeats."""
    values = np.asarray(values, dtype=np.float64)
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


def study(
    repeats: int,
    streams: int,
    n_test: int,
    n_stream: int,
    sizes: Sequence[int],
    kinds: Sequence[str],
) -> pd.DataFrame:
    rows = []

    def add(promise, kind, n, rule, asked, promised, values):
        mean, error = summary(values)
        rows.append((promise, kind, n, rule, asked, promised, mean, error))

    for kind in kinds:
        for n in sizes:
            for rule in ("expected", "guaranteed"):
                line = Line(kind, np.random.default_rng(0))
                found = [realised(line, n, rule, n_test) for _ in range(repeats)]
                for name in found[0] if found else ():
                    promised, values = zip(*(f[name] for f in found), strict=True)
                    asked = 0.05 if name.startswith("p ") else RATE
                    add(name, kind, n, rule, asked, np.mean(promised), values)
    for kind in kinds:
        for n in sizes:
            for rule in ("expected", "guaranteed"):
                line = Line(kind, np.random.default_rng(1))
                found = [alarms(line, n, rule, n_stream) for _ in range(streams)]
                for name in found[0] if found else ():
                    add(name, kind, n, rule, ALPHA, ALPHA, [f[name] for f in found])
    for n in sizes:
        line = Line("plain", np.random.default_rng(2))
        values = [false_suspects(line, n) for _ in range(repeats)]
        if values:
            add("audit: good suspects", "plain", n, "", FDR, FDR, values)
    columns = ["promise", "kind", "n", "rule", "asked", "promised", "realised", "error"]
    return pd.DataFrame(rows, columns=columns)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--streams", type=int, default=20, help="repeats of drift alarms")
    parser.add_argument("--n-test", type=int, default=150, help="new images of each repeat")
    parser.add_argument("--n-stream", type=int, default=300, help="images of each stream")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 50, 200])
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with threadpool_limits(1):
        table = study(**vars(arguments))
    # More than is promised by three standard errors, and by one point.
    table["broken"] = table["realised"] > table["promised"] + np.maximum(3 * table["error"], 0.01)
    print(table.round(3).to_string(index=False))
    print(f"{int(table['broken'].sum())} of {len(table)} promises broken")


if __name__ == "__main__":
    main()
