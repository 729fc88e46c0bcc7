"""The cases of `study_scoring`: images, and their maps of every kind, kept in a cache."""

import time
from dataclasses import dataclass

import numpy as np
from _lots import SCANNED, lots, scan

from skstructcore import RoutedKNNScorer, make_structcore
from skstructcore.containers import AnomalyMaps, TrainingImages
from skstructcore.datasets import judged_pixels, load_mvtec_ad, make_photographs
from skstructcore.datasets.photographs import PHOTOGRAPHS
from skstructcore.images import Geometry
from skstructcore.images.geometry import upsample_maps
from skstructcore.metrics import aupro_score, pixel_auroc_score

REAL = ("magnetic_tile", "cookie")
#: name -> parameters of RoutedKNNScorer
MAPS = {
    "held out, k=5": {},
    "held out, k=1": {"n_neighbors": 1},
    "held out, k=5, squared": {"metric": "sqeuclidean"},
    "5-fold, k=5": {"calibration": "k-fold"},
    "in-sample, k=5": {"calibration": "in-sample"},
    "in-sample, k=5, squared": {"calibration": "in-sample", "metric": "sqeuclidean"},
}
FULL = "products"
INPUT = (256, 256)  # what the backbone sees; only the size matters here
DEFAULT, PAPER_MAPS = "held out, k=5", "in-sample, k=5, squared"
#: Cases on which only the rules are compared: on fewer maps.
FEW_MAPS = (DEFAULT, PAPER_MAPS)


@dataclass
class Case:
    """Train and test maps of one data set and seed, of every kind in `MAPS`."""

    kind: str
    name: str
    seed: int
    types: np.ndarray  # of the test images; "good" is good
    train: dict
    test: dict
    pixels: dict  # pixel AUROC and AUPRO of the maps, where there are masks

    @property
    def good(self):
        return self.types == "good"


def image_sets(data):
    """Yield (kind, name, train, test) of all cases."""
    if data is not None:
        for name in REAL:
            images = load_mvtec_ad(data, name)
            yield FULL, name, images.train, images.test
        # Small training sets: whole tiles (groups) at random.
        images = load_mvtec_ad(data, "magnetic_tile")
        for n_groups in (5, 15, 30):
            groups = images.train.groups
            chosen = np.random.default_rng(n_groups).permutation(np.unique(groups))[:n_groups]
            few = images.train[np.isin(groups, chosen)]
            kind = FULL if n_groups < 30 else "fewer images"
            yield kind, f"magnetic_tile, {len(few)} images", few, images.test
    for name in PHOTOGRAPHS:
        for kind, case, n_train, n_test_defect, seed in (
            (FULL, name, 40, 15, 0),
            ("fewer images", f"{name}, 12 images", 12, 8, 3),
        ):
            images = make_photographs(
                name,
                tile_size=192 if name in ("hubble", "retina") else 128,
                n_train=n_train,
                n_test_good=40,
                n_test_defect=n_test_defect,
                random_state=seed,
            )
            yield kind, case, images.train, images.test
    for name in SCANNED:
        for kind, cut in (("lots", lots), ("scan order", scan)):
            images = cut(name)
            yield kind, f"{name}, {kind}", images.train, images.test


def load_cases(data, cache, seeds):
    """Every case with every seed of projection and bank."""
    return [load_case(*images, cache, seed) for images in image_sets(data) for seed in range(seeds)]


def load_case(kind, name, train, test, cache, seed):
    """Maps of one case, from the cache or computed."""
    path = cache / (name.replace(", ", "_").replace(" ", "_") + f"_{seed}.npz")
    if not path.exists():
        # Of the other seeds only what the rules are compared on.
        maps = MAPS if kind == FULL and seed == 0 else FEW_MAPS
        compute_case(train, test, path, maps, seed, with_pixels=kind == FULL)
    stored = np.load(path, allow_pickle=True)
    maps = {"train": {}, "test": {}}
    for how in MAPS:
        for part in ("train", "test"):
            if f"{part}/{how}/values" in stored:
                surprise = stored.get(f"{part}/{how}/surprise")
                whole = [[0, 0, *INPUT]] * len(stored[f"{part}/{how}/values"])
                geometry = Geometry(INPUT, [INPUT] * len(whole), whole)
                maps[part][how] = AnomalyMaps(
                    stored[f"{part}/{how}/values"],
                    images=TrainingImages(stored["groups"]) if part == "train" else None,
                    surprise=surprise,
                    geometry=geometry,
                )
    return Case(
        kind,
        name,
        seed,
        stored["types"],
        maps["train"],
        maps["test"],
        stored["pixels"].item(),
    )


def compute_case(train, test, path, kinds, seed, with_pixels):
    start = time.perf_counter()
    memory = path.parent / "features"
    front = make_structcore("efficientnet_lite0", random_state=seed, features__memory=memory)[:3]
    patches = front.fit_transform(train)
    new = front.transform(test)
    stored, pixels = {}, {}
    for kind in kinds:
        scorer = RoutedKNNScorer(**MAPS[kind])
        maps = {"train": scorer.fit_transform(patches), "test": scorer.transform(new)}
        for part, values in maps.items():
            stored[f"{part}/{kind}/values"] = values.values
            if values.surprise is not None:
                stored[f"{part}/{kind}/surprise"] = values.surprise
        if kind == DEFAULT and with_pixels:
            pixels = pixel_scores(maps["test"], test)
    groups = maps["train"].groups
    np.savez(
        path,
        **stored,
        types=test.y.astype(str),
        groups=groups,
        pixels=pixels,
    )
    print(f"{path.stem}: {len(train)} + {len(test)} images, {time.perf_counter() - start:.0f} s")


def pixel_scores(maps, test):
    size = maps.geometry.input_size
    scores = {}
    for name, values in (("distance", maps.values), ("surprise", maps.surprise)):
        pixels = upsample_maps(values, size, 4.0)
        masks, pixels, _ = judged_pixels(test, pixels, maps.geometry)
        scores[name] = (pixel_auroc_score(masks, pixels), aupro_score(masks, pixels))
    return scores
