"""Which product an image shows: prototypes, profiles, and groups of images."""

from .grouping import UNKNOWN

__all__ = ["UNKNOWN"]
