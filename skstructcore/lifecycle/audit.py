"""Which training images are no good examples: what looks like a defect, and what is there twice."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control
from sklearn.pipeline import Pipeline

from .._utils.rows import counted_rows, iter_placed
from .._utils.validation import check_number
from ..bank.training import digests_of
from ..images.image_list import ImagesLike
from ..neighbors.index import NeighborIndex
from ..pipeline.steps import features_of, fitted_steps
from ..scoring.decision import HeldOut, check_scores
from ..scoring.predictive import FALSE_DISCOVERIES, tail_p_values

_logger = logging.getLogger(__name__)

__all__ = ["audit"]

# Patches this much nearer to those of another image than is usual are copies of them.
_COPY = 0.1


def audit(
    pipe: Pipeline, images: ImagesLike | None = None, *, fdr: float = FALSE_DISCOVERIES
) -> pd.DataFrame:
    """Look for training images that are defects, or copies of others.

    `forget` takes them out. Look at each first: what is rare and good looks like a defect too.

    Parameters
    ----------
    pipe : Pipeline
        Fitted, as `make_structcore` builds it, with held-out calibration.
    images : folder, sequence of paths, PIL images or arrays, or ndarray, default=None
        The training images. With them near-duplicates are found, not exact copies alone.
    fdr : float in (0, 1), default=0.15
        Bound on the expected share of good images among the suspects (Benjamini-Hochberg), as
        far as the scores of good images have the tail that is assumed.

    Returns
    -------
    table : DataFrame
        A row a training image, most suspicious first:

        - ``image``, its position among all images that the fit got (later ones are numbered on),
          and ``name``, where it has one;
        - ``route`` and ``group``;
        - ``anomaly_score``, held out (with routes: not scaled);
        - ``p_value``: share of good images that would score as high by the tail that sets
          thresholds. Ranks could not tell a defect: one of n images is always highest;
        - ``q_value`` and ``suspect``: the false-discovery rate up to it, and whether that is at
          most `fdr`;
        - ``copy_of``: position of another image, not of its group, that it repeats; -1 if there
          is none. ``copy_distance``: how far apart their patches are, as a share of what is
          usual (0 for equal files; NaN if not looked for).

    Raises
    ------
    ValueError
        After an in-sample fit, whose scores cannot tell.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import audit, make_structcore
    >>> X = np.random.default_rng(0).normal(size=(200, 30))
    >>> X[17], X[30] = 9, X[31]
    >>> table = audit(make_structcore(bank__ratio=0.5)[2:].fit(X))
    >>> table.loc[table["suspect"], "image"].tolist()
    [17]
    >>> table.loc[table["copy_of"] >= 0, ["image", "copy_of"]].to_numpy().tolist()
    [[31, 30]]
    """
    check_number(fdr, "fdr", 0, 1)
    bank, _, scorer = fitted_steps(pipe)
    if scorer.training_.in_sample:
        raise ValueError(
            "The pipeline was calibrated in-sample: every training image is in the bank that it "
            "was compared with, and looks good. Fit with another knn__calibration."
        )
    record, training = bank.images_, scorer.training_
    table = pd.DataFrame({"image": training.places})
    if training.names is not None:
        table["name"] = training.names
    table["route"] = "all" if training.route is None else training.route
    table["group"] = training.groups
    for name, route in scorer.routes_.items():
        mine = training.rows_of(name)
        scores = route.calibration.judge(training.take(mine)).score
        check_scores(scores)
        counts = HeldOut(scores, training.groups[mine]).counts
        table.loc[mine, "anomaly_score"] = scores
        table.loc[mine, "p_value"] = tail_p_values(scores, counts)
    table["q_value"] = false_discovery_control(table["p_value"])
    table["suspect"] = table["q_value"] <= fdr
    copies = {} if images is None else _near_images(bank, features_of(pipe, images))
    copies |= _equal_images(record)
    columns = ["copy_of", "copy_distance"]
    of_copies = pd.DataFrame([*copies.values()], index=[*copies], columns=columns, dtype=np.float64)
    table = table.join(of_copies, on="image")
    table["copy_of"] = table["copy_of"].fillna(-1).astype(np.int64)
    return table.sort_values("p_value", kind="stable", ignore_index=True)


def _equal_images(record):
    """Places of images whose content is that of an earlier one of another group."""
    first, places = record.find(record.digests), record.places
    is_copy = (first >= 0) & (record.groups != record.groups[first])
    return {places[i]: (places[first[i]], 0.0) for i in np.flatnonzero(is_copy)}


def _near_images(bank, features):
    """Places of images that explain the bank entries of another one nearly exactly."""
    entries = bank.bank_
    nearest = _nearest_patches(bank, features)
    nearest[entries.groups == bank.images_.groups[:, np.newaxis]] = np.nan  # its own entries
    given = ~np.isnan(nearest).all(axis=1)
    if given.sum() < 2:
        return {}
    with np.errstate(invalid="ignore"):
        usual = np.nanmedian(nearest[given], axis=0)
    share = nearest / np.maximum(usual, np.finfo(np.float32).tiny)
    # All entries of the other image must have a near patch here, not only one that looks alike.
    share = pd.DataFrame(np.where(np.isnan(share), np.inf, share).T)
    far = share.groupby(entries.image_index).max()
    best, least, places = far.idxmin(), far.min(), bank.images_.places
    return {places[i]: (places[best[i]], least[i]) for i in np.flatnonzero(least <= _COPY)}


def _nearest_patches(bank, features):
    """Distance from each bank entry to the nearest patch of each training image; NaN: not given."""
    entries, images = bank.bank_.values, bank.images_.find(digests_of(features))
    nearest = np.full((len(bank.images_), len(entries)), np.nan, dtype=np.float32)
    if unknown := (images < 0).sum():
        _logger.warning("%d of %d images are none that the fit got", unknown, len(images))
    of_images = (patches for _, batch in iter_placed(features) for patches in batch)
    for image, patches in zip(images, of_images, strict=True):
        if image >= 0:
            rows, _ = counted_rows(np.asarray(patches, dtype=np.float32)[np.newaxis])
            nearest[image] = np.sqrt(NeighborIndex(rows).query(entries)[0][:, 0])
    return nearest
