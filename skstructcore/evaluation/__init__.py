"""Score data sets: one category or many, on one core or on a cluster."""

from .categories import CategoryError, evaluate_categories, format_markdown
from .parallel import iter_scores, predict, score_images, score_samples
from .single import Evaluation, evaluate, format_table

__all__ = [
    "CategoryError",
    "Evaluation",
    "evaluate",
    "evaluate_categories",
    "format_markdown",
    "format_table",
    "iter_scores",
    "predict",
    "score_images",
    "score_samples",
]
