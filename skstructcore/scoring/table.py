"""The table of `describe`: how the score of each image came about, and what its rows mean."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

from ..containers import AnomalyMaps
from ..routing import UNKNOWN
from .calibration import Judged
from .descriptors import BASE, descriptor_names, shown
from .regions import each_map, peak_and_box

if TYPE_CHECKING:
    from .structcore import StructCoreScorer

#: False-alarm rates that a person would ask for.
FALSE_ALARM_RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3)


def rates_with(asked_rate: float) -> list[float]:
    """`FALSE_ALARM_RATES` and one more, in order; of two that differ by rounding, the latter."""
    others = (rate for rate in FALSE_ALARM_RATES if not np.isclose(rate, asked_rate))
    return sorted([asked_rate, *others])


def describe_maps(
    scorer: StructCoreScorer, maps: AnomalyMaps, base: NDArray[np.float64], judged: Judged
) -> pd.DataFrame:
    """Put together what `StructCoreScorer.describe` returns, of maps, base scores and judgement.

    Returns
    -------
    described : DataFrame
        A row an image; places are in pixels of the upright original, or in patches where the maps
        have no geometry:

        - ``base``, ``d_struct``, ``anomaly_score`` (= -score_samples);
        - ``z_<base>`` and ``z_<descriptor>``: how many standard deviations above good training
          images each is; ``z_std``, ``z_top1`` and ``z_tv``, of the paper, also where they do not
          count;
        - ``p_value``: how often a good image scores at least as high;
        - ``is_anomalous``: the decision;
        - ``decided_by``: what has raised the score most, compared with the mean of good training
          images, by its ``z`` and what that counts; in the norms of the paper a ``z`` far below
          normal raises it too;
        - ``route``: the product that the image shows, or "unknown"; "all" without routes;
        - with routes: ``nearest_route``, the one that it was compared with; ``route_distance`` to
          it, and ``route_p_value``: how often an image of this product is at least as far;
        - ``peak_row``, ``peak_col``: where the distance is largest;
        - ``region_top``, ``region_left``, ``region_bottom``, ``region_right``: box of the connected
          patches around the peak that are above the threshold of the base score, NaN where none is;
        - ``area_over``: share of the patches (ignored ones apart) that are above it.
    """
    names = [BASE, *descriptor_names(shown(scorer.descriptors_))]
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
    seen = zip(each_map(maps, scorer.resolution), judged.base_threshold, strict=True)
    where = [peak_and_box(*one_map, threshold) for one_map, threshold in seen]
    return pd.DataFrame(columns).join(pd.DataFrame(where))


def routes_of(described: pd.DataFrame) -> pd.Series:
    """The route that each image was compared with; "all" without routes."""
    return described.get("nearest_route", described["route"])


def rejections(
    described: pd.DataFrame, scorer: StructCoreScorer, rates: Iterable[float]
) -> NDArray[np.bool_]:
    """Which images would be rejected at other false-alarm rates, a row a rate.

    Images of no known product are, at every rate. A table of `decide_parts` is one of parts.
    """
    scores = described["anomaly_score"]
    if "part" in described:
        rejected = [scorer.part_decision_.at(rate).rejects(scores) for rate in rates]
    else:
        routes, rejected = routes_of(described), []
        for rate in rates:
            limits = {
                name: float(route.scale_scores(route.calibration.decision.at(rate).threshold))
                for name, route in scorer.routes_.items()
            }
            rejected.append(~(scores <= routes.map(limits)) | (described["route"] == UNKNOWN))
    return np.array(rejected, dtype=bool).reshape(len(rejected), len(described))


def share_interval(shares: ArrayLike, n_images: int) -> tuple[NDArray[np.float64], ...]:
    """95 % confidence limits of shares that were counted among images (Clopper and Pearson)."""
    hits = np.asarray(shares) * n_images
    with np.errstate(invalid="ignore"):  # NaN where nothing, or all, was hit
        low = beta.ppf(0.025, hits, n_images - hits + 1)
        high = beta.ppf(0.975, hits + 1, n_images - hits)
    return np.nan_to_num(low, nan=0.0), np.nan_to_num(high, nan=1.0)


def base_thresholds(described: pd.DataFrame, scorer: StructCoreScorer) -> NDArray[np.float64]:
    """Threshold of the base score for each image, by its route, to divide by; 1 in place of 0."""
    limits = {k: r.calibration.base_decision.threshold for k, r in scorer.routes_.items()}
    limits = routes_of(described).map(limits).to_numpy(np.float64)
    return np.where(limits > 0, limits, 1)


def z_columns(scorer: StructCoreScorer) -> list[str]:
    """Columns that the score adds up: of the base score and each descriptor, each once."""
    names = [BASE, *descriptor_names(scorer.descriptors_)]
    return [f"z_{name}" for name in dict.fromkeys(names)]
