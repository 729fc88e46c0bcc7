"""How well does a criterion without labels rank settings? Against the true image AUROC.

For each of some random settings: the criterion, by 3 folds over the good training images; and
the truth, a fit on all of them and the image AUROC on the real test images. On photographs, whose
defects are painted too, the criterion paints other kinds than the test images have.

    python benchmarks/study_label_free.py photographs magnetic_tile/ cookie/ --cache /tmp/cache
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from _measure import table
from scipy.stats import spearmanr
from sklearn.model_selection import GroupKFold, KFold, ParameterSampler

from skstructcore import make_structcore
from skstructcore.datasets import DEFECTS, load_mvtec_ad, make_photographs, paint_copies
from skstructcore.metrics import image_auroc_score

SETTINGS = {
    "features__image_size": [128, 192, 256],
    "projection__n_components": [16, 128, None],
    "bank__ratio": [0.002, 0.01, 0.05],
    "knn__n_neighbors": [1, 5],
    "structcore__norm": ["sum", "l2", "linf"],
}
SEVERITIES = (0.25, 0.5, 1.0)
PHOTOGRAPHS = ("brick", "gravel", "grass")
PAINTED_KINDS = ("spot", "stain", "missing")  # by the criterion on photographs
TEST_KINDS = tuple(kind for kind in DEFECTS if kind not in PAINTED_KINDS)


def data_sets(names, n_train, n_test):
    for name in names:
        if name == "photographs":
            for photograph in PHOTOGRAPHS:
                images = make_photographs(
                    photograph,
                    n_train=60,
                    n_test_good=40,
                    n_test_defect=14,
                    defects=TEST_KINDS,
                    severity=0.5,
                    random_state=0,
                )
                yield photograph, images.train, images.test, PAINTED_KINDS
        else:
            images = load_mvtec_ad(name, check=False)
            train, test = images.train, images.test
            rng = np.random.default_rng(0)
            yield (
                Path(name).name,
                train[some_groups(train, n_train, rng)],
                test[np.sort(rng.permutation(len(test))[:n_test])],
                tuple(DEFECTS),
            )


def some_groups(images, n_images, rng):
    """Indices of whole groups at random, about `n_images` in all."""
    groups = np.arange(len(images)) if images.groups is None else images.groups
    names = rng.permutation(np.unique(groups))
    sizes = np.array([(groups == name).sum() for name in names])
    return np.flatnonzero(np.isin(groups, names[np.cumsum(sizes) <= max(n_images, sizes[0])]))


def criteria(pipe, train, kinds):
    """The candidates for a criterion, each averaged over the folds."""
    folds = KFold(3, shuffle=True, random_state=0) if train.groups is None else GroupKFold(3)
    rows = []
    for fit, held_out in folds.split(train, groups=train.groups):
        groups = None if train.groups is None else train.groups[fit]
        pipe.fit(train[fit], bank__groups=groups)
        held = train[held_out]
        good = -pipe.score_samples(held)
        copies = [paint_copies(held, kinds=kinds, severity=severity) for severity in SEVERITIES]
        painted = np.array([-pipe.score_samples(painted) for painted in copies])
        row = {
            f"AUROC at {severity}": auroc(good, scores)
            for severity, scores in zip(SEVERITIES, painted, strict=True)
        }
        row["AUROC, all"] = auroc(good, painted.ravel())
        row["d'"] = (painted.mean() - good.mean()) / np.hypot(painted.std(), good.std())
        row["spread of good"] = -good.std() / abs(painted.mean() - np.median(good))
        rows.append(row)
    return pd.DataFrame(rows).mean().to_dict()


def auroc(good, bad):
    return image_auroc_score(np.repeat([0, 1], [len(good), len(bad)]), np.r_[good, bad])


def truth(pipe, train, test):
    pipe.fit(train, bank__groups=train.groups)
    return image_auroc_score(test.y, -pipe.score_samples(test))


def correlation(results, name):
    return spearmanr(results[name], results["true AUROC"]).statistic


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("data", nargs="+", help='folders, or "photographs"')
    options.add_argument("--cache", required=True, help="folder for features")
    options.add_argument("--n-settings", type=int, default=24)
    options.add_argument("--n-train", type=int, default=90)
    options.add_argument("--n-test", type=int, default=240)
    options.add_argument("--csv", help="write all values")
    options = options.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # of few training images
    settings = list(ParameterSampler(SETTINGS, options.n_settings, random_state=0))
    rows = []
    for name, train, test, kinds in data_sets(options.data, options.n_train, options.n_test):
        for number, params in enumerate(settings):
            pipe = make_structcore("efficientnet_lite0", features__memory=options.cache, **params)
            row = {"data": name, **params, "true AUROC": truth(pipe, train, test)}
            rows.append(row | criteria(pipe, train, kinds))
            print(name, number, round(row["true AUROC"], 3), flush=True)
            if options.csv:
                pd.DataFrame(rows).to_csv(options.csv, index=False)
    report(pd.DataFrame(rows), [key for key in rows[0] if key not in (*SETTINGS, "data")])


def report(results, columns):
    names = columns[1:]
    overall, within, chosen = [], [], []
    for data, part in results.groupby("data", sort=False):
        true = part["true AUROC"]
        overall.append([data, *(f"{correlation(part, name):+.2f}" for name in names)])
        sizes = [same for _, same in part.groupby("features__image_size")]
        means = (np.mean([correlation(same, name) for same in sizes]) for name in names)
        within.append([data, *(f"{value:+.2f}" for value in means)])
        picks = [true[part[name].idxmax()] for name in names]
        spread = (true.min(), true.median(), true.max())
        chosen.append([data, *(f"{100 * value:.1f}" for value in (*spread, *picks))])
    table("Spearman correlation with the true image AUROC", ["data", *names], overall)
    table("The same within one image size, mean of the sizes", ["data", *names], within)
    header = ["data", "worst", "median", "best", *names]
    table("True image AUROC (percent) of the setting that each criterion picks", header, chosen)


if __name__ == "__main__":
    main()
