"""Commands that judge images: ``skstructcore score`` and ``skstructcore report``."""

from __future__ import annotations

import hashlib
import json
import os
import sys

import click

from .._utils.files import Journal
from . import _options as option
from ._inputs import parts_of
from ._output import REJECTED, UNREADABLE, Refused, answer, as_plain, exit_codes, say, table_text

#: What a terminal shows of a row; the CSV has all columns.
_SHOWN = ("file", "decision", "anomaly_score", "p_value", "decided_by", "error")
#: What is counted of all rows.
_COUNTED = ["error", "is_anomalous"]
_SHOWN_OF_PARTS = ("part", "n_views", "is_anomalous", "p_value", "worst_view", "decided_by")


def is_terminal() -> bool:
    """Whether people read what is printed."""
    return sys.stdout.isatty()


def _check_regions(context, parameter, path):
    """Refuse a file of something else."""
    if path is not None and path.exists():
        from ..inference.region_files import is_of_regions

        if not is_of_regions(path):
            raise Refused(
                f"{str(path)!r} is there and was not written by this command: it is not replaced. "
                "Choose another name, or delete it."
            )
    return path


@click.command(epilog=f"{option.WHAT_IMAGES_ARE}\n\n{exit_codes()}")
@option.model
@option.images
@click.option("--csv", type=option.Output(), help="Write scores there.")
@option.false_alarm_rate
@option.parts
@option.n_jobs
@option.cluster
@click.option("--shard-size", default=64, help="Images a process gets at once.")
@click.option(
    "--on-error",
    default="skip",
    type=click.Choice(["skip", "raise"]),
    help="Whether images that cannot be read are passed over, or end the command.",
)
@option.maps
@option.overlays
@click.option(
    "--masks", type=option.FOLDER, help="Folder for masks of the regions above the threshold."
)
@click.option(
    "--regions", type=option.Output(), callback=_check_regions, help="Write regions as COCO JSON."
)
@option.exit_code()
@option.json
@click.pass_context
def score(
    context, model, images, csv, regions, parts, false_alarm_rate, exit_code, as_json, **options
):
    """Score IMAGES with a saved MODEL.

    Of a folder laid out as a data set the test images are scored. Writes a row an image: all
    columns as CSV, to a file or a pipe; to a terminal the decision and what decided it. Images that
    cannot be read have an empty row with the reason in the column "error"; the others are scored.

    The file of --csv appears when it is complete. Until then rows are kept beside it, in
    <file>.part; the same command goes on from there after a kill, and once a full disk has room.

    Files of --maps, --overlays and --masks have the size of their image and lie as the images do.
    A folder, or a file of --regions, that holds something else is refused.

    With --parts, as in fit, parts of which the images are views are decided as well: a table of
    parts instead of images, or beside --csv in <name>.parts.csv. --exit-code is about parts then.

    \b
    skstructcore score line3.structcore line3/new --csv scores.csv --n-jobs 4
    skstructcore score line3.structcore part.png --json --exit-code
    """
    if csv is not None and parts:
        option.check_output(_of_parts(csv))
    from ..images import as_images
    from ..inference.map_files import MapWriter
    from ..inference.scores import iter_shards, read_scores
    from ..scoring.parts import check_fitted_with_parts, decide_parts

    listed = as_images(images.as_they_are("test"))
    paths = listed.file_names()
    pipe = model.load(false_alarm_rate)
    if parts:
        check_fitted_with_parts(pipe[-1])
        parts = parts_of(paths, parts)
    drawn = {kind: options.pop(f"{kind}s") for kind in ("map", "overlay", "mask")}
    if any(drawn.values()) or regions:
        keep_regions = regions is not None
        options["also"] = MapWriter(pipe, listed, drawn, keep_regions=keep_regions)
    asked = [false_alarm_rate, *images.reading.values(), *map(str, drawn.values()), str(regions)]
    lines, region_lines = _journal(csv), _journal(regions)
    before = None
    if csv is not None:
        before = _rows_before(lines, region_lines, _fingerprint(model.path, paths, asked))
    n_done = 0 if before is None else len(before)
    if regions is not None:
        region_lines.take_up(n_done)
    options["verbose"] = int(csv is not None or as_json)
    shards = iter_shards(pipe, listed[n_done:], **options) if n_done < len(listed) else ()
    put = None if as_json or parts else _print
    if csv is not None:

        def put(rows, header):
            lines.append(_as_csv(rows, header))

    rows = _written(shards, before, put, region_lines)
    if csv is not None:
        lines.path.replace(os.path.realpath(csv))
        _note(lines).unlink()
    is_read = rows["error"].isna().to_numpy()
    if regions is not None:
        _write_coco(region_lines, regions, listed[is_read.nonzero()[0]])
    found = {
        "images": len(rows),
        "rejected": int(rows["is_anomalous"].astype("boolean").fillna(False).sum()),
        "unreadable": int((~is_read).sum()),
    }
    if parts:
        of_parts = read_scores(csv.read_bytes()) if csv else rows
        parts = decide_parts(pipe[-1], of_parts.assign(file=paths), parts)
        found["parts"] = len(parts)
        found["rejected_parts"] = int(parts["is_anomalous"].fillna(False).sum())
    _tell(found, rows, parts, csv, as_json)
    if found["unreadable"]:
        click.echo(
            f'{found["unreadable"]} of {len(paths)} images cannot be read, see the column "error"',
            err=True,
        )
        context.exit(UNREADABLE)
    if exit_code and found["rejected" if parts is None else "rejected_parts"]:
        context.exit(REJECTED)


def _journal(path):
    """Where lines of a file are until all of them are there."""
    return None if path is None else Journal(f"{os.path.realpath(path)}.part")


def _note(lines):
    """The file that says of which model, images and options the rows in a journal are."""
    return lines.path.with_name(f"{lines.path.name}.json")


def _rows_before(lines, region_lines, fingerprint):
    """Rows of a run like this one that was ended, or None, after which the journal is empty."""
    from .._utils.files import write_text
    from ..inference.scores import read_scores

    note, of_this = _note(lines), json.dumps({"fingerprint": fingerprint})
    if note.exists() and note.read_bytes() == of_this.encode():
        text = lines.take_up()
        rows = read_scores(text) if text else ()
        n_regions = len(rows) if region_lines is None else region_lines.take_up().count(b"\n")
        if 0 < len(rows) <= n_regions:
            say(f"Going on after {len(rows)} images that are scored already.")
            return rows
    # In this order, so that at no time a note stands beside rows of another run.
    lines.path.unlink(missing_ok=True)
    write_text(note, of_this)
    return None


def _written(shards, before, put, region_lines):
    """Rows that are put somewhere, shard by shard, and those before.

    Returns all of their columns with ``put=None``, else whether they were read and rejected.
    """
    import pandas as pd

    tables = [] if before is None else [before[_COUNTED]]
    for rows, found in shards:
        if region_lines is not None:  # before the rows, so that there is a line for each of them
            region_lines.append("".join(f"{json.dumps(as_plain(r) or [])}\n" for r in found))
        if put is not None:
            put(rows, not tables)
            rows = rows[_COUNTED]
        tables.append(rows)
    return pd.concat(tables)


def _as_csv(rows, header):
    from .._utils.files import escape_name

    text = {name: rows[name].map(escape_name, na_action="ignore") for name in ("file", "error")}
    return rows.assign(**text).to_csv(index=False, header=header)


def _print(rows, header):
    """Rows for people, what was decided and why; else all columns as CSV."""
    if not is_terminal():
        click.echo(_as_csv(rows, header), nl=False)
        return
    table = rows.assign(decision=rows["is_anomalous"].map({True: "REJECT", False: "accept"}))
    if not table["error"].any():
        table = table.drop(columns="error")
    click.echo(table_text(table[[name for name in _SHOWN if name in table]], header=header))


def _write_coco(region_lines, path, images):
    """Write the regions of all images, those without a region among them, as COCO JSON."""
    import pandas as pd

    from .._utils.files import write_text
    from ..inference.region_files import to_coco
    from ..scoring.regions import COLUMNS

    found = [row for line in region_lines.take_up().splitlines() for row in json.loads(line)]
    write_text(path, json.dumps(to_coco(pd.DataFrame(found, columns=[*COLUMNS]), images)))
    region_lines.path.unlink()


def _of_parts(csv):
    return csv.with_suffix(".parts.csv")


def _tell(found, rows, parts, csv, as_json):
    """Print what was counted and is in no file; parts go beside the file of rows."""
    from .._utils.files import escape_name, write_text

    if parts is not None:
        names = parts[["part", "worst_view"]]
        parts = parts.assign(**names.map(escape_name, na_action="ignore"))
        if csv:
            write_text(_of_parts(csv), parts.to_csv(index=False))
    if as_json:
        tables = {} if csv else {"scores": rows}
        answer(True, {**found, **tables, **({} if parts is None else {"parts": parts})})
    elif csv:
        click.echo(f"{found['rejected']} of {found['images']} images rejected: {csv}")
        if parts is not None:
            of = f"{found['rejected_parts']} of {found['parts']} parts rejected"
            click.echo(f"{of}: {_of_parts(csv)}")
    elif parts is not None and is_terminal():
        click.echo(table_text(parts[[*_SHOWN_OF_PARTS]]))
    elif parts is not None:
        click.echo(parts.to_csv(index=False), nl=False)


def _fingerprint(model, paths, asked):
    """What has to be the same for rows that were written before a kill to be of this run."""
    from .._utils.files import file_digest
    from ..inference.map_files import stamp_of

    content = [file_digest(model), paths, [stamp_of(path) for path in paths], asked]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@click.command(epilog=option.WHAT_IMAGES_ARE)
@option.model
@option.images
@click.option(
    "--output",
    "-o",
    default="report.html",
    type=option.Output(),
    help="The page: one file, to be opened in any browser, offline.",
)
@click.option(
    "--good",
    metavar="NAME",
    help='Names of folders are labels: of good images, NAME, "OK", "normal" and the like; of types '
    "of defects, those beside them.  [default: they say nothing]",
)
@click.option("--title", default="Inspection report")
@click.option(
    "--detail",
    type=click.IntRange(1),
    metavar="PIXELS",
    help="Keep a second, larger picture of each image for a closer look, 1024 for instance.  "
    "[default: the small one only]",
)
@click.option("--max-images", default=5000, help="More are refused.")
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

    shown = images.as_they_are("test") if good is None else images.labelled(good)
    pipe = model.load(false_alarm_rate)
    if parts is not None:
        options["parts"] = parts_of(as_images(shown).file_names(), parts)
    write_report(pipe, shown, output, verbose=1, **options)
    size = output.stat().st_size
    document = {"report": output, "images": len(shown), "bytes": size}
    answer(as_json, document, f"{len(shown)} images, {size / 1e6:.1f} MB: {output}")
