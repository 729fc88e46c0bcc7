"""Types that several signatures share."""

import sys
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike as ArrayLike
from numpy.typing import NDArray as NDArray

if sys.version_info >= (3, 11):
    from typing import Self as Self
else:
    from typing_extensions import Self as Self  # comes with torch

RandomState = int | np.random.RandomState | None
#: How the nearest entries are searched.
Algorithm = Literal["exact", "approximate"]
#: How `RoutedKNNScorer` scores training images.
Calibration = Literal["leave-one-image-out", "k-fold", "in-sample"]
#: Plain or squared distance.
Metric = Literal["euclidean", "sqeuclidean"]
