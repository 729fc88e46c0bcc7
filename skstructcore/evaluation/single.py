"""Fit on the good images of a data set, score the rest, and say how well that went."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline

from .._utils.files import escape_name
from .._utils.validation import check_labels, check_number
from ..containers import AnomalyMaps
from ..datasets import ImageSet, NoMasksError
from ..datasets.masks import check_masks, judged_pixels
from ..images.intensity import Intensity
from ..images.labels import GOOD, is_anomalous
from ..metrics import aupro_score, image_auroc_score, pixel_auroc_score
from ..pipeline.steps import check_takes_images, intensity_of
from ..scoring.parts import decide_parts
from ..scoring.structcore import StructCoreScorer
from ..scoring.table import rates_with, rejections

ALL = "all"  #: the last row of the table


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a fitted pipeline made of the test images of a data set.

    Attributes
    ----------
    images : ImageSet
        The test images.
    scores : DataFrame
        A row an image: ``file``, ``defect_type`` and the columns of `StructCoreScorer.describe`.
        Names that would break a table are quoted as ``$'...'``.
    maps : AnomalyMaps of shape (n_images, h, w)
        Distances on the patch grid.
    pixel_maps : ndarray of shape (n_images, H, W), float32
        The same at the size that the backbone saw.
    scorer : StructCoreScorer
        The last step of the pipeline, which decided.
    view : Intensity or None
        How the pipeline reads the values of images; None: as they are.
    """

    images: ImageSet
    scores: pd.DataFrame
    maps: AnomalyMaps
    pixel_maps: NDArray[np.float32]
    scorer: StructCoreScorer
    view: Intensity | None = None

    def table(self) -> pd.DataFrame:
        """Summarise the scores by defect type.

        Returns
        -------
        table : DataFrame
            A row for each defect type, against all good images, and a last row ``all``. Columns:
            ``images``; ``image_auroc``, ``pixel_auroc`` and ``aupro`` in [0, 1] (NaN where no
            image of the type has a defect on pixels that count); ``missed`` (defects accepted)
            and, in the row ``good``, ``false_alarms`` (good images rejected).
        """
        types = self.scores["defect_type"].to_numpy()
        good = types == GOOD
        rejected = self.scores["is_anomalous"].to_numpy()
        rows = {GOOD: {"images": int(good.sum()), "false_alarms": int(rejected[good].sum())}}
        for label in [*sorted(set(types[~good])), ALL]:
            members = ~good if label == ALL else types == label
            rows[label] = {"images": int(members.sum()), "missed": int((~rejected[members]).sum())}
            rows[label] |= self.areas(good | members)
        rows[ALL] |= {"images": len(types), "false_alarms": rows[GOOD]["false_alarms"]}
        columns = ["images", "image_auroc", "pixel_auroc", "aupro", "false_alarms", "missed"]
        table = pd.DataFrame.from_dict(rows, orient="index").reindex(columns=columns)
        return table.rename_axis("defect_type").astype(dict.fromkeys(columns[-2:], "Int64"))

    def rates(
        self, false_alarm_rates: Sequence[float] | None = None, *, parts: ArrayLike | None = None
    ) -> pd.DataFrame:
        """Count false alarms and defects found at several false-alarm rates.

        Parameters
        ----------
        false_alarm_rates : sequence of float in (0, 1), default=None
            Rates that are asked for; None: those of `operating_points`, and that of the pipeline.
        parts : array-like of shape (n_images,), default=None
            The part that each image is a view of: parts are counted instead of images.

        Returns
        -------
        table : DataFrame
            A row a rate: ``false_alarm_rate``, ``false_alarms`` (good images rejected) and
            ``found`` (defects rejected), as counts and as shares (``…_share``).
        """
        if false_alarm_rates is None:
            false_alarm_rates = rates_with(self.scorer.calibration_.decision.asked_rate)
        false_alarm_rates = list(false_alarm_rates)
        for rate in false_alarm_rates:
            check_number(rate, "false_alarm_rates", 0, 1)
        scores = self.scores if parts is None else self.parts(parts)
        good = scores["defect_type"].to_numpy() == GOOD
        rejected = rejections(scores, self.scorer, false_alarm_rates)
        counts = {"false_alarms": rejected[:, good].sum(axis=1)}
        counts = pd.DataFrame({**counts, "found": rejected[:, ~good].sum(axis=1)})
        shares = (counts / [good.sum(), (~good).sum()]).add_suffix("_share")  # NaN of none
        counts.insert(0, "false_alarm_rate", false_alarm_rates)
        return counts.join(shares)

    def parts(self, parts: ArrayLike) -> pd.DataFrame:
        """Decide about the part that each image is a view of, `parts` of shape (n_images,).

        Returns
        -------
        table : DataFrame
            A row a part: the columns of `skstructcore.describe_parts` and ``defect_type``, that
            of its first defective view, or "good".
        """
        parts = check_labels(parts, len(self.images), "parts")
        table = decide_parts(self.scorer, self.scores, parts)
        types = pd.Series(self.scores["defect_type"].to_numpy())
        defects = types[types != GOOD].groupby(parts[(types != GOOD).to_numpy()]).first()
        table.insert(1, "defect_type", table["part"].map(defects).fillna(GOOD))
        return table

    def areas(self, members: NDArray[np.bool_] | slice = slice(None)) -> dict[str, float]:
        """Areas of the columns of `table`, of some images; those of pixels only with masks."""
        images, maps = self.images[members], self.maps[members]
        areas = {"image_auroc": image_auroc_score(images.y, self.scores["anomaly_score"][members])}
        try:
            masks, pixels, ignored = judged_pixels(
                images, self.pixel_maps[members], maps.geometry, maps.ignored
            )
        except NoMasksError:
            return areas
        return areas | {
            "pixel_auroc": pixel_auroc_score(masks, pixels, ignored=ignored),
            "aupro": aupro_score(masks, pixels, ignored=ignored),
        }


def evaluate(pipe: Pipeline, images: ImageSet) -> Evaluation:
    """Score images with a fitted pipeline; the backbone runs once.

    Parameters
    ----------
    pipe : Pipeline
        Fitted, as `make_structcore` builds it.
    images : ImageSet
        Test images with labels, and masks where there are any.

    Returns
    -------
    evaluation : Evaluation

    Raises
    ------
    ValueError
        Before any image is scored: if all are good or all anomalous, or masks are missing beside
        others of their type, unreadable or of another size than their images.
    """
    if not isinstance(images, ImageSet):
        raise TypeError(f"evaluate needs an ImageSet with labels, got {type(images).__name__}.")
    is_anomalous(images.y, both=True)
    if ALL in images.y:
        raise ValueError(
            f"A type of defect is called {ALL!r}, as the last row of the table is: rename it."
        )
    check_takes_images(pipe, "evaluate")
    with contextlib.suppress(NoMasksError):
        check_masks(images)
    maps = pipe[:-1].transform(images)
    scores = pipe[-1].describe(maps)
    scores.insert(0, "file", [escape_name(images.name(i)) for i in range(len(images))])
    scores.insert(1, "defect_type", [escape_name(label) for label in images.y])
    pixel_maps = pipe[-1].transform(maps)
    return Evaluation(images, scores, maps, pixel_maps, pipe[-1], intensity_of(pipe))
