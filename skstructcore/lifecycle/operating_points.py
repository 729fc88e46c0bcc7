"""What each false-alarm rate would cost and bring: thresholds, promises, and what is found."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline

from .._utils.validation import check_number, check_per_image
from .._utils.warning import renamed
from ..bank.training import digests_of
from ..containers import Patches
from ..datasets.painting import paint_copies
from ..images.image_list import ImagesLike, as_images
from ..images.labels import is_anomalous
from ..knn.search import score_held_out
from ..pipeline.steps import check_takes_images, features_of, fitted_steps, intensity_of
from ..scoring.decision import check_scores
from ..scoring.table import FALSE_ALARM_RATES, rejections, share_interval

__all__ = ["operating_points"]

_FOUND = 0.9  # the share that the smallest defect is found with


@renamed("levels", "false_alarm_rates")
def operating_points(
    pipe: Pipeline,
    images: ImagesLike | None = None,
    y: ArrayLike | None = None,
    *,
    false_alarm_rates: Sequence[float] = FALSE_ALARM_RATES,
    sizes: Sequence[float] = (0.02, 0.04, 0.08, 0.16, 0.32),
    severity: float = 1.0,
    n_painted: int = 40,
    random_state: int = 0,
) -> pd.DataFrame:
    """Say for several false-alarm rates what the threshold is, how sure it is, and what it finds.

    ``recalibrate(pipe, false_alarm_rate=…)`` sets the one that is chosen; no fit is needed.

    Parameters
    ----------
    pipe : see `recalibrate`
    images : folder, sequence of paths, PIL images or arrays, or ndarray, default=None
        Good images, training images or others, into whose copies defects are painted; with
        labels also defects. None: no estimate of what is found.
    y : array-like of shape (n_images,), default=None
        Labels (see `skstructcore.images.labels`). None: those of the `ImageSet`; else all good.
    false_alarm_rates : sequence of float in (0, 1), default=FALSE_ALARM_RATES
        False-alarm rates that are asked for.
    sizes : sequence of float in (0, 1], default=(0.02, 0.04, 0.08, 0.16, 0.32)
        Longest extent of painted defects, as shares of the shorter side of the image. They may
        lie anywhere: those outside of `crop`, or where `ignore` is, count as not found.
    severity : float, default=1.0
        Contrast of painted defects, see `paint_defect`.
    n_painted : int, default=40
        How many good images get a defect of each size; drawn at random.
    random_state : int, default=0
        Draws the images and paints the defects.

    Returns
    -------
    table : DataFrame
        A row a rate, or a rate and route:

        - ``route``, the ``false_alarm_rate`` that is asked for, the ``rate`` that the threshold
          stands for (larger where images are too few; NaN after an in-sample fit or with
          ``threshold="quantile"``), ``rate_low`` and ``rate_high``, a 90 % interval of it
          (``threshold="expected"`` only), and ``threshold`` of the anomaly score (not scaled);
        - with images, over all routes: ``painted_found``, the share of painted defects found,
          of all sizes alike; ``smallest_found``, the size from which on at least 90 % are (NaN: at
          none); ``painted_0.02`` and so on, the share found of each size;
        - with labels: ``false_alarms`` and ``found``, measured shares of good images that are not
          in the bank and of defects, with ``…_low`` and ``…_high``, their 95 % confidence limits
          (Clopper-Pearson).

    Notes
    -----
    Painted copies of training images are scored as if the originals had not been in the bank.
    Painted defects are not yours: the estimate ranks operating points (see ``docs/field.md``).

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import make_structcore, operating_points
    >>> X = np.random.default_rng(0).normal(size=(99, 4))
    >>> pipe = make_structcore(structcore__threshold="guaranteed")[2:].fit(X)
    >>> table = operating_points(pipe, false_alarm_rates=[0.001, 0.1])
    >>> table[["route", "false_alarm_rate", "rate"]]
      route  false_alarm_rate  rate
    0   all             0.001  0.01
    1   all             0.100  0.10
    """
    scorer = fitted_steps(pipe)[-1]
    _check_numbers(false_alarm_rates, "false_alarm_rates", 0, 1)
    _check_numbers(sizes, "sizes", 0, 1, closed="right")
    check_number(severity, "severity", 0)
    check_number(n_painted, "n_painted", 1, closed="left", type=Integral)
    for decision in scorer.routes_.decisions.values():
        check_scores(decision.scores)
    table = _thresholds(scorer, false_alarm_rates)
    if images is None:
        if y is not None:
            raise ValueError("y labels images: give them as well.")
        return table
    check_takes_images(pipe, "operating_points")
    # Copies hold the levels that the pipeline sees: painted ones must differ by the paint alone.
    images = as_images(images).seen_through(intensity_of(pipe, channels=False))
    labels = images.annotations.labels if y is None else y
    good = _good(labels, len(images))
    rates = table["false_alarm_rate"].unique()
    shares = _painted(pipe, images[good], rates, sizes, severity, n_painted, random_state)
    if labels is not None:
        shares = shares.join(_measured(pipe, images, good, rates))
    return table.join(shares, on="false_alarm_rate")


def _thresholds(scorer, rates):
    """A row a rate and route: the threshold, and what is known of the rate it stands for."""
    rows = []
    for false_alarm_rate in map(float, rates):
        for name, fitted in scorer.routes_.decisions.items():
            decision = fitted.at(false_alarm_rate)
            says_nothing = decision.held_out.in_sample or decision.rule == "quantile"
            rate = np.nan if says_nothing else decision.rate
            limits = decision.interval or (np.nan, np.nan)
            rows.append((name, false_alarm_rate, rate, *limits, decision.threshold))
    columns = ["route", "false_alarm_rate", "rate", "rate_low", "rate_high", "threshold"]
    return pd.DataFrame(rows, columns=columns)


def _check_numbers(values, name, *limits, **options):
    if isinstance(values, str) or np.ndim(values) != 1 or not 0 < len(set(values)) == len(values):
        raise ValueError(f"{name} must be a list of numbers, each once; got {values!r}.")
    for value in values:
        check_number(value, name, *limits, **options)


def _good(labels, n_images):
    if labels is None:
        return np.ones(n_images, dtype=bool)
    good = ~is_anomalous(check_per_image(labels, n_images, "y"), both=False)
    if not good.any():
        raise ValueError("There is no good image into which defects could be painted: give some.")
    return good


def _painted(pipe, images, rates, sizes, severity, n_painted, random_state):
    """What is found of painted defects at each rate: of all sizes, and of each."""
    rng = np.random.default_rng(random_state)
    chosen = images[np.sort(rng.permutation(len(images))[:n_painted])]
    options, shares = {"severity": severity, "random_state": random_state}, {}
    for size in sizes:
        copies = []
        for i, side in enumerate(chosen.sizes().min(axis=1)):
            pixels = float(np.clip(size * side, 1, side))
            copies += paint_copies(chosen[[i]], size=pixels, **options).paths
        described = _describe_held_out(pipe, chosen, copies)
        shares[size] = rejections(described, pipe[-1], rates).mean(axis=1)
    shares = pd.DataFrame(shares, index=rates)
    smallest = [_smallest_size(sizes, row) for row in shares.to_numpy()]
    summary = pd.DataFrame({"painted_found": shares.mean(axis=1), "smallest_found": smallest})
    return summary.join(shares.add_prefix("painted_"))


def _smallest_size(sizes, shares):
    """Size from which on at least 90 % are found, interpolated over its logarithm; NaN: at none."""
    order = np.argsort(sizes)
    lowest = np.minimum.accumulate(np.asarray(shares)[order][::-1])[::-1]  # of all larger ones too
    reached, sizes = np.nextafter(_FOUND, 0), np.log(np.asarray(sizes)[order])
    return round(float(np.exp(np.interp(reached, lowest, sizes, right=np.nan))), 9)


def _describe_held_out(pipe, originals, copies):
    """Describe changed copies, those of training images without these in the bank."""
    bank, knn, scorer = fitted_steps(pipe)
    features = features_of(pipe, copies)
    places = bank.images_.find(digests_of(originals))
    tables = []
    if len(rows := np.flatnonzero(places >= 0)):
        patches = Patches(features[rows], bank.bank_, places[rows], bank.images_)
        maps, _ = score_held_out(knn.search_, patches, knn.expectations_)
        tables.append(scorer.describe(maps))
    if len(rows := np.flatnonzero(places < 0)):
        tables.append(scorer.describe(knn.transform(bank.transform(features[rows]))))
    return pd.concat(tables, ignore_index=True)


def _measured(pipe, images, good, rates):
    """What labels tell at each rate, with confidence limits."""
    fresh = fitted_steps(pipe)[0].images_.find(digests_of(images)) < 0
    columns = {}
    for name, which in (("false_alarms", good & fresh), ("found", ~good)):
        if not which.any():
            continue
        described = pipe[-1].describe(pipe[:-1].transform(images[which]))
        shares = rejections(described, pipe[-1], rates).mean(axis=1)
        low, high = share_interval(shares, len(described))
        columns |= {name: shares, f"{name}_low": low, f"{name}_high": high}
    return pd.DataFrame(columns, index=rates)
