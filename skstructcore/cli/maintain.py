"""``skstructcore recalibrate``, ``update``, ``forget``, ``audit`` and ``monitor``"""

from __future__ import annotations

import json
from pathlib import Path

import click

from ._common import (
    IMAGES,
    Output,
    exit_code_option,
    false_alarms_option,
    images_argument,
    json_option,
    load_model,
    model_argument,
    named_images,
    new_model_option,
    print_json,
    print_table,
    reading_options,
    save_model,
    trust_option,
)
from ._errors import REJECTED, Refused, exit_codes

_SHARES = ("old_rate", "new_rate", "false_alarm_rate", "rate", "p_value", "q_value")

_SUSPECTS, _ALARM = "there are suspects", "an alarm is raised"

_force_option = click.option(
    "--force", is_flag=True, help="Take images that look like defects or another product."
)


@click.command()
@model_argument
@click.argument("images", nargs=-1, type=IMAGES)
@reading_options
@new_model_option("Where to save the recalibrated model.")
@false_alarms_option
@click.option(
    "--weight-old",
    default=0.0,
    help="What an image that calibrated the model before counts, compared with a fresh one.",
)
@_force_option
@json_option
@trust_option
def recalibrate(
    model: Path,
    images: tuple[Path, ...],
    output: Path,
    false_alarm_rate: float | None,
    weight_old: float,
    force: bool,
    as_json: bool,
    trust: bool,
) -> None:
    """Set the threshold of MODEL anew, from fresh good IMAGES. Bank and scores stay.

    IMAGES are files, folders, or the table of verdicts that a report has exported. Without
    IMAGES only --false-alarms changes.

    \b
    skstructcore recalibrate line3.structcore line3/fresh -o line3b.structcore
    skstructcore recalibrate line3.structcore -o strict.structcore --false-alarms 0.1
    """
    from ..lifecycle import recalibrate as recalibrate_

    pipe = load_model(model, trust=trust)
    fresh = named_images(images) if images else None
    if fresh is None and false_alarm_rate is None:
        raise click.UsageError("give fresh images, or --false-alarms")
    pipe = recalibrate_(
        pipe, fresh, false_alarm_rate=false_alarm_rate, weight_old=weight_old, force=force
    )
    save_model(pipe, output)
    report = pipe[-1].recalibration_
    if as_json:
        print_json({"model": output, "thresholds": report.thresholds, "images": report.decisions})
        return
    print_table(report.thresholds, _SHARES)
    if len(report.decisions):
        changed = int(report.decisions["changed"].sum())
        click.echo(f"{changed} of {len(report.decisions)} images are decided otherwise now.")
    click.echo(f"Saved: {output}")


def _change(function, model, output, as_json, trust, *arguments, images=None, **options):
    from .. import lifecycle

    pipe = load_model(model, trust=trust)
    before = pipe["bank"].n_images_
    if images is not None:
        arguments = (named_images(images), *arguments)
    changed = getattr(lifecycle, function)(pipe, *arguments, **options)
    save_model(changed, output)
    bank = changed["bank"]
    if as_json:
        counts = {"images_before": before, "images": bank.n_images_}
        print_json({"model": output, **counts, "bank_entries": len(bank.bank_)})
    else:
        click.echo(f"{before} good images before, {bank.n_images_} now: {output}")


@click.command()
@model_argument
@images_argument
@new_model_option("Where to save the larger model.")
@_force_option
@json_option
@trust_option
def update(
    model: Path, images: tuple[Path, ...], output: Path, force: bool, as_json: bool, trust: bool
) -> None:
    """Add good IMAGES to the bank of MODEL, without a new fit.

    IMAGES are files, folders, or the table of verdicts that a report has exported.

    \b
    skstructcore update line3.structcore line3/new-good -o line3b.structcore
    skstructcore update line3.structcore verdicts.csv -o line3b.structcore
    """
    _change("update", model, output, as_json, trust, images=images, force=force)


@click.command()
@model_argument
@click.argument("name")
@images_argument
@new_model_option("Where to save the model that knows one more product.")
@json_option
@trust_option
def add_category(
    model: Path, name: str, images: tuple[Path, ...], output: Path, as_json: bool, trust: bool
) -> None:
    """Teach MODEL the product NAME, from good IMAGES of it. It was fitted with --categories.

    Scores of the other products stay as they are.

    \b
    skstructcore add-category products.structcore pin line3/pin/good -o more.structcore
    skstructcore add-category products.structcore pin @pins.txt -o more.structcore --json
    """
    _change("add_category", model, output, as_json, trust, name, images=images)


@click.command()
@model_argument
@click.argument("name")
@new_model_option("Where to save the model without the product.")
@json_option
@trust_option
def remove_category(model: Path, name: str, output: Path, as_json: bool, trust: bool) -> None:
    """Make MODEL forget the product NAME.

    \b
    skstructcore remove-category products.structcore pin -o fewer.structcore
    skstructcore remove-category products.structcore pin -o fewer.structcore --json
    """
    _change("remove_category", model, output, as_json, trust, name)


@click.command()
@model_argument
@images_argument
@new_model_option("Where to save the smaller model.")
@json_option
@trust_option
def forget(model: Path, images: tuple[Path, ...], output: Path, as_json: bool, trust: bool) -> None:
    """Take training IMAGES out of MODEL. They are found by their content.

    \b
    skstructcore forget line3.structcore line3/good/017.png -o line3b.structcore
    skstructcore forget line3.structcore suspects/ -o line3b.structcore --json
    """
    _change("forget", model, output, as_json, trust, images=images)


@click.command(epilog=exit_codes(_SUSPECTS))
@model_argument
@click.argument("images", nargs=-1, type=IMAGES)
@reading_options
@click.option(
    "--fdr",
    default=0.15,
    help="Expected share of good images among the suspects.",
)
@click.option(
    "--most",
    default=20,
    type=click.IntRange(1),
    help="How many rows are shown.",
)
@exit_code_option(_SUSPECTS)
@json_option
@trust_option
@click.pass_context
def audit(
    context: click.Context,
    model: Path,
    images: tuple[Path, ...],
    fdr: float,
    most: int,
    exit_code: bool,
    as_json: bool,
    trust: bool,
) -> None:
    """Look for defects and copies among training images.

    With the training IMAGES near-duplicates are found, not exact copies alone.

    \b
    skstructcore audit line3.structcore line3/good
    skstructcore audit line3.structcore line3/good --fdr 0.05 --json
    """
    from ..lifecycle import audit as audit_

    pipe = load_model(model, trust=trust)
    table = audit_(pipe, named_images(images) if images else None, fdr=fdr)
    n_suspects = int(table["suspect"].sum())
    if as_json:
        print_json({"suspects": n_suspects, "images": table})
    else:
        print_table(table.head(most), _SHARES)
        click.echo(f"{n_suspects} of {len(table)} training images are suspects.")
    if exit_code and n_suspects:
        context.exit(REJECTED)


@click.command(epilog=exit_codes(_ALARM))
@model_argument
@images_argument
@click.option(
    "--state",
    required=True,
    type=Output(),
    help="File that keeps what was seen; made if it is not there, continued if it is.",
)
@click.option(
    "--alpha",
    default=0.01,
    help="Chance of ever raising an alarm on an unchanged line; for a new state.",
)
@exit_code_option(_ALARM)
@json_option
@trust_option
@click.pass_context
def monitor(
    context: click.Context,
    model: Path,
    images: tuple[Path, ...],
    state: Path,
    alpha: float,
    exit_code: bool,
    as_json: bool,
    trust: bool,
) -> None:
    """Look for drift in IMAGES. Give them in the order in which they were taken.

    \b
    skstructcore monitor line3.structcore line3/today --state line3.drift.json
    skstructcore monitor line3.structcore line3/today --state line3.drift.json --exit-code
    """
    from .._utils.files import atomic_file
    from ..lifecycle import DriftMonitor

    pipe = load_model(model, trust=trust)
    watch = _continued(pipe, state) if state.exists() else DriftMonitor(pipe, alpha=alpha)
    alarms = watch.update(named_images(images, good=None))
    with atomic_file(state) as file:
        file.write(json.dumps(watch.to_dict()).encode())
    if as_json:
        print_json({"images": watch.n_images_, "alarms": [vars(alarm) for alarm in alarms]})
    else:
        for alarm in alarms:
            click.echo(f"ALARM: {alarm}")
        before = len(watch.alarms_) - len(alarms)
        earlier = f" ({before} alarms before)" if before else ""
        click.echo(f"{watch.n_images_} images seen, {len(alarms)} new alarms{earlier}.")
    if exit_code and alarms:
        context.exit(REJECTED)


def _continued(pipe, state):
    from ..lifecycle import DriftMonitor

    try:
        return DriftMonitor.from_dict(pipe, json.loads(state.read_text()))
    except ValueError as error:  # of JSON, of UTF-8 and of the monitor
        raise Refused(f"{str(state)!r} is no state to go on from: {error}") from error
