"""Commands that judge images: ``skstructcore score`` and ``skstructcore report``."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys

import click

from .._utils.files import Journal, atomic_file, escape_name, file_digest, write_text
from . import _options as option
from ._inputs import parts_of
from ._output import EXIT_CODES, REJECTED, UNREADABLE, Refused, answer, as_plain, say, table_text

# What a terminal shows of a row; the CSV has all columns.
_SHOWN = ("file", "decision", "anomaly_score", "p_value", "decided_by", "error")
_COUNTED = ["error", "is_anomalous"]  # of all rows


def is_terminal() -> bool:
    """Whether people read what is printed."""
    return sys.stdout.isatty()


@click.command(epilog=f"{option.WHAT_IMAGES_ARE}\n\n{EXIT_CODES}")
@option.model
@option.images
@click.option("--csv", type=option.Output(), help="Write scores there.")
@option.false_alarm_rate
@option.parts
@option.n_jobs
@option.cluster
@click.option(
    "--shard-size", default=64, type=click.IntRange(1), help="Images a process gets at once."
)
@click.option(
    "--on-error",
    default="skip",
    type=click.Choice(["skip", "raise"]),
    help="Pass over images that cannot be read, or stop at the first.",
)
@option.maps
@option.overlays
@option.folder_of_files("--masks", help="Folder for masks of the regions found.")
@click.option("--regions", type=option.Output(), help="Write regions as COCO JSON.")
@option.exit_code("an image is rejected")
@option.json
@click.pass_context
def score(
    context, model, images, csv, regions, parts, false_alarm_rate, exit_code, as_json, **options
):
    """Score IMAGES with a saved MODEL.

    Of a folder laid out as a data set the test images are scored. Writes a row an image: all
    columns as CSV, to a file or a pipe; to a terminal the decision and what decided it. Images that
    cannot be read have an empty row with the reason in the column "error".

    The file of --csv appears when it is complete. Until then rows are kept in <file>.part; the same
    command goes on from there after a kill, and once a full disk has room.

    Files of --maps, --overlays and --masks have the size of their image and lie as the images do. A
    folder, or a file of --regions, that holds something else is refused.

    With --parts, as in fit, parts of which the images are views are decided as well: a table of
    parts instead of images, or beside --csv in <name>.parts.csv. --exit-code is about parts then.

    \b
    skstructcore score line3.structcore line3/new --csv scores.csv --n-jobs 4
    skstructcore score line3.structcore part.png --json --exit-code
    """
    csv_of_parts = csv.with_suffix(".parts.csv") if csv and parts else None
    if csv_of_parts:
        option.check_output(csv_of_parts)
    import pandas as pd

    from ..images import as_images
    from ..inference.map_files import MapWriter, stamp_of
    from ..inference.region_files import is_of_regions
    from ..inference.scores import iter_shards, read_scores
    from ..scoring.parts import check_fitted_with_parts, decide_parts

    if regions is not None and regions.exists() and not is_of_regions(regions):
        raise Refused(
            f"{str(regions)!r} is there and was not written by this command: it is not replaced. "
            "Choose another name, or delete it."
        )
    listed = as_images(images.as_they_are("test"))
    paths = listed.file_names()
    pipe = model.load(false_alarm_rate)
    if parts:
        check_fitted_with_parts(pipe[-1])
        parts = parts_of(paths, parts)
    drawn = {form: options.pop(f"{form}s") for form in ("map", "overlay", "mask")}
    if any(drawn.values()) or regions:
        options["also"] = MapWriter(pipe, listed, drawn, keep_regions=regions is not None)
    # What has to be the same for rows that were written before a kill to be of this run.
    asked = [false_alarm_rate, *images.reading.values(), *map(str, drawn.values()), str(regions)]
    run = [file_digest(model.path), paths, [stamp_of(path) for path in paths], asked]
    row_lines, region_lines = csv and _Lines(csv, run), regions and _Lines(regions, run)
    tables = [] if csv is None else _rows_before(row_lines, region_lines)
    n_done = sum(map(len, tables))
    if regions is not None:
        region_lines.take_up(n_done)
    options["verbose"] = int(csv is not None or as_json)
    shards = iter_shards(pipe, listed[n_done:], **options) if n_done < len(listed) else ()
    for rows, regions_of in shards:
        if regions is not None:  # before the rows, so that there is a line for each of them
            region_lines.append("".join(f"{json.dumps(as_plain(r) or [])}\n" for r in regions_of))
        if csv is not None:
            row_lines.append(_as_csv(rows, header=not tables))
            rows = rows[_COUNTED]
        elif not (as_json or parts):
            _print(rows, header=not tables)
        tables.append(rows)
    rows = pd.concat(tables)
    if csv is not None:
        row_lines.finish(csv)
    is_read = rows["error"].isna().to_numpy()
    if regions is not None:
        _write_coco(region_lines, regions, listed[is_read.nonzero()[0]])
    n_unreadable = int((~is_read).sum())
    n_rejected = int(rows["is_anomalous"].astype("boolean").fillna(False).sum())
    summary = {"images": len(rows), "rejected": n_rejected, "unreadable": n_unreadable}
    if parts:
        of_parts = read_scores(csv.read_bytes()) if csv else rows
        parts = decide_parts(pipe[-1], of_parts.assign(file=paths), parts)
        summary["parts"] = len(parts)
        summary["rejected_parts"] = int(parts["is_anomalous"].fillna(False).sum())
    _tell(summary, rows, parts, csv, csv_of_parts, as_json)
    if n_unreadable:
        say(f'{n_unreadable} of {len(paths)} images cannot be read, see the column "error"')
        context.exit(UNREADABLE)
    if exit_code and summary["rejected" if parts is None else "rejected_parts"]:
        context.exit(REJECTED)


class _Lines(Journal):
    """Lines of a file in ``<file>.part`` until all are there; the first says of which run."""

    def __init__(self, path, run):
        super().__init__(f"{os.path.realpath(path)}.part")
        self.run = f"{hashlib.sha256(json.dumps(run).encode()).hexdigest()}\n"
        first = b""
        with contextlib.suppress(FileNotFoundError), open(self.path, "rb") as lines:
            first = lines.read(len(self.run))
        if not re.fullmatch(rb"[0-9a-f]*\n?", first):
            raise Refused(
                f"{str(self.path)!r} is there and is not of this command, which keeps rows in it: "
                f"choose another name than {str(path)!r}, or delete it."
            )
        if not self.run.startswith(first.decode()):
            say(f"{self.path} is of another model, images or options: begun anew.")

    def take_up(self, n=None):
        """The first `n` lines of this run, or all; all others are taken away."""
        lines = super().take_up(None if n is None else 1 + n)
        if lines.startswith(self.run.encode()):
            return lines[len(self.run) :]
        self.path.unlink(missing_ok=True)
        self.append(self.run)
        return b""

    def finish(self, path):
        """Write the file, now that it is whole."""
        with open(self.path, "rb") as lines, atomic_file(path) as file:
            lines.readline()
            shutil.copyfileobj(lines, file)
        self.path.unlink()


def _rows_before(row_lines, region_lines):
    """What is counted of rows of a run like this one that was ended: a table, or none."""
    from ..inference.scores import read_scores

    n_done = row_lines.take_up().count(b"\n") - 1  # the first has the names of columns
    if region_lines is not None:
        n_done = min(n_done, region_lines.take_up().count(b"\n"))
    if n_done <= 0:
        row_lines.take_up(0)
        return []
    say(f"Going on after {n_done} images that are scored already.")
    return [read_scores(row_lines.take_up(1 + n_done))[_COUNTED]]


def _as_csv(rows, header):
    text = {name: rows[name].map(escape_name, na_action="ignore") for name in ("file", "error")}
    return rows.assign(**text).to_csv(index=False, header=header)


def _print(rows, header):
    """Rows for people, what was decided and why; else all columns as CSV."""
    if not is_terminal():
        click.echo(_as_csv(rows, header), nl=False)
        return
    table = rows.assign(decision=rows["is_anomalous"].map({True: "REJECT", False: "accept"}))
    shown = [name for name in _SHOWN if name != "error" or table["error"].any()]
    click.echo(table_text(table[shown], header=header))


def _write_coco(region_lines, path, images):
    """Write the regions of all images, those without a region among them, as COCO JSON."""
    import pandas as pd

    from ..inference.region_files import to_coco
    from ..scoring.regions import COLUMNS

    rows = [row for line in region_lines.take_up().splitlines() for row in json.loads(line)]
    write_text(path, json.dumps(to_coco(pd.DataFrame(rows, columns=[*COLUMNS]), images)))
    region_lines.path.unlink()


def _tell(summary, rows, parts, csv, csv_of_parts, as_json):
    """Print what was counted and is in no file; parts go beside the file of rows."""
    lines = [f"{summary['rejected']} of {summary['images']} images rejected: {csv}"] if csv else []
    document = dict(summary) if csv else {**summary, "scores": rows}
    if parts is not None:
        names = parts[["part", "worst_view"]]
        parts = parts.assign(**names.map(escape_name, na_action="ignore"))
        document["parts"] = parts
        table = parts.to_csv(index=False)
        if csv:
            write_text(csv_of_parts, table)
            of = f"{summary['rejected_parts']} of {summary['parts']} parts rejected"
            lines.append(f"{of}: {csv_of_parts}")
        else:
            lines.append(table_text(parts) if is_terminal() else table[:-1])
    if as_json or lines:
        answer(as_json, document, *lines)


@click.command(epilog=option.WHAT_IMAGES_ARE)
@option.model
@option.images
@click.option(
    "--output", "-o", default="report.html", type=option.Output(), help="One file, for any browser."
)
@click.option(
    "--good",
    metavar="NAME",
    help='Take names of folders as labels: NAME, "OK", "normal" and such hold good images.',
)
@click.option("--title", default="Inspection report")
@click.option(
    "--detail",
    type=click.IntRange(1),
    metavar="PIXELS",
    help="Keep a second, larger picture of each image for a closer look, 1024 for instance.",
)
@click.option("--max-images", default=5000, help="Refuse more images than this.")
@option.parts
@option.false_alarm_rate
@option.json
def report(model, images, output, good, parts, false_alarm_rate, as_json, **options):
    """Write an HTML page about IMAGES, to decide by.

    A folder laid out as a data set is scored with the labels and masks of its test
    images; a table may have columns label and mask.

    \b
    skstructcore report line3.structcore line3/new -o report.html
    skstructcore report bottle.structcore mvtec_ad/bottle --false-alarms 0.02
    """
    from ..images import as_images
    from ..report import report as write_report

    shown = images.as_they_are("test") if good is None else images.all_of(images.labelled(good))
    pipe = model.load(false_alarm_rate)
    if parts is not None:
        options["parts"] = parts_of(as_images(shown).file_names(), parts)
    write_report(pipe, shown, output, verbose=1, **options)
    size = output.stat().st_size
    document = {"report": output, "images": len(shown), "bytes": size}
    answer(as_json, document, f"{len(shown)} images, {size / 1e6:.1f} MB: {output}")
