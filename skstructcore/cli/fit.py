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
    parts_of,
    parts_option,
    plain_errors,
    preset_option,
    print_json,
    print_table,
    save_model,
    say,
    set_option,
)

if TYPE_CHECKING:
    from typing import Any


_LEGEND = """
rate: share of good images that the threshold rejects, rate_low to rate_high 90 % of the time.
painted_found: share of painted defects found; smallest_found: from which size on, as a share of
the shorter side, 90 % of them are."""
_SHARES = ("false_alarm_rate", "rate", "rate_low", "rate_high", "painted_found", "smallest_found")

# Of each size: a fifth of the processor time of a fit on fifty images goes into them.
_PAINTED = 12


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
@parts_option
@json_option
def fit(
    folder: Path,
    output: Path,
    false_alarms: float | None,
    features: str,
    preset: str,
    settings: dict[str, Any],
    estimate: bool,
    parts: str | None,
    as_json: bool,
) -> None:
    """Fit on the good images in FOLDER and save the model.

    FOLDER holds images of good parts, or folders of images of which the one named "good"
    counts, or it is laid out as a data set: then its training images are taken.

    Prints for several false-alarm rates which so many images can promise, and what they are
    estimated to find. The rate can be changed later without a new fit: `skstructcore recalibrate`.

    \b
    skstructcore fit line3/good -o line3.structcore
    skstructcore fit line3/good -o line3.structcore --false-alarms 0.02 --set bank__ratio=0.02
    """
    with plain_errors():
        check_output(output, text=False)
        from ..lifecycle import operating_points
        from ..lifecycle.operating_points import FALSE_ALARM_RATES, painted_at
        from ..model_files import info
        from ..pipeline import estimate_memory
        from ..scoring.summary import closing_sentences, percent

        images = load_good(folder)
        pipe = make_pipeline(features, preset, settings, false_alarms, True)
        memory = estimate_memory(pipe, images, images.y)
        memory.check()
        say(f"memory: about {memory}")
        say(
            f"Fitting on {len(images)} images: features, then the memory bank (k-center), then "
            "each image is scored as if it had been left out …"
        )
        given = {} if parts is None else {"bank__parts": parts_of(images.paths, parts)}
        pipe.fit(images, images.y, **given)
        save_model(pipe, output)
        if estimate:
            say(f"Saved {output}. Painting defects to estimate what each rate finds …")
        try:
            rates = sorted({*FALSE_ALARM_RATES, pipe[-1].calibration_.decision.asked_rate})
            options = {"false_alarm_rates": rates, "n_painted": _PAINTED}
            points = operating_points(pipe, images if estimate else None, **options)
        except ValueError as error:  # the model is saved: it is as good without
            say(f"No estimate of what is found: {error}.")
            estimate, points = False, operating_points(pipe)
        if as_json:
            summary = {"summary": closing_sentences(pipe[-1]), "operating_points": points}
            print_json({"model": output, **info(output), **summary})
            return
    click.echo(f"Fitted on {pipe['bank'].n_images_} good images: {output}\n")
    print_table(points, _SHARES)
    click.echo(_LEGEND if estimate else _LEGEND[: _LEGEND.index("painted")])
    first, *more = closing_sentences(pipe[-1])
    if estimate:
        asked = pipe[-1].calibration_.decision.asked_rate
        size, found = painted_at(points, asked)
        first = f"{first[:-1]}; of painted defects of {percent(size)} of the image it finds "
        first = f"{first}{found:.0%}."
    for sentence in (first, *more):
        click.echo(sentence)
