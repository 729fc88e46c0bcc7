"""What the maps of images say, before it is known what is normal."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sklearn.utils.validation import validate_data

from ..containers import AnomalyMaps
from .descriptors import PAPER_PHI, check_map_stack, compute_descriptors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import ArrayLike, NDArray
    from sklearn.base import BaseEstimator

    from .descriptors import DescriptorLike


def check_maps(estimator: BaseEstimator, X: AnomalyMaps | ArrayLike, *, reset: bool) -> AnomalyMaps:
    """Validate maps; set or compare ``n_features_in_`` and ``map_shape_`` of the estimator.

    Parameters
    ----------
    estimator : StructCoreScorer
    X : AnomalyMaps or array-like of shape (n, h, w) or (n, n_features)
        A table is maps of one row.
    reset : bool
        Whether this is `fit`, which needs two images.

    Returns
    -------
    maps : AnomalyMaps
    """
    maps, name = X, type(estimator).__name__
    if not isinstance(X, AnomalyMaps):
        if getattr(X, "ndim", 2) == 3:
            maps = AnomalyMaps(check_map_stack(X))
        else:
            dtypes, least = [np.float64, np.float32], 1 + reset
            table = validate_data(estimator, X, reset=reset, dtype=dtypes, ensure_min_samples=least)
            maps = AnomalyMaps(table[:, np.newaxis, :])
    if reset and len(maps) < 2:
        raise ValueError(
            f"{name} learns what is normal from at least 2 good training images, "
            f"got n_samples = {len(maps)}."
        )
    if reset:
        estimator.map_shape_ = maps.shape[1:]
        estimator.n_features_in_ = maps.shape[-1]
    elif maps.shape[1:] != estimator.map_shape_:
        found, fitted = (" x ".join(map(str, s)) for s in (maps.shape[1:], estimator.map_shape_))
        raise ValueError(
            f"The maps have {found} patches, but {name} was fitted with {fitted}: what is normal "
            "depends on the size. Fit again with maps of this size."
        )
    elif estimator.uses_surprise_ and maps.surprise is None:
        raise ValueError(
            "The training maps carried surprise and these do not: score images with the "
            "RoutedKNNScorer whose fit_transform gave the training maps (with the whole "
            "pipeline)."
        )
    return maps


class Evidence(NamedTuple):
    """What the descriptors of the maps of n images are."""

    base: NDArray[np.float64]  # (n,), the base score
    phi: NDArray[np.float64]  # (n, p), the descriptors that count
    paper_phi: NDArray[np.float64]  # (n, 3), those of the paper

    def of(self, images: NDArray[Any]) -> Evidence:
        """The evidence of some of the images."""
        return Evidence(*(part[images] for part in self))


def collect_evidence(
    distances: ArrayLike,
    surprise: ArrayLike | None,
    base: DescriptorLike,
    descriptors: Sequence[DescriptorLike],
) -> Evidence:
    """Evaluate the base score, the descriptors and those of the paper, each once.

    Parameters
    ----------
    distances : array-like of shape (n, h, w)
    surprise : array-like of shape (n, h, w), or None
    base : str or callable
        Looks at the distances.
    descriptors : sequence of str or callable

    Returns
    -------
    evidence : Evidence
    """
    wanted = list(dict.fromkeys([base, *descriptors, *PAPER_PHI]))
    values = compute_descriptors(distances, wanted, surprise=surprise)

    def columns(part):
        return values[:, [wanted.index(descriptor) for descriptor in part]]

    return Evidence(columns([base])[:, 0], columns(descriptors), columns(PAPER_PHI))
