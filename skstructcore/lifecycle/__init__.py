"""What happens to a fitted pipeline after its fit."""

from .products import add_category, remove_category

__all__ = ["add_category", "remove_category"]
