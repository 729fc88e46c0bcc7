"""The five steps, put together."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline

from ._utils.rows import shown
from ._utils.warning import warn_user
from .bank.coreset_bank import CoresetBank
from .bank.memory import shape_of_fit
from .bank.training import good_images
from .knn.held_out import N_FOLDS
from .knn.scorer import RoutedKNNScorer
from .knn.surprise import N_CONTEXT
from .projection import RandomProjection
from .scoring.descriptors import PAPER_PHI
from .scoring.structcore import StructCoreScorer

if TYPE_CHECKING:
    from typing import Any, Literal

    from numpy.typing import ArrayLike

    from .bank.memory import MemoryEstimate
    from .images.image_list import ImagesLike

# Images that `estimate_time` fits on: of fewer, what a call costs by itself would count too much.
_PROBED = 48
# Of them: more entries, and what a patch costs by itself would count too little; fewer, too much.
_PATCHES_AN_ENTRY = 8

#: What each preset changes in the defaults of the steps.
PRESETS = {
    "default": {},
    "paper": {
        "projection__n_components": 512,
        "projection__random_state": 42,
        "knn__n_neighbors": 5,
        "knn__metric": "sqeuclidean",
        "knn__calibration": "in-sample",
        "structcore__norm": "l2",
        "structcore__lam": "auto",
        "structcore__descriptors": PAPER_PHI,
        "structcore__threshold": "quantile",
        "structcore__false_alarm_rate": 0.005,
    },
}


#: Parameters of before, and those that say the same today; None: nothing does.
_OF_BEFORE = {
    "features__foreground": "features__ignore",
    "features__region": "features__crop",
    "features__resize": "features__crop",
    "features__compile": None,
    "bank__dtype": None,
    "bank__verbose": None,
    "bank__n_prototypes": None,
    "knn__random_state": None,
    "knn__n_folds": None,
    "knn__n_route_patches": None,
    "knn__routing_aggregate": None,
}


def make_structcore(
    features: str | BaseEstimator = "dinov2_vitb14",
    *,
    preset: Literal["default", "paper"] = "default",
    random_state: int | None = None,
    **params: Any,
) -> Pipeline:
    """Build the pipeline features, projection, bank, knn, structcore.

    Parameters
    ----------
    features : str or estimator, default="dinov2_vitb14"
        Name of a DINOv2 model or of its repository on the hub (``"facebook/dinov2-base"``),
        ``"efficientnet_lite0"`` (its weights come with a package that
        is installed with skstructcore, so that it works offline), or a feature estimator,
        which is taken as it is.
    preset : {"default", "paper"}, default="default"
        "paper" is the recipe of arXiv:2602.17048: centre crop, squared distances, in-sample
        calibration. The shorter side of images is scaled to 8 / 7 of that of ``image_size``, and
        the centre is cut out. A feature estimator keeps its own ``crop``.
    random_state : int or None, default=None
        Seed of every step that has one; it wins over the preset. None: 0, or 42 for the
        projection of the preset "paper".
    **params
        Parameters of the steps, ``<step>__<parameter>=value``; they win over the preset.

    Returns
    -------
    pipe : Pipeline
        Steps ``features``, ``projection``, ``bank``, ``knn`` and ``structcore``.

    Examples
    --------
    >>> from skstructcore import make_structcore
    >>> pipe = make_structcore("efficientnet_lite0", bank__ratio=0.02)
    >>> list(pipe.named_steps)
    ['features', 'projection', 'bank', 'knn', 'structcore']
    >>> pipe.named_steps["bank"].ratio
    0.02
    """
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {sorted(PRESETS)}, got {preset!r}.")
    params = _named_as_today(params)
    settings = dict(PRESETS[preset])
    if isinstance(features, str):
        features = _named_features(features)
        if preset == "paper":
            # Shorter side to 448, centre crop of 392; in the same proportion at other sizes. A size
            # that follows from the images ("native", 0.5) excludes a crop: `fit` refuses both.
            size = params.get("features__image_size", features.image_size)
            has_length = isinstance(size, Integral | tuple | list)
            settings["features__crop"] = round(np.min(size) * 448 / 392) if has_length else True
    elif not hasattr(features, "fit"):
        raise TypeError(f"features must be a name or a feature estimator, got {features!r}.")
    pipe = Pipeline(
        [
            ("features", features),
            ("projection", RandomProjection(random_state=0)),
            ("bank", CoresetBank(random_state=0)),
            ("knn", RoutedKNNScorer(routing="auto")),
            ("structcore", StructCoreScorer()),
        ]
    )
    if random_state is not None:
        seeds = [f"{name}__random_state" for name, step in pipe.steps]
        settings |= dict.fromkeys(pipe.get_params().keys() & seeds, random_state)
    return pipe.set_params(**(settings | params))


def _named_as_today(params):
    """Parameters that had another name before, or none today, with a warning for each."""
    today = dict(params)
    for name in filter(_OF_BEFORE.__contains__, params):
        value, now = today.pop(name), _OF_BEFORE[name]
        if now and value not in (None, False):
            today[now] = "background" if value == "auto" else value
        instead = f"{now} instead" if now else "nothing: it is a constant"
        warn_user(f"{name} is no longer a parameter; use {instead}.", FutureWarning)
    return today


def _named_features(name):
    from .features._dino_weights import ARCHITECTURES
    from .features.conv import BUILT_IN, ConvFeatures

    if name in ARCHITECTURES or "/" in name:
        from .features.dino import DinoFeatures

        return DinoFeatures(name)
    if name in BUILT_IN:
        return ConvFeatures(name)
    raise ValueError(
        f"features={name!r} is unknown. It is one of {', '.join([*BUILT_IN, *ARCHITECTURES])}, "
        "the name of a DINOv2 repository on the hub ('facebook/dinov2-base'), or a feature "
        "estimator, ConvFeatures(your_network, layers) for instance."
    )


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
        Its `peak`, in bytes above what the process holds now, is within 20 % of what was measured
        over a dozen settings (``docs/benchmarks.md``). `fits` says whether as much is
        available, and `advice` what to change if not. Memory of a GPU is not counted.

    Raises
    ------
    ValueError
        If the pipeline has no `CoresetBank`, or an image cannot be read.

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
    name, training, shape = _training(pipe, X, y, fit_params)
    knn = _step(pipe, RoutedKNNScorer)
    if knn is not None and knn.calibration != "in-sample":
        n_folds = N_FOLDS if knn.calibration == "k-fold" else 0
        shape = replace(shape, n_context=max(knn.n_neighbors, N_CONTEXT), n_folds=n_folds)
    smaller = []
    if hasattr(training.X, "memory"):  # else there is no backbone
        names = "network", "n_in_work", "work"
        shape = replace(shape, **dict(zip(names, training.X.memory(), strict=True)))
        if not shape.estimate().fits:
            for changes in ({"batch_size": 1}, {"batch_size": 1, "n_jobs": 1}):
                text = " and ".join(f"features__{key}={value}" for key, value in changes.items())
                less = dict(zip(names, training.X.memory(**changes), strict=True))
                smaller.append((text, replace(shape, **less)))
    return shape.advised(f"{name}__max_memory", *smaller)


class TimeEstimate(NamedTuple):
    """Seconds that a fit takes."""

    features: float  # reading the images, and the backbone
    selection: float  # of the memory bank
    held_out: float  # scoring the training images held out

    @property
    def total(self) -> float:
        return sum(self)

    def __str__(self) -> str:
        parts = ", ".join(
            f"{n.replace('_', ' ')} {_duration(s)}" for n, s in self._asdict().items()
        )
        return f"{_duration(self.total)} ({parts})"


def estimate_time(
    pipe: Pipeline, X: ImagesLike, y: ArrayLike | None = None, **fit_params: Any
) -> TimeEstimate:
    """Estimate the time that ``pipe.fit(X, y, **fit_params)`` takes on this machine.

    Fits the steps on up to 48 of the images, and reckons with what each costs: features grow with
    the images, the other two with the patches times the entries of the bank.

    Parameters
    ----------
    pipe, X, y, **fit_params : see `estimate_memory`

    Returns
    -------
    estimate : TimeEstimate
        18 % too short to 27 % too long where it was measured (``docs/benchmarks.md``). What
        other processes do meanwhile counts, and so does a cache of features.

    Raises
    ------
    ValueError
        As `estimate_memory` does.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import estimate_time, make_structcore
    >>> pipe = make_structcore("efficientnet_lite0", features__image_size=64)
    >>> estimate = estimate_time(pipe, np.zeros((50, 64, 64, 3), np.uint8))
    >>> estimate.total < 60
    True
    """
    _, training, shape = _training(pipe, X, y, fit_params)
    rows = np.unique(np.linspace(0, shape.n_images - 1, _PROBED).astype(int))
    images = shown(training.X, training.categories)
    np.asarray(images[rows[:1]])  # loads the network
    start = perf_counter()
    features = np.asarray(images[rows])
    extraction = (perf_counter() - start) / len(rows) * shape.n_images

    n_patches, n_all = features[..., 0].size, shape.n_images * shape.n_patches
    n_entries = min(-(-shape.n_pairs // n_all), -(-n_patches // _PATCHES_AN_ENTRY))
    bank = clone(_step(pipe, CoresetBank))
    bank.set_params(ratio=n_entries, n_patches=None, n_routes=None, shard_size=None)
    start = perf_counter()
    patches = bank.fit_transform(features, groups=None)
    a_pair = (perf_counter() - start) / n_patches / n_entries
    selection = a_pair * shape.n_pairs

    held_out, knn = 0.0, _step(pipe, RoutedKNNScorer)
    if knn is not None and len(rows) > 1:
        start = perf_counter()
        # The few images are of one route, and their bank may be smaller than that of all.
        n_neighbors = min(knn.n_neighbors, n_entries)
        clone(knn).set_params(routing=None, n_neighbors=n_neighbors).fit_transform(patches)
        held_out = (perf_counter() - start) / n_patches / n_entries
        held_out *= shape.n_pairs * shape.n_held / n_all
    return TimeEstimate(extraction, selection, held_out)


def _training(pipe, X, y, fit_params):
    """What a fit gets: name of the bank's step, its images, and what its memory depends on."""
    bank = _step(pipe, CoresetBank)
    if bank is None:
        raise ValueError("The pipeline has no CoresetBank, whose fit takes the memory.")
    for _, step in pipe.steps:
        if isinstance(step, BaseEstimator):
            step._validate_params()
    place = [step for _, step in pipe.steps].index(bank)
    name = pipe.steps[place][0]
    given = {key.removeprefix(f"{name}__"): value for key, value in fit_params.items()}
    # Shapes are known of the features without their computation.
    before = pipe[:place]
    features = clone(before).fit_transform(X) if len(before) else np.asarray(X)
    training = good_images(features, y, **given, n_routes=bank.n_routes)
    return name, training, shape_of_fit(bank, training)


def _step(pipe, kind):
    return next((step for _, step in pipe.steps if isinstance(step, kind)), None)


def _duration(seconds):
    """Time for people: "40 s", "3 min", "2.5 h"."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{float(f'{seconds / length:.2g}'):g} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
