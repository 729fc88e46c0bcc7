"""One model for many products: routed, against one model for each, and one bank for all.

Products: every folder given, laid out as MVTec AD is, and tiles of the photographs that
scikit-image brings along, if they have at least 16 training blocks (fewer are no sample of a
product: their test tiles show what no training tile shows).

* quality: image AUROC in points of the three ways, on the same features and with the same number
  of bank entries a product; routing accuracy; products that are left out, reported as unknown;
* time (--time): per image against the number of products. The products beyond the real ones are
  the real ones in other directions of feature space.

    python benchmarks/bench_routing.py magnetic_tile/ cookie/ --cache /tmp/routing
    python benchmarks/bench_routing.py magnetic_tile/ cookie/ --cache /tmp/routing --time
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from _measure import table
from scipy.stats import ortho_group
from sklearn.pipeline import Pipeline

from skstructcore import (
    CoresetBank,
    MemoryBank,
    Patches,
    RoutedKNNScorer,
    make_structcore,
    remove_category,
)
from skstructcore.datasets import PHOTOGRAPHS, load_mvtec_ad, make_photographs
from skstructcore.images.labels import GOOD
from skstructcore.metrics import image_auroc_score
from skstructcore.routing import routing_distances, select_prototypes

PHOTOS = ("brick", "coins", "faces", "grass", "gravel", "hubble", "ihc", "moon")
LEVEL = 0.01  # of known good images called unknown, for the last column


def few(images, n):
    chosen = np.random.default_rng(0).permutation(len(images))[:n]
    return images[np.sort(chosen)]


def product(name):
    """Training and test images of a folder or a photograph."""
    if name in PHOTOGRAPHS:
        images = make_photographs(name, n_test_good=30, random_state=0)
        return images.train, images.test
    images = load_mvtec_ad(name, check=False)
    test = images.test
    parts = [few(test[test.y == GOOD], 80), few(test[test.y != GOOD], 80)]
    return few(images.train, 120), parts


def features_of(name, cache, pipe):
    """Projected features of a product: train, test, groups, and whether a test image is bad."""
    file = cache / f"{Path(name).resolve().name if name not in PHOTOGRAPHS else name}.npz"
    if file.exists():
        with np.load(file) as kept:
            return {key: kept[key] for key in kept}
    train, test = product(name)
    steps = pipe[:2].fit(train)
    compute = lambda images: np.asarray(steps.transform(images), np.float32)  # noqa: E731
    parts = test if isinstance(test, list) else [test]
    groups = np.arange(len(train)) if train.groups is None else train.groups
    found = {
        "train": compute(train),
        "groups": np.unique(groups, return_inverse=True)[1],
        "test": np.concatenate([compute(part) for part in parts]),
        "is_bad": np.concatenate([part.y != GOOD for part in parts]),
    }
    cache.mkdir(parents=True, exist_ok=True)
    np.savez(file, **found)
    return found


def fit(pipe, data, names):
    """Fit the last three steps on the training images of the products."""
    tail = Pipeline(pipe.steps[2:])
    images = np.concatenate([data[name]["train"] for name in names])
    labels = np.repeat(names, [len(data[name]["train"]) for name in names])
    groups = np.concatenate([1000 * i + data[name]["groups"] for i, name in enumerate(names)])
    categories = None if tail["knn"].routing is None else labels
    return tail.fit(images, bank__groups=groups, bank__categories=categories)


def describe(pipe, images):
    return pipe[-1].describe(pipe[:-1].transform(images))


def quality(data):
    names = list(data)
    routed = fit(make(), data, names)
    single = fit(make(routing=None), data, names)
    parts = {name: describe(routed, data[name]["test"]) for name in names}
    p_known = np.concatenate([parts[n]["route_p_value"][~data[n]["is_bad"]] for n in names])
    limit = np.quantile(p_known, LEVEL)  # exactly this share of known good images is below
    patches = [data[name]["train"].reshape(-1, data[name]["train"].shape[-1]) for name in names]
    k_center = [select_prototypes(rows, 16, n_iter=0) for rows in patches]  # as published
    rows = []
    for i, name in enumerate(names):
        test, is_bad = data[name]["test"], data[name]["is_bad"]
        oracle = fit(make(routing=None), data, [name])
        scores = [-oracle.score_samples(test), parts[name]["anomaly_score"].to_numpy()]
        scores.append(-single.score_samples(test))
        without = describe(remove_category(routed, name), test)
        flat = test.reshape(len(test), -1, test.shape[-1])
        rows.append(
            [100 * image_auroc_score(is_bad, s) for s in scores]
            + [
                100 * (parts[name]["nearest_route"] == name).mean(),
                100 * (routing_distances(flat, k_center).argmin(axis=1) == i).mean(),
                100 * (parts[name]["route"] == "unknown")[~is_bad].mean(),
                100 * (parts[name]["route"] == "unknown")[is_bad].mean(),
                100 * (without["route"] == "unknown").mean(),
                100 * (without["route_p_value"] < limit).mean(),
            ]
        )
        yield [name, len(data[name]["train"]), *(f"{value:.1f}" for value in rows[-1])]
    yield ["mean", "", *(f"{value:.2f}" for value in np.mean(rows, axis=0))]
    n_test = np.array([len(data[name]["test"]) for name in names])
    right = np.array(rows)[:, 3] @ n_test / n_test.sum()
    wrongly = 100 * (p_known < routed[-1].unknown_level).mean()
    print(f"\nof all test images routed rightly: {right:.2f} %;", end=" ")
    print(f"of all good ones called unknown: {wrongly:.2f} %\n")


def timing(data, repeats, sizes=(1, 2, 4, 8, 16, 32, 64), n_train=8, n_patches=400):
    names = [name for name in data if len(data[name]["train"]) >= n_train]
    images, labels = [], []
    for k in range(max(sizes)):
        train = data[names[k % len(names)]]["train"][:n_train]
        if k >= len(names):  # a product that looks different but is as varied
            train = train @ ortho_group.rvs(train.shape[-1], random_state=k).astype(np.float32)
        images.append(train)
        labels += [f"p{k:02}"] * n_train
    step = CoresetBank(ratio=n_patches, random_state=0)
    bank = step.fit(np.concatenate(images), categories=labels).bank_
    query = data[names[0]]["test"][:16]
    models = {
        (size, routing): RoutedKNNScorer(routing=routing).fit(Patches(query, first(bank, size)))
        for size in sizes
        for routing in ("top1", None)
    }
    seconds = dict.fromkeys(models, np.inf)
    # Sizes in turn, and the fastest of all rounds: other work on the machine hits all alike.
    for _ in range(repeats + 1):
        for key, model in models.items():
            start = time.perf_counter()
            model.transform(Patches(query, model.bank_))
            seconds[key] = min(seconds[key], (time.perf_counter() - start) / len(query))
    for size in sizes:
        both = [f"{1000 * seconds[size, routing]:.2f}" for routing in ("top1", None)]
        yield [size, size * n_patches, *both]


def first(bank, n_routes):
    """The bank of the first routes."""
    rows = bank.routes < n_routes
    return MemoryBank(
        bank.values[rows],
        bank.image_index[rows],
        bank.groups[rows],
        bank.routes[rows],
        bank.route_names[:n_routes],
        bank.profiles[:n_routes],
    )


def make(**knn):
    options = {f"knn__{key}": value for key, value in knn.items()}
    return make_structcore("efficientnet_lite0", **options)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folders", nargs="*", help="laid out as MVTec AD is")
    options.add_argument("--cache", type=Path, required=True, help="folder for features")
    options.add_argument("--photographs", nargs="*", default=PHOTOS, choices=sorted(PHOTOGRAPHS))
    options.add_argument("--time", action="store_true")
    options.add_argument("--repeats", type=int, default=20)
    options = options.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # of few training images
    pipe = make()
    data = {}
    for name in [*options.folders, *options.photographs]:
        found = features_of(name, options.cache, pipe)
        data[name if name in PHOTOGRAPHS else Path(name).resolve().name] = found
    if options.time:
        steps = pipe[:2].fit(make_photographs("brick", n_train=16).train)
        images = make_photographs("brick", n_train=16, random_state=1).train
        np.asarray(steps.transform(images))
        start = time.perf_counter()
        np.asarray(steps.transform(images))
        print(f"backbone: {1000 * (time.perf_counter() - start) / 16:.1f} ms an image")
        header = ["products", "entries of the one bank", "routed, ms", "one bank, ms"]
        table(
            "Time to find the route and the map of an image",
            header,
            timing(data, options.repeats),
        )
        return
    header = ["product", "train images", "oracle", "routed", "one bank", "routed rightly, %"]
    header += ["the same, k-center prototypes", "good called unknown, %"]
    header += ["defects called unknown, %", "unknown if left out, %"]
    header += ["the same at 1 % of good called unknown"]
    table("Image AUROC and routing", header, quality(data))


if __name__ == "__main__":
    main()
