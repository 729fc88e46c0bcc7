"""The memory and the time that a fit takes, before it begins."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from .._utils.rows import LazyRows
from ..bank.memory import MemoryEstimate, shape_of_fit
from ..bank.training import good_images
from ..images.image_list import ImagesLike
from ..knn.held_out import N_FOLDS
from ..knn.surprise import N_CONTEXT
from .steps import structcore_steps

# Images that `estimate_time` fits on: of fewer, what a call costs by itself would count too much.
_PROBED = 48
# At least so many patches of these for an entry of their bank, as about in a whole fit.
_PATCHES_AN_ENTRY = 8


def estimate_memory(
    pipe: Pipeline, X: ImagesLike, y: ArrayLike | None = None, **fit_params: Any
) -> MemoryEstimate:
    """Estimate the memory that ``pipe.fit(X, y, **fit_params)`` takes, without fitting.

    Reads the headers of the images, and runs the backbone once, on an image of zeros.

    Parameters
    ----------
    pipe : Pipeline
        Of `make_structcore`; nothing in it is changed.
    X, y, **fit_params
        What `fit` will get.

    Returns
    -------
    estimate : MemoryEstimate
        Its `peak`, in bytes above what the process holds now, is right to 20 %
        (``docs/benchmarks.md``). `fits` says whether as much is available, and `advice` what to
        change if not. Memory of a GPU is not counted.

    Raises
    ------
    ValueError
        If the pipeline ends with other steps, `fit` has no such parameter, or an image is damaged.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import estimate_memory, make_structcore
    >>> pipe = make_structcore("efficientnet_lite0", features__image_size=64)
    >>> estimate = estimate_memory(pipe, np.zeros((50, 64, 64, 3), np.uint8))
    >>> estimate.patches  # 50 images of 8 x 8 patches of 152 float32
    1945600
    >>> estimate.fits
    True
    """
    training, shape = _training(pipe, X, y, fit_params)
    knn = structcore_steps(pipe)[1]
    if knn.calibration != "in-sample":
        n_folds = N_FOLDS if knn.calibration == "k-fold" else 0
        shape = replace(shape, n_context=max(knn.n_neighbors, N_CONTEXT), n_folds=n_folds)
    smaller = []
    if hasattr(training.X, "memory"):  # else there is no backbone
        shape = _with_backbone(shape, training.X)
        if not shape.estimate().fits:
            for changes in ({"batch_size": 1}, {"batch_size": 1, "n_jobs": 1}):
                text = " and ".join(f"{pipe.steps[0][0]}__{k}={v}" for k, v in changes.items())
                smaller.append((text, _with_backbone(shape, training.X, **changes)))
    return shape.advised(f"{pipe.steps[-3][0]}__max_memory", *smaller)


def _with_backbone(shape, features, **changes):
    network, n_in_work, work = features.memory(**changes)
    return replace(shape, network=network, n_in_work=n_in_work, work=work)


class TimeEstimate(NamedTuple):
    """Seconds that a fit takes."""

    features: float  # reading the images, and the backbone
    selection: float  # of the memory bank
    held_out: float  # scoring the training images held out

    @property
    def total(self) -> float:
        return sum(self)

    def __str__(self) -> str:
        seconds = [f"{k.replace('_', ' ')} {_duration(s)}" for k, s in self._asdict().items()]
        return f"{_duration(self.total)} ({', '.join(seconds)})"


def estimate_time(
    pipe: Pipeline, X: ImagesLike, y: ArrayLike | None = None, **fit_params: Any
) -> TimeEstimate:
    """Estimate the time that ``pipe.fit(X, y, **fit_params)`` takes on this machine.

    Fits the steps on up to 48 of the images, and reckons with what each costs: features grow with
    the images, the other two with the patches times the entries of the bank.

    Parameters
    ----------
    pipe, X, y, **fit_params : see `estimate_memory`, also for errors

    Returns
    -------
    estimate : TimeEstimate
        18 % too short to 27 % too long where it was measured (``docs/benchmarks.md``). What other
        processes do meanwhile counts, and so does a cache of features.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import estimate_time, make_structcore
    >>> pipe = make_structcore("efficientnet_lite0", features__image_size=64)
    >>> estimate = estimate_time(pipe, np.zeros((50, 64, 64, 3), np.uint8))
    >>> estimate.total < 60
    True
    """
    training, shape = _training(pipe, X, y, fit_params)
    bank, knn, _ = structcore_steps(pipe)
    rows = np.unique(np.linspace(0, shape.n_images - 1, _PROBED).astype(int))
    np.asarray(training.X[rows[:1]])  # loads the network
    features, reading = _timed(np.asarray, training.X[rows])

    n_patches, n_all = features[..., 0].size, shape.n_images * shape.n_patches
    n_entries = min(-(-shape.n_pairs // n_all), -(-n_patches // _PATCHES_AN_ENTRY))
    bank = clone(bank).set_params(ratio=n_entries, n_routes=None, shard_size=None)
    patches, selecting = _timed(bank.fit_transform, features, groups=None)

    scoring = 0.0
    if len(rows) > 1:
        # The few images are of one route, and their bank may be smaller than that of all.
        n_neighbors = min(knn.n_neighbors, n_entries)
        knn = clone(knn).set_params(routing=None, n_neighbors=n_neighbors)
        scoring = _timed(knn.fit_transform, patches)[1]
    pairs = shape.n_pairs / (n_patches * n_entries)  # for each one here
    return TimeEstimate(
        features=reading * shape.n_images / len(rows),
        selection=selecting * pairs,
        held_out=scoring * pairs * shape.n_held / n_all,
    )


def _timed(function, *args, **options):
    """What a function returns, and the seconds that it took."""
    start = perf_counter()
    result = function(*args, **options)
    return result, perf_counter() - start


def _training(pipe, X, y, fit_params):
    """The images that a fit gets, and what its memory depends on."""
    bank, name = structcore_steps(pipe)[0], pipe.steps[-3][0]
    for _, step in pipe.steps:
        if hasattr(step, "_parameter_constraints"):
            step._validate_params()
    keys = {f"{name}__{key}": key for key in ("groups", "categories", "parts")}
    if unknown := sorted(fit_params.keys() - keys):
        raise ValueError(
            f"fit has no parameters {', '.join(unknown)}: there are {', '.join(keys)}."
        )
    given = {keys[key]: value for key, value in fit_params.items()}
    # Shapes are known of the features without their computation.
    features = clone(pipe[:-3]).fit_transform(X) if len(pipe) > 3 else np.asarray(X)
    training = good_images(features, y, **given, n_routes=bank.n_routes)
    if isinstance(training.X, LazyRows) and training.categories is not None:
        training = training._replace(X=training.X.showing(training.categories))
    return training, shape_of_fit(bank, training)


def _duration(seconds):
    """Time for people: "40 s", "3 min", "2.5 h"."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{float(f'{seconds / length:.2g}'):g} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
