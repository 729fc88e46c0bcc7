"""Types that several signatures share."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike as ArrayLike
from numpy.typing import NDArray as NDArray
from typing_extensions import Self as Self  # comes with torch; in `typing` from Python 3.11 on

RandomState = int | np.random.RandomState | None
#: How the nearest entries are searched.
Algorithm = Literal["exact", "approximate"]
#: How `RoutedKNNScorer` scores training images.
Calibration = Literal["leave-one-image-out", "k-fold", "in-sample"]
#: Plain or squared distance.
Metric = Literal["euclidean", "sqeuclidean"]
