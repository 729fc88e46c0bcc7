"""Commands that keep models, and the feature cache, in order: look into them, change, audit."""

import json
import re
import sys

import click

from .._utils.files import write_text
from . import _options as option
from ._inputs import parts_of
from ._output import EXIT_CODES, REJECTED, Refused, answer, picture_sentence, save_model, table_text


@click.command(epilog=option.WHAT_IMAGES_ARE)
@option.model
@option.optional_images
@option.new_model("Where to save the recalibrated model.")
@option.false_alarm_rate
@click.option(
    "--weight-old",
    default=0.0,
    help="Weight of an image that calibrated before; a fresh one has 1.",
)
@option.learning
@option.force
@option.json
def recalibrate(model, images, output, parts, good, groups, as_json, **options):
    """Set the threshold of MODEL anew, from fresh good IMAGES. Bank and scores stay.

    Without IMAGES only --false-alarms changes.

    \b
    skstructcore recalibrate line3.structcore line3/fresh -o line3b.structcore
    skstructcore recalibrate line3.structcore -o strict.structcore --false-alarms 0.1
    """
    from ..lifecycle import recalibrate as recalibrate_

    if not images.paths and (parts is not None or options["false_alarm_rate"] is None):
        raise click.UsageError("name fresh IMAGES, or --false-alarms alone")
    pipe = model.load()
    fresh, parts = _learned(images, parts, good, groups) if images.paths else (None, "auto")
    pipe = recalibrate_(pipe, fresh, parts=parts, **options)
    save_model(pipe, output)
    report = pipe[-1].recalibration_
    lines = [table_text(report.thresholds)]
    if len(report.decisions):
        changed = int(report.decisions["changed"].sum())
        lines.append(f"{changed} of {len(report.decisions)} images are decided otherwise now.")
    document = {"model": output, "thresholds": report.thresholds, "images": report.decisions}
    answer(as_json, document, *lines, f"Saved: {output}")


def _learned(images, parts, good, groups):
    """Images to learn from, and the part of each, as ``--parts`` says it or as they bring it."""
    images = images.load(good=good, groups=groups)
    return images, "auto" if parts is None else parts_of(images.paths, parts)


def _change(function, *given, model, output, as_json, **options):
    """Save what a function of `lifecycle` makes of a model, and say how many images it has now."""
    from .. import lifecycle
    from ..pipeline.steps import fitted_steps

    pipe = model.load()
    before = fitted_steps(pipe)[0].n_images_
    changed = getattr(lifecycle, function)(pipe, *given, **options)
    save_model(changed, output)
    bank = fitted_steps(changed)[0]
    counts = {"images_before": before, "images": bank.n_images_, "bank_entries": len(bank.bank_)}
    sentence = f"{before} good images before, {bank.n_images_} now: {output}"
    answer(as_json, {"model": output, **counts}, sentence)


@click.command(epilog=option.WHAT_IMAGES_ARE)
@option.model
@option.images
@option.new_model("Where to save the larger model.")
@option.learning
@option.force
@option.json
def update(images, parts, good, groups, **options):
    """Add good IMAGES to the bank of MODEL, without a new fit.

    \b
    skstructcore update line3.structcore line3/new-good -o line3b.structcore
    skstructcore update line3.structcore verdicts.csv -o line3b.structcore
    """
    new, parts = _learned(images, parts, good, groups)
    _change("update", new, parts=parts, **options)


@click.command(epilog=option.WHAT_IMAGES_ARE)
@option.model
@click.argument("name")
@option.images
@option.new_model("Where to save the model that knows one more product.")
@option.learning
@option.json
def add_category(name, images, parts, good, groups, **options):
    """Teach MODEL the product NAME, from good IMAGES of it. It was fitted with --categories.

    Scores of the other products stay as they are.

    \b
    skstructcore add-category products.structcore pin line3/pin/good -o more.structcore
    """
    new, parts = _learned(images, parts, good, groups)
    _change("add_category", new, name, parts=parts, **options)


@click.command()
@option.model
@click.argument("name")
@option.new_model("Where to save the model without the product.")
@option.json
def remove_category(name, **options):
    """Make MODEL forget the product NAME.

    \b
    skstructcore remove-category products.structcore pin -o fewer.structcore
    """
    _change("remove_category", name, **options)


@click.command(epilog=option.WHAT_IMAGES_ARE)
@option.model
@option.images
@option.new_model("Where to save the smaller model.")
@option.json
def forget(images, **options):
    """Take training IMAGES out of MODEL. They are found by their content.

    \b
    skstructcore forget line3.structcore line3/good/017.png -o line3b.structcore
    """
    _change("forget", images.as_they_are(), **options)


@click.command(epilog=f"{option.WHAT_IMAGES_ARE}\n\n{EXIT_CODES}")
@option.model
@option.optional_images
@click.option("--fdr", default=0.15, help="Expected share of good images among the suspects.")
@click.option("--most", default=20, type=click.IntRange(1), help="How many rows are shown.")
@option.exit_code("there are suspects")
@option.json
def audit(model, images, fdr, most, exit_code, as_json):
    """Look for defects and copies among training images.

    With the training IMAGES near-duplicates are found, not exact copies alone.

    \b
    skstructcore audit line3.structcore line3/good
    skstructcore audit line3.structcore line3/good --fdr 0.05 --json
    """
    from ..lifecycle import audit as audit_

    table = audit_(model.load(), images.as_they_are() if images.paths else None, fdr=fdr)
    n_suspects = int(table["suspect"].sum())
    document = {"suspects": n_suspects, "images": table}
    sentence = f"{n_suspects} of {len(table)} training images are suspects."
    answer(as_json, document, table_text(table.head(most)), sentence)
    if exit_code and n_suspects:
        sys.exit(REJECTED)


@click.command(epilog=f"{option.WHAT_IMAGES_ARE}\n\n{EXIT_CODES}")
@option.model
@option.images
@click.option(
    "--state", required=True, type=option.Output(), help="File of what was seen; begun if missing."
)
@click.option(
    "--alpha",
    default=0.01,
    help="Chance that an unchanged line ever raises an alarm; for a new state.",
)
@option.exit_code("an alarm is raised")
@option.json
def monitor(model, images, state, alpha, exit_code, as_json):
    """Look for drift in IMAGES. Give them in the order in which they were taken.

    \b
    skstructcore monitor line3.structcore line3/today --state line3.drift.json
    skstructcore monitor line3.structcore line3/today --state line3.drift.json --exit-code
    """
    from ..lifecycle import DriftMonitor

    pipe = model.load()
    if state.exists():
        try:
            watch = DriftMonitor.from_dict(pipe, json.loads(state.read_text()))
        except ValueError as error:  # of JSON, of UTF-8 and of the monitor
            raise Refused(f"{str(state)!r} is no state to go on from: {error}") from error
        if option.is_given("alpha") and alpha != watch.alpha:
            raise click.UsageError(
                f"{str(state)!r} was begun with --alpha {watch.alpha:g}, which stays: leave "
                "it out, or name a new --state"
            )
    else:
        watch = DriftMonitor(pipe, alpha=alpha)
    alarms = watch.update(images.as_they_are())
    write_text(state, json.dumps(watch.to_dict()))
    before = len(watch.alarms_) - len(alarms)
    earlier = f" ({before} alarms before)" if before else ""
    document = {"images": watch.n_images_, "alarms": [vars(alarm) for alarm in alarms]}
    sentence = f"{watch.n_images_} images seen, {len(alarms)} new alarms{earlier}."
    answer(as_json, document, *(f"ALARM: {alarm}" for alarm in alarms), sentence)
    if exit_code and alarms:
        sys.exit(REJECTED)


@click.command()
@click.argument("model", type=option.FILE)
@option.json
def info(model, as_json):
    """Say what is inside a saved MODEL, without loading it.

    \b
    skstructcore info line3.structcore
    """
    from ..model_files import info as read_info

    header = read_info(model)
    answer(as_json, header, *_lines(header))


def _lines(header):
    training = header["training"]
    size = f"{header['bytes'] / 1e6:.1f} MB"
    yield f"model file ({header['format']}), {size}, written {header['created']}"
    yield f"digest        {header['digest'][:12]}"
    yield "steps         " + " > ".join(header["steps"])
    checksum = header["backbone"]["checksum"] or ""
    yield f"backbone      {header['backbone']['source']}  (checksum {checksum[:12]})"
    counted = f"{training['n_images']} good images, {training['n_bank_entries']} bank entries"
    if training["n_routes"] and training["n_routes"] > 1:
        counted += f", {training['n_routes']} routes"
    yield f"training      {counted}"
    if header.get("picture"):
        yield f"pictures      {picture_sentence(header['picture'])}"
    for sentence in header["summary"]:
        yield f"to expect     {sentence}"
    yield "versions      " + ", ".join(f"{k} {v}" for k, v in header["versions"].items())


def _bytes(text):
    """Type of an option that takes a size such as 2GB or 500M."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?) *([kmgt]?)b?", text.strip().lower())
    if not match:
        raise click.BadParameter(f"{text!r} is no size; 2GB and 500MB are")
    return int(float(match[1]) * 1000 ** " kmgt".index(match[2] or " "))


@click.command()
@click.argument("folder", type=option.FOLDER_THAT_IS_THERE)
@click.option(
    "--max-size", type=_bytes, metavar="SIZE", help="Delete the least used until so much is left."
)
@click.option("--max-age", type=float, help="Delete what was not used for so many days.")
@option.json
def cache(folder, max_size, max_age, as_json):
    """Measure the feature cache in FOLDER, and prune it.

    It holds a result for each image and recipe. Nothing is deleted without --max-size or --max-age.
    What is deleted is computed again when it is needed.

    \b
    skstructcore cache features-cache --max-size 2GB --max-age 30
    """
    from ..features import cache_size, prune_cache

    n_deleted, bytes_deleted = prune_cache(folder, max_bytes=max_size, max_age=max_age)
    n_results, n_bytes = cache_size(folder)
    lines = [f"{n_results} results, {n_bytes / 1e6:.1f} MB: {folder}"]
    if n_deleted:
        lines.insert(0, f"Deleted {n_deleted} files, {bytes_deleted / 1e6:.1f} MB.")
    left = {"results": n_results, "bytes": n_bytes}
    answer(as_json, {**left, "files_deleted": n_deleted, "bytes_deleted": bytes_deleted}, *lines)
