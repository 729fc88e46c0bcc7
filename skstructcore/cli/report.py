"""``skstructcore report``"""

from __future__ import annotations

import click

from . import _options as option
from ._inputs import parts_of
from ._output import answer


@click.command()
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
def report(
    model, images, output, good, title, detail, max_images, parts, false_alarm_rate, as_json
):
    """Write an HTML page about IMAGES, to decide by.

    A folder laid out as a data set is scored with the labels and masks of its test
    images; a table may have columns label and mask.

    \b
    skstructcore report line3.structcore line3/new -o report.html
    skstructcore report bottle.structcore mvtec_ad/bottle --false-alarms 0.02
    """
    from ..images import as_images
    from ..report import report as write_report

    shown = images.named(None, "test") if good is None else images.labelled(good)
    pipe = model.load(false_alarm_rate)
    options = {"title": title, "detail": detail, "max_images": max_images, "verbose": 1}
    if parts is not None:
        options["parts"] = parts_of(as_images(shown).file_names(), parts)
    write_report(pipe, shown, output, **options)
    size = output.stat().st_size
    document = {"report": output, "images": len(shown), "bytes": size}
    answer(as_json, document, f"{len(shown)} images, {size / 1e6:.1f} MB: {output}")
