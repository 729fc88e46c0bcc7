"""What the script of a report knows of each image and part, and how it is written into the page."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from .._utils.files import escape_name
from ..images.files import split_page
from ..scoring.table import routes_of, z_columns
from .pictures import map_uri, outline
from .words import headline, reasons

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import pandas as pd
    from numpy.typing import NDArray

    from ..scoring.structcore import StructCoreScorer
    from .collect import Entry


def image_records(
    entries: Sequence[Entry],
    described: pd.DataFrame,
    scorer: StructCoreScorer,
    types: NDArray[np.str_] | None,
    rejected: Sequence[NDArray[np.bool_]],
    folder: Path,
) -> list[dict[str, Any]]:
    """A record an image, apart from its pictures; `rejected` says who is at each rate."""
    records = [
        {
            "file": entry.name,
            "name": name,
            "digest": entry.digest,
            "type": None if types is None else types[i],
            "error": entry.error,
            "note": entry.note,
            "size": entry.size,
            **_link(entry.file, folder),
        }
        for i, (entry, name) in enumerate(zip(entries, _short_names(entries), strict=True))
    ]
    columns = z_columns(scorer)
    smallest = {name: decision.smallest_rate for name, decision in scorer.decisions_.items()}
    smallest = routes_of(described).map(smallest)
    decided = _by_rate(rejected)
    for row, i, least, at in zip(
        described.to_dict("records"), described.index, smallest, decided, strict=True
    ):
        records[i] |= {
            "p": row["p_value"],
            "score": row["anomaly_score"],
            "at": at,
            "route": escape_name(row["route"]),
            "z": [row[column] for column in columns],
            "short": headline(row, least, entries[i].size),
            "why": reasons(row, least),
            "peak": [row["peak_row"], row["peak_col"]],
        }
    return records


def part_records(
    table: pd.DataFrame, rejected: Sequence[NDArray[np.bool_]]
) -> dict[str, dict[str, Any]]:
    """A record a part, by its name; of the table of `decide_parts`."""
    return {
        row["part"]: {
            "name": row["part"],
            "views": "one view" if row["n_views"] == 1 else f"{row['n_views']} views",
            "p": row["p_value"],
            "score": row["anomaly_score"],
            "at": at,
        }
        for row, at in zip(table.to_dict("records"), _by_rate(rejected), strict=True)
    }


def picture_record(entry: Entry, limits: tuple[float, float]) -> dict[str, Any]:
    """The pictures of an image, which the page reads when it is shown."""
    if entry.heat is None:
        return {"image": entry.picture}
    record = {
        "image": entry.picture,
        "map": map_uri(entry.heat, *limits),
        "box": entry.box,
        "region": outline(entry.heat > 1, entry.box),
        "truth": entry.truth,
    }
    return record if entry.detail is None else {**record, "full": entry.detail}


def as_json(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it can end that element.

    Examples
    --------
    >>> as_json({"</script>": float("nan"), "p": 0.123456789})
    '{"\\\\u003c/script>":null,"p":0.123457}'
    """
    text = json.dumps(_finite(value), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _by_rate(rejected):
    """For each image or part a digit a rate: 1 where it is rejected."""
    return ["".join(map(str, row)) for row in np.array(rejected).T.astype(int)]


def _short_names(entries):
    """Names of files without folders; with the last one where files of several share a name."""
    paths = [re.split(r"[\\/]", entry.name) for entry in entries]
    n_last = 2 if len({path[-1] for path in paths}) < len(paths) else 1
    return ["/".join(path[-n_last:]) for path in paths]


def _link(file, folder):
    """Where a file is, seen from the page, and whether an image is all of it."""
    if file is None:
        return {"href": None}
    path = split_page(file)[0]
    try:
        href = quote(Path(os.path.relpath(path, folder)).as_posix(), errors="surrogateescape")
    except ValueError:  # on another drive of Windows
        href = Path(os.path.abspath(path)).as_uri()
    return {"href": href, "whole": path == file}


def _finite(value):
    """The same with numbers as short as they need to be, and None for what is no number."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
