"""Judge a pipeline by labelled data sets: one category or many."""

from .categories import CategoryError, evaluate_categories
from .single import Evaluation, evaluate

__all__ = ["CategoryError", "Evaluation", "evaluate", "evaluate_categories"]
