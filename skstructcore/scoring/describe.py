"""The table of images of a whole pipeline, and what images are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..bank.coreset_bank import CoresetBank
from ..images.image_list import as_images
from ..knn.scorer import RoutedKNNScorer
from ..projection import RandomProjection

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

    from ..images.image_list import ImagesLike


def describe(pipe: Pipeline, X: ImagesLike) -> pd.DataFrame:
    """Say what is decided about images, how their scores come about, and where.

    Parameters
    ----------
    pipe : Pipeline
        Fitted, as `make_structcore` builds it.
    X : folder, sequence of paths, PIL images or arrays, ndarray or ImageSet

    Returns
    -------
    table : DataFrame
        A row an image: ``image``, its path or "image <position>", and the columns that
        `describe_maps` explains, of which these decide: ``anomaly_score``, ``p_value``,
        ``is_anomalous``, ``decided_by`` and ``route``.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import describe, make_structcore
    >>> X = np.random.default_rng(0).integers(0, 256, (9, 64, 64), dtype=np.uint8)
    >>> pipe = make_structcore("efficientnet_lite0", features__image_size=64).fit(X)
    >>> describe(pipe, [np.full((64, 64), 9, np.uint8)])[["image", "is_anomalous"]]
         image  is_anomalous
    0  image 0          True
    """
    table = pipe[-1].describe(pipe[:-1].transform(X))
    table.insert(0, "image", names_of(pipe, X))
    return table


def takes_images(pipe: Pipeline) -> bool:
    """Whether a pipeline begins with a backbone, not with a step that takes its features."""
    return not isinstance(pipe[0], RandomProjection | CoresetBank | RoutedKNNScorer)


def check_takes_images(pipe: Pipeline, function: str) -> None:
    """Refuse a pipeline that begins after the backbone, where images are given."""
    if not takes_images(pipe):
        raise TypeError(
            f"{function} takes images, but this pipeline begins with {type(pipe[0]).__name__}, "
            "which takes features: call describe(pipe, features), or put a backbone before it."
        )


def names_of(pipe: Pipeline, X: ImagesLike) -> list[str]:
    """What tables call each image: its path, or "image <position>"."""
    if not takes_images(pipe):
        return [f"image {i}" for i in range(len(X))]
    return as_images(X).file_names()
