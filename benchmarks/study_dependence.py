"""What does it do to thresholds that training images come in lots, and is it found?

    python benchmarks/study_dependence.py --data <folder with magnetic_tile and cookie>

needs scikit-image for the photographs. Prints the tables of docs/field.md, side by side: every
image a group of its own (``groups=None``), the default, which holds near-duplicates out together
and reports lots, and ``lots="hold-out"``, which holds lots out together as well.
"""

import argparse
import logging
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from _lots import SCANNED, lots, scan
from study_scoring import markdown

from skstructcore import CoresetBank, RoutedKNNScorer, StructCoreScorer, make_structcore
from skstructcore._utils.rows import materialize
from skstructcore.bank.dependence import find_groups
from skstructcore.datasets import load_mvtec_ad, make_photographs

LEVELS = (0.05, 0.10)


def features_of(images, memory):
    front = make_structcore("efficientnet_lite0", features__memory=memory)[:2].fit(images.train)
    return [materialize(front.transform(part)) for part in (images.train, images.test)]


def decisions(train, test, is_good, groups, lots, seed=0):
    """Row of a table: what groups there are, false alarms and detection, image AUROC."""
    bank = CoresetBank(random_state=seed, lots=lots)
    patches = bank.fit_transform(train, groups=groups)
    knn = RoutedKNNScorer()
    maps = knn.fit_transform(patches)
    new = knn.transform(bank.transform(test))
    row = {"groups": len(np.unique(bank.groups_))}
    for level in LEVELS:
        scorer = StructCoreScorer(false_alarm_rate=level).fit(maps)
        rejected = scorer.predict(new) == -1
        row[f"false alarms at {level:.0%}"] = 100 * rejected[is_good].mean()
        row[f"detected at {level:.0%}"] = 100 * rejected[~is_good].mean()
    scores = -scorer.score_samples(new)
    order = np.sort(scores[is_good])
    ranks = np.searchsorted(order, scores[~is_good]) + np.searchsorted(
        order, scores[~is_good], side="right"
    )
    row["AUROC"] = 50 * ranks.mean() / is_good.sum()
    if scorer.lots_ is not None:
        row |= {
            "lots said, mean": 100 * scorer.lots_.rates.mean(),
            "worst": 100 * scorer.lots_.rates.max(),
        }
    return row, bank


def side_by_side(name, images, memory, given=None, n_seeds=3):
    train, test = features_of(images, memory)
    is_good = images.test.y.astype(str) == "good"
    rows = {}
    ways = {
        "groups=None": (None, "report"),
        "default": ("auto", "report"),
        "lots held out": ("auto", "hold-out"),
    }
    if given is not None:
        ways["given"] = (given, "report")
    for way, (groups, held_out) in ways.items():
        seeds = [decisions(train, test, is_good, groups, held_out, seed) for seed in range(n_seeds)]
        rows[name, way] = pd.DataFrame([row for row, _ in seeds]).mean().to_dict()
        rows[name, way]["AUROC, sd over seeds"] = np.std([row["AUROC"] for row, _ in seeds])
        bank = seeds[0][1]
        if way in ("default", "lots held out"):
            dependence = bank.dependence_["all"]
            rows[name, way]["by"] = dependence.found
            if given is not None:
                rows[name, way] |= agreement(bank.groups_, given)
    return rows


def agreement(found, given):
    """Precision and recall of pairs of images that are put into one group."""
    pairs = np.triu_indices(len(found), 1)
    same = (found[:, np.newaxis] == found)[pairs]
    truly = (given[:, np.newaxis] == given)[pairs]
    both = (same & truly).sum()
    return {
        "pair precision": both / max(same.sum(), 1),
        "pair recall": both / max(truly.sum(), 1),
    }


def unchanged(name, images, memory):
    """Whether scores and threshold of independent images are bit-identical."""
    train, test = features_of(images, memory)
    found = []
    for groups in (None, "auto"):
        bank = CoresetBank(random_state=0)
        knn = RoutedKNNScorer()
        maps = knn.fit_transform(bank.fit_transform(train, groups=groups))
        scorer = StructCoreScorer(false_alarm_rate=0.1).fit(maps)
        found.append((scorer.score_samples(knn.transform(bank.transform(test))), scorer.offset_))
    dependence = bank.dependence_["all"]
    same = np.array_equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]
    return {
        "images": len(train),
        "ratio at lag 1": f"{dependence.ratio[0]:.2f}",
        "p-value": f"{dependence.p_value:.3f}",
        "explained by clusters": f"{dependence.explained:.2f}",
        "found": dependence.found,
        "bit-identical": "yes" if same else "no",
    }


def generated(n_images, length, sliding, strength, seed):
    """Random features that share a part with their lot, or with the images around."""
    rng = np.random.default_rng(seed)
    grid = (8, 8, 8)
    own = rng.normal(size=(n_images, *grid))
    if length == 1:
        return own.astype(np.float32)
    if sliding:
        parts = rng.normal(size=(n_images + length - 1, *grid))
        sums = np.cumsum(np.concatenate([np.zeros((1, *grid)), parts]), axis=0)
        shared = (sums[length:] - sums[:-length]) / np.sqrt(length)
    else:
        parts = rng.normal(size=(-(-n_images // length), *grid))
        shared = np.repeat(parts, length, axis=0)[:n_images]
    return (strength * shared + own).astype(np.float32)


def reach_table(n_draws=10):
    rows = {}
    for sliding, length in [(False, m) for m in (1, 3, 6, 10, 15, 20)] + [
        (True, m) for m in (3, 6, 10, 15)
    ]:
        for n_images in (120, 300):
            results = []
            for seed in range(n_draws if length > 1 else 10 * n_draws):
                X = generated(n_images, length, sliding, 2.0, seed)
                bank = CoresetBank(ratio=0.02, random_state=0).fit(X, groups=None).bank_
                results.append(find_groups(X, np.arange(n_images), bank, n_images)[1])
            is_found = [d.found != "independent" for d in results]
            reach = [d.reach for d in results if d.found == "sequence"]
            kind = "moving average" if sliding else "lots"
            rows[kind, str(length), str(n_images)] = {
                "found": f"{np.mean(is_found):.0%}",
                "estimate (mean)": f"{np.mean(reach):.1f}" if reach else "",
                "least … largest": f"{min(reach)} … {max(reach)}" if reach else "",
            }
    return pd.DataFrame(rows).T


def cost(train):
    started = time.process_time()
    bank = CoresetBank(random_state=0)
    patches = bank.fit_transform(train, groups=None)
    RoutedKNNScorer().fit_transform(patches)
    fitted = time.process_time()
    find_groups(train, np.arange(len(train)), bank.bank_, len(train))
    return fitted - started, time.process_time() - fitted


def table(rows):
    frame = pd.DataFrame(rows).T
    frame.index.names = [None] * frame.index.nlevels
    text = frame.astype(object).map(
        lambda v: "" if v is None or v != v else f"{v:.2f}" if isinstance(v, float) else str(v)
    )
    return markdown(text)


def means(rows):
    frame = (
        pd.DataFrame(rows)
        .T.drop(columns=["by", "worst", "lots said, mean"], errors="ignore")
        .astype(float)
    )
    return frame.groupby(level=1).mean().round(1).T.to_dict()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--memory", default=None, help="folder that keeps features")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="false_alarm_rate=")
    logging.getLogger("skstructcore").setLevel(logging.ERROR)
    for title, cut in (("scan order", scan), ("lots", lots)):
        rows = {}
        for name in SCANNED:
            rows |= side_by_side(name, cut(name), options.memory)
        print(f"\n## Photographs, {title}\n\n{table(rows)}\n\n{table(means(rows))}", flush=True)
    rows, tiles = {}, load_mvtec_ad(options.data, "magnetic_tile")
    names = tiles.train.groups
    for n_groups in (15, 30, len(np.unique(names))):
        chosen = np.random.default_rng(n_groups).permutation(np.unique(names))[:n_groups]
        kept = tiles.train[np.isin(names, chosen)]
        few = _Split(kept, tiles.test)
        given = np.asarray(kept.groups)
        rows |= side_by_side(f"{len(kept)} tiles", few, options.memory, given, n_seeds=1)
    print(f"\n## magnetic_tile, groups withheld\n\n{table(rows)}", flush=True)
    same = {"cookie": unchanged("cookie", load_mvtec_ad(options.data, "cookie"), options.memory)}
    for name in ("faces", "gravel", "brick", "grass"):
        images = make_photographs(name, n_train=40, n_test_defect=2, random_state=0)
        _, first = np.unique(images.train.groups, return_index=True)
        split = _Split(images.train[np.sort(first)], images.test)
        same[f"{name}, a tile a block"] = unchanged(name, split, options.memory)
    print(f"\n## Independent images\n\n{table(same)}", flush=True)
    print(f"\n## Generated sequences\n\n{markdown(reach_table())}")
    fit, find = cost(features_of(tiles, options.memory)[0])
    print(f"\n614 images: bank and calibration {fit:.1f} s of CPU, finding groups {find:.2f} s")


class _Split:
    def __init__(self, train, test):
        self.train, self.test = train, test


if __name__ == "__main__":
    main()
