"""How long one image takes, step by step, and how to be warm when the first one comes."""

from __future__ import annotations

import time
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from .._utils.rows import iter_placed
from .._utils.validation import check_number
from ..images.image_list import ImagesLike, as_images
from ..pipeline.steps import no_features

__all__ = ["stage_times", "warm_up"]


def warm_up(pipe: Pipeline) -> Pipeline:
    """Load the network and prepare the search, with black pixels: the first image is fast.

    Parameters
    ----------
    pipe : Pipeline
        Fitted, as `make_structcore` builds it. It is returned, unchanged.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import make_structcore, warm_up
    >>> photos = np.random.default_rng(0).integers(0, 256, (6, 64, 64), dtype=np.uint8)
    >>> pipe = make_structcore("efficientnet_lite0", features__image_size=64).fit(photos)
    >>> warm_up(pipe) is pipe
    True
    """
    for backbone in pipe[0].backbones:
        backbone.network().on_black(*backbone.picture_.network_size)
    pipe[1:].predict(no_features(pipe))
    return pipe


def stage_times(pipe: Pipeline, X: ImagesLike, *, n_repeats: int = 50) -> pd.DataFrame:
    """Measure how long one image takes, step by step, after a warm-up.

    Parameters
    ----------
    pipe : see `warm_up`
    X : folder, sequence of paths, PIL images or arrays, or ndarray
        Images, taken in turn.
    n_repeats : int, default=50
        How many are measured.

    Returns
    -------
    times : DataFrame
        Milliseconds of wall-clock time: columns "p50", "p95" and "p99"; rows "features" (decoding,
        scaling and the network), "search" (projection and nearest neighbours), "score", and
        "all", of `predict`, which does all three in one go.
    """
    check_number(n_repeats, "n_repeats", 1, closed="left", type=Integral)
    images, times = as_images(X), []
    warm_up(pipe)
    for i in range(n_repeats):
        image = images[i % len(images) : i % len(images) + 1]
        start = time.perf_counter()
        # Batches, as an array does not know what each category ignores.
        features = np.concatenate([batch for _, batch in iter_placed(pipe[0].transform(image))])
        seen = time.perf_counter()
        maps = pipe[1:-1].transform(features)
        searched = time.perf_counter()
        pipe[-1].predict(maps)
        scored = time.perf_counter()
        pipe.predict(image)
        times.append(np.diff([start, seen, searched, scored, time.perf_counter()]))
    stages = ["features", "search", "score", "all"]
    quantiles = np.quantile(1000 * np.array(times), [0.5, 0.95, 0.99], axis=0).T
    return pd.DataFrame(quantiles, index=stages, columns=["p50", "p95", "p99"])
