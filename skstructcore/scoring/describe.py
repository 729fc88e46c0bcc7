"""In words and numbers: how a score came about, and where on the image."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import ndimage

from ..bank.coreset_bank import CoresetBank
from ..images.image_list import as_images
from ..knn.scorer import RoutedKNNScorer
from ..projection import RandomProjection
from .descriptors import BASE, descriptor_names, shown
from .evidence import iter_seen

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sklearn.pipeline import Pipeline

    from ..containers import AnomalyMaps
    from ..images.image_list import ImagesLike
    from .calibration import Judged
    from .structcore import StructCoreScorer


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
    if isinstance(X, np.ndarray) or not takes_images(pipe):
        return [f"image {i}" for i in range(len(X))]
    return as_images(X).file_names()


def describe_maps(
    scorer: StructCoreScorer, maps: AnomalyMaps, base: NDArray[np.float64], judged: Judged
) -> pd.DataFrame:
    """Put together what `StructCoreScorer.describe` returns, of maps, base scores and judgement.

    Returns
    -------
    parts : DataFrame
        A row an image:

        - ``base``, ``d_struct``, ``anomaly_score`` (= -score_samples);
        - ``z_<base>`` and ``z_<descriptor>``: how many standard deviations above good
          training images each part is; ``z_std``, ``z_top`` and ``z_tv``, the descriptors of
          the paper, are there even where they do not count;
        - ``p_value``: how often a good image scores at least as high;
        - ``is_anomalous``: the decision;
        - ``decided_by``: the part that has raised the score most, compared with the mean of
          good training images, by its ``z`` and what that counts; with the norms of the paper
          a ``z`` far below normal raises it too;
        - ``route``: the product that the image shows, or "unknown"; "all" without routes;
        - with routes: ``nearest_route``, the one that it was compared with;
          ``route_distance`` to it, and ``route_p_value``: how often an image of this
          product is at least as far;
        - ``peak_row``, ``peak_col``: where the distance is largest;
        - ``region_top``, ``region_left``, ``region_bottom``, ``region_right``: box of the
          connected patches around the peak whose distance is above the threshold of the
          base score, NaN where none is;
        - ``area_over``: share of the patches (ignored ones apart) that are above it.

        Places are in pixels of the upright original image, or in patches where the maps
        have no geometry.
    """
    names = descriptor_names([BASE]) + descriptor_names(shown(scorer.descriptors_))
    columns = {"base": base, "d_struct": judged.d_struct, "anomaly_score": judged.score}
    columns |= {f"z_{name}": z for name, z in zip(names, judged.z.T, strict=True)}
    columns["p_value"] = judged.p_value
    columns["is_anomalous"] = ~(judged.score <= -scorer.offset_)  # NaN accepts nothing
    columns["decided_by"] = np.array(names, dtype=object)[judged.decided_by]
    columns["route"] = "all" if judged.route is None else judged.route
    if judged.route is not None:
        columns["nearest_route"] = judged.nearest_route
        columns["route_distance"] = maps.route_distance
        columns["route_p_value"] = judged.route_p_value
    where = []
    for first, part in iter_seen(replace(maps, surprise=None), scorer.resolution):
        limits = judged.base_threshold[first : first + len(part)]
        where.append(pd.DataFrame(places(part, limits)))
    return pd.DataFrame(columns).join(pd.concat(where, ignore_index=True))


def read_rows(text: bytes) -> pd.DataFrame:
    """Rows that were written as CSV: numbers to the last bit, names as they were.

    Examples
    --------
    >>> read_rows(b"file,route,p_value\\n1.png,001,0.5\\nx.png,NA,\\n").to_dict("list")
    {'file': ['1.png', 'x.png'], 'route': ['001', 'NA'], 'p_value': [0.5, nan]}
    """
    names = dict.fromkeys(["file", "model", "error", "decided_by", "route", "nearest_route"], str)
    missing = {"keep_default_na": False, "na_values": [""]}
    return pd.read_csv(io.BytesIO(text), dtype=names, float_precision="round_trip", **missing)


def places(maps: AnomalyMaps, thresholds: NDArray[np.floating]) -> dict[str, NDArray[np.float64]]:
    """Peak of each map, and the region around it that is over the threshold of the image.

    Returns the columns of `StructCoreScorer.describe` that say where: "peak_row", "peak_col",
    "region_top", "region_left", "region_bottom", "region_right" and "area_over".
    """
    values = np.asarray(maps.values)
    n_images, height, width = values.shape
    peaks = np.stack(np.unravel_index(values.reshape(n_images, -1).argmax(axis=1), (height, width)))
    origin, step = origin_and_step(maps)
    columns = {}
    for axis, name in enumerate(("peak_row", "peak_col")):
        columns[name] = origin[axis] + (peaks[axis] + (0.5 if maps.geometry else 0)) * step[axis]
    over = values > thresholds[:, np.newaxis, np.newaxis]
    corners = np.full((4, n_images), np.nan)  # top, left, bottom, right; in patches
    for image in np.flatnonzero(over.any(axis=(1, 2))):
        labels, boxes = label_regions(over[image])
        rows, cols = boxes[labels[tuple(peaks[:, image])] - 1]
        corners[:, image] = rows.start, cols.start, rows.stop, cols.stop
    for corner, name in enumerate(("top", "left", "bottom", "right")):
        axis = corner % 2
        columns[f"region_{name}"] = origin[axis] + corners[corner] * step[axis]
    counted = height * width if maps.ignored is None else (~maps.ignored).sum(axis=(1, 2))
    columns["area_over"] = over.sum(axis=(1, 2)) / counted
    return columns


def label_regions(over: NDArray[np.bool_]) -> tuple[NDArray[np.int32], list[tuple[slice, slice]]]:
    """Number the connected patches of a map, also at corners, and find the box of each region.

    Labels are 0 where `over` is False, else the number of the region, from 1. Boxes are slices of
    rows and columns.
    """
    labels, _ = ndimage.label(over, structure=np.ones((3, 3)))
    return labels, ndimage.find_objects(labels)


def origin_and_step(maps: AnomalyMaps) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Row and column of the upper left patch of each map on its original, and of the step to next.

    Both are of shape (2, n_images); 0 and 1 where maps have no geometry.
    """
    n_images, height, width = maps.shape
    if maps.geometry is None:
        return np.zeros((2, n_images)), np.ones((2, n_images))
    boxes = maps.geometry.boxes.T
    return boxes[:2], (boxes[2:] - boxes[:2]) / np.array([[height], [width]])
