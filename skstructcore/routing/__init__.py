"""Which product an image shows: prototypes, profiles, and groups of images."""

from .grouping import UNKNOWN
from .prototypes import AGGREGATES

__all__ = ["AGGREGATES", "UNKNOWN"]
