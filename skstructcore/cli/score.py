"""``skstructcore score``"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path

import click

from ._common import (
    REJECTED,
    UNREADABLE,
    check_output,
    exit_code_option,
    exit_codes,
    false_alarms_option,
    images_argument,
    json_option,
    list_files,
    load_model,
    model_argument,
    n_jobs_option,
    parts_of,
    parts_option,
    plain_errors,
    print_json,
    print_table,
    trust_option,
)

_FOLDER = click.Path(file_okay=False, path_type=Path)
#: What a terminal shows of a row; the CSV has all columns.
_SHOWN = ("file", "decision", "anomaly_score", "p_value", "decided_by", "error")


@click.command(epilog=exit_codes())
@model_argument
@images_argument
@click.option("--csv", type=click.Path(dir_okay=False, path_type=Path), help="Write scores there.")
@false_alarms_option
@parts_option
@n_jobs_option
@click.option("--shard-size", default=64, help="Images a process gets at once.")
@click.option(
    "--on-error",
    default="skip",
    type=click.Choice(["skip", "raise"]),
    help="Whether images that cannot be read are passed over, or end the command.",
)
@click.option("--maps", type=_FOLDER, help="Folder for a map an image, as 16-bit PNG.")
@click.option("--overlays", type=_FOLDER, help="Folder for the images with their maps over them.")
@click.option("--masks", type=_FOLDER, help="Folder for masks of the regions above the threshold.")
@click.option(
    "--regions", type=click.Path(dir_okay=False, path_type=Path), help="Write regions as COCO JSON."
)
@exit_code_option()
@json_option
@trust_option
@click.pass_context
def score(
    context: click.Context,
    model: Path,
    images: tuple[Path, ...],
    csv: Path | None,
    false_alarms: float | None,
    parts: str | None,
    n_jobs: int | None,
    shard_size: int,
    on_error: str,
    maps: Path | None,
    overlays: Path | None,
    masks: Path | None,
    regions: Path | None,
    exit_code: bool,
    as_json: bool,
    trust: bool,
) -> None:
    """Score IMAGES with a saved MODEL.

    IMAGES are files, folders however deep, patterns, tables (CSV with a column file) and lists
    (@files.txt). Of a folder laid out as a data set the test images are scored.

    Writes a row an image: all columns as CSV, to a file or a pipe; to a terminal the decision and
    what decided it. Images that cannot be read have an empty row with the reason in the column
    "error"; the others are scored.

    The file of --csv appears when it is complete. Until then rows are kept beside it, in
    <file>.part; the same command goes on from there after a kill, and once a full disk has room.

    Files of --maps, --overlays and --masks have the size of their image and lie as the images do;
    the network runs once more for them. A folder that holds other files is refused.

    With --parts, as in fit, parts of which the images are views are decided as well: a table of
    parts instead of images, or beside --csv in <name>.parts.csv. --exit-code is about parts then.

    \b
    skstructcore score line3.structcore line3/new --csv scores.csv --n-jobs 4
    skstructcore score line3.structcore part.png --json --exit-code
    """
    with plain_errors():
        if csv is not None:
            check_output(csv)
        if regions is not None:
            check_output(regions)
        from ..inference import iter_scores

        paths = list_files(images)
        pipe = load_model(model, trust=trust, false_alarms=false_alarms)
        if parts:
            from ..scoring.parts import check_fitted_with_parts

            check_fitted_with_parts(pipe[-1])
            parts = parts_of(paths, parts)
        output = _Output(csv, as_json, paths, _fingerprint(model, paths, false_alarms), parts)
        left, bars = paths[output.n_done :], int(csv is not None or as_json)
        shards = iter_scores(
            pipe, left, on_error=on_error, n_jobs=n_jobs, shard_size=shard_size, verbose=bars
        )
        with output:
            for shard in shards if left else ():
                output.write(shard)
        readable = [path for path in paths if path not in output.failed]
        if readable:
            _write_pictures(pipe, readable, maps, overlays, masks, regions)
        found = output.counts
        decided = _decide_parts(pipe, output, parts, csv, found) if parts else None
    if as_json:
        rows = {} if csv else {"scores": output.rows()}
        print_json({**found, **rows, **({} if decided is None else {"parts": decided})})
    elif csv:
        click.echo(f"{found['rejected']} of {found['images']} images rejected: {csv}")
        if decided is not None:
            of = f"{found['rejected_parts']} of {found['parts']} parts rejected"
            click.echo(f"{of}: {csv.with_suffix('.parts.csv')}")
    if found["unreadable"]:
        click.echo(
            f'{found["unreadable"]} of {len(paths)} images cannot be read, see the column "error"',
            err=True,
        )
        context.exit(UNREADABLE)
    if exit_code and found["rejected_parts" if parts else "rejected"]:
        context.exit(REJECTED)


def _decide_parts(pipe, output, parts, csv, counts):
    """Decide about parts, count them, and write them where the images' rows went."""
    from .._utils.files import escape_name, write_text
    from ..scoring.parts import decide_parts

    table = decide_parts(pipe[-1], output.rows().assign(file=output.paths), parts)
    counts["parts"] = len(table)
    counts["rejected_parts"] = int(table["is_anomalous"].fillna(False).sum())
    named = {
        name: table[name].map(escape_name, na_action="ignore") for name in ("part", "worst_view")
    }
    table = table.assign(**named)
    if csv is not None:
        write_text(csv.with_suffix(".parts.csv"), table.to_csv(index=False))
    elif not output.as_json and _is_terminal():
        print_table(
            table[["part", "n_views", "is_anomalous", "p_value", "worst_view", "decided_by"]]
        )
    elif not output.as_json:
        click.echo(table.to_csv(index=False), nl=False)
    return table


def _write_pictures(pipe, paths, maps, overlays, masks, regions):
    from ..scoring.map_files import save_maps

    if maps or overlays or masks:
        save_maps(pipe, paths, maps, overlays=overlays, masks=masks)
    if regions:
        from .._utils.files import write_text
        from ..scoring.region_files import to_coco
        from ..scoring.regions import regions as find_regions

        write_text(regions, json.dumps(to_coco(find_regions(pipe, paths), paths)))


def _fingerprint(model, paths, false_alarms):
    """What has to be the same for rows that were written before a kill to be of this run."""
    from .._utils.files import file_digest

    content = [file_digest(model), paths, [_stamp(path) for path in paths], false_alarms]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _stamp(path):
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # to be reported with the scores
        return None
    return status.st_size, status.st_mtime_ns


def _is_terminal():
    return sys.stdout.isatty()


class _Output:
    """Rows as they come: to the terminal, to be printed as JSON, or to a file that goes on."""

    def __init__(self, csv, as_json, paths, fingerprint, parts=None):
        self.csv, self.as_json, self.paths = csv, as_json, paths
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
        import io

        import pandas as pd

        rows = pd.read_csv(io.BytesIO(whole), float_precision="round_trip")
        if not len(rows):
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
                # In this order: whenever it ends, no note stands beside the rows of another run.
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
        if self.file is None and _is_terminal():
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
        self.failed.update(rows.loc[rows["error"].notna(), "file"])
        self.counts["images"] += len(rows)
        self.counts["unreadable"] += int(rows["error"].notna().sum())
        if "is_anomalous" in rows:
            rejected = rows["is_anomalous"].astype("boolean").fillna(False)
            self.counts["rejected"] += int(rejected.sum())

    def rows(self):
        import pandas as pd

        return pd.concat(self.kept)
