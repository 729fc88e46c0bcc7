"""
In the scikit-learn stack
=========================

The parts of a score are a table of numbers, and so the input of any other estimator; and detectors
of other libraries can stand beside this one if their sign is turned.
"""

# %%
# The descriptors of the maps, standardised by held-out good images, into an `IsolationForest`: a
# second opinion that looks at all parts together.

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.ensemble import IsolationForest
from sklearn.metrics import RocCurveDisplay, roc_auc_score
from skstructcore import make_structcore
from skstructcore.datasets import make_photographs
from skstructcore.images import is_anomalous

images = make_photographs("brick", n_train=60, n_test_good=20, n_test_defect=3, random_state=0)
pipe = make_structcore(
    "efficientnet_lite0", features__image_size=128, structcore__false_alarm_rate=0.1
)
patches = pipe[:3].fit_transform(images.train)
maps = pipe["knn"].fit_transform(patches)  # training images, held out
pipe["structcore"].fit(maps)


def z(maps):
    return pipe["structcore"].describe(maps).filter(regex="^z_")


forest = IsolationForest(random_state=0).fit(z(maps))
new = pipe[:-1].transform(images.test)
is_defect = is_anomalous(images.test.y)
scores = {
    "StructCoreScorer": pipe["structcore"].score_samples(new),
    "IsolationForest on its descriptors": forest.score_samples(z(new)),
}

# %%
# Detectors of PyOD give higher scores to more anomalous samples, the opposite of scikit-learn's
# sign. A minus turns them.

from pyod.models.ecod import ECOD

ecod = ECOD().fit(z(maps))
scores["PyOD's ECOD on its descriptors"] = -ecod.decision_function(z(new))

pd.Series(
    {name: roc_auc_score(~is_defect, values) for name, values in scores.items()}, name="image AUROC"
).round(3).to_frame()

# %%
# scikit-learn's displays take the same numbers.

_, ax = plt.subplots(figsize=(5, 4), layout="constrained")
for name, values in scores.items():
    RocCurveDisplay.from_predictions(~is_defect, values, name=name, ax=ax)
plt.show()
