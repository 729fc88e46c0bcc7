"""Which product an image shows: prototypes, profiles, and groups of images."""

from .grouping import UNKNOWN, assign_folds, check_routes, choose_routes
from .pooling import pool_patches
from .profile import DistanceTail, RouteProfile, fit_profile, fit_tail, held_out_distances
from .prototypes import AGGREGATES, routing_distances, select_prototypes

__all__ = [
    "AGGREGATES",
    "UNKNOWN",
    "DistanceTail",
    "RouteProfile",
    "assign_folds",
    "check_routes",
    "choose_routes",
    "fit_profile",
    "fit_tail",
    "held_out_distances",
    "pool_patches",
    "routing_distances",
    "select_prototypes",
]
