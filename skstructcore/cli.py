"""The command line: ``skstructcore --help``."""

from __future__ import annotations

import ast
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from typing import Any

# Heavy imports are inside the commands, so that --help answers at once.


def _show_warning(message, *_):
    """Write a warning for people: without the line of the library that gave it."""
    click.echo(f"Warning: {message}", err=True)


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
_n_jobs_option = click.option(
    "--n-jobs", type=int, help="Number of processes, -1: one a core.  [default: 1]"
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="skstructcore")
@click.option("-v", "--verbose", is_flag=True, help="Show what the library logs.")
@click.pass_context
def main(context: click.Context, verbose: bool) -> None:
    """Image anomaly detection without training."""
    context.with_resource(warnings.catch_warnings())
    warnings.showwarning = _show_warning
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
def demo(output: Path) -> None:
    """Find painted defects on photographs of brick, gravel and grass.

    Fits a pipeline on good tiles of each photograph, scores the others, prints a table and
    writes a picture of the worst and best cases.
    """
    import pandas as pd

    from .datasets import make_photographs
    from .evaluation.single import evaluate, format_table

    # The training tiles come from about ten parts of a photograph: a false-alarm rate of 10 %
    # is what so few can promise.
    settings = {"structcore__quantile": 0.9}
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in ("brick", "gravel", "grass"):
        click.echo(f"{name}: fitting on good tiles, then scoring good and damaged ones")
        images = make_photographs(name, n_train=60, n_test_good=40, random_state=0)
        pipe = _pipeline("efficientnet_lite0", "default", settings)
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
@click.option(
    "--model",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to save the fitted pipeline.",
)
def fit(folder: Path, features: str, preset: str, settings: dict[str, Any], model: Path) -> None:
    """Fit on the good images in FOLDER and save the model.

    FOLDER holds images of good parts, or folders of images of which the one named "good"
    counts, or it is laid out as a data set: then its training images are taken.
    """
    from .datasets import find_layout, load_image_folder

    with _plain_errors():
        if (folder / "train").is_dir():
            layout = find_layout(folder)
            [category] = layout.categories
            images = layout.load(category).train
        else:
            images = load_image_folder(folder)
        pipe = _pipeline(features, preset, settings)
        _fit(pipe, images)
        _save(pipe, model)
    click.echo(f"Fitted on {pipe['bank'].n_images_} good images: {model}")


@main.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@_n_jobs_option
@click.option("--csv", type=click.Path(dir_okay=False, path_type=Path), help="Write scores there.")
@click.option("--shard-size", default=64, show_default=True, help="Images a process gets at once.")
def score(
    model: Path, images: tuple[Path, ...], n_jobs: int | None, csv: Path | None, shard_size: int
) -> None:
    """Score IMAGES, files or folders of files, with a saved MODEL.

    Writes a row an image as CSV, to a file or to the terminal, as soon as it is there. Images
    that cannot be read have an empty row with the reason in the column "error"; the exit status
    is 1 then.
    """
    import joblib

    from .evaluation.parallel import iter_scores
    from .images.image_list import list_images

    with _plain_errors():
        paths = [
            file for path in images for file in (list_images(path) if path.is_dir() else [path])
        ]
        pipe = joblib.load(model)
        shards = iter_scores(
            pipe, paths, n_jobs=n_jobs, shard_size=shard_size, verbose=csv is not None
        )
        with click.open_file(csv or "-", "w") as file:
            unreadable = _write_shards(shards, file)
    if unreadable:
        message = f'{unreadable} of {len(paths)} images cannot be read, see the column "error"'
        raise click.ClickException(message)


def _write_shards(shards, file):
    """Write scores as they come; return how many images could not be read."""
    import pandas as pd

    waiting, columns, unreadable = [], None, 0
    for shard in shards:
        waiting.append(shard)
        unreadable += int(shard["error"].notna().sum())
        first = columns is None
        if first and shard["error"].notna().all():
            continue  # a shard without a score does not know the columns
        columns = shard.columns if first else columns
        rows = pd.concat(waiting).reindex(columns=columns)
        rows.to_csv(file, index=False, header=first)
        file.flush()
        waiting.clear()
    if waiting:
        pd.concat(waiting).to_csv(file, index=False)
    return unreadable


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
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the results of several categories. Run again, what is there is not "
    "computed again.  [default: evaluation]",
)
@click.option("--category", "categories", multiple=True, help="Only this one. Repeatable.")
@click.option("--overwrite", is_flag=True, help="Replace results of other settings.")
@_n_jobs_option
def evaluate(
    folder: Path,
    features: str,
    preset: str,
    settings: dict[str, Any],
    csv: Path | None,
    picture: Path | None,
    model: Path | None,
    output: Path | None,
    **many: Any,
) -> None:
    """Fit on the good training images in FOLDER, score its test images and print a table.

    FOLDER is laid out as MVTec AD, VisA or BTAD is: train/good, test/<type> and, optionally,
    ground_truth/<type>/<stem>_mask.png. A file groups.csv (columns split, type, file, group)
    says which images show the same part.

    Of one category, the table has a row for each type of defect. If FOLDER holds several
    categories (or with --output), it has a row for each category and the mean, and goes to
    --output as CSV, JSON and Markdown with the scores of all images.
    """
    from .datasets import find_layout

    with _plain_errors():
        several = len(find_layout(folder).categories) > 1
        if several and (csv or picture or model):
            raise click.UsageError("--csv, --picture and --model are for one category")
        pipe = _pipeline(features, preset, settings, verbose=not several)
        if several or output or any(many.values()):
            _evaluate_categories(pipe, folder, output or Path("evaluation"), **many)
        else:
            _evaluate_one(pipe, folder, csv, picture, model)


def _evaluate_one(pipe, folder, csv, picture, model):
    from .datasets import find_layout
    from .evaluation.single import evaluate, format_table

    layout = find_layout(folder)
    [category] = layout.categories
    images = layout.load(category)
    _fit(pipe, images.train)
    if model:
        _save(pipe, model)
    evaluation = evaluate(pipe, images.test)
    if csv:
        evaluation.scores.to_csv(csv, index=False)
    if picture:
        _save_cases(evaluation, picture)
    click.echo(format_table(evaluation.table()))


def _evaluate_categories(pipe, folder, output, *, categories, n_jobs, overwrite):
    from .evaluation.categories import evaluate_categories, format_markdown

    table = evaluate_categories(
        pipe,
        folder,
        output,
        categories=categories,
        n_jobs=n_jobs,
        overwrite=overwrite,
        verbose=1,
    )
    click.echo(format_markdown(table))


def _pipeline(features, preset, settings, *, verbose=True):
    from .pipeline import make_structcore

    bars = {"features__verbose": int(verbose), "bank__verbose": int(verbose)}
    return make_structcore(features, preset=preset, **{**bars, **settings})


def _fit(pipe, images):
    pipe.fit(images, images.y, bank__groups=images.groups)


def _save(pipe, path):
    import joblib

    # The progress bars are for the fit, not for whatever loads the model.
    joblib.dump(pipe.set_params(features__verbose=0, bank__verbose=0), path)


def _save_cases(evaluation, path):
    from .display import AnomalyMapDisplay

    AnomalyMapDisplay.from_evaluation(evaluation).plot().figure_.savefig(path, dpi=110)


class _plain_errors:
    """Show bad input as a message, not as a traceback."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if isinstance(error, ValueError | TypeError | OSError | ImportError):
            raise click.ClickException(str(error)) from error
