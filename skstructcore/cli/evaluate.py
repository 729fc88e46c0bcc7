"""``skstructcore evaluate`` and ``skstructcore evaluate-categories``"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import click

from . import _options as option
from ._inputs import ModelFile, parts_of
from ._output import Refused, answer, save_model, save_picture, say, table_text

_RATES = ("false_alarm_rate", "false_alarms_share", "found_share")


@click.command(epilog=option.WHAT_IMAGES_ARE)
@option.weights
@option.trust
@option.model_and_images
@click.option(
    "--train",
    multiple=True,
    type=option.IMAGES,
    metavar="IMAGES",
    help="Fit on these, as `fit` takes them, and test on IMAGES. Repeatable.",
)
@option.good
@option.false_alarm_rate
@option.pipeline
@option.parts
@click.option("--csv", type=option.Output(), help="Write all scores.")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a picture of the worst and best cases.",
)
@click.option("--model", type=option.Output(text=False), help="Save the fitted model.")
@option.json
@click.pass_context
def evaluate(context, images, train, good, false_alarm_rate, new, parts, picture, as_json, **files):
    """Test on IMAGES with labels, and print a table with a row for each type of defect.

    Folders named "good", "OK", "normal" or the like hold good images, those beside them types of
    defects; a table has a column label.

    A saved MODEL before them is tested as it is. Else a pipeline is fitted: on the images of
    --train; on the training images of a folder laid out as MVTec AD, VisA or BTAD is (train/good,
    test/<type>, ground_truth/<type>/<stem>_mask.png, and groups.csv with the columns split, type,
    file, group) or of a table with a column split; where there is no split, on three quarters of
    the good images, and the others are tested.

    What cannot be written, on a full disk for instance, costs nothing else: the table is printed,
    the rows of --csv with it, and the exit status is 2.

    \b
    skstructcore evaluate line3.structcore line3/labelled/test
    skstructcore evaluate line4 --train line3/OK --false-alarms 0.05
    """
    if picture:
        _check_picture(picture, (*images.paths, *train))
    from ..images.labels import is_anomalous
    from ..scoring.parts import check_fitted_with_parts

    first, *others = images.paths
    weights, trust = context.meta["weights"], context.meta["trust"]
    if _is_model(first):
        _check_tested_as_it_is(context, train)
        tested = images._replace(paths=others).labelled(good)
        is_anomalous(tested.y, both=True)
        pipe = ModelFile(first, weights, trust).load(false_alarm_rate)
        if parts:
            check_fitted_with_parts(pipe[-1])
    else:
        if weights or trust:
            raise click.UsageError(
                "--weights and --trust are about a saved MODEL: name it before IMAGES"
            )
        _check_one_category(images.paths)
        trained, tested = _to_fit_and_test(images, train, good, parts)
        is_anomalous(tested.y, both=True)
        pipe = new(false_alarm_rate)
        given = {} if parts is None else {"bank__parts": parts_of(trained.paths, parts)}
        pipe.fit(trained, trained.y, **given)
    _evaluate_one(pipe, tested, as_json, parts=parts, picture=picture, **files)


@click.command()
@click.argument("folder", type=option.FOLDER_THAT_IS_THERE)
@option.false_alarm_rate
@option.pipeline
@click.option("--output", type=option.FOLDER, default="evaluation", help="Folder for the results.")
@click.option("--category", "categories", multiple=True, help="Only this one. Repeatable.")
@click.option("--overwrite", is_flag=True, help="Replace results of other settings.")
@option.n_jobs
@option.cluster
@option.json
def evaluate_categories(folder, false_alarm_rate, new, output, categories, as_json, **how):
    """Fit and test each category of the data set in FOLDER, and print a table.

    FOLDER is laid out as MVTec AD, VisA or BTAD is, see evaluate. The table has a row for each
    category and the mean, and goes to --output as CSV, JSON and Markdown with the scores of all
    images. Run again, what is there is not computed again.

    \b
    skstructcore evaluate-categories mvtec_ad --output results --n-jobs 4
    skstructcore evaluate-categories mvtec_ad --category bottle --false-alarms 0.05
    """
    from ..evaluation import CategoryError
    from ..evaluation import evaluate_categories as evaluate_each
    from ..evaluation.results import format_markdown

    pipe = new(false_alarm_rate, verbose=False)
    how = {"categories": categories or None, "verbose": 1, **how}

    def tell(table):
        answer(as_json, table.reset_index(), format_markdown(table))

    try:
        tell(evaluate_each(pipe, folder, output, **how))
    except CategoryError as error:
        if error.table is not None:
            tell(error.table)
        raise


def _is_model(path):
    from ..images.files import is_named_as_image

    return path.is_file() and path.suffix.lower() != ".csv" and not is_named_as_image(path)


def _check_one_category(paths):
    from ..datasets.loaders import layout_or_none

    for path in paths:
        layout = layout_or_none(path)
        if layout and len(layout.categories) > 1:
            raise click.UsageError(
                f"{str(path)!r} holds {len(layout.categories)} categories: see "
                "skstructcore evaluate-categories, or name the folder of one of them"
            )


def _check_tested_as_it_is(context, train):
    default = click.core.ParameterSource.DEFAULT
    names = ("features", "preset", "new", "model")
    given = [name for name in names if context.get_parameter_source(name) is not default]
    if train or given:
        raise click.UsageError(
            "a saved MODEL is tested as it is, so that --train, --features, --preset, --set and "
            "--model have no meaning"
        )


def _to_fit_and_test(images, train, good, parts):
    """Images of --train and IMAGES; else of their split; else three quarters of the good ones."""
    import numpy as np

    from ..images.labels import GOOD
    from ..model_selection import OneClassGroupShuffleSplit

    tested, to_train = images.labelled(good), images._replace(paths=train) if train else images
    rows = to_train.rows(good, "train")
    to_fit = {os.path.realpath(row.file) for row in rows if (row.label or GOOD) == GOOD}
    common = to_fit & set(map(os.path.realpath, tested.paths))
    if not common:
        return to_train.all_of(rows), tested
    if train or len(common) < len(to_fit):
        raise Refused(f"{len(common)} images are to be fitted and tested on: {min(common)!r}, ...")
    groups = tested.groups if tested.groups is not None else tested.parts
    if parts is not None and tested.groups is None:
        groups = parts_of(tested.paths, parts)
    # A defect is tested whatever is fitted on.
    groups = tested.paths if groups is None else np.where(tested.y == GOOD, groups, tested.paths)
    splitter = OneClassGroupShuffleSplit(1, test_size=0.25, random_state=0)
    [(fitted, left)] = splitter.split(tested, groups=groups)
    trained, n_good = tested[fitted], int((tested.y[left] == GOOD).sum())
    say(
        f"No split is given: {len(fitted)} good images are fitted on; the other {n_good} and "
        f"{len(left) - n_good} defects are tested."
    )
    if trained.groups is not None and len(set(trained.groups)) == 1:
        # One lot tells nothing apart.
        trained.annotations = replace(trained.annotations, groups=None)
    return trained, tested[left]


def _check_picture(path, images):
    from .._utils.files import check_writable

    place = check_writable(path)
    if any(source.is_dir() and place.is_relative_to(source.resolve()) for source in images):
        raise click.UsageError(f"--picture {str(path)!r} lies among the images")
    from matplotlib.backend_bases import FigureCanvasBase

    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix[1:].lower() not in known:
        raise click.UsageError(f"--picture {str(path)!r}: its suffix is none of {', '.join(known)}")


def _evaluate_one(pipe, images, as_json, *, parts, picture, csv, model):
    from .._utils.files import write_text
    from ..display import AnomalyMapDisplay
    from ..evaluation.results import format_table
    from ..evaluation.single import evaluate
    from ..scoring.summary import closing_sentences

    failed = {}  # what cannot be written costs nothing else

    def write(path, function, *arguments):
        try:
            if path:
                function(*arguments)
        except OSError as error:
            failed[path] = str(error)

    write(model, save_model, pipe, model)
    evaluation = evaluate(pipe, images)
    scores = evaluation.scores.to_csv(index=False)
    write(csv, write_text, csv, scores)
    if picture:
        figure = AnomalyMapDisplay.from_evaluation(evaluation).figure_
        write(picture, save_picture, figure, picture)
    table, rates = evaluation.table(), evaluation.rates()
    if parts is not None:
        parts = parts_of(images.paths, parts)
    elif pipe[-1].part_decision_ is not None:
        parts = images.parts
    of_parts = {} if parts is None else _of_parts(evaluation, parts)
    lines = [format_table(table), "", table_text(rates, _RATES)]
    if of_parts:
        area = of_parts["part_auroc"]
        area = "all good or none" if area is None else f"AUROC {100 * area:.1f}"
        lines += [f"\n{of_parts['n_parts']} parts, {area}:"]
        lines += [table_text(of_parts["part_rates"], _RATES)]
    lines += closing_sentences(evaluation.scorer)
    lines += [f"Saved: {path}" for path in (csv, picture, model) if path and path not in failed]
    answer(as_json, {"types": table.reset_index(), "rates": rates, **of_parts}, *lines)
    if csv in failed:
        click.echo(scores, nl=False, err=as_json)
    if failed:
        raise Refused("\n".join(failed.values()))


def _of_parts(evaluation, parts):
    """How well parts are told apart, of which the images are views."""
    from ..images.labels import GOOD
    from ..metrics import image_auroc_score

    table = evaluation.parts(parts)
    is_bad = table["defect_type"] != GOOD
    both = is_bad.nunique() == 2
    return {
        "n_parts": len(table),
        "part_auroc": image_auroc_score(is_bad, table["anomaly_score"]) if both else None,
        "part_rates": evaluation.rates(parts=parts),
    }
