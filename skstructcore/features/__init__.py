"""Patch features of images by frozen networks, and the cache that keeps them."""

from ._cache import cache_size, prune_cache
from .conv import ConvFeatures
from .dino import DinoFeatures
from .joined import JoinedFeatures
from .timm_features import TimmFeatures

__all__ = [
    "ConvFeatures",
    "DinoFeatures",
    "JoinedFeatures",
    "TimmFeatures",
    "cache_size",
    "prune_cache",
]
