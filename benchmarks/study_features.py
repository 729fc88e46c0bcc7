"""Which layers, which scaling, which networks joined: image AUROC, mean and spread over seeds.

    python benchmarks/study_features.py ../shared/data [--seeds 3]

Each set has at most 150 training images and 150 good and defective test images. The default score
of the whole pipeline and, in brackets, max pooling.
"""

import argparse
import logging
import warnings
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch.nn.functional as F
from _measure import spread, table
from study_decisions import MOST

from skstructcore import ConvFeatures, JoinedFeatures, make_structcore
from skstructcore.datasets import load_mvtec_ad
from skstructcore.metrics import image_auroc_score

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def lite0(*blocks, **options):
    return ConvFeatures(layers=[f"_blocks.{block}" for block in blocks], **options)


VARIANTS = {
    "`ConvFeatures()`": ConvFeatures(),
    "not scaled": ConvFeatures(),
    "`image_size=192`": ConvFeatures(image_size=192),
    "`image_size=320`": ConvFeatures(image_size=320),
    "block 10 alone": lite0(10),
    "blocks 4, 7 and 10": lite0(4, 7, 10),
    "blocks 2, 4 and 10": lite0(2, 4, 10),
    "blocks 10 and 14": lite0(10, 14),
    "blocks 4, 10 and 14": lite0(4, 10, 14),
    "ImageNet's mean and standard deviation": ConvFeatures(**IMAGENET),
    '`ConvFeatures("efficientnet_lite2")`': ConvFeatures("efficientnet_lite2"),
    "Lite0 and Lite2 joined": JoinedFeatures([ConvFeatures(), ConvFeatures("efficientnet_lite2")]),
}


def data_sets(root):
    for path in sorted(Path(root).iterdir()):
        if path.is_dir():
            data = load_mvtec_ad(path)
            rng = np.random.default_rng(0)
            kinds = [
                data.train, data.test[data.test.y == "good"], data.test[data.test.y != "good"]
            ]  # fmt: skip
            yield path.name, [part[np.sort(rng.permutation(len(part))[:MOST])] for part in kinds]


def areas(features, parts, seeds):
    """Mean and spread of the default score's AUROC and, in brackets, of max pooling's."""
    values = [np.asarray(features.fit(parts[0]).transform(part)) for part in parts]
    labels = np.repeat([0, 1], [len(part) for part in values[1:]])
    found = []
    for seed in range(seeds):
        pipe = make_structcore(features, random_state=seed)[1:]
        pipe.fit(values[0], bank__groups="auto" if parts[0].groups is None else parts[0].groups)
        maps = pipe[:-1].transform(np.concatenate(values[1:]))
        scores = -pipe[-1].score_samples(maps), maps.values.max(axis=(1, 2))
        found.append([100 * image_auroc_score(labels, score) for score in scores])
    ours, largest = np.transpose(found)
    return f"{spread(ours)} ({spread(largest)})"


def rows(sets, seeds):
    for name, features in VARIANTS.items():
        scaling = F.normalize if name != "not scaled" else (lambda maps, dim: maps)
        with patch.object(F, "normalize", scaling):
            yield name, *(areas(features, parts, seeds) for _, parts in sets)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("data", help="folder of data sets laid out as MVTec AD is")
    options.add_argument("--seeds", type=int, default=3, help="of the projection and the bank")
    args = options.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    sets = list(data_sets(args.data))
    title = "Image AUROC by layers and networks: default score (max pooling)"
    table(title, ("features", *(name for name, _ in sets)), rows(sets, args.seeds))


if __name__ == "__main__":
    main()
