"""Where the rows and regions of ``skstructcore score`` go."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .._utils.files import Journal
from ._errors import Refused
from ._output import as_plain, say, table_text

if TYPE_CHECKING:
    import pandas as pd

    from ..images import ImageList

#: What a terminal shows of a row; the CSV has all columns.
_SHOWN = ("file", "decision", "anomaly_score", "p_value", "decided_by", "error")


def is_terminal() -> bool:
    """Whether people read what is printed."""
    return sys.stdout.isatty()


class Regions:
    """Regions of each image, a line an image beside their file until all are there."""

    def __init__(self, path: Path) -> None:
        from .._utils.files import check_writable
        from ..inference.region_files import is_of_regions

        self.path = check_writable(path)
        if path.exists() and not is_of_regions(path):
            raise Refused(
                f"{str(path)!r} is there and was not written by this command: it is not replaced. "
                "Choose another name, or delete it."
            )
        self.journal = Journal(self.path.with_name(f"{self.path.name}.part"))

    def write(self, regions: list) -> None:
        self.journal.append("".join(f"{json.dumps(as_plain(r) or [])}\n" for r in regions))

    def finish(self, images: ImageList) -> None:
        """Write the regions of all images, those without a region among them, as COCO JSON."""
        import pandas as pd

        from .._utils.files import write_text
        from ..inference.region_files import to_coco
        from ..scoring.regions import COLUMNS

        lines = self.journal.take_up().splitlines()
        rows = pd.DataFrame([row for line in lines for row in json.loads(line)], columns=[*COLUMNS])
        write_text(self.path, json.dumps(to_coco(rows, images)))
        self.journal.path.unlink()


class Rows:
    """Rows as they come: printed, kept if `quiet`, or in the file `csv` that goes on after a kill.

    Until that file is whole, its rows are in a journal beside it, and a note says of which model,
    images and options they are.
    """

    def __init__(
        self, csv: Path | None, fingerprint: str, *, quiet: bool, regions: Regions | None
    ) -> None:
        self.csv = None if csv is None else Path(os.path.realpath(csv))
        self.quiet, self.regions = quiet, regions
        self.counts = {"images": 0, "rejected": 0, "unreadable": 0}
        self.waiting, self.failed = [], set()
        if csv is not None:
            self.journal = Journal(self.csv.with_name(f"{self.csv.name}.part"))
            self.note = self.csv.with_name(f"{self.csv.name}.part.json")
            self._take_up(json.dumps({"fingerprint": fingerprint}))
        if regions is not None:
            regions.journal.take_up(self.counts["images"])

    def _take_up(self, note):
        """Go on after the last whole row of a run that was ended, or begin."""
        from .._utils.files import write_text
        from ..inference.scores import read_scores

        if self.note.exists() and self.note.read_bytes() == note.encode():
            lines = self.journal.take_up()
            rows = read_scores(lines) if lines else ()
            n_regions = len(rows)
            if self.regions is not None:
                n_regions = self.regions.journal.take_up().count(b"\n")
            if 0 < len(rows) <= n_regions:
                self._count(rows)
                say(f"Going on after {len(rows)} images that are scored already.")
                return
        # In this order, so that at no time a note stands beside rows of another run.
        self.journal.path.unlink(missing_ok=True)
        write_text(self.note, note)

    def write(self, rows: pd.DataFrame, regions: list) -> None:
        """Take in the next rows, and the regions of each image."""
        from .._utils.files import escape_name

        if self.regions is not None:  # before the rows, so that there is a line for each of them
            self.regions.write(regions)
        header = self.counts["images"] == 0
        self._count(rows)
        if self.csv is None and self.quiet:  # they wait until somebody asks
            self.waiting.append(rows)
            return
        text = {name: rows[name].map(escape_name, na_action="ignore") for name in ("file", "error")}
        text = rows.assign(**text).to_csv(index=False, header=header)
        if self.csv is not None:
            self.journal.append(text)
        elif is_terminal():
            self._show(rows, header)
        else:
            click.echo(text, nl=False)

    def finish(self) -> None:
        """Bring the file of all rows to its place."""
        if self.csv is not None:
            self.journal.path.replace(self.csv)
            self.note.unlink()

    def _show(self, rows, header):
        """Rows for people: what was decided, and why."""
        words = rows["is_anomalous"].map({True: "REJECT", False: "accept"})
        table = rows.assign(decision=words)
        if not table["error"].any():
            table = table.drop(columns="error")
        click.echo(table_text(table[[name for name in _SHOWN if name in table]], header=header))

    def _count(self, rows):
        unreadable = rows["error"].notna().to_numpy()
        self.failed.update((self.counts["images"] + unreadable.nonzero()[0]).tolist())
        self.counts["images"] += len(rows)
        self.counts["unreadable"] += int(unreadable.sum())
        rejected = rows["is_anomalous"].astype("boolean").fillna(False)
        self.counts["rejected"] += int(rejected.sum())

    def rows(self) -> pd.DataFrame:
        """All rows, of the file or of a quiet run."""
        import pandas as pd

        from ..inference.scores import read_scores

        return pd.concat(self.waiting) if self.csv is None else read_scores(self.csv.read_bytes())
