"""``skstructcore report``"""

from __future__ import annotations

from pathlib import Path

import click

from ._common import (
    Output,
    false_alarms_option,
    images_argument,
    json_option,
    labelled_images,
    load_model,
    model_argument,
    named_images,
    parts_of,
    parts_option,
    print_json,
    trust_option,
)


@click.command()
@model_argument
@images_argument
@click.option(
    "--output",
    "-o",
    default="report.html",
    type=Output(),
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
@parts_option
@false_alarms_option
@json_option
@trust_option
def report(
    model: Path,
    images: tuple[Path, ...],
    output: Path,
    good: str | None,
    title: str,
    detail: int | None,
    max_images: int,
    parts: str | None,
    false_alarm_rate: float | None,
    as_json: bool,
    trust: bool,
) -> None:
    """Write an HTML page about IMAGES, to decide by.

    IMAGES are files, folders however deep, patterns, tables (CSV with a column file) and lists
    (@files.txt). A folder laid out as a data set is scored with the labels and masks of its test
    images; a table may have columns label and mask.

    \b
    skstructcore report line3.structcore line3/new -o report.html
    skstructcore report bottle.structcore mvtec_ad/bottle --false-alarms 0.02
    """
    from ..images import as_images
    from ..report import report as write_report

    if good is None:
        shown = named_images(images, good=None, split="test")
    else:
        shown = labelled_images(images, good)
    pipe = load_model(model, trust=trust, false_alarm_rate=false_alarm_rate)
    options = {"title": title, "detail": detail, "max_images": max_images, "verbose": 1}
    if parts is not None:
        options["parts"] = parts_of(as_images(shown).file_names(), parts)
    write_report(pipe, shown, output, **options)
    size = output.stat().st_size
    if as_json:
        print_json({"report": output, "images": len(shown), "bytes": size})
    else:
        click.echo(f"{len(shown)} images, {size / 1e6:.1f} MB: {output}")
