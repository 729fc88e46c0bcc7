"""Commands that judge images: ``skstructcore score`` and ``skstructcore report``."""

import hashlib
import json
import os
import re
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
@click.option(
    "--regions", type=option.Output("a file of regions"), help="Write regions as COCO JSON."
)
@option.exit_code("an image is rejected")
@option.json
def score(model, images, csv, regions, parts, false_alarm_rate, exit_code, as_json, **options):
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
    csv_of_parts = None
    if csv:
        option.claim(f"{os.path.realpath(csv)}.part", "--csv")
        if parts:
            csv_of_parts = csv.with_name(f"{csv.name.removesuffix('.csv')}.parts.csv")
            option.check_output(csv_of_parts, "--csv")
    import pandas as pd

    from ..images import as_images
    from ..inference.map_files import MapWriter, stamp_of
    from ..inference.region_files import to_coco
    from ..inference.scores import iter_shards, read_scores
    from ..scoring.parts import decide_parts
    from ..scoring.regions import COLUMNS

    listed = as_images(images.as_they_are("test"))
    paths = listed.file_names()
    pipe = model.load(false_alarm_rate, parts=parts)
    part_of = parts and parts_of(paths, parts)
    drawn = {form: options.pop(f"{form}s") for form in ("map", "overlay", "mask")}
    if any(drawn.values()) or regions:
        options["on_maps"] = MapWriter(pipe, listed, drawn, keep_regions=regions is not None)
    tables, found = [], []  # rows, or what is counted of them; regions, a list an image
    if csv is not None:
        # Rows of an earlier run are kept only if all of this is the same.
        asked = [false_alarm_rate, *images.reading.values(), *drawn.values(), regions]
        run = [file_digest(model.path), paths, [stamp_of(path) for path in paths], asked]
        journal = _Shards(csv, run)
        text, found = journal.resume()
        if found:
            say(f"Going on after {len(found)} images that are scored already.")
            tables.append(read_scores(text.encode())[_COUNTED])
    left = listed[len(found) :]
    options["verbose"] = int(csv is not None or as_json)
    for rows, regions_of in iter_shards(pipe, left, **options) if len(left) else ():
        regions_of = as_plain(regions_of)
        if csv is not None:
            journal.append(json.dumps([_as_csv(rows, header=not tables), regions_of]) + "\n")
            rows = rows[_COUNTED]
        elif not (as_json or parts):
            _print(rows, header=not tables)
        tables.append(rows)
        found += regions_of
    rows = pd.concat(tables)
    is_read = rows["error"].isna().to_numpy()
    if regions is not None:
        table = pd.DataFrame([row for image in found for row in image or ()], columns=[*COLUMNS])
        write_text(regions, json.dumps(to_coco(table, listed[is_read.nonzero()[0]])))
    if csv is not None:
        journal.finish(csv)
    n_unreadable = int((~is_read).sum())
    n_rejected = int(rows["is_anomalous"].astype("boolean").sum())
    document = {"images": len(rows), "rejected": n_rejected, "unreadable": n_unreadable}
    if parts:
        of_parts = read_scores(csv.read_bytes()) if csv else rows
        decided = decide_parts(pipe[-1], of_parts.assign(file=paths), part_of)
        n_rejected = int(decided["is_anomalous"].sum())
        names = decided[["part", "worst_view"]].map(escape_name, na_action="ignore")
        document |= {"parts": decided.assign(**names), "rejected_parts": n_rejected}
    if csv is None:
        document["scores"] = rows
    _tell(document, csv, csv_of_parts, as_json)
    if n_unreadable:
        say(f'{n_unreadable} of {len(paths)} images cannot be read, see the column "error"')
        sys.exit(UNREADABLE)
    if exit_code and n_rejected:
        sys.exit(REJECTED)


class _Shards(Journal):
    """Rows and regions in ``<csv>.part`` until all are there: first of which run, then shards."""

    def __init__(self, path, run):
        super().__init__(f"{os.path.realpath(path)}.part")
        text = json.dumps(run, default=str)
        self.run = f"{hashlib.sha256(text.encode()).hexdigest()}\n"

    def resume(self):
        """The rows of this run that are there, as CSV, and the regions of each image."""
        first = b"".join(self.read())[: len(self.run)]
        if not re.fullmatch(rb"[0-9a-f]*\n?", first):
            raise Refused(
                f"{str(self.path)!r} is there and is not of this command, which keeps rows in it: "
                "choose another name for --csv, or delete it."
            )
        if first != self.run.encode():
            if not self.run.startswith(first.decode()):
                say(f"{self.path} is of another model, images or options: begun anew.")
            self.path.unlink(missing_ok=True)
            self.append(self.run)
            return "", []
        shards = [json.loads(line) for line in self.take_up().splitlines()[1:]]
        return "".join(text for text, _ in shards), [row for _, rows in shards for row in rows]

    def finish(self, path):
        """Write the rows, now that all are there."""
        with open(self.path, "rb") as lines, atomic_file(path) as file:
            lines.readline()
            file.writelines(json.loads(line)[0].encode() for line in lines)
        self.path.unlink()


def _as_csv(rows, header):
    names = rows[["file", "error"]].map(escape_name, na_action="ignore")
    return rows.assign(**names).to_csv(index=False, header=header)


def _print(rows, header):
    """Rows for people, what was decided and why; else all columns as CSV."""
    if not is_terminal():
        click.echo(_as_csv(rows, header), nl=False)
        return
    table = rows.assign(decision=rows["is_anomalous"].map({True: "REJECT", False: "accept"}))
    shown = [name for name in _SHOWN if name != "error" or table["error"].any()]
    click.echo(table_text(table[shown], header=header))


def _tell(document, csv, csv_of_parts, as_json):
    """Print what was counted and is in no file; parts go beside the file of rows."""
    counted = f"{document['rejected']} of {document['images']} images rejected"
    lines = [f"{counted}: {csv}"] if csv else []
    if "parts" in document:
        parts = document["parts"]
        table = parts.to_csv(index=False)
        if csv:
            write_text(csv_of_parts, table)
            n_rejected = document["rejected_parts"]
            lines.append(f"{n_rejected} of {len(parts)} parts rejected: {csv_of_parts}")
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
    if parts is not None:
        options["parts"] = parts_of(as_images(shown).file_names(), parts)
    write_report(model.load(false_alarm_rate), shown, output, verbose=1, **options)
    size = output.stat().st_size
    document = {"report": output, "images": len(shown), "bytes": size}
    answer(as_json, document, f"{len(shown)} images, {size / 1e6:.1f} MB: {output}")
