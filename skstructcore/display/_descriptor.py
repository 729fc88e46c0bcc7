"""How far each part of the score is from normal, and which part decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .._utils.validation import check_same_length
from ..images.labels import GOOD
from ..scoring.table import z_columns
from ._base import ScoredDisplay, check_described, members_of
from .style import BLUE, GREY, ORANGE, as_text, legend_beside

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(eq=False, repr=False)
class DescriptorDisplay(ScoredDisplay):
    """The standardised descriptors of images: what the score adds up.

    Parameters
    ----------
    z : DataFrame of shape (n_images, n_descriptors)
        Standard deviations above good training images; a column a descriptor.
    labels : array-like of shape (n_images,) of str, default=None
        "good", or the type of the defect.

    Examples
    --------
    >>> import pandas as pd
    >>> from skstructcore.display import DescriptorDisplay
    >>> z = pd.DataFrame({"max": [0.1, 5.0, 1.0], "contrast": [0.3, 2.0, 4.0]})
    >>> DescriptorDisplay(z, ["good", "dent", "dent"]).quantiles().loc[("contrast", "defects")]
    5%     2.1
    25%    2.5
    50%    3.0
    75%    3.5
    95%    3.9
    Name: (contrast, defects), dtype: float64
    """

    z: pd.DataFrame
    labels: ArrayLike | None = None

    def __post_init__(self) -> None:
        check_same_length(z=self.z, labels=self.labels)
        self.labels = None if self.labels is None else np.asarray(self.labels)

    @classmethod
    def of(cls, described, scorer, labels):
        check_described(described, *z_columns(scorer))
        z = described[z_columns(scorer)]
        return cls(z.rename(columns=lambda name: name.removeprefix("z_")), labels)

    def quantiles(self) -> pd.DataFrame:
        """Return the 5, 25, 50, 75 and 95 % quantiles by descriptor: of good images, of defects."""
        shares = {"5%": 0.05, "25%": 0.25, "50%": 0.5, "75%": 0.75, "95%": 0.95}
        names, tables = list(self.z), {}
        for label, mine in self._members().items():
            values = np.quantile(self.z[mine], list(shares.values()), axis=0)
            tables[label] = pd.DataFrame(values.T, names, list(shares))
        return pd.concat(tables).swaplevel().loc[names]

    def _members(self):
        members = members_of(self.labels, len(self.z))
        return {name: mine for name, mine in members.items() if mine.any()}

    @property
    def _size(self):
        return 7.4, 1.2 + 0.5 * self.z.shape[1]

    def _draw(self, ax):
        names = list(self.z)
        table, members = self.quantiles(), self._members()
        looks = {GOOD: (BLUE, "o"), "images": (BLUE, "o"), "defects": (ORANGE, "^")}
        for k, (label, mine) in enumerate(members.items()):
            color, marker = looks[label]
            rows = np.arange(len(names)) + 0.3 * (k - (len(members) - 1) / 2)
            q = table.xs(label, level=1).loc[names].to_numpy()
            ax.hlines(rows, q[:, 0], q[:, 4], color=color, lw=1.2)
            ax.hlines(rows, q[:, 1], q[:, 3], color=color, lw=5, alpha=0.5)
            ax.plot(q[:, 2], rows, marker, color=color, ms=6, label=f"{label} ({mine.sum()})")
        ax.axvspan(-1, 1, color=GREY, alpha=0.12, lw=0, label="one standard deviation")
        ax.axvline(0, color=GREY, lw=1)
        ax.set_yticks(range(len(names)), map(as_text, names))
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_xlabel(
            "standard deviations above good training images\n"
            "(mark: median, thick: middle half, thin: 5 to 95 %)"
        )
        legend_beside(ax)
