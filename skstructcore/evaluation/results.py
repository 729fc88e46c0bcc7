"""The folder in which `evaluate_categories` keeps its results, and tables for people.

Not joblib's `Memory`: its workers would write the files, and it reads pickles, which can run code.
"""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path

import joblib
import pandas as pd
from sklearn.pipeline import Pipeline

from .._utils.files import escape_name, write_text
from ..datasets import ImageSet
from ..images.image_list import StrPath
from .settings import settings_of

_logger = logging.getLogger(__name__)

MEAN = "mean"  #: the last row of the table
_COUNTS = ("train_images", "test_images")
#: Columns of the table, in order; `evaluate_categories` says what they mean.
_COLUMNS = (
    *_COUNTS,
    *("image_auroc", "base_auroc", "image_ap", "f1_max", "pixel_auroc", "aupro"),
    *("false_alarm_rate", "miss_rate", "seconds"),
)
# An underscore within a word is none; www. and :// make links.
_MARKUP = re.compile(r"[&<>|\[\]*`\\~]|(?<![^\W_])_|_(?![^\W_])|(?<=www)\.|:(?=//)")


class Results:
    """Rows and scores of categories, as files that belong to the settings of a pipeline.

    A category is done if its row is there, with the settings and the content of the data that it
    was computed from, and the digest of its scores. It is written after the scores.
    """

    def __init__(self, output: StrPath, pipe: Pipeline) -> None:
        self.output = Path(output)
        self.settings = settings_of(pipe)

    def read(self, name: str, content: str, overwrite: bool) -> dict[str, float | None] | None:
        """The row of a category that is done; ValueError if it is one of other settings."""
        path, scores = self.files(name)
        if not path.exists():
            return None
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            row, old = stored["row"], dict(stored["settings"])
            self.table({name: row})  # has numbers or None
            if {*row} != {*_COLUMNS} or stored["scores"] != joblib.hash(scores.read_bytes()):
                raise ValueError("it was not written whole")
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            _logger.warning("%s is damaged and will be computed again", escape_name(str(path)))
            return None
        changed = [
            f"{key}: {old.get(key, 'absent')} there, {self.settings.get(key, 'absent')} now"
            for key in sorted({**old, **self.settings})
            if old.get(key) != self.settings.get(key)
        ]
        if changed and not overwrite:
            raise ValueError(
                f"{str(self.output)!r} holds results of {name!r} with other settings "
                f"({'; '.join(changed)}): choose another output folder, or overwrite them"
            )
        return None if changed or stored.get("content") != content else row

    def files(self, name: str) -> tuple[Path, Path]:
        """Where the row and the scores of a category are."""
        folder = self.output / "categories"
        return folder / f"{name}.json", folder / f"{name}.csv"

    def write(self, name: str, content: str, row: dict[str, float], scores: pd.DataFrame) -> None:
        """Store a category: its scores first, so that one that has a row is complete."""
        path, scores_path = self.files(name)
        text = scores.to_csv(index=False)
        write_text(scores_path, text)
        [row] = _plain_rows(self.table({name: row}).loc[[name]]).values()
        stored = {"row": row, "settings": self.settings, "content": content}
        write_text(path, json.dumps({**stored, "scores": joblib.hash(text.encode())}, indent=1))

    @staticmethod
    def table(rows: dict[str, dict[str, float | None]]) -> pd.DataFrame:
        """The table of all categories and their mean."""
        table = pd.DataFrame.from_dict(rows, orient="index", columns=[*_COLUMNS]).astype(float)
        table.loc[MEAN] = table.drop(columns=[*_COUNTS]).mean()
        return table.rename_axis("category").astype(dict.fromkeys(_COUNTS, "Int64"))

    def write_table(self, table: pd.DataFrame) -> None:
        """Write the table as CSV, JSON and Markdown."""
        write_text(self.output / "results.csv", table.rename(index=escape_name).to_csv())
        rows = _plain_rows(table)
        mean = rows.pop(MEAN)
        text = json.dumps({"settings": self.settings, "categories": rows, "mean": mean}, indent=1)
        write_text(self.output / "results.json", text)
        write_text(self.output / "results.md", format_markdown(table) + "\n")


def content_digest(root: Path, images: ImageSet) -> str:
    """Digest of what a category consists of: names, sizes and times of files, and labels."""
    files = [*images.paths, *filter(None, images.masks)]
    states = [(os.path.relpath(file, root), os.stat(file)) for file in files]
    states = [(name, state.st_size, state.st_mtime_ns) for name, state in states]
    columns = [images.y, images.groups, images.splits]
    return joblib.hash([states, *(None if v is None else v.tolist() for v in columns)])


def _plain_rows(table):
    """Rows by name, in types of JSON; None where there is no value."""
    return table.astype(object).where(table.notna(), None).to_dict("index")


def format_table(table: pd.DataFrame) -> str:
    """Write a table of `Evaluation.table` for a terminal: areas and rates in percent."""
    return _in_words(table).to_string(index_names=False)


def format_markdown(table: pd.DataFrame) -> str:
    """Write a table of `evaluate_categories` as Markdown; names bring no markup of their own."""
    rows = [[table.index.name, *table.columns]]
    for name, *cells in _in_words(table).itertuples():
        name = _MARKUP.sub(lambda match: f"&#{ord(match[0])};", escape_name(name))
        rows.append([name, *cells])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


def _in_words(table):
    """Cells as text: shares in percent, seconds and counts without decimals, nothing as such."""
    shown = {}
    for name, column in table.items():
        is_share = column.dtype == float and name != "seconds"
        words = (f"{100 * value:.1f}" if is_share else f"{value:.0f}" for value in column.dropna())
        shown[name] = pd.Series(words, column.dropna().index, dtype=object)
    return pd.DataFrame(shown, index=table.index).fillna("")
