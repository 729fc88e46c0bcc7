"""Which image score, and which threshold? Measured on real and on painted defects.

    python benchmarks/study_scoring.py --data <folder with magnetic_tile and cookie>

needs scikit-image for the photographs and matplotlib for the plot. Writes the tables to
docs/scoring_study.md and the plot to docs/scoring_calibration.png. Features and maps are kept
in --cache, so that a second run with other rules takes a few minutes. Every AUROC is a mean over
--seeds seeds of projection and bank, with its standard deviation.

Every rule sees maps of good training images only. Labels of test images are used for the AUROC
and nowhere else.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from _measure import spread
from _scoring_maps import DEFAULT, FULL, MAPS, PAPER_MAPS, REAL, load_cases

from skstructcore import StructCoreScorer, make_structcore
from skstructcore.containers import AnomalyMaps
from skstructcore.datasets import make_photographs
from skstructcore.datasets.photographs import PHOTOGRAPHS
from skstructcore.scoring.descriptors import DEFAULT_PHI

GUARANTEED = {"threshold": "guaranteed"}
PHI = ("std", "top1", "tv")
OURS = DEFAULT_PHI
BEFORE = (
    "contrast",
    "surprise_max",
    "surprise_top1",
    "surprise_smoothmax",
    "surprise_std",
    "surprise_component",
)


def weighted(weights):
    return {"descriptors": dict(weights)}


ON_DISTANCES = {name.removeprefix("surprise_"): weight for name, weight in OURS.items()}
#: name -> (maps, parameters of StructCoreScorer)
RULES = {
    "max pooling": (DEFAULT, {"lam": 0.0}),
    "paper: in-sample, L2": (PAPER_MAPS, {"norm": "l2", "descriptors": PHI}),
    "paper: in-sample, L∞": (PAPER_MAPS, {"norm": "linf", "descriptors": PHI}),
    "paper's φ held out, L2": (DEFAULT, {"norm": "l2", "descriptors": PHI}),
    "paper's φ held out, L∞": (DEFAULT, {"norm": "linf", "descriptors": PHI}),
    "paper's φ held out, signed sum": (DEFAULT, {"descriptors": PHI}),
    "z_max + z_std": (DEFAULT, {"descriptors": ("std",)}),
    "z_max + z_contrast": (DEFAULT, {"descriptors": ("contrast",)}),
    "default on distances alone": (DEFAULT, weighted(ON_DISTANCES)),
    "z of surprise_max alone": (
        DEFAULT,
        {"descriptors": ("surprise_max",), "lam": "struct-only"},
    ),
    "equal weights, as before": (DEFAULT, {"descriptors": BEFORE}),
    "as before, with std": (DEFAULT, {"descriptors": (*BEFORE, "std")}),
    "**default**": (DEFAULT, {}),
    "default, all weights 1": (DEFAULT, {"descriptors": tuple(OURS)}),
    "default, surprise counts twice": (
        DEFAULT,
        weighted({n: w * (1 + n.startswith("surprise_")) for n, w in OURS.items()}),
    ),
    "default, surprise counts half": (
        DEFAULT,
        weighted({n: w / (1 + n.startswith("surprise_")) for n, w in OURS.items()}),
    ),
    "default, L2": (DEFAULT, {"norm": "l2"}),
    "default, struct only": (DEFAULT, {"lam": "struct-only"}),
    "default, at full resolution": (DEFAULT, {"resolution": "full"}),
}
RULES |= {
    f"default without {name}": (DEFAULT, weighted({n: w for n, w in OURS.items() if n != name}))
    for name in OURS
}
RULES |= {
    f"default with {name}": (DEFAULT, weighted({**OURS, name: 0.25}))
    for name in ("contrast", "component", "surprise_std", "surprise_top5", "surprise_tv")
}
BASE, OUR_RULE = "max pooling", "**default**"
IN_CASE_TABLE = (
    BASE,
    "paper: in-sample, L2",
    "z_max + z_std",
    "equal weights, as before",
    OUR_RULE,
)
LEVELS = (0.05, 0.01, 0.005)


def anomaly_scores(case, rule):
    kind, parameters = rule
    scorer = StructCoreScorer(**parameters).fit(case.train[kind])
    return -scorer.score_samples(case.test[kind])


def auroc(good, bad):
    """Percent; the share of pairs in the right order, ties half."""
    order = np.sort(good)
    wins = np.searchsorted(order, bad, "left") + np.searchsorted(order, bad, "right")
    return 50 * wins.mean() / len(good)


def case_auroc(case, scores, type_=None):
    bad = ~case.good if type_ is None else case.types == type_
    return auroc(scores[case.good], scores[bad])


def all_scores(cases, rules=RULES):
    return {(c.name, c.seed, rule): anomaly_scores(c, rules[rule]) for c in cases for rule in rules}


def areas(cases, scores, rules=RULES, type_=None):
    """AUROC, a row a case and seed, a column a rule."""
    index = pd.MultiIndex.from_tuples([(c.name, c.seed) for c in cases], names=("case", "seed"))
    rows = [[case_auroc(c, scores[c.name, c.seed, rule], type_) for rule in rules] for c in cases]
    return pd.DataFrame(rows, index, list(rules))


def by_case(table):
    return table.groupby("case", sort=False).mean()


def bootstrap_gains(cases, scores, n_draws=1000):
    """Gains of the default over max pooling, images redrawn: a row a draw, a column a case."""
    rng = np.random.default_rng(0)
    gains = {}
    for case in cases:
        base, ours = (scores[case.name, case.seed, rule] for rule in (BASE, OUR_RULE))
        good, bad = np.flatnonzero(case.good), np.flatnonzero(~case.good)
        drawn = np.empty(n_draws)
        for draw in range(n_draws):
            g, b = rng.choice(good, len(good)), rng.choice(bad, len(bad))
            drawn[draw] = auroc(ours[g], ours[b]) - auroc(base[g], base[b])
        gains.setdefault(case.name, []).append(drawn)
    return pd.DataFrame({name: np.concatenate(drawn) for name, drawn in gains.items()})


def interval(draws):
    low, high = np.percentile(draws, [2.5, 97.5])
    return f"{low:+.1f} … {high:+.1f}"


def summary(table, base=BASE):
    """Mean, gain over `base`, worst gain and where, a row a rule."""
    gain = by_case(table.sub(table[base], axis=0))
    return pd.DataFrame(
        {
            "mean AUROC": table.groupby("seed").mean().apply(spread),
            "mean gain": gain.mean().map("{:+.1f}".format),
            "median gain": gain.median().map("{:+.1f}".format),
            "worst gain": gain.min().map("{:+.1f}".format),
            "worst case": gain.idxmin(),
        }
    )


def case_table(table, gains):
    """AUROC by case; the last row is the mean."""
    shown = table[list(IN_CASE_TABLE)]
    gain = table[OUR_RULE] - table[BASE]
    rows = shown.groupby("case", sort=False).agg(spread)
    rows["gain of the default"] = gain.groupby("case", sort=False).mean().map("{:+.1f}".format)
    rows["95 % interval"] = gains.apply(interval)
    rows.loc["mean"] = [
        *shown.groupby("seed").mean().apply(spread),
        f"{gain.mean():+.1f}",
        interval(gains.mean(axis=1)),
    ]
    return rows


def leave_one_data_set_out(cases, table):
    """For each data set, the rule that is best on all others, and what it gains on this one.

    Cases in scan order are no reason for or against a rule, and are judged like the others.
    """
    gain = by_case(table.sub(table[BASE], axis=0))
    sets = gain.index.str.split(",").str[0].to_numpy()
    in_order = gain.index.isin([c.name for c in cases if c.kind == "scan order"])
    rows = {}
    for name in dict.fromkeys(sets):
        others = gain[(sets != name) & ~in_order]
        # As the default was chosen: the best mean of the rules that hardly ever lose.
        rule = others.mean()[others.min() >= -0.3].idxmax()
        own = gain.loc[sets == name, rule]
        apart = gain.loc[(sets == name) & ~in_order, rule]
        rows[name] = {
            "rule chosen on the others": rule,
            "mean gain here": own.mean(),
            "worst here": own.min(),
            "worst, no scan order": apart.min(),
        }
    frame = pd.DataFrame(rows).T
    numbers = frame.columns[1:]
    worst = frame[numbers].min()
    frame.loc["mean / worst"] = ["", frame["mean gain here"].mean(), *worst.iloc[1:]]
    frame[numbers] = frame[numbers].map("{:+.1f}".format)
    return frame


def kind_table(cases, table):
    """Mean and worst gain over max pooling by kind of case, a row a rule."""
    gain = by_case(table.sub(table[BASE], axis=0))
    columns = {}
    for kind in dict.fromkeys(c.kind for c in cases):
        mine = gain.loc[list(dict.fromkeys(c.name for c in cases if c.kind == kind))]
        columns[f"{kind} ({len(mine)})"] = [
            f"{mine[rule].mean():+.1f} / {mine[rule].min():+.1f}" for rule in RULES
        ]
    return pd.DataFrame(columns, index=list(RULES))


def type_table(cases, scores):
    """AUROC by type of defect: of magnetic_tile, and means over the photographs."""
    rows = {}
    for label, members in (
        ("magnetic_tile", [c for c in cases if c.name == "magnetic_tile"]),
        ("cookie", [c for c in cases if c.name == "cookie"]),
        ("photographs", [c for c in cases if c.name in PHOTOGRAPHS]),
    ):
        types = sorted({t for c in members for t in c.types} - {"good"})
        for type_ in types:
            table = areas(members, scores, IN_CASE_TABLE, type_)
            rows[f"{label}: {type_}"] = table.groupby("seed").mean().apply(spread)
    return pd.DataFrame(rows).T


def maps_table(cases):
    """The default rule against max pooling on each kind of maps, of seeds that all cases have."""
    rows = {}
    for kind in MAPS:
        rules = {"max": (kind, {"lam": 0.0}), "default": (kind, {})}
        lacking = {case.seed for case in cases if kind not in case.train}
        mine = [case for case in cases if case.seed not in lacking]
        table = areas(mine, all_scores(mine, rules), rules)
        gains = summary(table, base="max")
        rows[kind] = {"max pooling": gains["mean AUROC"]["max"], **gains.loc["default"]}
    return pd.DataFrame(rows).T


def alarm_table(cases):
    """False alarms on good test images and detected defects at three thresholds."""
    ways = {
        "paper (in-sample, quantile)": (
            PAPER_MAPS,
            {"norm": "l2", "descriptors": PHI, "threshold": "quantile"},
            True,
        ),
        "in-sample, expected": ("in-sample, k=5", {}, True),
        "**held out, expected** (default)": (DEFAULT, {}, True),
        "held out, expected, groups ignored": (DEFAULT, {}, False),
        "held out, guaranteed": (DEFAULT, GUARANTEED, True),
        "5-fold, expected": ("5-fold, k=5", {}, True),
    }
    rows = {}
    for case in (c for c in cases if c.name in (*REAL, *PHOTOGRAPHS)):
        label = case.name if case.name in REAL else "photographs (mean)"
        for way, (kind, parameters, with_groups) in ways.items():
            if kind not in case.train:
                continue
            train = case.train[kind]
            if not with_groups:
                train = AnomalyMaps(train.values, surprise=train.surprise)
            row = rows.setdefault((label, way), {})
            for level in LEVELS:
                scorer = StructCoreScorer(false_alarm_rate=level, **parameters).fit(train)
                rejected = scorer.predict(case.test[kind]) == -1
                asked = f"{level:.1%}"
                row.setdefault(f"false alarms at {asked}", []).append(rejected[case.good].mean())
                row.setdefault(f"detected at {asked}", []).append(rejected[~case.good].mean())
    table = pd.DataFrame(
        {key: {name: 100 * np.mean(v) for name, v in row.items()} for key, row in rows.items()}
    )
    return table.T.map("{:.1f} %".format)


def calibration_plot(cases, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    asked = np.concatenate([np.arange(0.005, 0.1, 0.005), np.arange(0.1, 0.55, 0.05)])
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), sharey=True)
    shown = {
        "paper: in-sample, quantile": (
            PAPER_MAPS,
            {"norm": "l2", "descriptors": PHI, "threshold": "quantile"},
        ),
        "in-sample maps, expected": ("in-sample, k=5", {}),
        "held out, guaranteed": (DEFAULT, GUARANTEED),
        "held out, expected (default)": (DEFAULT, {}),
    }
    titles = {
        "magnetic_tile": [c for c in cases if c.name == "magnetic_tile"],
        "mean of the photographs": [c for c in cases if c.name in PHOTOGRAPHS],
    }
    for ax, (title, members) in zip(axes, titles.items(), strict=True):
        for label, (kind, parameters) in shown.items():
            mine = [c for c in members if kind in c.train]
            measured = [
                np.mean([false_alarms(c, kind, parameters, level) for c in mine]) for level in asked
            ]
            ax.plot(100 * asked, 100 * np.array(measured), marker=".", label=label)
        ax.plot([0, 50], [0, 50], color="0.6", linestyle="--", label="as asked for")
        ax.set(title=title, xlabel="false-alarm rate asked for (%)", xlim=(0, 50), ylim=(0, 100))
    axes[0].set_ylabel("measured on unseen good images (%)")
    axes[1].legend(loc="center right", fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def false_alarms(case, kind, parameters, level):
    scorer = StructCoreScorer(false_alarm_rate=level, **parameters).fit(case.train[kind])
    return (scorer.predict(case.test[kind])[case.good] == -1).mean()


def cost_table():
    """CPU milliseconds an image: features, search, surprise and score."""
    images = make_photographs("gravel", n_train=40, n_test_good=40, n_test_defect=0, random_state=0)
    pipe = make_structcore("efficientnet_lite0").fit(images.train)
    seconds, X = {}, images.test
    for step, estimator in pipe.steps:
        started = time.process_time()
        X = estimator.score_samples(X) if step == "structcore" else estimator.transform(X)
        if step == "projection":
            X = np.asarray(X)  # the features are computed here
        seconds[step] = (time.process_time() - started) / len(images.test)
    expectation, neighbors = pipe["knn"].expectations_[0], np.zeros((32 * 32, 5), dtype=np.int64)
    started = time.process_time()
    for _ in range(100):
        expectation.surprise(np.ones(32 * 32), neighbors)
    surprise = (time.process_time() - started) / 100
    rows = {
        "features (backbone, projection)": seconds["features"] + seconds["projection"],
        f"search in {len(pipe['bank'].bank_)} entries": seconds["bank"] + seconds["knn"],
        "of that, surprise": surprise,
        "descriptors and score": seconds["structcore"],
    }
    table = pd.DataFrame({"CPU ms an image": {name: 1000 * s for name, s in rows.items()}})
    table["share of the features"] = table["CPU ms an image"] / table["CPU ms an image"].iloc[0]
    return pd.DataFrame(
        {
            "CPU ms an image": table["CPU ms an image"].map("{:.2f}".format),
            "share of the features": table["share of the features"].map("{:.1%}".format),
        }
    )


def pixel_table(cases):
    rows = {}
    for label, members in (
        *((name, [c for c in cases if c.name == name]) for name in REAL),
        ("photographs (mean)", [c for c in cases if c.name in PHOTOGRAPHS]),
    ):
        seeds = sorted({c.seed for c in members})
        if members:
            rows[label] = {
                f"{metric}, {kind}": spread(
                    [
                        np.mean([100 * c.pixels[kind][i] for c in members if c.seed == seed])
                        for seed in seeds
                    ]
                )
                for i, metric in enumerate(("pixel AUROC", "AUPRO"))
                for kind in ("distance", "surprise")
            }
    return pd.DataFrame(rows).T


def markdown(table, corner=""):
    keys = [" | ".join(key) if isinstance(key, tuple) else key for key in table.index]
    n_keys = table.index.nlevels
    head = "| " + " | ".join([corner] + [""] * (n_keys - 1) + list(table.columns)) + " |"
    rule = "|" + "---|" * (n_keys + table.shape[1])
    rows = [
        f"| {key} | " + " | ".join(row) + " |" for key, row in zip(keys, table.values, strict=True)
    ]
    return "\n".join([head, rule, *rows])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder that holds magnetic_tile and cookie"
    )
    parser.add_argument("--cache", type=Path, default=Path("study_cache"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    options.cache.mkdir(exist_ok=True)
    # Small training sets cannot promise 0.5 %; the tables show what that does.
    warnings.filterwarnings("ignore", message="false_alarm_rate=")
    every = load_cases(options.data, options.cache, options.seeds)
    cases = [case for case in every if case.kind == FULL]
    scores = all_scores(every)
    table = areas(every, scores)
    parts = [
        "# Tables of the scoring study",
        "Written by `benchmarks/study_scoring.py`; [scoring.md](scoring.md) explains them. "
        f"An AUROC is the mean over {options.seeds} seeds of projection and bank ± its standard "
        "deviation; a gain is the mean over seeds.",
        "## Image AUROC by case",
        markdown(case_table(table, bootstrap_gains(every, scores)), "case"),
        "## Image AUROC by type of defect",
        markdown(type_table(cases, scores), "type"),
        "## Rules",
        f"Over {table.index.get_level_values('case').nunique()} cases; gains over max pooling on "
        "the default maps.",
        markdown(summary(table), "rule"),
        "## Rules by kind of case",
        "Mean and worst gain over max pooling. In the last kind of case good test images show "
        "what no training image shows.",
        markdown(kind_table(every, table), "rule"),
        "## Chosen without the data set",
        "The rule with the best mean gain on the other data sets, of those that lose at most 0.3 "
        "there (cases in scan order set aside).",
        markdown(leave_one_data_set_out(every, table), "data set"),
        "## Maps",
        "The default rule on products; gains over max pooling on the same maps, which most kinds "
        "have of one seed only. In-sample maps have no surprise: distances take its place.",
        markdown(maps_table(cases), "maps"),
        "## False alarms and detection",
        markdown(alarm_table(cases), "case"),
        "![asked-for against measured false-alarm rate](scoring_calibration.png)",
        "## Pixel maps",
        markdown(pixel_table(cases), "case"),
        "## Cost",
        markdown(cost_table(), "step"),
    ]
    (options.out / "scoring_study.md").write_text("\n\n".join(parts) + "\n")
    calibration_plot(cases, options.out / "scoring_calibration.png")


if __name__ == "__main__":
    main()
