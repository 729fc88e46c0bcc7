"""One decision for several views of one part.

A part is rejected if its strangest view is rare among the strangest views of good parts. Views are
compared by p-values, so that each may have a route of its own. The smallest of k is corrected for k
(Šidák), so that views may be missing. What that gives for held-out training parts sets the
threshold, so that views may depend on each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from .decision import Decision
from .predictive import DEGREES_OF_FREEDOM

if TYPE_CHECKING:
    from .structcore import StructCoreScorer

# A p-value of 1 would be a score of minus infinity. That of 0, which the rule "quantile" gives to
# all that is above the training images, would be one too: stdtrit of SciPy is +inf there.
_SMALLEST, _LARGEST = 1e-16, 0.999


def score_parts(p_values: ArrayLike, parts: ArrayLike) -> pd.DataFrame:
    """Score parts by the p-values of their views, both of shape ``(n_views,)``.

    A row a part, as they first appear: ``part``, ``n_views``, ``anomaly_score``, and ``worst``, the
    position of its strangest view. The score is what a share ``1 - (1 - p) ** k`` of Student's t
    lies above, with the smallest ``p`` of k views: so the tail of parts is that of images.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    codes, names = pd.factorize(np.asarray(parts))
    worst = pd.Series(p_values).groupby(codes).idxmin().to_numpy()
    n_views = np.bincount(codes)
    with np.errstate(divide="ignore"):
        corrected = -np.expm1(n_views * np.log1p(-np.minimum(p_values[worst], 1.0)))
    scores = -stdtrit(DEGREES_OF_FREEDOM, np.clip(corrected, _SMALLEST, _LARGEST))
    columns = {"part": names, "n_views": n_views, "anomaly_score": scores, "worst": worst}
    return pd.DataFrame(columns)


def decide_parts(scorer: StructCoreScorer, views: pd.DataFrame, parts: ArrayLike) -> pd.DataFrame:
    """Make the table of `describe_parts` of the rows that `score_images` has of the views.

    A part of which no view could be read has no values; its ``is_anomalous`` is `pandas.NA`.
    """
    decision, parts = check_fitted_with_parts(scorer), np.asarray(parts)
    if "p_value" not in views:  # none could be read
        views = views.assign(p_value=np.nan, decided_by=None, route=None)
    read = views["p_value"].notna().to_numpy()
    table = score_parts(views["p_value"][read], parts[read])
    worst = views[read].iloc[table.pop("worst")].reset_index(drop=True)
    table["p_value"] = decision.p_values(table["anomaly_score"])
    table["is_anomalous"] = decision.rejects(table["anomaly_score"])
    table["worst_view"], table["worst_p_value"] = worst["file"], worst["p_value"]
    table = table.join(worst[["decided_by", "route"]])
    if read.all():
        return table
    table = table.set_index("part").reindex(pd.unique(parts)).rename_axis("part").reset_index()
    return table.assign(
        n_views=table["n_views"].fillna(0).astype(int),
        is_anomalous=table["is_anomalous"].astype("boolean"),
    )


def check_fitted_with_parts(scorer: StructCoreScorer) -> Decision:
    """Return the decision about parts, or say that there is none."""
    if scorer.part_decision_ is None:
        raise ValueError(
            "The pipeline was fitted without parts, so that it does not know what the strangest "
            "view of a good part looks like: fit with bank__parts= (fit --parts)."
        )
    return scorer.part_decision_
