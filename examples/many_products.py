"""
One model for several products
==============================

Three products to begin with, a fourth later, one taken out. The images are tiles of photographs
that scikit-image brings along.
"""

import numpy as np
import pandas as pd
from skstructcore import add_category, make_structcore, remove_category
from skstructcore.datasets import make_photographs

FIRST, LATER, NEVER = ("brick", "faces", "hubble"), "gravel", "ihc"
products = {
    name: make_photographs(name, n_test_good=8, n_test_defect=1, random_state=0)
    for name in (*FIRST, LATER, NEVER)
}

# %%
# `categories` give each product a bank, a threshold and a test for unknown images of its own;
# `groups` say which tiles overlap.

pipe = make_structcore("efficientnet_lite0", structcore__false_alarm_rate=0.1)
pipe.fit(
    [tile for name in FIRST for tile in products[name].train],
    bank__categories=[name for name in FIRST for _ in products[name].train],
    bank__groups=[f"{name} {group}" for name in FIRST for group in products[name].train.groups],
)

# %%
# Products come and go without a new fit: what was learned of the others stays, to the last bit.

grown = add_category(pipe, products[LATER].train, LATER, groups=products[LATER].train.groups)
reduced = remove_category(grown, FIRST[0])

# %%
# What the same test images were taken for, at every stage.

test = [tile for images in products.values() for tile in images.test]
labels = [name for name, images in products.items() for _ in images.test]
stages = {"three products": pipe, f"{LATER} added": grown, f"{FIRST[0]} removed": reduced}
described = {
    stage: model[-1].describe(model[:-1].transform(test)) for stage, model in stages.items()
}
pd.concat(
    {stage: pd.crosstab(np.array(labels), parts["route"]) for stage, parts in described.items()}
).fillna(0).astype(int)

# %%
# And how far each is from the product that it was taken for.

import matplotlib.pyplot as plt
from skstructcore.display import RoutingDisplay

figure, axes = plt.subplots(3, figsize=(9, 9), layout="constrained")
for ax, (stage, parts) in zip(axes, described.items(), strict=True):
    display = RoutingDisplay.from_predictions(parts, stages[stage][-1], labels, ax=ax)
    display.ax_.set_title(stage, loc="left", fontweight="bold")
plt.show()
