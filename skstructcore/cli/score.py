"""``skstructcore score``"""

from __future__ import annotations

import hashlib
import json

import click

from . import _options as option
from ._errors import REJECTED, UNREADABLE, exit_codes
from ._inputs import parts_of
from ._output import answer, table_text
from ._rows import Regions, Rows, is_terminal

_SHOWN_OF_PARTS = ("part", "n_views", "is_anomalous", "p_value", "worst_view", "decided_by")


@click.command(epilog=exit_codes())
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
@click.option("--regions", type=option.Output(), help="Write regions as COCO JSON.")
@option.exit_code()
@option.json
@click.pass_context
def score(
    context,
    model,
    images,
    csv,
    false_alarm_rate,
    parts,
    n_jobs,
    cluster,
    shard_size,
    on_error,
    maps,
    overlays,
    masks,
    regions,
    exit_code,
    as_json,
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
    from ..inference.map_files import MapWriter, folder_of
    from ..inference.scores import iter_shards
    from ..scoring.parts import check_fitted_with_parts, decide_parts

    listed = as_images(images.named(good=None, split="test"))
    paths = listed.file_names()
    pipe = model.load(false_alarm_rate)
    if parts:
        check_fitted_with_parts(pipe[-1])
        parts = parts_of(paths, parts)
    drawn = {"map": maps, "overlay": overlays, "mask": masks}
    asked = [false_alarm_rate, *vars(images.reading).values()]
    asked += [*map(str, drawn.values()), str(regions)]
    kept = None if regions is None else Regions(regions)
    also = None
    if any(drawn.values()) or kept:
        also = MapWriter.of(pipe, folder_of(listed), drawn, keep_regions=kept is not None)
    quiet = bool(as_json or parts)
    rows = Rows(csv, _fingerprint(model.path, paths, asked), quiet=quiet, regions=kept)
    left, bars = listed[rows.counts["images"] :], int(csv is not None or as_json)
    options = dict(on_error=on_error, n_jobs=n_jobs, shard_size=shard_size, verbose=bars)
    for shard, found in iter_shards(pipe, left, also, **options) if len(left) else ():
        rows.write(shard, found)
    rows.finish()
    if kept:
        kept.finish(listed[[i for i in range(len(listed)) if i not in rows.failed]])
    decided = decide_parts(pipe[-1], rows.rows().assign(file=paths), parts) if parts else None
    found = _tell(rows, decided, csv, as_json)
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


def _tell(rows, parts, csv, as_json):
    """Print what was counted, and what is in no file; the table of parts goes beside that of rows.

    Returns the counts.
    """
    from .._utils.files import escape_name, write_text

    found, tables = rows.counts, {}
    if parts is not None:
        rejected = int(parts["is_anomalous"].fillna(False).sum())
        found = {**found, "parts": len(parts), "rejected_parts": rejected}
        for name in ("part", "worst_view"):
            parts = parts.assign(**{name: parts[name].map(escape_name, na_action="ignore")})
        tables["parts"] = parts
        if csv:
            write_text(_of_parts(csv), parts.to_csv(index=False))
    if as_json:
        answer(True, {**found, **({} if csv else {"scores": rows.rows()}), **tables})
    elif csv:
        click.echo(f"{found['rejected']} of {found['images']} images rejected: {csv}")
        if parts is not None:
            of = f"{found['rejected_parts']} of {found['parts']} parts rejected"
            click.echo(f"{of}: {_of_parts(csv)}")
    elif parts is not None and is_terminal():
        click.echo(table_text(parts[[*_SHOWN_OF_PARTS]]))
    elif parts is not None:
        click.echo(parts.to_csv(index=False), nl=False)
    return found


def _fingerprint(model, paths, asked):
    """What has to be the same for rows that were written before a kill to be of this run."""
    from .._utils.files import file_digest

    content = [file_digest(model), paths, [_stamp(path) for path in paths], asked]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _stamp(path):
    from ..images.files import split_page, stamp

    try:
        return stamp(split_page(path)[0])
    except (OSError, ValueError):  # to be reported with the scores
        return None
