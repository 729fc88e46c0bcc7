"""One model for several products: three to begin with, a fourth later, one taken out.

    python examples/routing.py routing.png

The images are tiles of photographs that scikit-image brings along. The picture shows the same
test images of five products at every stage: which product each was taken for, and how far it is
from it.
"""

import sys

import numpy as np

from skstructcore import add_category, make_structcore, remove_category
from skstructcore.datasets import make_photographs
from skstructcore.display import RoutingDisplay

FIRST, LATER, NEVER = ("brick", "faces", "hubble"), "gravel", "ihc"


def main(picture):
    products = {
        name: make_photographs(name, n_test_good=8, n_test_defect=1, random_state=0)
        for name in (*FIRST, LATER, NEVER)
    }
    train = [tile for name in FIRST for tile in products[name].train]
    groups = [f"{name} {group}" for name in FIRST for group in products[name].train.groups]
    pipe = make_structcore("efficientnet_lite0")
    pipe.fit(
        train,
        bank__categories=[name for name in FIRST for _ in products[name].train],
        bank__groups=groups,
    )
    grown = add_category(pipe, products[LATER].train, LATER, groups=products[LATER].train.groups)
    reduced = remove_category(grown, FIRST[0])

    test = [tile for images in products.values() for tile in images.test]
    labels = [name for name, images in products.items() for _ in images.test]
    stages = {"three products": pipe, f"{LATER} added": grown, f"{FIRST[0]} removed": reduced}
    displays = {}
    for stage, model in stages.items():
        parts = model[-1].describe(model[:-1].transform(test))
        print(f"\n{stage}: what each product was taken for")
        print(parts.groupby([np.array(labels), "route"]).size().to_string())
        displays[stage] = RoutingDisplay.from_predictions(parts, model[-1], labels)
    draw(displays, picture)


def draw(displays, picture):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 9), layout="constrained")
    for ax, (stage, display) in zip(figure.subplots(len(displays)), displays.items(), strict=True):
        display.plot(ax).ax_.set_title(stage, loc="left", fontweight="bold")
    figure.savefig(picture)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "routing.png")
