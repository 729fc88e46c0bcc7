"""Arrays in, arrays out: farthest-first selection and nearest neighbours, and their kernels."""

from .coreset import greedy_k_center
from .index import NeighborIndex
from .streaming import StreamingCoreset

__all__ = ["NeighborIndex", "StreamingCoreset", "greedy_k_center"]
