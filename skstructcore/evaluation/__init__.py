"""Judge a pipeline by labelled data sets: one category or many."""

from .categories import CategoryError, evaluate_categories, format_markdown
from .single import Evaluation, evaluate, format_table

__all__ = [
    "CategoryError",
    "Evaluation",
    "evaluate",
    "evaluate_categories",
    "format_markdown",
    "format_table",
]
