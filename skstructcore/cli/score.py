"""``skstructcore score``"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import click

from ._common import (
    FOLDER,
    Output,
    check_output,
    cluster_option,
    exit_code_option,
    false_alarms_option,
    images_argument,
    json_option,
    load_model,
    model_argument,
    n_jobs_option,
    named_images,
    parts_of,
    parts_option,
    print_json,
    print_table,
    reading,
    trust_option,
)
from ._errors import REJECTED, UNREADABLE, exit_codes
from ._rows import Regions, Rows, is_terminal


@click.command(epilog=exit_codes())
@model_argument
@images_argument
@click.option("--csv", type=Output(), help="Write scores there.")
@false_alarms_option
@parts_option
@n_jobs_option
@cluster_option
@click.option("--shard-size", default=64, help="Images a process gets at once.")
@click.option(
    "--on-error",
    default="skip",
    type=click.Choice(["skip", "raise"]),
    help="Whether images that cannot be read are passed over, or end the command.",
)
@click.option("--maps", type=FOLDER, help="Folder for a map an image, as 16-bit PNG.")
@click.option("--overlays", type=FOLDER, help="Folder for the images with their maps over them.")
@click.option("--masks", type=FOLDER, help="Folder for masks of the regions above the threshold.")
@click.option("--regions", type=Output(), help="Write regions as COCO JSON.")
@exit_code_option()
@json_option
@trust_option
@click.pass_context
def score(
    context: click.Context,
    model: Path,
    images: tuple[Path, ...],
    csv: Path | None,
    false_alarm_rate: float | None,
    parts: str | None,
    n_jobs: int | None,
    cluster: str | None,
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

    Files of --maps, --overlays and --masks have the size of their image and lie as the images do.
    A folder, or a file of --regions, that holds something else is refused.

    With --parts, as in fit, parts of which the images are views are decided as well: a table of
    parts instead of images, or beside --csv in <name>.parts.csv. --exit-code is about parts then.

    \b
    skstructcore score line3.structcore line3/new --csv scores.csv --n-jobs 4
    skstructcore score line3.structcore part.png --json --exit-code
    """
    if csv is not None and parts:
        check_output(_of_parts(csv))
    from ..images import as_images
    from ..inference import iter_scores
    from ..scoring.map_files import MapWriter

    listed = as_images(named_images(images, good=None, split="test"))
    paths = listed.file_names()
    pipe = load_model(model, trust=trust, false_alarm_rate=false_alarm_rate)
    if parts:
        from ..scoring.parts import check_fitted_with_parts

        check_fitted_with_parts(pipe[-1])
        parts = parts_of(paths, parts)
    drawn = {"map": maps, "overlay": overlays, "mask": masks}
    asked = [false_alarm_rate, reading(), *map(str, drawn.values()), str(regions)]
    kept = None if regions is None else Regions(regions)
    also = None
    if any(drawn.values()) or kept:
        also = MapWriter.of(pipe, listed, drawn, keep_regions=kept is not None)
    output = Rows(csv, as_json, paths, _fingerprint(model, paths, asked), parts, kept)
    left, bars = listed[output.n_done :], int(csv is not None or as_json)
    options = dict(on_error=on_error, n_jobs=n_jobs, shard_size=shard_size, verbose=bars)
    shards = iter_scores(pipe, left, also=also, **options) if len(left) else ()
    with output:
        for shard in shards:
            output.write(shard)
    if kept:
        kept.finish(listed[[i for i in range(len(listed)) if i not in output.failed]])
    found = output.counts
    decided = _decide_parts(pipe, output, parts, csv, found) if parts else None
    if as_json:
        rows = {} if csv else {"scores": output.rows()}
        print_json({**found, **rows, **({} if decided is None else {"parts": decided})})
    elif csv:
        click.echo(f"{found['rejected']} of {found['images']} images rejected: {csv}")
        if decided is not None:
            of = f"{found['rejected_parts']} of {found['parts']} parts rejected"
            click.echo(f"{of}: {_of_parts(csv)}")
    if found["unreadable"]:
        click.echo(
            f'{found["unreadable"]} of {len(paths)} images cannot be read, see the column "error"',
            err=True,
        )
        context.exit(UNREADABLE)
    if exit_code and found["rejected_parts" if parts else "rejected"]:
        context.exit(REJECTED)


def _of_parts(csv):
    return csv.with_suffix(".parts.csv")


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
        write_text(_of_parts(csv), table.to_csv(index=False))
    elif not output.as_json and is_terminal():
        print_table(
            table[["part", "n_views", "is_anomalous", "p_value", "worst_view", "decided_by"]]
        )
    elif not output.as_json:
        click.echo(table.to_csv(index=False), nl=False)
    return table


def _fingerprint(model, paths, asked):
    """What has to be the same for rows that were written before a kill to be of this run."""
    from .._utils.files import file_digest

    content = [file_digest(model), paths, [_stamp(path) for path in paths], asked]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _stamp(path):
    from ..images.files import split_page

    try:
        status = os.stat(split_page(path)[0])
    except (OSError, ValueError):  # to be reported with the scores
        return None
    return status.st_size, status.st_mtime_ns
