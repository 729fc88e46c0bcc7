"""Images that appear in a folder are scored once, even if the process is killed at any moment.

The table is the memory: an image of which there is a row, whole and on disk, is done. The drift
monitor is told the rows again after a restart.
"""

import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from sklearn.pipeline import Pipeline

from .._utils.files import Journal, escape_name
from .._utils.validation import check_number
from ..datasets.folders import walk
from ..images.image_list import as_images
from ..inference.map_files import MapWriter
from ..inference.scores import no_scores, read_scores, score_batch
from ..lifecycle.drift import DriftMonitor
from .senders import Outbox, Send

__all__ = ["FolderWatch"]

_logger = logging.getLogger(__name__)
_KEY = ["file", "bytes", "modified"]
_SHOWN = ["file", "is_anomalous", "anomaly_score", "p_value", "route", "error"]


class FolderWatch:
    """Score the images of a folder as they appear, each once, the oldest first.

    Parameters
    ----------
    pipe : Pipeline
        Fitted, as `make_structcore` builds it.
    folder : str or path-like
        Looked through as a folder of `skstructcore.datasets.load_images` is, however deep.
    csv : str or path-like
        A row is added for each image. Images that have a row are not scored again.
    model : str, default=""
        What rows call the model. The drift monitor ignores rows of other models:
        ``skstructcore.info(path)["digest"]`` tells models apart.
    settle : float, default=1.0
        Seconds that a file must stay the same before it is read.
    patience : float, default=30.0
        Seconds after which a file that cannot be read gets a row with the error, and a folder
        that is gone ends the watch.
    senders : sequence of callable, default=()
        Each takes a message, a dict; an OSError says that it did not arrive. It is sent again to
        this receiver, in order; the others do not wait for it.
    maps, overlays : str or path-like, default=None
        Folders for what `skstructcore.save_maps` writes, before the row is there. All names keep
        the suffix (``a.jpg.png``), because a later image may have the same stem.

    Attributes
    ----------
    n_rows : int
        Rows of the table.
    """

    def __init__(
        self,
        pipe: Pipeline,
        folder: str | os.PathLike,
        csv: str | os.PathLike,
        *,
        model: str = "",
        settle: float = 1.0,
        patience: float = 30.0,
        senders: Sequence[Send] = (),
        maps: str | os.PathLike | None = None,
        overlays: str | os.PathLike | None = None,
    ) -> None:
        check_number(settle, "settle", 0, closed="left")
        check_number(patience, "patience", 0, closed="left")
        # The whole path, so that the same image has one name however the folder is spelled.
        self.pipe, self.folder, self.csv = pipe, Path(os.path.abspath(folder)), Path(csv)
        self.model, self.settle, self.patience = model, settle, patience
        drawn = {"map": maps, "overlay": overlays}
        self._drawn = [*filter(None, drawn.values())]
        for place in self._drawn:
            if Path(place).resolve().is_relative_to(self.folder.resolve()):
                raise ValueError(
                    f"{str(place)!r} lies in {str(folder)!r}, where each image is scored: choose a "
                    "folder outside of it for maps and overlays."
                )
        self._draw = MapWriter(pipe, str(self.folder), drawn) if self._drawn else None
        self._journal = Journal(self.csv)
        self._monitor = DriftMonitor(pipe)
        self._seen, self._gone_since = None, None  # path -> (stamp, since when)
        self._done, self.n_rows = set(), 0
        self._columns = [*_KEY, "model", *no_scores(pipe).columns, "error"]
        sent = self.csv.with_name(f"{self.csv.name}.sent")
        rows = self._take_up(sent)
        self._outbox = Outbox(senders, sent, n_before=len(rows))
        self._take_in(rows)

    def _take_up(self, sent):
        """The rows of the table; half a row, of a kill, is taken away."""
        empty = pd.DataFrame(columns=self._columns)
        header = empty.to_csv(index=False)
        lines, half = self._journal.read()
        first = (lines or half).partition(b"\n")[0].strip()
        if not (first == header.strip().encode() if lines else header.encode().startswith(first)):
            raise ValueError(
                f"{str(self.csv)!r} has other columns than this model's rows: another model, or "
                "another table. Choose another file."
            )
        self._journal.take_up()  # only now: of a file that is refused no byte is lost
        if not lines:
            sent.unlink(missing_ok=True)  # it counts the messages of a table that was put away
            self._journal.append(header)
            return empty
        rows = read_scores(lines)
        _logger.info("Going on after %d images that are scored already", len(rows))
        return rows.fillna({"model": ""})

    def step(self, *, send: bool = True) -> int:
        """Look once: score what is complete, send what is waiting; return how many were scored.

        Parameters
        ----------
        send : bool, default=True
            Whether to send; messages wait otherwise.

        Raises
        ------
        OSError
            If the folder is gone for longer than `patience`, or the table cannot be written.
        """
        now, n_before = time.monotonic(), self.n_rows
        for path, stamp in self._complete(now):
            row = self._scored(path, stamp, now)
            if row is not None:
                self._journal.append(row.to_csv(index=False, header=False))
                self._take_in(row)
        if send:
            self._outbox.send()
        return self.n_rows - n_before

    def _complete(self, now):
        """Files without a row that have stayed the same for a while, the oldest first."""
        if not os.path.isdir(self.folder):
            self._gone_since = self._gone_since or now
            if now - self._gone_since >= self.patience:
                raise FileNotFoundError(f"The folder {str(self.folder)!r} is gone.")
            return []
        is_first, before = self._seen is None, self._seen or {}
        self._gone_since, self._seen, ready = None, {}, []
        for path in walk(self.folder, self._drawn, tell=is_first):
            try:
                status = path.stat()
            except OSError:  # it was here, and is not any more
                continue
            stamp = status.st_size, status.st_mtime_ns
            if (escape_name(str(path)), *stamp) in self._done:
                continue
            stamp_before, since = before.get(path, (None, now))
            since = since if stamp_before == stamp else now
            self._seen[path] = stamp, since
            if now - since >= self.settle:
                ready.append((path, stamp))
        return sorted(ready, key=lambda item: (item[1][1], item[0]))

    def _scored(self, path, stamp, now):
        """The row of an image; None if it is to be tried again later."""
        row, _ = score_batch(self.pipe, as_images([str(path)]), self._draw)
        is_to_wait = not os.path.exists(path) or now - self._seen[path][1] < self.patience
        if row["error"].notna().any() and is_to_wait:
            return None
        names = row[["file", "error"]].map(escape_name, na_action="ignore")
        row = row.assign(bytes=stamp[0], modified=stamp[1], model=self.model, **names)
        return row[self._columns]

    def _take_in(self, rows):
        """Take rows in: as done, as news of the line, and as messages that are to be sent."""
        self._done.update(zip(*(rows[name].tolist() for name in _KEY), strict=True))
        rows = rows.set_axis(range(self.n_rows + 1, self.n_rows + 1 + len(rows)))  # their numbers
        self.n_rows += len(rows)
        news = rows[rows["error"].isna() & (rows["model"] == self.model)]
        alarms, first = {}, self._monitor.n_images_
        for alarm in self._monitor.update(news):
            alarms.setdefault(news.index[alarm.image - first], []).append(str(alarm))
        lacked = rows[rows.index > self._outbox.n_sent]
        shown = lacked[_SHOWN].astype(object).where(lacked[_SHOWN].notna(), None).to_dict("records")
        for number, message in zip(lacked.index.tolist(), shown, strict=True):
            message = {"number": number, **message, "alarms": alarms.get(number, [])}
            self._outbox.messages.append(message)

    def run(self, stop: threading.Event, *, poll: float = 1.0) -> None:
        """Look every `poll` seconds until `stop` is set.

        A receiver that is away is asked again after 2, 4, 8, … and at most 60 seconds.
        """
        pause = ask_at = 0.0
        while not stop.is_set():
            asked = time.monotonic() >= ask_at
            self.step(send=asked)
            if asked:
                pause = min(max(2 * pause, 2.0), 60.0) if self._outbox.messages else 0.0
                ask_at = time.monotonic() + pause
            stop.wait(poll)
