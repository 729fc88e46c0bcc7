"""
Two backbones joined
====================

Networks of different size see different things. `JoinedFeatures` puts their features side by side
on one grid, and no later step needs to know. Lite2 needs the extra ``lite``.
"""

import matplotlib.pyplot as plt
import pandas as pd
from skstructcore import ConvFeatures, JoinedFeatures, make_structcore
from skstructcore.datasets import make_photographs
from skstructcore.display import AnomalyMapDisplay
from skstructcore.metrics import image_auroc_score

images = make_photographs("gravel", n_train=40, n_test_good=20, n_test_defect=3, random_state=0)
small = ConvFeatures("efficientnet_lite0", image_size=128)
large = ConvFeatures("efficientnet_lite2", image_size=128)

rows, maps = {}, {}
defects = images.test[images.test.y != "good"][::6]
for name, features in {
    "Lite0": small,
    "Lite2": large,
    "both": JoinedFeatures([small, large]),
}.items():
    pipe = make_structcore(
        features, projection__n_components=128, structcore__false_alarm_rate=0.15
    )
    pipe.fit(images.train)
    rows[name] = {
        "features of a patch": pipe["features"].n_features_out_,
        "image AUROC": image_auroc_score(images.test.y, -pipe.score_samples(images.test)),
    }
    maps[name] = pipe[:-1].transform(defects)

# %%
# One photograph proves nothing. On two real sets joining gained nothing (``docs/features.md``):
# measure on yours before you pay for two networks.

pd.DataFrame(rows).T.round(3)

# %%
# The maps of three defects, each on its own scale.

AnomalyMapDisplay.from_predictions(defects, maps)
plt.show()
