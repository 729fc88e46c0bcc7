"""What ignore="background" gains or loses on a data set: the same pipeline with and without.

python benchmarks/study_foreground.py cookie/ magnetic_tile/ [--memory CACHE]
"""

import argparse
import warnings

import numpy as np
import pandas as pd
from _measure import spread, table

from skstructcore import ConvFeatures, make_structcore
from skstructcore.datasets import find_layout
from skstructcore.evaluation import evaluate


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folders", nargs="+", help="laid out as MVTec AD is")
    options.add_argument("--memory", help="folder of a feature cache")
    options.add_argument("--seeds", type=int, default=3, help="of projection and bank")
    options = options.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # of few training images

    def rows():
        for folder in options.folders:
            layout = find_layout(folder)
            [name] = layout.categories
            images = layout.load(name)
            for ignore in (None, "background"):
                results = []
                for seed in range(options.seeds):
                    pipe = make_structcore(
                        ConvFeatures(ignore=ignore, memory=options.memory),
                        random_state=seed,
                        structcore__false_alarm_rate=0.05,
                    ).fit(images.train)
                    evaluation = evaluate(pipe, images.test)
                    results.append(evaluation.table().loc["all"])
                result, ignored = pd.DataFrame(results), evaluation.maps.ignored
                yield [
                    layout.root.name,
                    ignore,
                    f"{0 if ignored is None else 100 * np.mean(ignored):.0f} %",
                    *(spread(100 * result[c]) for c in ("image_auroc", "pixel_auroc", "aupro")),
                    *(f"{result[c].mean():.1f}" for c in ("false_alarms", "missed")),
                    len(images.test),
                ]

    table(
        "The same pipeline on the whole image and on the part alone",
        [
            "data",
            "ignore",
            "ignored",
            "image AUROC",
            "pixel AUROC",
            "AUPRO",
            "false alarms",
            "missed",
            "images",
        ],
        rows(),
    )


if __name__ == "__main__":
    main()
