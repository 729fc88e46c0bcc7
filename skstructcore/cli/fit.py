"""``skstructcore fit``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._common import (
    check_output,
    false_alarms_option,
    features_option,
    json_option,
    load_good,
    make_pipeline,
    new_model_option,
    plain_errors,
    preset_option,
    print_json,
    print_table,
    save_model,
    set_option,
)

if TYPE_CHECKING:
    from typing import Any


_LEGEND = """
level: false alarms that are asked for; promised: what so many images can keep.
painted_found: share of painted defects found; smallest_found: from which size on, as a share of
the shorter side, 90 % of them are."""


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@new_model_option("Where to save the fitted model.", aliases=("--model",))
@false_alarms_option
@features_option
@preset_option
@set_option
@click.option(
    "--estimate/--no-estimate",
    default=True,
    help="Whether to estimate, from painted defects, what each false-alarm rate finds.",
)
@json_option
def fit(
    folder: Path,
    output: Path,
    false_alarms: float | None,
    features: str,
    preset: str,
    settings: dict[str, Any],
    estimate: bool,
    as_json: bool,
) -> None:
    """Fit on the good images in FOLDER and save the model.

    FOLDER holds images of good parts, or folders of images of which the one named "good"
    counts, or it is laid out as a data set: then its training images are taken.

    Prints for several false-alarm rates which so many images can promise, and what they are
    estimated to find. The rate can be changed later without a new fit: `skstructcore recalibrate`.

    \b
    skstructcore fit line3/good -o line3.model
    skstructcore fit line3/good -o line3.model --false-alarms 0.02 --set bank__ratio=0.02
    """
    from ..lifecycle import info, operating_points
    from ..pipeline import estimate_memory

    with plain_errors():
        check_output(output, text=False)
        images = load_good(folder)
        pipe = make_pipeline(features, preset, settings, false_alarms, True)
        memory = estimate_memory(pipe, images, images.y)
        memory.check()
        click.echo(f"memory: about {memory}", err=True)
        pipe.fit(images, images.y)
        save_model(pipe, output)
        try:
            points = operating_points(pipe, images if estimate else None)
        except ValueError as error:  # the model is saved: it is as good without
            click.echo(f"No estimate of what is found: {error}.", err=True)
            estimate, points = False, operating_points(pipe)
        if as_json:
            print_json({"model": output, **info(output), "operating_points": points})
            return
    click.echo(f"Fitted on {pipe['bank'].n_images_} good images: {output}\n")
    print_table(points, ("level", "promised", "painted_found", "smallest_found"))
    click.echo(_LEGEND if estimate else _LEGEND[: _LEGEND.index("painted")])
