"""Score images on a dask cluster; here one of two workers on this machine.

Needs one package more: pip install "skstructcore[distributed]"

Run it with: python examples/score_on_cluster.py
"""

import joblib
from dask.distributed import Client, LocalCluster

from skstructcore import make_structcore
from skstructcore.datasets import make_photographs
from skstructcore.evaluation.parallel import score_images
from skstructcore.metrics import image_auroc_score


def main():
    images = make_photographs("brick", n_train=60, n_test_good=40, n_test_defect=5, random_state=0)
    pipe = make_structcore("efficientnet_lite0", features__image_size=128)
    pipe.fit(images.train)

    # For a real cluster: Client("scheduler:8786"), and paths that all its machines can read.
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        scores = score_images(pipe, images.test, shard_size=8, verbose=1)
    print(scores[["file", "anomaly_score", "p_value"]].tail())
    print(f"image AUROC: {image_auroc_score(images.test.y, scores['anomaly_score']):.3f}")


if __name__ == "__main__":
    main()
