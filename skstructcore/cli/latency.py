"""``skstructcore latency``"""

from __future__ import annotations

import click

from . import _options as option
from ._output import answer


@click.command()
@option.model
@option.images
@click.option("--repeats", default=50, type=click.IntRange(1), help="Images that are measured.")
@option.json
def latency(model, images, repeats, as_json):
    """Measure how long MODEL takes for one image, step by step.

    IMAGES are taken in turn.

    \b
    skstructcore latency line3.structcore line3/new
    skstructcore latency line3.structcore line3/new --repeats 200 --json
    """
    from ..serving.latency import stage_times

    pipe = model.load()
    times = stage_times(pipe, images.named(good=None, split="test"), n_repeats=repeats)
    document = {stage: row.to_dict() for stage, row in times.iterrows()}
    answer(as_json, document, times.round(1).rename_axis("milliseconds").to_string())
