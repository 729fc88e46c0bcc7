"""Rows that are computed when they are asked for: what steps need to know of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    import numpy as np

    from .typing import NDArray

#: Patches that are searched, pooled or judged at a time.
PATCHES_PER_BATCH = 2**14


class LazyRows(Protocol):
    """What looks like a float32 array of one row an image, and is computed batch by batch.

    `LazyFeatures` is one; anything with these members is. `geometry` and `annotations`, where
    there are, say where the rows lie on their images and what is known of these; `map` lets
    `RandomProjection` stay lazy.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice | Sequence[int] | NDArray[Any]) -> LazyRows: ...

    def iter_batches(self) -> Iterator[NDArray[np.floating]]:
        """Yield arrays of some rows each, in order."""


def is_lazy(X: object) -> TypeGuard[LazyRows]:
    """Whether rows are computed when they are asked for; arrays are there already.

    Examples
    --------
    >>> import numpy as np
    >>> is_lazy(np.zeros((2, 3)))
    False
    """
    return hasattr(X, "iter_batches")


def iter_batches(
    X: LazyRows | NDArray[np.floating], batch_size: int | None = None
) -> Iterator[NDArray[np.floating]]:
    """Yield arrays of some rows each, in order; lazy rows keep their own batches.

    Without `batch_size` a batch of arrays has about 16,384 patches, so that what is worked out
    for each patch of it takes no more memory with large images than with small ones.

    Examples
    --------
    >>> import numpy as np
    >>> [len(batch) for batch in iter_batches(np.zeros((5, 64, 128, 1)))]
    [2, 2, 1]
    """
    if is_lazy(X):
        yield from X.iter_batches()
        return
    if batch_size is None:
        batch_size = max(1, PATCHES_PER_BATCH // math.prod(X.shape[1:-1]))
    for start in range(0, len(X), batch_size):
        yield X[start : start + batch_size]
