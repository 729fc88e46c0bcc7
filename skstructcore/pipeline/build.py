"""The five steps, put together."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline

from ..bank.coreset_bank import CoresetBank
from ..features.conv import BUILT_IN, ConvFeatures
from ..features.dino import ARCHITECTURES, DinoFeatures
from ..knn.scorer import RoutedKNNScorer
from ..projection import RandomProjection
from ..scoring.descriptors import PAPER_PHI
from ..scoring.structcore import StructCoreScorer

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
        ``"efficientnet_lite0"`` (whose weights are installed with skstructcore, so that it works
        offline), or a feature estimator, which is cloned where parameters of it are given.
    preset : {"default", "paper"}, default="default"
        "paper" is the recipe of arXiv:2602.17048: squared distances, in-sample calibration, and the
        centre of images whose shorter side is scaled to 8 / 7 of that of ``image_size``. A feature
        estimator keeps its own ``crop``.
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
    settings = dict(PRESETS[preset])
    if isinstance(features, str):
        features = _named_features(features)
        if preset == "paper":
            # Shorter side to 448, centre crop of 392; in the same proportion at other sizes.
            size = params.get("features__image_size", features.image_size)
            if isinstance(size, Integral | tuple | list):
                settings["features__crop"] = round(np.min(size) * 448 / 392)
            elif "features__crop" not in params:
                raise ValueError(
                    f"preset='paper' crops images, which image_size={size!r} excludes: give a size "
                    "in pixels, or features__crop=False."
                )
    elif isinstance(features, type) or not hasattr(features, "fit"):
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
        seeded = [name for name, step in pipe.steps if hasattr(step, "random_state")]
        settings |= {f"{name}__random_state": random_state for name in seeded}
    replaced = params.keys() & pipe.named_steps.keys()
    settings = {k: v for k, v in settings.items() if k.partition("__")[0] not in replaced} | params
    if any(name.startswith("features__") for name in settings):  # the caller's stays as it is
        settings["features"] = clone(features)
    return pipe.set_params(**settings)


def _named_features(name):
    if name in ARCHITECTURES or "/" in name:
        return DinoFeatures(name)
    if name in BUILT_IN:
        return ConvFeatures(name)
    raise ValueError(
        f"features={name!r} is unknown. It is one of {', '.join([*BUILT_IN, *ARCHITECTURES])}, "
        "the name of a DINOv2 repository on the hub ('facebook/dinov2-base'), or a feature "
        "estimator, ConvFeatures(your_network, layers) for instance."
    )
