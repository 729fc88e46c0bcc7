"""The command line: ``skstructcore --help``."""

import ast
import logging
from pathlib import Path

import click

# Heavy imports are inside the commands, so that --help answers at once.


def _settings(context, parameter, pairs):
    """Read ``step__parameter=value`` pairs; values are Python literals or plain strings."""
    settings = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign:
            raise click.BadParameter(f"{pair!r} is not of the form step__parameter=value")
        try:
            settings[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            settings[name] = text
    return settings


_features_option = click.option(
    "--features",
    default="efficientnet_lite0",
    show_default=True,
    help="Backbone: efficientnet_lite0 or a DINOv2 model such as dinov2_vitb14.",
)
_preset_option = click.option(
    "--preset", default="default", show_default=True, help='Settings: "default" or "paper".'
)
_set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    callback=_settings,
    metavar="STEP__PARAMETER=VALUE",
    help="Change a parameter of a step, bank__ratio=0.02 for instance. Repeatable.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="skstructcore")
@click.option("-v", "--verbose", is_flag=True, help="Show what the library logs.")
def main(verbose):
    """Image anomaly detection without training."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s: %(message)s")


@main.command()
@click.option(
    "--output",
    default="demo-output",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the pictures and the table.",
)
def demo(output):
    """Find painted defects on photographs of brick, gravel and grass.

    Fits a pipeline on good tiles of each photograph, scores the others, prints a table and
    writes a picture of the worst and best cases.
    """
    import pandas as pd

    from .datasets import make_photographs
    from .evaluation import evaluate, format_table

    output.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in ("brick", "gravel", "grass"):
        click.echo(f"{name}: fitting on good tiles, then scoring good and damaged ones")
        images = make_photographs(name, n_train=60, n_test_good=40, random_state=0)
        pipe = _pipeline("efficientnet_lite0", "default", {})
        _fit(pipe, images.train)
        evaluation = evaluate(pipe, images.test)
        rows.append(evaluation.table().loc[["all"]].rename({"all": name}))
        evaluation.scores.to_csv(output / f"{name}.csv", index=False)
        _save_cases(evaluation, output / f"{name}.png")
    click.echo("\nAreas in percent; false alarms and misses are counts of test tiles.\n")
    click.echo(format_table(pd.concat(rows).rename_axis("photograph")))
    click.echo(f"\nPictures of the worst and best cases and all scores: {output}/")


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_features_option
@_preset_option
@_set_option
@click.option("--csv", type=click.Path(dir_okay=False, path_type=Path), help="Write all scores.")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a picture of the worst and best cases.",
)
@click.option(
    "--model", type=click.Path(dir_okay=False, path_type=Path), help="Save the fitted pipeline."
)
def evaluate(folder, features, preset, settings, csv, picture, model):
    """Fit on FOLDER/train/good, score FOLDER/test and print a table by defect type.

    FOLDER is laid out as MVTec AD is: train/good, test/<type> and, optionally,
    ground_truth/<type>/<stem>_mask.png. A file groups.csv (columns split, type, file, group)
    says which images show the same part.
    """
    import joblib

    from .datasets import load_mvtec_ad
    from .evaluation import evaluate as evaluate_images
    from .evaluation import format_table

    with _plain_errors():
        images = load_mvtec_ad(folder)
        pipe = _pipeline(features, preset, settings)
        _fit(pipe, images.train)
        if model:
            joblib.dump(pipe, model)
        evaluation = evaluate_images(pipe, images.test)
        if csv:
            evaluation.scores.to_csv(csv, index=False)
        if picture:
            _save_cases(evaluation, picture)
    click.echo(format_table(evaluation.table()))


def _pipeline(features, preset, settings):
    from .pipeline import make_structcore

    return make_structcore(
        features, preset=preset, **{"features__verbose": 1, "bank__verbose": 1, **settings}
    )


def _fit(pipe, images):
    pipe.fit(images, bank__groups=images.groups)


def _save_cases(evaluation, path):
    from .display import CasesDisplay

    CasesDisplay.from_evaluation(evaluation).plot().savefig(path, dpi=110)


class _plain_errors:
    """Show bad input as a message, not as a traceback."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if isinstance(error, ValueError | TypeError | OSError | ImportError):
            raise click.ClickException(str(error)) from error
