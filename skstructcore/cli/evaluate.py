"""``skstructcore evaluate``"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._common import (
    Refused,
    check_output,
    cluster_option,
    false_alarms_option,
    features_option,
    json_option,
    make_pipeline,
    n_jobs_option,
    parts_of,
    parts_option,
    plain_errors,
    preset_option,
    print_json,
    print_table,
    save_model,
    save_picture,
    set_option,
)

if TYPE_CHECKING:
    from typing import Any


_RATES = ("false_alarm_rate", "false_alarms_share", "found_share")
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@false_alarms_option
@features_option
@preset_option
@set_option
@parts_option
@click.option("--csv", type=_FILE, help="Write all scores.")
@click.option("--picture", type=_FILE, help="Write a picture of the worst and best cases.")
@click.option("--model", type=_FILE, help="Save the fitted model.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the results of several categories. Run again, what is there is not "
    "computed again.  [default: evaluation]",
)
@click.option("--category", "categories", multiple=True, help="Only this one. Repeatable.")
@click.option("--overwrite", is_flag=True, help="Replace results of other settings.")
@n_jobs_option
@cluster_option
@json_option
def evaluate(
    folder: Path,
    false_alarms: float | None,
    features: str,
    preset: str,
    settings: dict[str, Any],
    parts: str | None,
    csv: Path | None,
    picture: Path | None,
    model: Path | None,
    output: Path | None,
    as_json: bool,
    **many: Any,
) -> None:
    """Fit and test on a data set, and print a table.

    Fits on the good training images in FOLDER and scores its test images. FOLDER is laid out as
    MVTec AD, VisA or BTAD is: train/good, test/<type> and, optionally,
    ground_truth/<type>/<stem>_mask.png. A file groups.csv (columns split, type, file, group) says
    which images show the same part.

    Of one category, the table has a row for each type of defect. If FOLDER holds several
    categories (or with --output), it has a row for each category and the mean, and goes to
    --output as CSV, JSON and Markdown with the scores of all images.

    What cannot be written, on a full disk for instance, costs nothing else: the table is printed,
    the rows of --csv with it, and the exit status is 2.

    \b
    skstructcore evaluate mvtec_ad/bottle --csv scores.csv --picture cases.png
    skstructcore evaluate mvtec_ad --output results --n-jobs 4 --false-alarms 0.05
    """
    with plain_errors():
        if csv:
            check_output(csv)
        if picture:
            _check_picture(picture, folder)
        if model:
            check_output(model, text=False)
        from ..datasets import find_layout

        several = len(find_layout(folder).categories) > 1
        if several and (csv or picture or model or parts):
            raise click.UsageError("--csv, --picture, --model and --parts are for one category")
        pipe = make_pipeline(features, preset, settings, false_alarms, not several)
        if several or output or any(many.values()):
            _evaluate_categories(pipe, folder, output or Path("evaluation"), as_json, **many)
        else:
            _evaluate_one(pipe, folder, parts, csv, picture, model, as_json)


def _check_picture(path, folder):
    from .._utils.files import check_writable

    if check_writable(path).is_relative_to(folder.resolve()):
        raise click.UsageError(f"--picture {str(path)!r} lies in the data set")
    from matplotlib.backend_bases import FigureCanvasBase

    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix[1:].lower() not in known:
        raise click.UsageError(f"--picture {str(path)!r}: its suffix is none of {', '.join(known)}")


def _evaluate_one(pipe, folder, parts, csv, picture, model, as_json):
    from .._utils.files import write_text
    from ..datasets import find_layout
    from ..display import AnomalyMapDisplay
    from ..evaluation.single import evaluate, format_table
    from ..scoring.summary import closing_sentences

    layout = find_layout(folder)
    [category] = layout.categories
    images = layout.load(category)
    given = {} if parts is None else {"bank__parts": parts_of(images.train.paths, parts)}
    pipe.fit(images.train, images.train.y, **given)
    failed = {}  # what cannot be written costs nothing else
    if model:
        with _noting(failed, model):
            save_model(pipe, model)
    evaluation = evaluate(pipe, images.test)
    scores = evaluation.scores.to_csv(index=False)
    if csv:
        with _noting(failed, csv):
            write_text(csv, scores)
    if picture:
        display = AnomalyMapDisplay.from_evaluation(evaluation).plot()
        with _noting(failed, picture):
            save_picture(display.figure_, picture)
    table = evaluation.table()
    rates = evaluation.rates()
    of_parts = {} if parts is None else _of_parts(evaluation, parts_of(images.test.paths, parts))
    if as_json:
        print_json({"types": table.reset_index(), "rates": rates, **of_parts})
    else:
        click.echo(format_table(table))
        click.echo()
        print_table(rates, _RATES)
        if of_parts:
            n, area = of_parts["n_parts"], of_parts["part_auroc"]
            click.echo(f"\n{n} parts, AUROC {100 * area:.1f}:")
            print_table(of_parts["part_rates"], _RATES)
        for sentence in closing_sentences(evaluation.scorer):
            click.echo(sentence)
    if csv in failed:
        click.echo(scores, nl=False, err=as_json)
    if failed:
        raise Refused("\n".join(failed.values()))


def _of_parts(evaluation, parts):
    """How well parts are told apart, of which the images are views."""
    from ..metrics import image_auroc_score

    table = evaluation.parts(parts)
    return {
        "n_parts": len(table),
        "part_auroc": image_auroc_score(table["defect_type"], table["anomaly_score"]),
        "part_rates": evaluation.part_rates(parts),
    }


@contextlib.contextmanager
def _noting(failed, path):
    try:
        yield
    except OSError as error:
        failed[path] = str(error)


def _evaluate_categories(pipe, folder, output, as_json, *, categories, n_jobs, cluster, overwrite):
    from ..evaluation.categories import CategoryError, evaluate_categories, format_markdown

    options = dict(categories=categories, n_jobs=n_jobs, overwrite=overwrite, verbose=1)
    failure = None
    try:
        table = evaluate_categories(pipe, folder, output, **options)
    except CategoryError as error:
        failure, table = error, error.table
    if table is not None:
        if as_json:
            print_json(table.reset_index())
        else:
            click.echo(format_markdown(table))
    if failure:
        raise failure
