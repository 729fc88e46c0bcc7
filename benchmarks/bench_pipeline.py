"""Fit and score after the backbone: against anomalib's PatchCore, on the same features.

    python benchmarks/bench_pipeline.py FOLDER [--n-fit 100] [--n-score 500]

FOLDER holds good images. The first `n-fit` make the bank (1 % of their patches), all others, up to
`n-score`, are scored. anomalib is taken if it can be imported; its model gets the features that
its backbone would give, and runs its own steps. The last table says which share of
`score_samples` is spent on anything but the backbone.
"""

import contextlib
import io
import time
from pathlib import Path

import numpy as np
import torch
from _measure import measure, parser, patch_features, table
from sklearn.pipeline import make_pipeline

from skstructcore import CoresetBank, RoutedKNNScorer, StructCoreScorer, make_structcore

try:
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel
except ImportError:
    PatchcoreModel = None

RATIO = 0.01
BATCH = 16


class Ours:
    """Coreset, search and calibrated scores; training images are scored held out."""

    def __init__(self, k):
        self.k = k

    def fit(self, values):
        self.pipe = make_pipeline(
            CoresetBank(RATIO, random_state=0), RoutedKNNScorer(self.k), StructCoreScorer()
        ).fit(values)

    def score(self, values):
        return self.pipe.score_samples(values)


class PatchCore:
    """anomalib's model behind its backbone: what its `forward` does with the embedding."""

    def fit(self, values):
        model = self.model = object.__new__(PatchcoreModel)
        torch.nn.Module.__init__(model)
        model.num_neighbors = 9
        model.embedding_store = [torch.from_numpy(values.reshape(-1, values.shape[-1]))]
        with contextlib.redirect_stderr(io.StringIO()):
            model.subsample_embedding(RATIO)

    def score(self, values):
        scores = []
        for start in range(0, len(values), BATCH):
            batch = torch.from_numpy(values[start : start + BATCH])
            embedding = batch.reshape(-1, batch.shape[-1])
            distances, places = self.model.nearest_neighbors(embedding, n_neighbors=1)
            distances, places = (x.reshape(len(batch), -1) for x in (distances, places))
            scores.append(self.model.compute_anomaly_score(distances, places, embedding))
        return torch.cat(scores)


def side_by_side(train, test, repeats):
    pipelines = {"skstructcore, k=1": Ours(1), "skstructcore, k=5": Ours(5)}
    pipelines["anomalib PatchCore"] = PatchCore()
    for name, pipeline in pipelines.items():
        if isinstance(pipeline, PatchCore) and PatchcoreModel is None:
            yield name, "not installed", "", "", "", "", ""
            continue
        once = 1 if isinstance(pipeline, PatchCore) else repeats
        fit = measure(lambda: pipeline.fit(train), once)  # noqa: B023
        score = measure(lambda: pipeline.score(test), repeats)  # noqa: B023
        each, cpu_each = (x / len(test) * 1e3 for x in score[:2])
        yield (
            name, f"{fit.seconds:.2f} s", f"{fit.cpu_seconds:.2f} s", f"{fit.peak:.0f} MB",
            f"{each:.2f} ms", f"{cpu_each:.2f} ms", f"{score.peak:.0f} MB",
        )  # fmt: skip


def backbone_share(folder, n_fit, n_score, repeats):
    paths = sorted(path for path in Path(folder).iterdir() if path.is_file())
    test = (paths * (n_score // len(paths) + 1))[:n_score]
    pipe = make_structcore(features="efficientnet_lite0").fit(paths[:n_fit])
    for k in (1, 5):
        pipe.set_params(knn__n_neighbors=k).fit(paths[:n_fit])
        whole, features = [], []
        for _ in range(repeats):  # by turns, as the machine's other load changes
            start = time.process_time()
            for _ in pipe[:1].transform(test):
                pass
            middle = time.process_time()
            pipe.score_samples(test)
            features.append(middle - start)
            whole.append(time.process_time() - middle)
        share = np.median(1 - np.array(features) / np.array(whole))
        yield (
            f"k={k}", f"{len(pipe[-2].bank_):,}", f"{np.median(features) / n_score * 1e3:.1f} ms",
            f"{np.median(whole) / n_score * 1e3:.1f} ms", f"{share:.1%}",
        )  # fmt: skip


def main():
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--n-fit", type=int, default=100)
    options.add_argument("--n-score", type=int, default=500)
    options = options.parse_args()
    features = patch_features(options.images, options.n_features).astype(np.float32, copy=False)
    train, test = np.split(features[: options.n_fit + options.n_score], [options.n_fit])
    header = ["", "fit", "processor", "peak", "score an image", "processor", "peak"]
    size = f"{train.shape[0]} images of {train.shape[1]} x {train.shape[2]} patches"
    found = side_by_side(train, test, options.repeats)
    table(f"Fit on {size} x {train.shape[3]}, score {len(test)}", header, found)
    if not options.images.endswith(".npy"):
        header = ["", "bank", "backbone, an image", "score_samples, an image", "all else"]
        shares = backbone_share(options.images, options.n_fit, options.n_score, options.repeats)
        table("Processor time of score_samples", header, shares)


if __name__ == "__main__":
    main()
