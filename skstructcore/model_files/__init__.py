"""Models on disk: written whole or not at all, read without running code."""

from ._model_file import ModelFileError
from .persistence import info, load, save, trusted_types

__all__ = ["ModelFileError", "info", "load", "save", "trusted_types"]
