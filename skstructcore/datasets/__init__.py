"""Data sets: containers, readers of published layouts, and made ones."""

from .annotation_files import load_annotated
from .image_set import ImageSet
from .loaders import find_layout, load_btad, load_kolektor, load_mvtec_ad, load_visa
from .masks import NoMasksError, judged_pixels
from .painting import DEFECTS, paint_copies, paint_defect
from .photographs import PHOTOGRAPHS, make_photographs
from .rows import DatasetError
from .sources import load_images
from .tables import load_verdicts

__all__ = [
    "DEFECTS",
    "PHOTOGRAPHS",
    "DatasetError",
    "ImageSet",
    "NoMasksError",
    "find_layout",
    "judged_pixels",
    "load_annotated",
    "load_btad",
    "load_images",
    "load_kolektor",
    "load_mvtec_ad",
    "load_verdicts",
    "load_visa",
    "make_photographs",
    "paint_copies",
    "paint_defect",
]
