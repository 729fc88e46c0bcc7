"""
Sweep settings with Optuna
==========================

The same search, but each setting is chosen by what the ones before it gave. Needs
``pip install optuna optuna-integration``.
"""

import tempfile

import matplotlib.pyplot as plt
import optuna
from optuna_integration import OptunaSearchCV
from skstructcore import make_structcore
from skstructcore.datasets import make_photographs
from skstructcore.model_selection import OneClassGroupKFold, image_auroc_scorer

optuna.logging.set_verbosity(optuna.logging.WARNING)
images = make_photographs("gravel", n_train=20, n_test_good=8, n_test_defect=2, random_state=0)
with tempfile.TemporaryDirectory() as cache:
    # With `memory`, the backbone sees each image once for the whole search.
    pipe = make_structcore(
        "efficientnet_lite0",
        features__memory=cache,
        features__image_size=128,
        structcore__false_alarm_rate=0.25,
    )
    search = OptunaSearchCV(
        pipe,
        {
            "bank__ratio": optuna.distributions.FloatDistribution(0.005, 0.1, log=True),
            "knn__n_neighbors": optuna.distributions.IntDistribution(1, 5),
            "structcore__norm": optuna.distributions.CategoricalDistribution(["l2", "linf"]),
        },
        cv=OneClassGroupKFold(3),
        scoring=image_auroc_scorer,
        n_trials=10,
        random_state=0,
        error_score="raise",
    )
    # The refit with the best settings is on the good ones among all images.
    search.fit(images, images.y, groups=images.groups)
    print(f"best image AUROC, mean of 3 folds: {search.best_score_:.3f}")
    print(f"settings: {search.best_params_}")
    print(f"threshold: {search.best_estimator_[-1].offset_:.3f}")

# %%
# What was tried. Each point is one setting, and its colour what it gave.

trials = [trial for trial in search.study_.trials if trial.value is not None]
_, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
points = ax.scatter(
    [trial.params["bank__ratio"] for trial in trials],
    [trial.params["knn__n_neighbors"] for trial in trials],
    c=[trial.value for trial in trials],
    s=120,
    cmap="cividis",
)
ax.set(xscale="log", xlabel="bank__ratio", ylabel="knn__n_neighbors")
plt.colorbar(points, ax=ax, label="image AUROC, mean of 3 folds")
plt.show()
