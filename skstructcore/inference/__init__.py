"""Scores, maps and regions of any number of images: as tables and as files."""

from .map_files import save_maps
from .scores import iter_scores, score_images

__all__ = ["iter_scores", "save_maps", "score_images"]
