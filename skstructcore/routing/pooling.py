"""The mean patch of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._utils.rows import counted_rows, iter_batches

if TYPE_CHECKING:
    from .._utils.rows import LazyRows
    from .._utils.typing import ArrayLike, NDArray


def normalize_rows(rows: ArrayLike) -> NDArray[np.float32]:
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


def pool_patches(values: LazyRows | NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean of the L2-normalised patches of each image; ignored patches do not count.

    Features ``(n_images, h, w, d)``, lazy or not, become ``(n_images, d)``, float64.
    """
    # Each image is pooled alone, so that its mean does not depend on the others, to the last bit.
    pooled = []
    for batch in iter_batches(values):
        for image in batch:
            rows = normalize_rows(counted_rows(image)[0])
            if len(rows) == 0:
                raise ValueError("Every patch of an image is ignored: nothing is left to judge.")
            pooled.append(rows.mean(axis=0, dtype=np.float64))
    return np.stack(pooled)
