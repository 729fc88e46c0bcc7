"""
Sweep settings with GridSearchCV
================================

The pipeline is a scikit-learn estimator, so that scikit-learn's own searches work: with splits that
put good images on both sides and defects into the tests only, and with scorers for anomalies.
"""

import tempfile

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.model_selection import GridSearchCV
from skstructcore import make_structcore
from skstructcore.datasets import make_photographs
from skstructcore.model_selection import OneClassGroupKFold, image_auroc_scorer

images = make_photographs("gravel", n_train=24, n_test_good=8, n_test_defect=2, random_state=0)

# %%
# With `memory`, the backbone sees each image once for the whole search, however many settings there
# are.

with tempfile.TemporaryDirectory() as cache:
    pipe = make_structcore(
        "efficientnet_lite0",
        features__memory=cache,
        features__image_size=128,
        structcore__false_alarm_rate=0.25,
    )
    search = GridSearchCV(
        pipe,
        {"bank__ratio": [0.02, 0.1], "knn__n_neighbors": [1, 5], "structcore__norm": ["sum", "l2"]},
        cv=OneClassGroupKFold(3),
        scoring=image_auroc_scorer,
    )
    search.fit(images, images.y, groups=images.groups)

# %%
# The refit with the best settings is on the good ones among all images.

columns = ["param_bank__ratio", "param_knn__n_neighbors", "param_structcore__norm"]
table = pd.DataFrame(search.cv_results_)[[*columns, "mean_test_score", "std_test_score"]]
table.sort_values("mean_test_score", ascending=False).round(3)

# %%
# Differences between settings beside the spread over the folds: a winner by less than the spread is
# luck.

best = table.sort_values("mean_test_score").reset_index(drop=True)
_, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
ax.errorbar(best["mean_test_score"], best.index, xerr=best["std_test_score"], fmt="o")
names = best[columns].astype(str).agg(", ".join, axis=1)
ax.set(yticks=best.index, yticklabels=names, xlabel="image AUROC, mean and spread of 3 folds")
plt.show()
