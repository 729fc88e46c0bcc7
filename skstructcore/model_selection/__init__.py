"""Splits, scorers and criteria to compare pipelines by."""

from .scorers import (
    aupro_scorer,
    combine_anomaly_scorers,
    f1_max_scorer,
    fpr_at_tpr_scorer,
    image_ap_scorer,
    image_auroc_scorer,
    make_anomaly_scorer,
    painted_defects_scorer,
    pixel_auroc_scorer,
)
from .splitters import (
    MVTecSplit,
    OneClassGroupKFold,
    OneClassGroupShuffleSplit,
    OneClassKFold,
    OneClassShuffleSplit,
)

__all__ = [
    "MVTecSplit",
    "OneClassGroupKFold",
    "OneClassGroupShuffleSplit",
    "OneClassKFold",
    "OneClassShuffleSplit",
    "aupro_scorer",
    "combine_anomaly_scorers",
    "f1_max_scorer",
    "fpr_at_tpr_scorer",
    "image_ap_scorer",
    "image_auroc_scorer",
    "make_anomaly_scorer",
    "painted_defects_scorer",
    "pixel_auroc_scorer",
]
