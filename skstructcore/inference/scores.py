"""Scoring any number of images, on all cores of a machine or on many machines.

The images are split into shards, which the active joblib backend works on: processes of this
machine, or with ``joblib.parallel_config(backend="dask")`` those of a cluster. Images that are
given by path are read where they are scored, so all machines need to see them under that path.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from collections.abc import Callable, Iterator
from numbers import Integral
from typing import Any, Literal

import joblib
import numpy as np
import pandas as pd
from joblib.externals.loky.backend.reduction import dumps
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .._utils.computing import end_with_parent, progress_bar
from .._utils.files import stamp
from .._utils.validation import check_number
from ..images.image_list import ImageList, ImageReadError, ImagesLike, StrPath, as_images
from ..model_files.persistence import info, load
from ..pipeline.steps import check_takes_images, no_features

OnError = Literal["skip", "raise"]
OnMaps = Callable[..., list[Any]]

__all__ = ["iter_scores", "score_images"]

_opened = {}  # digest -> pipeline: the model that this process was sent last


def score_images(
    pipe: Pipeline | StrPath,
    images: ImagesLike,
    *,
    on_error: OnError = "skip",
    n_jobs: int | None = None,
    shard_size: int = 64,
    verbose: int = 0,
) -> pd.DataFrame:
    """Score images in parallel; a file that cannot be read costs no other image its score.

    Parameters
    ----------
    pipe : Pipeline or path
        Fitted, as `make_structcore` builds it; each process gets it once. Or the file that
        `skstructcore.save` has written, of which the processes share one bank in memory.
    images : folder, sequence of paths, PIL images or arrays, or ndarray
        Prefer paths: the pixels of arrays have to be sent to the processes.
    on_error : {"skip", "raise"}, default="skip"
        Whether an image that cannot be read has a row with the reason and without scores, or ends
        the work with an `ImageReadError`.
    n_jobs : int, default=None
        Number of processes; -1: all there are; None: what `joblib.parallel_config` says, else 1.
    shard_size : int, default=64
        Images that a process works on at a time.
    verbose : int, default=0
        Whether to show a progress bar.

    Returns
    -------
    scores : DataFrame
        A row an image, in order: ``file`` (path, or "image <position>"), the columns of
        `StructCoreScorer.describe`, and ``error``: why an image cannot be read, or None. Such an
        image has no scores, and ``is_anomalous``, of pandas' type "boolean", is missing: fill it
        with True, so that what cannot be judged is never accepted.

    See Also
    --------
    iter_scores : The same shard by shard, for results that are kept as they come.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import make_structcore
    >>> from skstructcore.inference import score_images
    >>> photos = np.random.default_rng(0).integers(0, 256, (9, 64, 64), dtype=np.uint8)
    >>> pipe = make_structcore("efficientnet_lite0", features__image_size=64, bank__ratio=0.1)
    >>> score_images(pipe.fit(photos[:6]), photos[6:], shard_size=2)[["file", "error"]]
          file error
    0  image 0  None
    1  image 1  None
    2  image 2  None

    What ``pipe.predict`` and ``pipe.score_samples`` return, with -1 and NaN for images that
    cannot be read, is ``np.where(table["is_anomalous"].fillna(True), -1, 1)`` and
    ``-table["anomaly_score"]``.
    """
    options = {"on_error": on_error, "n_jobs": n_jobs, "shard_size": shard_size, "verbose": verbose}
    return pd.concat(iter_scores(pipe, images, **options), ignore_index=True)


def iter_scores(
    pipe: Pipeline | StrPath,
    images: ImagesLike,
    *,
    on_error: OnError = "skip",
    n_jobs: int | None = None,
    shard_size: int = 64,
    verbose: int = 0,
) -> Iterator[pd.DataFrame]:
    """Yield the rows of `score_images` shard by shard, in order, as soon as they are there.

    Parameters are those of `score_images`; the index holds positions among all images.
    """
    options = {"on_error": on_error, "n_jobs": n_jobs, "shard_size": shard_size, "verbose": verbose}
    yield from (scores for scores, _ in iter_shards(pipe, images, **options))


def iter_shards(
    pipe: Pipeline | StrPath,
    images: ImagesLike,
    on_maps: OnMaps | None = None,
    *,
    on_error: OnError = "skip",
    n_jobs: int | None = None,
    shard_size: int = 64,
    verbose: int = 0,
) -> Iterator[tuple[pd.DataFrame, list[Any]]]:
    """Yield the rows of `iter_scores` and what `on_maps` says of the images, see `score_batch`."""
    if on_error not in ("skip", "raise"):
        raise ValueError(f"on_error must be 'skip' or 'raise', got {on_error!r}.")
    check_number(shard_size, "shard_size", 1, closed="left", type=Integral)
    model, digest = _as_sent(pipe, joblib.effective_n_jobs(n_jobs))
    images = as_images(images)
    starts = range(0, len(images), shard_size)
    parts = (images[start : start + shard_size] for start in starts)
    shards = joblib.Parallel(n_jobs=n_jobs, return_as="generator")(
        joblib.delayed(_score_shard)(model, digest, part, on_maps, on_error) for part in parts
    )
    with progress_bar(verbose=verbose, total=len(images), desc="scores", unit="image") as progress:
        for start, (scores, extras) in zip(starts, shards, strict=True):
            yield scores.set_axis(range(start, start + len(scores))), extras
            progress.update(len(scores))


def _as_sent(pipe, n_processes):
    """The model as it goes to the processes, and what tells it from others."""
    if isinstance(pipe, str | os.PathLike):
        path = os.path.abspath(pipe)
        info(path)  # an error here if it is none
        return path, (path, *stamp(path))
    check_is_fitted(pipe)
    check_takes_images(pipe, "score_images")
    if n_processes == 1:
        return pipe, None
    # Joblib shares an array of bytes between processes of one machine, and dask sends it to each
    # worker once, not with every shard. This `dumps` takes functions of a notebook, too.
    model = np.frombuffer(dumps(pipe), dtype=np.uint8)
    return model, hashlib.sha256(model).hexdigest()


def _score_shard(model, digest, images, on_maps, on_error):
    """Of a shard, in a process that opens each model once."""
    end_with_parent()
    if digest is not None and digest not in _opened:
        _opened.clear()
        is_file = isinstance(model, str)
        _opened[digest] = load(model, mmap_mode="r") if is_file else pickle.loads(model)
        check_takes_images(_opened[digest], "score_images")
    return score_batch(_opened.get(digest, model), images, on_maps, on_error=on_error)


def score_batch(
    pipe: Pipeline, images: ImageList, on_maps: OnMaps | None = None, *, on_error: OnError = "skip"
) -> tuple[pd.DataFrame, list[Any]]:
    """The rows of `score_images` for images that fit into memory together, in this process.

    `on_maps` uses the maps while they are there: it gets the last step, images and their
    `AnomalyMaps`, and returns an entry an image; that of an image that cannot be read is None.
    """
    error, extras = None, [None] * len(images)
    try:
        maps = pipe[:-1].transform(images)
        scores = pipe[-1].describe(maps).astype({"is_anomalous": "boolean"})
        if on_maps is not None:
            extras = on_maps(pipe[-1], images, maps)
    except ImageReadError as unreadable:
        if on_error == "raise":
            raise
        if len(images) > 1:  # each half by itself
            half = len(images) // 2
            scores, extras = score_batch(pipe, images[:half], on_maps)
            others, more = score_batch(pipe, images[half:], on_maps)
            return pd.concat([scores, others], ignore_index=True), extras + more
        scores, error = no_scores(pipe), str(unreadable)
    scores.insert(0, "file", images.file_names())
    scores["error"] = pd.Series([error] * len(images), dtype=object)
    return scores, extras


def no_scores(pipe: Pipeline) -> pd.DataFrame:
    """A row of `describe` without a value: its columns, and the types that know missing values."""
    some = pipe[-1].describe(pipe[1:-1].transform(no_features(pipe)))
    return some.astype({"is_anomalous": "boolean"}).iloc[:0].reindex([0])


def read_scores(text: bytes) -> pd.DataFrame:
    """Rows of `score_images` from CSV: numbers to the last bit, names as they were, also "NA"."""
    names = dict.fromkeys(["file", "model", "error", "decided_by", "route", "nearest_route"], str)
    options = {"keep_default_na": False, "na_values": [""]}
    if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1):  # later ones do so by themselves
        options["float_precision"] = "round_trip"
    return pd.read_csv(io.BytesIO(text), dtype=names, **options)
