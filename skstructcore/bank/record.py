"""Which images a bank was made of: what is kept of them, so that each can be recognised later."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .._utils.rows import join_rows
from ..images.image_list import ImageList
from .shards import over_shards

if TYPE_CHECKING:
    from .._utils.rows import LazyRows
    from .._utils.typing import ArrayLike, NDArray

_logger = logging.getLogger(__name__)

#: In the place of a digest: the image was forgotten.
FORGOTTEN = ""


@dataclass(frozen=True, eq=False)
class TrainingRecord:
    """The training images of a bank, by position (`MemoryBank.image_index`).

    Attributes
    ----------
    digests : ndarray of shape (n_images,) of str
        Of the content of each image; "" once it is forgotten.
    groups, routes : ndarray of shape (n_images,), int64
        Group code and route of each.
    sizes : ndarray of shape (n_images, 2), int64, or None
        Height and width of each original; None where features were given instead of images.
    pooled : ndarray of shape (n_images, n_features), float32, or None
        Mean patch of each image; None without routes.
    names : ndarray of shape (n_images,) of str, or None
        What tables and messages call each image; None where features were given.
    batches : ndarray of shape (n_images,), int64, or None
        0 for the images of the fit, and 1, 2, ... for those that each `update` brought. None: it
        is not known, as the model was written by an earlier release.
    forgotten : ndarray of shape (n_images,), int64, or None
        Before which batch each image was forgotten; 0: it was not. None as above.
    """

    digests: NDArray[np.str_]
    groups: NDArray[np.int64]
    routes: NDArray[np.int64]
    sizes: NDArray[np.int64] | None = None
    pooled: NDArray[np.floating] | None = None
    names: NDArray[np.str_] | None = None
    batches: NDArray[np.int64] | None = None
    forgotten: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.digests)

    @property
    def is_there(self) -> NDArray[np.bool_]:
        """Which images have not been forgotten."""
        return self.digests != FORGOTTEN

    def find(self, digests: ArrayLike) -> NDArray[np.int64]:
        """Position of the first image of each digest that is there; -1 where none is."""
        place = {digest: i for i, digest in reversed([*enumerate(self.digests.tolist())])}
        place.pop(FORGOTTEN, None)
        return np.array([place.get(digest, -1) for digest in digests], dtype=np.int64)

    def join(self, other: TrainingRecord) -> TrainingRecord:
        """Both, one after the other. Batches of the other come after ours; all else stays."""
        if self.batches is not None and other.batches is not None:
            other = replace(other, batches=other.batches + self.batches.max() + 1)
        return join_rows(self, other)

    def forget(self, which: NDArray[np.bool_]) -> TrainingRecord:
        """The same, without the digests and names of some images; positions stay."""
        names, forgotten = self.names, self.forgotten
        if names is not None:
            names = np.where(which, FORGOTTEN, names)
        if forgotten is not None:
            forgotten = np.where(which & self.is_there, self.batches.max() + 1, forgotten)
        digests = np.where(which, FORGOTTEN, self.digests)
        return replace(self, digests=digests, names=names, forgotten=forgotten)

    def is_unchanged_since(self, which: NDArray[np.bool_], among: NDArray[np.bool_]) -> bool:
        """Whether no image of those `among` which some are has come or gone since these came."""
        if self.batches is None or self.forgotten is None:
            return False
        last = self.batches[which & among].max(initial=0)
        was_there = (self.batches <= last) & (self.is_there | (self.forgotten > last))
        return np.array_equal(self.is_there[among], was_there[among]) and bool(
            (self.batches[which & among] == last).all()
        )


def record_of(
    X: LazyRows | NDArray[np.floating],
    groups: NDArray[np.int64],
    routes: NDArray[np.int64],
    pooled: NDArray[np.floating] | None = None,
    shard_size: int | None = None,
) -> TrainingRecord:
    """Record the images that features come from, or the features where they were given."""
    geometry = getattr(X, "geometry", None)
    digests = np.concatenate(list(over_shards(digests_of, shard_size, X)))
    if len(X.shape) == 4:  # rows of a table may well be equal
        _tell_of_copies(digests, groups)
    return TrainingRecord(
        digests=digests,
        groups=groups,
        routes=routes,
        sizes=None if geometry is None else geometry.original_sizes,
        pooled=None if pooled is None else np.asarray(pooled, dtype=np.float32),
        batches=np.zeros(len(digests), dtype=np.int64),
        forgotten=np.zeros(len(digests), dtype=np.int64),
        names=np.array(X.images.file_names()) if hasattr(X, "images") else None,
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
