"""``skstructcore fit``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._common import (
    false_alarms_option,
    features_option,
    json_option,
    load_good,
    make_pipeline,
    new_model_option,
    plain_errors,
    preset_option,
    print_json,
    save_model,
    set_option,
)

if TYPE_CHECKING:
    from typing import Any


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@new_model_option("Where to save the fitted model.", aliases=("--model",))
@false_alarms_option
@features_option
@preset_option
@set_option
@json_option
def fit(
    folder: Path,
    output: Path,
    false_alarms: float | None,
    features: str,
    preset: str,
    settings: dict[str, Any],
    as_json: bool,
) -> None:
    """Fit on the good images in FOLDER and save the model.

    FOLDER holds images of good parts, or folders of images of which the one named "good"
    counts, or it is laid out as a data set: then its training images are taken.

    Prints which false-alarm rates so many images can promise. The rate of the model can be changed
    later without a new fit: `skstructcore recalibrate`.

    \b
    skstructcore fit line3/good -o line3.model
    skstructcore fit line3/good -o line3.model --false-alarms 0.02 --set bank__ratio=0.02
    """
    from .._utils.files import check_writable
    from ..lifecycle import info

    with plain_errors():
        check_writable(output)
        images = load_good(folder)
        pipe = make_pipeline(features, preset, settings, false_alarms, True)
        pipe.fit(images, images.y)
        save_model(pipe, output)
        if as_json:
            print_json({"model": output, **info(output)})
            return
    click.echo(f"Fitted on {pipe['bank'].n_images_} good images: {output}")
