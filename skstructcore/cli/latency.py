"""``skstructcore latency``"""

from __future__ import annotations

from pathlib import Path

import click

from ._common import (
    images_argument,
    json_option,
    load_model,
    model_argument,
    named_images,
    print_json,
)


@click.command()
@model_argument
@images_argument
@click.option("--repeats", default=50, type=click.IntRange(1), help="Images that are measured.")
@json_option
def latency(model: Path, images: tuple[Path, ...], repeats: int, as_json: bool) -> None:
    """Measure how long MODEL takes for one image, step by step.

    IMAGES are taken in turn.

    \b
    skstructcore latency line3.structcore line3/new
    skstructcore latency line3.structcore line3/new --repeats 200 --json
    """
    from ..serving.latency import stage_times

    pipe = load_model(model)
    pictures = named_images(images, good=None, split="test")
    times = stage_times(pipe, pictures, n_repeats=repeats)
    if as_json:
        print_json({stage: row.to_dict() for stage, row in times.iterrows()})
    else:
        click.echo(times.round(1).rename_axis("milliseconds").to_string())
