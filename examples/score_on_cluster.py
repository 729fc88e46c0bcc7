"""
Score on a dask cluster
=======================

Here it is one of two workers on this machine. Needs the extra ``distributed``.
"""

import joblib
import matplotlib.pyplot as plt
from dask.distributed import Client, LocalCluster
from skstructcore import make_structcore
from skstructcore.datasets import make_photographs
from skstructcore.display import ScoreHistogramDisplay
from skstructcore.inference import score_images
from skstructcore.metrics import image_auroc_score


def main():
    images = make_photographs("brick", n_train=40, n_test_good=20, n_test_defect=2, random_state=0)
    pipe = make_structcore(
        "efficientnet_lite0", features__image_size=128, structcore__false_alarm_rate=0.15
    )
    pipe.fit(images.train)

    # For a real cluster: Client("scheduler:8786"), and paths that all its machines can read.
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        scores = score_images(pipe, images.test, shard_size=8)
    print(scores[["file", "anomaly_score", "p_value"]].tail().round(3).to_string())
    print(f"image AUROC: {image_auroc_score(images.test.y, scores['anomaly_score']):.3f}")
    ScoreHistogramDisplay.from_predictions(scores, pipe[-1], images.test.y)
    plt.show()


if __name__ == "__main__":
    main()
