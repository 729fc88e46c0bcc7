"""Where the rows and regions of ``skstructcore score`` go."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

import click

from ._common import as_plain
from ._errors import Refused

#: What a terminal shows of a row; the CSV has all columns.
_SHOWN = ("file", "decision", "anomaly_score", "p_value", "decided_by", "error")


def is_terminal() -> bool:
    """Whether people read what is printed."""
    return sys.stdout.isatty()


class Regions:
    """Regions of each image, a line an image beside their file until all are there."""

    def __init__(self, path: Path) -> None:
        from .._utils.files import check_writable
        from ..scoring.region_files import is_of_regions

        self.path = check_writable(path)
        if path.exists() and not is_of_regions(path):
            raise Refused(
                f"{str(path)!r} is there and was not written by this command: it is not replaced. "
                "Choose another name, or delete it."
            )
        self.part = self.path.with_name(f"{self.path.name}.part")

    def take_up(self, n: int) -> bool:
        """Keep the lines of the first `n` images; False if so many are not there."""
        text = self.part.read_bytes() if self.part.exists() else b""
        lines = text[: text.rfind(b"\n") + 1].splitlines(keepends=True)
        kept = b"".join(lines[:n]) if len(lines) >= n else b""
        self.part.write_bytes(kept)
        return len(lines) >= n

    def write(self, regions: list) -> None:
        lines = [f"{json.dumps(as_plain(rows) or [])}\n" for rows in regions]
        with open(self.part, "a", encoding="utf-8") as file:
            file.writelines(lines)

    def finish(self, images) -> None:
        """Write the regions of all images, those without a region among them, as COCO JSON."""
        import pandas as pd

        from .._utils.files import write_text
        from ..scoring.region_files import to_coco
        from ..scoring.regions import COLUMNS

        with open(self.part, encoding="utf-8") as file:
            rows = [row for line in file for row in json.loads(line)]
        write_text(self.path, json.dumps(to_coco(pd.DataFrame(rows, columns=[*COLUMNS]), images)))
        self.part.unlink()


class Rows:
    """Rows as they come: to the terminal, to be printed as JSON, or to a file that goes on."""

    def __init__(self, csv, as_json, paths, fingerprint, parts=None, regions=None):
        self.csv, self.as_json, self.paths, self.regions = csv, as_json, paths, regions
        self.is_quiet = csv is None and (as_json or parts is not None)
        self.keeps = self.is_quiet or parts is not None
        self.counts = {"images": 0, "rejected": 0, "unreadable": 0}
        self.n_done, self.columns, self.waiting, self.kept = 0, None, [], []
        self.file, self.failed = None, set()
        if csv is not None:
            csv = self.csv = Path(os.path.realpath(csv))
            self.part = csv.with_name(f"{csv.name}.part")
            self.note = csv.with_name(f"{csv.name}.part.json")
            self.fingerprint = fingerprint
            self._take_up()
        if regions is not None and not self.n_done:
            regions.take_up(0)

    def _take_up(self):
        """Go on after the last whole row of a run that was ended."""
        try:
            known = json.loads(self.note.read_text())
            text = self.part.read_bytes()
        except (OSError, ValueError):
            return
        whole = text[: text.rfind(b"\n") + 1]
        if known != {"fingerprint": self.fingerprint} or not whole:
            return
        from ..scoring.describe import read_rows

        rows = read_rows(whole)
        if not len(rows) or (self.regions and not self.regions.take_up(len(rows))):
            return
        self.kept = [rows]
        os.truncate(self.part, len(whole))  # which a kill or a full disk cannot make worse
        self.columns, self.n_done = rows.columns, len(rows)
        self._count(rows)
        click.echo(f"Going on after {self.n_done} images that are scored already.", err=True)

    def __enter__(self):
        from .._utils.files import write_text

        if self.csv is not None:
            if not self.n_done:
                # In this order, so that at no time a note stands beside rows of another run.
                self.part.unlink(missing_ok=True)
                write_text(self.note, json.dumps({"fingerprint": self.fingerprint}))
            with self._naming_the_part():
                self.file = open(self.part, "ab")
        return self

    def __exit__(self, kind, error, traceback):
        if kind is None and self.waiting:  # no image could be read
            self._put(self.waiting, header=self.columns is None)
        if self.file is None:
            return
        if kind is not None:
            with contextlib.suppress(OSError):  # what could not be written cannot be now
                self.file.close()
            return
        with self._naming_the_part():
            os.fsync(self.file.fileno())
            self.file.close()
        self.part.replace(self.csv)
        self.note.unlink()

    @contextlib.contextmanager
    def _naming_the_part(self):
        from .._utils.files import write_error

        try:
            yield
        except OSError as error:
            kept = "The rows in it are kept: the same command goes on after them."
            raise write_error(self.part, error, kept) from error

    def write(self, shard):
        also = shard.pop("also") if "also" in shard else None
        if self.regions is not None:  # before the rows, so that there is a line for each of them
            self.regions.write(also.tolist())
        self._count(shard)
        if self.keeps:
            self.kept.append(shard)
        if self.is_quiet:
            return
        self.waiting.append(shard)
        first = self.columns is None
        if first and shard["error"].notna().all():
            return  # a shard without a score does not know the columns
        self.columns = shard.columns if first else self.columns
        self._put(self.waiting, header=first)
        self.waiting = []

    def _put(self, shards, header):
        import pandas as pd

        from .._utils.files import escape_name

        rows = pd.concat(shards)
        rows = rows if self.columns is None else rows.reindex(columns=self.columns)
        text = {name: rows[name].map(escape_name, na_action="ignore") for name in ("file", "error")}
        text = rows.assign(**text).to_csv(index=False, header=header)
        if self.file is None and is_terminal():
            self._show(rows, header)
        elif self.file is None:
            click.echo(text, nl=False)
        else:
            with self._naming_the_part():
                self.file.write(text.encode())
                self.file.flush()

    def _show(self, rows, header):
        """Rows for people: what was decided, and why."""
        import pandas as pd

        from .._utils.files import escape_name

        table = rows.assign(
            file=rows["file"].map(escape_name),
            error=rows["error"].fillna("").map(escape_name),
            decision=[
                "" if pd.isna(flag) else "REJECT" if flag else "accept"
                for flag in rows.get("is_anomalous", pd.Series([pd.NA] * len(rows)))
            ],
        )
        if not table["error"].any():
            table = table.drop(columns="error")
        shown = [name for name in _SHOWN if name in table]
        click.echo(
            table[shown].to_string(
                index=False, header=header, na_rep="", float_format=lambda v: f"{v:.4g}"
            )
        )

    def _count(self, rows):
        self.failed.update(rows.index[rows["error"].notna()])
        self.counts["images"] += len(rows)
        self.counts["unreadable"] += int(rows["error"].notna().sum())
        if "is_anomalous" in rows:
            rejected = rows["is_anomalous"].astype("boolean").fillna(False)
            self.counts["rejected"] += int(rejected.sum())

    def rows(self):
        import pandas as pd

        return pd.concat(self.kept)
