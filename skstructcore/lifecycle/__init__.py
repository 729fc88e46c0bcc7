"""What happens to a fitted pipeline after its fit."""

from .persistence import ModelFileError, info, load, save
from .products import add_category, remove_category

__all__ = ["ModelFileError", "add_category", "info", "load", "remove_category", "save"]
