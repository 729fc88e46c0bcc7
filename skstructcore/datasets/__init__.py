"""Data sets: containers, readers of published layouts, and made ones."""

from ._image_set import ImageSet
from .photographs import PHOTOGRAPHS, make_photographs
from .synthetic import DEFECTS, paint_defect

__all__ = ["DEFECTS", "PHOTOGRAPHS", "ImageSet", "make_photographs", "paint_defect"]
