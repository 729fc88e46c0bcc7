"""What `StructCoreScorer.describe` found, in words for the person at the line."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..routing import UNKNOWN
from ..scoring.decision import ROUNDING
from ..scoring.descriptors import SURPRISE, TOP
from ..scoring.summary import percent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_TERMS = {
    "max": "the distance of its farthest patch",
    "std": "the spread of its distances",
    "tv": "how much distances change from patch to patch",
    "mean": "the mean distance of its patches",
    "median": "the distance of its middle patch",
    "contrast": "its farthest patch against its middle one",
    "smoothmax": "the distance of its farthest 3 × 3 patches",
    "component": "the size of its largest unusual region",
    "moran": "how clustered its unusual patches are",
    "concentration": "how concentrated its distances are",
}


def term_in_words(name: str) -> str:
    """Say what a term of the score looks at; a descriptor of your own is called by its name.

    Examples
    --------
    >>> term_in_words("top5"), term_in_words("surprise_max")
    ('its 5 % farthest patches', 'the distance of its farthest patch, given what it shows')
    """
    inner = name.removeprefix(SURPRISE)
    top = TOP.fullmatch(inner)
    words = f"its {top[1]} % farthest patches" if top else _TERMS.get(inner, inner)
    return f"{words}, given what it shows" if name != inner else words


def place_in_words(row: float, column: float) -> str:
    """Say where on an image something is, by shares of its height and width.

    Examples
    --------
    >>> place_in_words(0.9, 0.1), place_in_words(0.1, 0.5), place_in_words(0.5, 0.5)
    ('at the lower left', 'at the top', 'in the middle')
    """
    vertical = ("upper", "", "lower")[min(int(3 * row), 2)]
    horizontal = ("left", "", "right")[min(int(3 * column), 2)]
    if vertical and horizontal:
        return f"at the {vertical} {horizontal}"
    if vertical:
        return "at the top" if vertical == "upper" else "at the bottom"
    return f"at the {horizontal}" if horizontal else "in the middle"


def headline(row: Mapping[str, Any], least: float, size: tuple[int, int]) -> str:
    """Say in one phrase what is most unusual on an image, where, and how unusual it is.

    By a row of `describe`, the smallest p-value that there is, and the height and width in pixels.
    """
    if row["route"] == UNKNOWN:
        return f"no known product; the nearest is {row['nearest_route']}"
    place = place_in_words(row["peak_row"] / size[0], row["peak_col"] / size[1])
    height, width = _extent(row)
    if math.isnan(height):
        what = "most unusual"
    elif row["area_over"] > 0.25:
        what = "large area, most of all"
    else:
        what = "long, thin mark" if max(height, width) >= 3 * min(height, width) else "spot"
    if row["p_value"] > 0.1:
        return f"{what} {place}; {percent(row['p_value'])} of good images are as unusual"
    return f"{what} {place}, farther from normal than {_how_many(row['p_value'], least)}"


def reasons(row: Mapping[str, Any], least: float) -> list[str]:
    """Explain the decision about one image; the first sentence says what was decided, and why.

    By a row of the table of `collect`, and the smallest p-value that there is.
    """
    is_unknown = row["route"] == UNKNOWN
    if is_unknown:
        first = f"Rejected: it shows no known product. The nearest is {row['nearest_route']}, and"
        first += f" only {percent(row['route_p_value'])} of its good images are as far from it."
    elif row["is_anomalous"]:
        first = f"Rejected: it scores higher than {_how_many(row['p_value'], least)}."
    else:
        first = f"Accepted: {percent(row['p_value'])} of good images score at least as high."
    sentences = [first]
    z = row[f"z_{row['decided_by']}"]
    if math.isfinite(z):
        decided = row["is_anomalous"] and not is_unknown
        sentences.append(
            f"{'Decided by' if decided else 'What counts most is'} "
            f"{term_in_words(row['decided_by'])}: {abs(z):.1f} standard deviations "
            f"{'above' if z >= 0 else 'below'} good images"
            f"{', which this score counts as unusual' if decided and z < 0 else ''}."
        )
    if math.isfinite(row["base_ratio"]):
        place = f"row {row['peak_row']:.0f}, column {row['peak_col']:.0f}"
        sentences.append(
            f"Its farthest patch, at {place}, is at {row['base_ratio']:.2f} times the "
            "threshold distance."
        )
    height, width = _extent(row)
    if math.isfinite(height):
        sentences.append(
            f"Around it a region of {width:.0f} × {height:.0f} pixels is over the threshold, "
            f"{percent(row['area_over'])} of the image in all."
        )
    else:
        sentences.append("No patch is over the threshold distance.")
    if "nearest_route" in row and not is_unknown:
        sentences.append(
            f"It was taken for {row['route']}: {percent(row['route_p_value'])} of that product's "
            "images are at least as far from it."
        )
    return sentences


def _extent(row):
    """Height and width of the region around the peak; NaN where none is."""
    return row["region_bottom"] - row["region_top"], row["region_right"] - row["region_left"]


def _how_many(p_value, least):
    if p_value > least + ROUNDING:
        return f"{percent(1 - max(p_value, 0.001))} of good images"
    if least == 0:
        return "all good images of the fit"
    n_independent = round(1 / least) - 1
    return f"all {n_independent} independent good images"
