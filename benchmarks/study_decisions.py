"""Which threshold? False alarms and defects found, for every rule, on real and painted defects.

    python benchmarks/study_decisions.py ../shared/data --cache CACHE

For each data set, number of training images and share of defects planted among them, the last steps
of the pipeline are fitted on cached features. Thresholds follow from held-out scores of training
images alone; test images count what they reject. "oracle" is what the best threshold finds that
rejects no larger share of the same good test images. The constants of the rule "expected" are also
chosen on all other data sets, and judged on the one that was left out.
"""

import argparse
import itertools
import logging
import warnings
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pandas as pd
from _measure import spread, table

from skstructcore import make_structcore
from skstructcore.datasets import load_mvtec_ad, make_photographs
from skstructcore.metrics import image_auroc_score
from skstructcore.scoring import predictive
from skstructcore.scoring.decision import HeldOut, decide
from skstructcore.scoring.predictive import suspects_of

LEVELS = (0.05, 0.01, 0.005)
SIZES = (10, 20, 50, 10**9)
PLANTED = (0.0, 0.05, 0.1)
MOST = 150  # training images of "all"; test images of each kind
PHOTOGRAPHS = ("brick", "coins", "gravel", "hubble")
#: Constants of the rule "expected" among which the other data sets choose.
GRID = tuple(
    {"UPPER": upper, "DEGREES_OF_FREEDOM": df, "_TRIMMED": trimmed}
    for upper, df, trimmed in itertools.product((0.75, 0.8, 0.85), (3, 3.5, 4), (0.01, 0.02, 0.03))
)


def data_sets(root, cache):
    """Names, and features of training images, good and defective test images."""
    steps = make_structcore("efficientnet_lite0", features__memory=cache)[:1]
    sets = {
        path.name: load_mvtec_ad(path) for path in sorted(Path(root).iterdir()) if path.is_dir()
    }
    sets |= {name: make_photographs(name) for name in PHOTOGRAPHS}
    for name, data in sets.items():
        parts = [
            data.train,
            data.test[data.test.y == "good"],
            data.test[data.test.y != "good"],
        ]
        steps.fit(data.train)
        # Photographs have groups of tiles, which are all independent.
        groups = None if name in PHOTOGRAPHS else data.train.groups
        yield name, groups, *(np.asarray(steps.transform(part), dtype=np.float32) for part in parts)


def drawn(groups, n, n_all, rng):
    """Positions of about `n` training images: whole groups, in their order."""
    if groups is None:
        return np.sort(rng.permutation(n_all)[:n])
    names = rng.permutation(np.unique(groups))
    counts = np.array([(groups == name).sum() for name in names])
    chosen = names[: np.searchsorted(np.cumsum(counts), n) + 1]
    return np.flatnonzero(np.isin(groups, chosen))


def scored(name, groups, train, good, bad, n, planted, seed, **options):
    """Fit on `n` images with defects planted among them; score held out, and the test images."""
    rng = np.random.default_rng(seed)
    chosen = drawn(groups, min(n, MOST), len(train), rng)
    order = rng.permutation(len(bad))
    dirty, rest = (
        order[: round(planted * len(chosen))],
        np.sort(order[round(planted * len(chosen)) :]),
    )
    X = np.concatenate([train[chosen], bad[dirty]])
    place = rng.permutation(len(X)) if len(dirty) else np.arange(len(X))
    given = None
    if groups is not None:
        given = np.concatenate([groups[chosen].astype(str), [f"planted {i}" for i in dirty]])[place]
    pipe = make_structcore("efficientnet_lite0", **options)[1:]
    pipe.fit(X[place], bank__groups="auto" if given is None else given)
    decision = pipe[-1].calibration_.decision
    test = [rows[np.sort(rng.permutation(len(rows))[:MOST])] for rows in (good, bad[rest])]
    new, defects = (-pipe.score_samples(rows) for rows in test)
    return SimpleNamespace(
        set=name, n=n, planted=planted, seed=seed, decision=decision, good=new, bad=defects,
        is_planted=place >= len(chosen),
    )  # fmt: skip


def counts(case, threshold):
    return (case.good > threshold).mean(), (case.bad > threshold).mean()


def oracle(case, level):
    """What the lowest threshold finds that rejects at most a share `level` of good images."""
    good = np.sort(case.good)[::-1]
    return (case.bad > good[int(level * len(good) + 1e-9)]).mean()


def thresholds(case, level):
    """Threshold of each rule; of the rule "expected" for all constants of `GRID`."""
    known = case.decision.held_out
    for rule in ("expected", "guaranteed", "quantile"):
        yield rule, decide(HeldOut(known.scores, known.groups), level, rule).threshold
    for i, constants in enumerate(GRID):
        with patch.multiple(predictive, **constants):
            yield i, predictive.fit_predictive_tail(known.scores, known.counts).isf(level)


def judge(cases):
    """A row a case, level and rule."""
    rows = []
    for case in cases:
        for level in LEVELS:
            best = oracle(case, level)
            for rule, threshold in thresholds(case, level):
                false_alarms, found = counts(case, threshold)
                rows.append(
                    (case.set, case.n, case.planted, level, rule, false_alarms, found, best)
                )
    columns = ["set", "n", "planted", "level", "rule", "false_alarms", "found", "oracle"]
    return pd.DataFrame(rows, columns=columns)


def chosen_elsewhere(judged):
    """For each set the constants that find most on the others, and keep what is asked there.

    That is, at 5 %: false alarms of at most 5 % on average, and of 10 % on any set. At 1 %, where
    sets of 14 good images have no share between 0 and 7 %: 1.5 % on average.
    """
    clean = judged[
        (judged["planted"] == 0) & judged["rule"].map(lambda rule: isinstance(rule, int))
    ]
    parts = []
    for name in judged["set"].unique():
        others = clean[clean["set"] != name].groupby(["rule", "level", "set"])
        sets = others[["false_alarms", "found"]].mean().unstack("level")
        alarms = sets["false_alarms"].groupby("rule").agg(["mean", "max"])
        keeps = (
            (alarms[0.05, "mean"] <= 0.05)
            & (alarms[0.05, "max"] <= 0.1)
            & (alarms[0.01, "mean"] <= 0.015)
        )
        found = sets["found"].groupby("rule").mean().mean(axis=1)
        rule = found[keeps].idxmax() if keeps.any() else alarms[0.05, "max"].idxmin()
        mine = judged[(judged["set"] == name) & (judged["rule"] == rule)]
        parts.append(mine.assign(rule="expected, chosen without the set"))
    return pd.concat(parts)


def percent(share):
    return f"{100 * share:.1f}"


def print_summary(judged, by):
    rows = []
    for keys, part in judged.groupby(by, sort=False):
        sets = part.groupby("set")[["false_alarms", "found", "oracle"]].mean()
        mean = sets.mean()
        rows.append((
            *(f"{key:.1%}" if isinstance(key, float) else ("all" if key == 10**9 else key)
              for key in keys),
            percent(mean["false_alarms"]),
            f"{percent(sets['false_alarms'].max())} ({sets['false_alarms'].idxmax()})",
            percent(mean["found"]), percent(mean["oracle"]),
            f"{100 * mean['found'] / mean['oracle']:.0f} %",
        ))  # fmt: skip
    header = (*by, "false alarms", "worst set", "found", "oracle", "of the oracle")
    table(f"By {', '.join(by)}; percent, means over data sets", header, rows)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("data", help="folder of data sets laid out as MVTec AD is")
    options.add_argument("--cache", default=None, help="folder for features")
    options.add_argument("--seeds", type=int, default=2)
    options.add_argument("--study", choices=STUDIES, default="decisions")
    args = options.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    STUDIES[args.study](list(data_sets(args.data, args.cache)), args.seeds)


def study_decisions(sets, seeds):
    """False alarms and defects found, by rule, level, number of images and planted defects."""
    cases = [
        scored(*data, n, planted, seed)
        for data in sets
        for n in SIZES
        for planted in PLANTED
        for seed in range(seeds)
        if n >= 20 or planted == 0
    ]
    judged = judge(cases)
    judged = pd.concat([judged, chosen_elsewhere(judged)])
    judged = judged[judged["rule"].map(lambda rule: isinstance(rule, str))]
    judged["sets"] = np.where(judged["set"].isin(PHOTOGRAPHS), "painted", "real")
    clean, real = judged[judged["planted"] == 0], judged[judged["sets"] == "real"]
    print_summary(clean, ["sets", "level", "rule"])
    print_summary(real[(real["planted"] == 0) & (real["rule"] == "expected")], ["level", "n"])
    dirty = real[(real["n"] >= 20) & real["rule"].isin(["expected", "guaranteed"])]
    print_summary(dirty, ["rule", "level", "planted"])
    header = ("set", "asked", "false alarms", "found", "oracle")
    rows = (
        (name, f"{level:.1%}", *map(percent, part[["false_alarms", "found", "oracle"]].mean()))
        for (name, level), part in clean[clean["rule"] == "expected"].groupby(["set", "level"])
    )
    table("The default, set by set", header, rows)
    rows = []
    for planted in PLANTED:
        mine = [case for case in cases if case.planted == planted]
        named = [suspects_of(case.decision.scores, case.decision.held_out.counts) for case in mine]
        right = sum(case.is_planted[odd].sum() for case, odd in zip(mine, named, strict=True))
        n_named = sum(map(len, named))
        n_planted = sum(case.is_planted.sum() for case in mine)
        n_images = sum(len(case.is_planted) for case in mine)
        rows.append((f"{planted:.0%}", n_images, n_planted, n_named, right))
    header = ("planted", "training images", "defects among them", "named by fit", "of them defects")
    table("Training images that are unlike the others", header, rows)


def study_contamination(sets, seeds):
    """AUROC and both errors at 5 %, with the strangest images kept out of the bank."""
    shares = (0.0, 0.05, 0.1, 0.15)
    judged = {}  # by share of defects and share kept out: a row of three numbers a set and a seed

    def rows():
        for data, planted in itertools.product(sets, PLANTED):
            row = [data[0], f"{planted:.0%}"]
            for share in shares:
                cases = [
                    scored(*data, MOST, planted, seed, random_state=seed, bank__contamination=share)
                    for seed in range(seeds)
                ]
                wrong = [counts(case, case.decision.at(0.05).threshold) for case in cases]
                mine = 100 * np.column_stack([[auroc(case) for case in cases], wrong])
                judged.setdefault((planted, share), []).append(mine)
                row.append(" / ".join(map(spread, mine.T)))
            yield row

    header = ("planted", *(f"contamination={share}" for share in shares))
    title = "Image AUROC / false alarms / defects found at 5 %"
    table(title, ("set", *header), rows())
    means = (
        (f"{planted:.0%}", *(
            " / ".join(map(spread, np.mean(judged[planted, share], axis=0).T)) for share in shares
        ))
        for planted in PLANTED
    )  # fmt: skip
    table(f"{title}, means over data sets", header, means)


def study_banks(sets, seeds):
    """Image AUROC by the size of the bank: mean and spread over seeds."""
    by_setting("Image AUROC by the ratio of the bank", sets, seeds, "bank__ratio",
               (0.01, 0.05, "auto"))  # fmt: skip


def study_projection(sets, seeds):
    """Image AUROC by the number of dimensions: mean and spread over seeds."""
    by_setting("Image AUROC by the dimensions of the projection", sets, seeds,
               "projection__n_components", (64, 128, None))  # fmt: skip


def by_setting(title, sets, seeds, name, values):
    def rows():
        for data, n in itertools.product(sets, (20, MOST)):
            row = [data[0], n]
            for value in values:
                cases = [
                    scored(*data, n, 0.0, 0, random_state=seed, **{name: value})
                    for seed in range(seeds)
                ]
                row.append(spread([100 * auroc(case) for case in cases]))
            yield row

    table(title, ("set", "n", *map(str, values)), rows())


def auroc(case):
    labels = np.repeat([0, 1], [len(case.good), len(case.bad)])
    return image_auroc_score(labels, np.concatenate([case.good, case.bad]))


STUDIES = {
    "decisions": study_decisions,
    "contamination": study_contamination,
    "banks": study_banks,
    "projection": study_projection,
}

if __name__ == "__main__":
    main()
