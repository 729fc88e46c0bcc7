"""The steps of a pipeline: the last ones, found and put back; what the first takes and sees."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .._utils.copies import with_attributes
from .._utils.rows import LazyRows
from ..bank.coreset_bank import CoresetBank
from ..containers import AnomalyMaps
from ..images.image_list import ImageList, ImagesLike, as_images
from ..images.intensity import Intensity
from ..knn.scorer import RoutedKNNScorer
from ..projection import RandomProjection
from ..scoring.structcore import StructCoreScorer

_WANTED = (CoresetBank, RoutedKNNScorer, StructCoreScorer)


def structcore_steps(pipe: Pipeline) -> tuple[CoresetBank, RoutedKNNScorer, StructCoreScorer]:
    """Return the last three steps; ValueError if they are others."""
    steps = tuple(step for _, step in getattr(pipe, "steps", [("", pipe)])[-3:])
    if tuple(map(type, steps)) != _WANTED:
        raise ValueError(
            "This needs a pipeline whose last steps are "
            f"{', '.join(w.__name__ for w in _WANTED)}, as make_structcore builds it; got "
            f"{', '.join(type(step).__name__ for step in steps)}."
        )
    return steps


def fitted_steps(pipe: Pipeline) -> tuple[CoresetBank, RoutedKNNScorer, StructCoreScorer]:
    """Return the last three steps; NotFittedError if one of them is not fitted."""
    steps = structcore_steps(pipe)
    for step in steps:
        check_is_fitted(step)
    return steps


def with_steps(pipe: Pipeline, *last: Any) -> Pipeline:
    """Return a pipeline with other last steps; all before them are shared."""
    names = [name for name, _ in pipe.steps[-len(last) :]]
    steps = [*pipe.steps[: -len(last)], *zip(names, last, strict=True)]
    return with_attributes(pipe, steps=steps)


def intensity_of(pipe: Any, *, channels: bool = True) -> Intensity | None:
    """How a fitted pipeline sees values of images; None where that is nothing special.

    Without `channels` its own do not count: for copies of images that it is to see again.
    """
    first = pipe.steps[0][1] if getattr(pipe, "steps", None) else None
    if not hasattr(first, "picture_"):
        return None
    intensity = first.picture_.intensity
    if not channels and intensity.channels != "bgr":
        intensity = Intensity(intensity.window)
    return None if intensity == Intensity() else intensity


def features_of(pipe: Pipeline, images: ImagesLike) -> LazyRows | NDArray[Any]:
    """Features of images, as the bank gets them; ValueError if there are none."""
    features = pipe[:-3].transform(images) if len(pipe) > 3 else np.asarray(images)
    if len(features) == 0:
        raise ValueError("The list of images is empty: at least one image is needed.")
    return features


def no_features(pipe: Pipeline) -> NDArray[np.float32]:
    """Features of one image, all 0, of the shape of those of the pipeline's networks."""
    return np.zeros((1, *pipe[0].grid_shape_, pipe[0].n_features_out_), np.float32)


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


def listed(pipe: Pipeline, X: ImagesLike | AnomalyMaps) -> Any:
    """Names of images as a list that stays the same, if files come and go while it is scored."""
    has_no_names = isinstance(X, AnomalyMaps | np.ndarray) or not takes_images(pipe)
    return X if has_no_names else as_images(X)


def names_of(X: Any) -> list[str]:
    """What tables call each image of `listed`: its path, or "image <position>"."""
    return X.file_names() if isinstance(X, ImageList) else [f"image {i}" for i in range(len(X))]
