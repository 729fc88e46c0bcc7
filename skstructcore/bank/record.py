"""What is kept of the training images of a bank, so that each can be recognised later."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

import numpy as np

from ..containers import TrainingImages
from ..images.image_list import ImageList
from .shards import over_shards

if TYPE_CHECKING:
    from typing import Any

    from .._utils.rows import LazyRows
    from .._utils.typing import NDArray

_logger = logging.getLogger(__name__)


def table_of(
    X: LazyRows | NDArray[np.floating],
    groups: NDArray[np.int64],
    routes: NDArray[np.int64],
    pooled: NDArray[np.floating] | None = None,
    parts: NDArray[Any] | None = None,
    lots: NDArray[np.int64] | None = None,
    *,
    first: int = 0,
    shard_size: int | None = None,
) -> TrainingImages:
    """Make the table of the images that features come from, or of the features as they were given.

    `first` is the position of the first among all training images of a bank.
    """
    geometry = getattr(X, "geometry", None)
    digests = np.concatenate(list(over_shards(digests_of, shard_size, X)))
    if len(X.shape) == 4:  # rows of a table may well be equal
        _tell_of_copies(digests, groups)
    never = np.zeros(len(digests), dtype=np.int64)
    return TrainingImages(
        groups=groups,
        routes=routes,
        digests=digests,
        names=np.array(X.images.file_names(first)) if hasattr(X, "images") else None,
        parts=parts,
        lots=lots,
        sizes=None if geometry is None else geometry.original_sizes,
        pooled=None if pooled is None else np.asarray(pooled, dtype=np.float32),
        came=never,
        went=never,
    )


def _tell_of_copies(digests, groups):
    _, first, which = np.unique(digests, return_index=True, return_inverse=True)
    copies = np.flatnonzero(groups != groups[first[which]])
    if len(copies):
        _logger.warning(
            "%d of %d good images are copies of others (the first: image %d of image %d), but "
            "count as independent: held out, a copy is explained by the other, and thresholds "
            "come out too low. Leave copies out, or give them one group",
            len(copies),
            len(digests),
            copies[0],
            first[which[copies[0]]],
        )


def digests_of(X: LazyRows | ImageList | NDArray[np.floating]) -> NDArray[np.str_]:
    """Digest of the content of each image, or of its features where there is no image.

    Examples
    --------
    >>> import numpy as np
    >>> a, b, again = digests_of(np.array([[1.0, 2.0], [1.0, 3.0], [1.0, 2.0]]))
    >>> a == b, a == again
    (False, True)
    """
    images = X if isinstance(X, ImageList) else getattr(X, "images", None)
    if images is not None:
        return np.array([images.digest(i) for i in range(len(images))])
    rows = np.ascontiguousarray(X, dtype=np.float32).reshape(len(X), -1)
    return np.array([hashlib.blake2b(row, digest_size=32).hexdigest() for row in rows])
