"""What a fitted pipeline says of images, of parts and of regions: tables."""

from __future__ import annotations

import logging

import pandas as pd
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .._utils.validation import check_labels, check_number
from .._utils.warning import renamed
from ..containers import AnomalyMaps
from ..images.image_list import ImageList, ImagesLike
from ..scoring.evidence import check_maps
from ..scoring.parts import check_fitted_with_parts, decide_parts
from ..scoring.regions import COLUMNS, find_regions
from ..scoring.structcore import StructCoreScorer
from .steps import listed, names_of

_logger = logging.getLogger(__name__)


def describe(pipe: Pipeline, X: ImagesLike | AnomalyMaps) -> pd.DataFrame:
    """Say what is decided about images, how their scores come about, and where.

    Parameters
    ----------
    pipe : Pipeline
        Fitted, as `make_structcore` builds it.
    X : folder, sequence of paths, PIL images or arrays, ndarray, ImageSet, or AnomalyMaps
        Images, or their maps as ``pipe[:-1].transform(images)`` gives them.

    Returns
    -------
    table : DataFrame
        A row an image: ``image``, its path or "image <position>", and the columns that
        `describe_maps` explains, of which these decide: ``anomaly_score``, ``p_value``,
        ``is_anomalous``, ``decided_by`` and ``route``.

    Raises
    ------
    TypeError
        If `pipe` is no pipeline whose last step is a StructCoreScorer.

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
    scorer, X = _scorer_and_images(pipe, X, "describe")
    table = scorer.describe(_maps_of(pipe, X))
    table.insert(0, "image", names_of(X))
    return table


def describe_parts(
    pipe: Pipeline, X: ImagesLike | AnomalyMaps, parts: ArrayLike | None = None
) -> pd.DataFrame:
    """Decide about parts of which there are several views.

    Parameters
    ----------
    pipe : Pipeline
        Fitted with ``bank__parts=``, as `make_structcore` builds it.
    X : see `describe`
        Views of parts, or with `parts` their maps. A part may lack some.
    parts : array-like of shape (n_views,), default=None
        The part that each image shows; None: those that the images carry, as in `fit`.

    Returns
    -------
    table : DataFrame
        A row a part, in the order in which they first appear: ``part``, ``n_views``,
        ``anomaly_score``, ``p_value`` (how often a good part scores at least as high),
        ``is_anomalous``; of its strangest view ``worst_view`` (name, or position),
        ``worst_p_value``, ``decided_by`` and ``route``.

    Raises
    ------
    ValueError
        If the pipeline was fitted without parts, or it is not known which part each image shows.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import describe_parts, make_structcore
    >>> X = np.random.default_rng(0).normal(size=(60, 4, 4, 8)).astype(np.float32)
    >>> parts = np.repeat(np.arange(20), 3)  # three views each
    >>> pipe = make_structcore(structcore__false_alarm_rate=0.1)[2:].fit(X, bank__parts=parts)
    >>> X[-1] += 3
    >>> describe_parts(pipe, X[-6:], parts[-6:])[["part", "n_views", "is_anomalous", "worst_view"]]
       part  n_views  is_anomalous worst_view
    0    18        3         False    image 1
    1    19        3          True    image 5
    """
    scorer, X = _scorer_and_images(pipe, X, "describe_parts")
    check_fitted_with_parts(scorer)
    names = names_of(X)
    if parts is None and isinstance(X, ImageList):
        parts = X.annotations.parts
    if parts is None:
        raise ValueError("The images do not say which part each of them shows: give parts.")
    parts = check_labels(parts, len(names), "parts")
    return decide_parts(scorer, scorer.describe(_maps_of(pipe, X)).assign(file=names), parts)


@renamed("level", "false_alarm_rate")
def regions(
    pipe: Pipeline,
    X: ImagesLike | AnomalyMaps,
    *,
    false_alarm_rate: float | None = None,
    min_area: float = 0.0,
) -> pd.DataFrame:
    """Find the regions of images that are higher than good images are.

    A region is a set of connected patches (also at corners) whose distance is above the threshold
    of the base score: one that a share `false_alarm_rate` of good images exceeds anywhere. An image
    may be rejected without a region, and have one without being rejected: `predict` knows more.

    Parameters
    ----------
    pipe, X : see `describe`
    false_alarm_rate : float in (0, 1), default=None
        How many good images may have a region; None: that of the last step. A larger one shows
        fainter regions.
    min_area : float, default=0.0
        In pixels of the original. Smaller regions stay in the table, marked `too_small`.

    Returns
    -------
    regions : DataFrame
        A row a region, by image and from the highest peak down:

        - ``image``: path of the image, or "image <position>"; ``region``: number in it, from 1;
        - ``polygon``: ndarray of shape (n, 2), x and y of the corners of its outline, along the
          edges of patches; ``area`` without holes, and ``n_patches``;
        - ``mean`` and ``peak``: of its distances; ``peak_row``, ``peak_col``: where that is;
        - ``top``, ``left``, ``bottom``, ``right``: its box;
        - ``p_value``: how often a good image has, somewhere, a distance as high as the peak;
        - ``touches_border``: whether it goes on beyond what the backbone saw;
        - ``too_small``: whether it is smaller than `min_area`;
        - ``route``: the product that the image was compared with; "all" without routes;
        - ``height``, ``width``: of the upright original.

        Places are in pixels of the upright original, or in patches where maps have no geometry.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import make_structcore, regions
    >>> X = np.random.default_rng(0).random((42, 8, 8, 4), dtype=np.float32)
    >>> pipe = make_structcore(structcore__false_alarm_rate=0.1)[2:].fit(X[:40])
    >>> X[41, 2:4, 5:8] = 3  # of 2 x 3 patches
    >>> table = regions(pipe, X[40:])
    >>> table[["image", "region", "area", "touches_border"]]
         image  region  area  touches_border
    0  image 1       1   6.0            True
    >>> table["polygon"][0].tolist()
    [[5.0, 2.0], [8.0, 2.0], [8.0, 4.0], [5.0, 4.0]]
    """
    scorer, X = _scorer_and_images(pipe, X, "regions")
    routes = scorer.routes_ if false_alarm_rate is None else scorer.routes_.at(false_alarm_rate)
    check_number(min_area, "min_area", 0, closed="left")
    maps = check_maps(scorer, _maps_of(pipe, X), reset=False)
    by_image = find_regions(maps, names_of(X), routes, scorer.resolution)
    rows = [row for rows in by_image for row in rows]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    table["too_small"] = table["area"] < min_area
    if n_small := table["too_small"].sum():
        text = "%d of %d regions are smaller than min_area=%g (column too_small)"
        _logger.info(text, n_small, len(table), min_area)
    return table


def _scorer_and_images(pipe, X, function):
    """The last step, and the images with names that stay."""
    scorer = pipe[-1] if isinstance(pipe, Pipeline) else None
    if not isinstance(scorer, StructCoreScorer):
        raise TypeError(f"{function} needs a pipeline whose last step is a StructCoreScorer.")
    check_is_fitted(scorer)
    return scorer, listed(pipe, X)


def _maps_of(pipe, X):
    return X if isinstance(X, AnomalyMaps) else pipe[:-1].transform(X)
