"""Tables of evaluations as text, for people: areas and rates in percent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pandas as pd

from .._utils.files import escape_name

if TYPE_CHECKING:
    from pandas import DataFrame

_MARKUP = re.compile(r"[&<>|\[\]*`\\]")


def format_table(table: DataFrame) -> str:
    """Write a table of `Evaluation.table` for a terminal.

    Examples
    --------
    >>> import pandas as pd
    >>> print(format_table(pd.DataFrame({"images": [3], "image_auroc": [0.98765]}, ["all"])))
         images image_auroc
    all       3        98.8
    """
    return _in_words(table).to_string(index_names=False)


def format_markdown(table: DataFrame) -> str:
    """Write a table of `evaluate_categories` as Markdown.

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
    rows = [[table.index.name, *table.columns]]
    for name, *cells in _in_words(table).itertuples():
        name = _MARKUP.sub(lambda match: f"&#{ord(match[0])};", escape_name(name))
        rows.append([name, *cells])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


def _in_words(table):
    """Cells as text: shares in percent, seconds and counts without decimals, nothing as such."""
    shares = [name for name in table.select_dtypes("float") if name != "seconds"]
    shown = table.assign(**{name: 100 * table[name] for name in shares})
    return pd.DataFrame(
        {
            name: [
                "" if pd.isna(v) else f"{v:.1f}" if name in shares else f"{v:.0f}" for v in column
            ]
            for name, column in shown.items()
        },
        index=table.index,
    )
