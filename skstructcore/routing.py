"""Which product does an image show? Prototypes, routing distances and the number of routes.

The routing bank of a product is a handful of L2-normalised prototypes. An image is compared
with the prototypes of every product, patch by patch, and goes to the product whose prototypes
are nearest on the whole. All functions here take arrays and return arrays.
"""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from .coreset import greedy_k_center

__all__ = [
    "AGGREGATES",
    "choose_routes",
    "normalize_rows",
    "pool_patches",
    "prototype_distances",
    "routing_distances",
    "select_prototypes",
]


def normalize_rows(rows):
    """Scale the last axis to length one; zero vectors stay zero.

    Examples
    --------
    >>> import numpy as np
    >>> normalize_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32)
    """
    rows = np.asarray(rows, dtype=np.float32)
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


def select_prototypes(rows, n_prototypes):
    """Choose prototypes among patches by greedy k-center on their directions.

    Parameters
    ----------
    rows : array-like of shape (n, n_features)
        Patches of one product, not normalised.
    n_prototypes : int
        How many to choose; all rows if there are fewer.

    Returns
    -------
    prototypes : ndarray of shape (min(n_prototypes, n), n_features), float32
        L2-normalised.
    picks : ndarray of shape (min(n_prototypes, n),), int64
        The row that each prototype is.

    Examples
    --------
    >>> import numpy as np
    >>> select_prototypes(np.array([[2.0, 0.0], [3.0, 0.1], [0.0, 5.0]]), 2)[1]
    array([0, 2])
    """
    directions = normalize_rows(rows)
    picks, _ = greedy_k_center(directions, min(n_prototypes, len(directions)))
    return directions[picks], picks


def prototype_distances(patches, prototypes, *, exclude=None):
    """Distance of each patch to the nearest of some prototypes, both of length one.

    Parameters
    ----------
    patches : ndarray of shape (n_images, n_patches, n_features), float32
        L2-normalised.
    prototypes : ndarray of shape (n_prototypes, n_features), float32
        L2-normalised.
    exclude : (image_groups (n_images,), prototype_groups (n_prototypes,)), default=None
        An image is not compared with prototypes of its own group.

    Returns
    -------
    distances : ndarray of shape (n_images, n_patches), float32
        From 0 to 2; ``inf`` where no prototype is left.
    """
    cosines = patches @ prototypes.T
    if exclude is not None:
        image_groups, prototype_groups = exclude
        own = image_groups[:, np.newaxis] == prototype_groups
        cosines = np.where(own[:, np.newaxis, :], -np.inf, cosines)
    return np.sqrt(np.maximum(2 - 2 * cosines.max(axis=2), 0))


def _huber(distances):
    """Mean Huber loss with delta = 1: squares of near patches, far ones count linearly."""
    return np.where(distances <= 1, distances**2 / 2, distances - 0.5).mean(axis=1)


def _mean(distances):
    """Mean distance."""
    return distances.mean(axis=1)


def _trimmed_mean(distances):
    """Mean of the nearest three quarters of the patches: a defect has no say."""
    keep = max(1, round(0.75 * distances.shape[1]))
    return np.partition(distances, keep - 1, axis=1)[:, :keep].mean(axis=1)


#: Name -> function of distances (n_images, n_patches) that returns (n_images,).
AGGREGATES = {"huber": _huber, "mean": _mean, "trimmed-mean": _trimmed_mean}


def routing_distances(patches, prototypes, *, aggregate="huber", exclude=None):
    """Routing distance of images to every route.

    Parameters
    ----------
    patches : array-like of shape (n_images, n_patches, n_features)
        Not normalised.
    prototypes : sequence of ndarray of shape (n_prototypes, n_features)
        The routing bank of each route.
    aggregate : {"huber", "mean", "trimmed-mean"}, default="huber"
        What makes one number of the distances of an image's patches, see `AGGREGATES`.
    exclude : (image_groups, tuple of prototype_groups), default=None
        Group of each image, and of the prototypes of each route: an image is not compared
        with prototypes that were cut from its own group.

    Returns
    -------
    distances : ndarray of shape (n_images, n_routes), float64
        ``inf`` for a route of which no prototype is left.

    Examples
    --------
    >>> import numpy as np
    >>> right, up = np.array([[1, 0]], np.float32), np.array([[0, 1]], np.float32)
    >>> routing_distances([[[9.0, 0.0], [9.0, 0.0]]], [right, up], aggregate="mean").round(3)
    array([[0.   , 1.414]])
    """
    directions = normalize_rows(patches)
    distances = np.empty((len(directions), len(prototypes)))
    # Route by route: what an image gets for one route must not depend on the others, to the
    # last bit, and one product with all prototypes together would be free to sum otherwise.
    for route, entries in enumerate(prototypes):
        own = None if exclude is None else (exclude[0], exclude[1][route])
        nearest = prototype_distances(directions, entries, exclude=own)
        distances[:, route] = AGGREGATES[aggregate](nearest.astype(np.float64))
    return distances
