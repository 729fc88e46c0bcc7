"""``skstructcore evaluate`` and ``skstructcore evaluate-categories``"""

import os
from pathlib import Path

import click

from .._utils.files import check_writable, write_text
from . import _options as option
from ._inputs import ModelFile, parts_of
from ._output import Refused, answer, claim, save_model, save_picture, say, table_text


@click.command(epilog=option.WHAT_IMAGES_ARE)
@option.weights
@option.trust
@option.model_and_images
@click.option(
    "--train", multiple=True, type=option.IMAGES, metavar="IMAGES", help="Fit on these. Repeatable."
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
@click.option("--model", type=option.Output("a model"), help="Save the fitted model.")
@option.json
def evaluate(images, train, good, false_alarm_rate, make_pipe, parts, csv, picture, model, as_json):
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
        _check_picture(picture)
    from ..display import AnomalyMapDisplay
    from ..evaluation.single import evaluate as evaluate_one
    from ..images.files import is_named_as_image
    from ..images.labels import is_anomalous

    first, *others = images.paths
    weights, trust = map(click.get_current_context().meta.get, ("weights", "trust"))
    if first.is_file() and first.suffix.lower() != ".csv" and not is_named_as_image(first):
        if option.is_given("train", "features", "preset", "make_pipe", "model"):
            raise click.UsageError(
                "a saved MODEL is tested as it is, so that --train, --features, --preset, --set "
                "and --model have no meaning"
            )
        images = images._replace(paths=others)
        tested = images.all_of(images.labelled(good))
        is_anomalous(tested.y, both=True)
        pipe = ModelFile(first, weights, trust).load(false_alarm_rate, parts=parts)
    else:
        if weights or trust:
            raise click.UsageError(
                "--weights and --trust are about a saved MODEL: name it before IMAGES"
            )
        trained, tested = _to_fit_and_test(images, train, good, parts)
        is_anomalous(tested.y, both=True)
        pipe = make_pipe(false_alarm_rate)
        given = {} if parts is None else {"bank__parts": parts_of(trained.paths, parts)}
        pipe.fit(trained, trained.y, **given)
    failed = {}  # what cannot be written costs nothing else

    def write(path, function, *arguments):
        try:
            if path:
                function(*arguments)
        except OSError as error:
            failed[path] = str(error)

    write(model, save_model, pipe, model)
    evaluation = evaluate_one(pipe, tested)
    scores = evaluation.scores.to_csv(index=False)
    write(csv, write_text, csv, scores)
    if picture:
        figure = AnomalyMapDisplay.from_evaluation(evaluation).figure_
        write(picture, save_picture, figure, picture)
    document, lines = _results(evaluation, parts)
    lines += [f"Saved: {path}" for path in (csv, picture, model) if path and path not in failed]
    answer(as_json, document, *lines)
    if csv in failed:
        click.echo(scores, nl=False, err=as_json)
    if failed:
        raise Refused("\n".join(failed.values()))


def _results(evaluation, rule):
    """What came out, as document and lines; of parts too, where a rule or the model says so."""
    from ..evaluation.results import format_table
    from ..images.labels import GOOD
    from ..metrics import image_auroc_score
    from ..scoring.summary import closing_sentences

    table, rates = evaluation.table(), evaluation.rates()
    document = {"types": table.reset_index(), "rates": rates}
    lines = [format_table(table), "", table_text(rates)]
    parts, scorer = evaluation.images.parts, evaluation.scorer
    if rule is not None:
        parts = parts_of(evaluation.images.paths, rule)
    if parts is not None and scorer.part_decision_ is not None:
        of_parts, part_rates = evaluation.parts(parts), evaluation.rates(parts=parts)
        is_bad, area = of_parts["defect_type"] != GOOD, None
        if is_bad.nunique() == 2:
            area = image_auroc_score(is_bad, of_parts["anomaly_score"])
        document |= {"n_parts": len(of_parts), "part_auroc": area, "part_rates": part_rates}
        said = "all good or none" if area is None else f"AUROC {100 * area:.1f}"
        lines += [f"\n{len(of_parts)} parts, {said}:", table_text(part_rates)]
    return document, lines + closing_sentences(scorer)


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
def evaluate_categories(folder, false_alarm_rate, make_pipe, categories, as_json, **options):
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

    pipe, failed = make_pipe(false_alarm_rate, features__verbose=0), None
    options |= {"categories": categories or None, "verbose": 1}
    try:
        table = evaluate_each(pipe, folder, **options)
    except CategoryError as error:
        table, failed = error.table, error
    if table is not None:
        answer(as_json, table.reset_index(), format_markdown(table))
    if failed:
        raise failed


def _to_fit_and_test(images, train, good, parts):
    """Images of --train and IMAGES; else of their split; else three quarters of the good ones."""
    import numpy as np

    from ..datasets.loaders import layout_or_none
    from ..images.labels import GOOD
    from ..model_selection import OneClassGroupShuffleSplit

    for path in images.paths:
        layout = layout_or_none(path)
        if layout and len(layout.categories) > 1:
            raise click.UsageError(
                f"{str(path)!r} holds {len(layout.categories)} categories: see "
                "skstructcore evaluate-categories, or name the folder of one of them"
            )
    to_test, to_train = images.labelled(good), images._replace(paths=train) if train else images
    rows = to_train.rows(good, "train")
    to_fit = {os.path.realpath(row.file) for row in rows if (row.label or GOOD) == GOOD}
    common = to_fit & {os.path.realpath(row.file) for row in to_test}
    if common and (train or len(common) < len(to_fit)):
        raise Refused(f"{len(common)} images are to be fitted and tested on: {min(common)!r}, ...")
    tested = images.all_of(to_test)
    if not common:
        return to_train.all_of(rows), tested
    groups = tested.groups
    if groups is None:
        groups = tested.parts if parts is None else parts_of(tested.paths, parts)
    # A defect is tested whatever is fitted on.
    groups = tested.paths if groups is None else np.where(tested.y == GOOD, groups, tested.paths)
    splitter = OneClassGroupShuffleSplit(1, test_size=0.25, random_state=0)
    [(fitted, left)] = splitter.split(tested, groups=groups)
    trained, n_good = tested[fitted], int((tested.y[left] == GOOD).sum())
    say(
        f"No split is given: {len(fitted)} good images are fitted on; the other {n_good} and "
        f"{len(left) - n_good} defects are tested."
    )
    return trained, tested[left]


def _check_picture(path):
    claim(check_writable(path), "--picture")
    from matplotlib.backend_bases import FigureCanvasBase

    types = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix[1:].lower() not in types:
        raise click.UsageError(f"--picture {str(path)!r}: its suffix is none of {', '.join(types)}")
