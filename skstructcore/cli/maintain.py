"""Commands for a fitted model: change it, audit its training images, watch for drift."""

from __future__ import annotations

import json

import click

from . import _options as option
from ._inputs import parts_of
from ._output import REJECTED, Refused, answer, exit_codes, save_model, table_text

_SHARES = ("old_rate", "new_rate", "false_alarm_rate", "rate", "p_value", "q_value")

_SUSPECTS, _ALARM = "there are suspects", "an alarm is raised"


@click.command(epilog=option.WHAT_IMAGES_ARE)
@option.model
@option.optional_images
@option.new_model("Where to save the recalibrated model.")
@option.false_alarm_rate
@click.option(
    "--weight-old",
    default=0.0,
    help="What an image that calibrated the model before counts, compared with a fresh one.",
)
@option.parts
@option.groups
@option.force
@option.json
def recalibrate(model, images, output, false_alarm_rate, weight_old, parts, groups, force, as_json):
    """Set the threshold of MODEL anew, from fresh good IMAGES. Bank and scores stay.

    Without IMAGES only --false-alarms changes. A model that was fitted with --parts needs --parts
    here too.

    \b
    skstructcore recalibrate line3.structcore line3/fresh -o line3b.structcore
    skstructcore recalibrate line3.structcore -o strict.structcore --false-alarms 0.1
    """
    from ..lifecycle import recalibrate as recalibrate_

    pipe = model.load()
    fresh = images.good_ones(groups) if images.paths else None
    if fresh is None and false_alarm_rate is None:
        raise click.UsageError("give fresh images, or --false-alarms")
    if fresh is None and (parts is not None or any(images.reading.values())):
        raise click.UsageError("--parts, --pages, --view and --max-pixels are about fresh images")
    pipe = recalibrate_(
        pipe,
        fresh,
        parts=_parts(fresh, parts),
        false_alarm_rate=false_alarm_rate,
        weight_old=weight_old,
        force=force,
    )
    save_model(pipe, output)
    report = pipe[-1].recalibration_
    lines = [table_text(report.thresholds, _SHARES)]
    if len(report.decisions):
        changed = int(report.decisions["changed"].sum())
        lines.append(f"{changed} of {len(report.decisions)} images are decided otherwise now.")
    document = {"model": output, "thresholds": report.thresholds, "images": report.decisions}
    answer(as_json, document, *lines, f"Saved: {output}")


def _parts(images, how):
    """The part of each image, as ``--parts`` says it or as the images bring it."""
    from ..images import as_images

    return "auto" if how is None else parts_of(as_images(images).file_names(), how)


def _change(model, output, as_json, change):
    """Load a model, save what `change` makes of it, and say how many images it has now."""
    from ..pipeline.steps import fitted_steps

    pipe = model.load()
    before = fitted_steps(pipe)[0].n_images_
    changed = change(pipe)
    save_model(changed, output)
    bank = fitted_steps(changed)[0]
    document = {
        "model": output,
        "images_before": before,
        "images": bank.n_images_,
        "bank_entries": len(bank.bank_),
    }
    answer(as_json, document, f"{before} good images before, {bank.n_images_} now: {output}")


@click.command(epilog=option.WHAT_IMAGES_ARE)
@option.model
@option.images
@option.new_model("Where to save the larger model.")
@option.parts
@option.groups
@option.force
@option.json
def update(model, images, output, parts, groups, force, as_json):
    """Add good IMAGES to the bank of MODEL, without a new fit.

    A model that was fitted with --parts needs --parts here too.

    \b
    skstructcore update line3.structcore line3/new-good -o line3b.structcore
    skstructcore update line3.structcore verdicts.csv -o line3b.structcore
    """
    from .. import lifecycle

    new = images.good_ones(groups)
    how = {"parts": _parts(new, parts), "force": force}
    _change(model, output, as_json, lambda pipe: lifecycle.update(pipe, new, **how))


@click.command(epilog=option.WHAT_IMAGES_ARE)
@option.model
@click.argument("name")
@option.images
@option.new_model("Where to save the model that knows one more product.")
@option.parts
@option.groups
@option.json
def add_category(model, name, images, output, parts, groups, as_json):
    """Teach MODEL the product NAME, from good IMAGES of it. It was fitted with --categories.

    Scores of the other products stay as they are. A model that was fitted with --parts needs
    --parts here too.

    \b
    skstructcore add-category products.structcore pin line3/pin/good -o more.structcore
    skstructcore add-category products.structcore pin @pins.txt -o more.structcore --json
    """
    from .. import lifecycle

    new = images.good_ones(groups)
    how = {"parts": _parts(new, parts)}
    _change(model, output, as_json, lambda pipe: lifecycle.add_category(pipe, new, name, **how))


@click.command()
@option.model
@click.argument("name")
@option.new_model("Where to save the model without the product.")
@option.json
def remove_category(model, name, output, as_json):
    """Make MODEL forget the product NAME.

    \b
    skstructcore remove-category products.structcore pin -o fewer.structcore
    skstructcore remove-category products.structcore pin -o fewer.structcore --json
    """
    from .. import lifecycle

    _change(model, output, as_json, lambda pipe: lifecycle.remove_category(pipe, name))


@click.command(epilog=option.WHAT_IMAGES_ARE)
@option.model
@option.images
@option.new_model("Where to save the smaller model.")
@option.json
def forget(model, images, output, as_json):
    """Take training IMAGES out of MODEL. They are found by their content.

    \b
    skstructcore forget line3.structcore line3/good/017.png -o line3b.structcore
    skstructcore forget line3.structcore suspects/ -o line3b.structcore --json
    """
    from .. import lifecycle

    gone = images.as_they_are()
    _change(model, output, as_json, lambda pipe: lifecycle.forget(pipe, gone))


@click.command(epilog=f"{option.WHAT_IMAGES_ARE}\n\n{exit_codes(_SUSPECTS)}")
@option.model
@option.optional_images
@click.option("--fdr", default=0.15, help="Expected share of good images among the suspects.")
@click.option("--most", default=20, type=click.IntRange(1), help="How many rows are shown.")
@option.exit_code(_SUSPECTS)
@option.json
@click.pass_context
def audit(context, model, images, fdr, most, exit_code, as_json):
    """Look for defects and copies among training images.

    With the training IMAGES near-duplicates are found, not exact copies alone.

    \b
    skstructcore audit line3.structcore line3/good
    skstructcore audit line3.structcore line3/good --fdr 0.05 --json
    """
    from ..lifecycle import audit as audit_

    if not images.paths and any(images.reading.values()):
        raise click.UsageError("--pages, --view and --max-pixels are about IMAGES: name them")
    pipe = model.load()
    table = audit_(pipe, images.as_they_are() if images.paths else None, fdr=fdr)
    n_suspects = int(table["suspect"].sum())
    answer(
        as_json,
        {"suspects": n_suspects, "images": table},
        table_text(table.head(most), _SHARES),
        f"{n_suspects} of {len(table)} training images are suspects.",
    )
    if exit_code and n_suspects:
        context.exit(REJECTED)


@click.command(epilog=f"{option.WHAT_IMAGES_ARE}\n\n{exit_codes(_ALARM)}")
@option.model
@option.images
@click.option(
    "--state",
    required=True,
    type=option.Output(),
    help="File that keeps what was seen; made if it is not there, continued if it is.",
)
@click.option(
    "--alpha",
    default=0.01,
    help="Chance of ever raising an alarm on an unchanged line; for a new state.",
)
@option.exit_code(_ALARM)
@option.json
@click.pass_context
def monitor(context, model, images, state, alpha, exit_code, as_json):
    """Look for drift in IMAGES. Give them in the order in which they were taken.

    \b
    skstructcore monitor line3.structcore line3/today --state line3.drift.json
    skstructcore monitor line3.structcore line3/today --state line3.drift.json --exit-code
    """
    from .._utils.files import write_text
    from ..lifecycle import DriftMonitor

    pipe = model.load()
    if state.exists():
        try:
            watch = DriftMonitor.from_dict(pipe, json.loads(state.read_text()))
        except ValueError as error:  # of JSON, of UTF-8 and of the monitor
            raise Refused(f"{str(state)!r} is no state to go on from: {error}") from error
    else:
        watch = DriftMonitor(pipe, alpha=alpha)
    alarms = watch.update(images.as_they_are())
    write_text(state, json.dumps(watch.to_dict()))
    before = len(watch.alarms_) - len(alarms)
    earlier = f" ({before} alarms before)" if before else ""
    answer(
        as_json,
        {"images": watch.n_images_, "alarms": [vars(alarm) for alarm in alarms]},
        *(f"ALARM: {alarm}" for alarm in alarms),
        f"{watch.n_images_} images seen, {len(alarms)} new alarms{earlier}.",
    )
    if exit_code and alarms:
        context.exit(REJECTED)
