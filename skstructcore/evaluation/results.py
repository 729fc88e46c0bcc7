"""The folder in which `evaluate_categories` keeps its results, and the table that they make."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from .._utils.files import escape_name, file_digest, write_text

if TYPE_CHECKING:
    from pathlib import Path

_logger = logging.getLogger(__name__)

MEAN = "mean"  #: the last row of the table
COUNTS = ("train_images", "test_images")
#: Columns of the table, in order; `evaluate_categories` says what they mean.
COLUMNS = (
    *COUNTS,
    *("image_auroc", "base_auroc", "image_ap", "f1_max", "pixel_auroc", "aupro"),
    *("false_alarm_rate", "miss_rate", "seconds"),
)
_MARKUP = re.compile(r"[&<>|\[\]*`\\]")


class Result(NamedTuple):
    """What is stored of a category.

    Attributes
    ----------
    row : dict of str to int, float or None
        Its row of the table; None where there is no value.
    settings : dict of str to str
        Under which settings it was computed.
    data : str
        Digest of the data that it was computed from.
    """

    row: dict[str, float | None]
    settings: dict[str, str]
    data: str


def read_result(output: Path, name: str) -> Result | None:
    """Read what is stored of a category; None if nothing is, or what is there is not whole."""
    path, scores = _files(output, name)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["scores"] != file_digest(scores):
            raise ValueError(f"{scores.name} is not the file that was written with it")
        result = Result(stored["row"], stored["settings"], stored["data"])
        if set(result.row) != set(COLUMNS) or not isinstance(result.settings, dict):
            raise ValueError("it has other columns")
        for value in result.row.values():
            if value is not None:
                float(value)
        return result
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        if path.exists():
            _logger.warning(
                "The result of %s in %s is damaged (%s: %s) and will be computed again",
                escape_name(name),
                path.parent,
                type(error).__name__,
                error,
            )
        return None


def write_result(output: Path, name: str, result: Result, scores: pd.DataFrame) -> None:
    """Store a category: its scores first, so that what has a row is finished."""
    path, scores_path = _files(output, name)
    write_text(scores_path, scores.to_csv(index=False))
    stored = {**result._asdict(), "scores": file_digest(scores_path)}
    write_text(path, json.dumps(stored, indent=1))


def _files(output, name):
    folder = output / "categories"
    return folder / f"{name}.json", folder / f"{name}.csv"


def make_table(rows: dict[str, dict[str, float | None]]) -> pd.DataFrame:
    """The table of all categories and their mean."""
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(COLUMNS))
    areas = [column for column in COLUMNS if column not in COUNTS]
    table[areas] = table[areas].astype(np.float64)
    table.loc[MEAN, areas] = table[areas].mean()
    return table.rename_axis("category").astype(dict.fromkeys(COUNTS, "Int64"))


def write_tables(output: Path, table: pd.DataFrame, settings: dict[str, str]) -> None:
    """Write the table as CSV, JSON and Markdown."""
    write_text(output / "results.csv", table.rename(index=escape_name).to_csv())
    rows = {
        name: {
            column: None if pd.isna(value) else int(value) if column in COUNTS else float(value)
            for column, value in row.items()
        }
        for name, row in table.to_dict("index").items()
    }
    mean = rows.pop(MEAN)
    text = json.dumps({"settings": settings, "categories": rows, "mean": mean}, indent=1)
    write_text(output / "results.json", text)
    write_text(output / "results.md", format_markdown(table) + "\n")


def format_markdown(table: pd.DataFrame) -> str:
    """Write a table of `evaluate_categories` as Markdown: areas and rates in percent.

    Names cannot break the table or bring markup of their own.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"test_images": [83], "image_auroc": [0.98765]}, ["bottle|<b>"])
    >>> print(format_markdown(table.rename_axis("category")))
    | category | test_images | image_auroc |
    |---|---|---|
    | bottle&#124;&#60;b&#62; | 83 | 98.8 |
    """
    lines = [[table.index.name, *table.columns]]
    for name, row in table.iterrows():
        name = _MARKUP.sub(lambda match: f"&#{ord(match[0])};", escape_name(name))
        lines.append([name, *(_text(column, value) for column, value in row.items())])
    head, *body = ("| " + " | ".join(line) + " |" for line in lines)
    return "\n".join([head, "|" + "---|" * len(lines[0]), *body])


def _text(column, value):
    if pd.isna(value):
        return ""
    if column in (*COUNTS, "seconds"):
        return f"{value:.0f}"
    return f"{100 * value:.1f}"
