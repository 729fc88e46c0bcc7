"""All categories of a data set: one model each, in parallel, and resumable after a kill."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import joblib
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from .._utils.computing import end_with_parent, progress_bar
from .._utils.files import check_writable
from ..datasets import find_layout
from ..images.image_list import StrPath
from ..images.labels import GOOD
from ..metrics import f1_max_score, image_ap_score, image_auroc_score
from ..pipeline.steps import check_takes_images, fitted_steps, structcore_steps
from .results import MEAN, Results, content_digest
from .single import evaluate

_logger = logging.getLogger(__name__)


class CategoryError(ValueError):
    """Some categories failed; `table` is the DataFrame of the others, or None if all did."""

    def __init__(self, message: str, table: pd.DataFrame | None = None) -> None:
        super().__init__(message)
        self.table = table


def evaluate_categories(
    pipe: Pipeline,
    root: StrPath,
    output: StrPath,
    *,
    categories: Sequence[str] | None = None,
    n_jobs: int | None = None,
    overwrite: bool = False,
    verbose: int = 0,
) -> pd.DataFrame:
    """Fit and evaluate a clone of a pipeline on each category of a data set.

    The active joblib backend works on the categories: ``joblib.parallel_config(backend="dask")``
    spreads them over a cluster that sees the data under the same path. What a category gave is
    written as soon as it is there. Called again, only what is missing, damaged or of other data is
    computed.

    Parameters
    ----------
    pipe : Pipeline
        As `make_structcore` builds it, fitted or not.
    root : str or path-like
        Folder in the layout of MVTec AD, VisA or BTAD, of all categories or of one.
    output : str or path-like
        Folder for the results; made if it is not there. The table is in ``results.csv``,
        ``results.json`` and ``results.md``. In ``categories/``, ``<category>.csv`` holds the scores
        of all test images and ``<category>.json`` the row and the settings.
    categories : sequence of str, default=None
        Which categories; None: all.
    n_jobs : int, default=None
        Number of processes; -1: all there are. None: what `joblib.parallel_config` says, and
        1 without it.
    overwrite : bool, default=False
        Whether results of other settings may be replaced. Settings are parameters and weights:
        if you change the code of an estimator of your own, take another folder.
    verbose : int, default=0
        Whether to show a progress bar.

    Returns
    -------
    table : DataFrame
        A row a category, and ``mean``. Columns: ``train_images``, ``test_images``;
        ``image_auroc``, ``base_auroc`` (of the base score alone), ``image_ap``, ``f1_max``,
        ``pixel_auroc`` and ``aupro`` (NaN without masks), all in [0, 1]; ``false_alarm_rate`` and
        ``miss_rate`` at the pipeline's own threshold; ``seconds`` from reading to scores.

    Raises
    ------
    ValueError
        If a category is unknown, or `output` holds results of other settings.
    CategoryError
        If categories could not be evaluated, or their results not be written. It says which, and
        why; the others are stored, and in the tables.
    OSError
        If `output` cannot be made or written to.
    """
    structcore_steps(pipe)
    check_takes_images(pipe, "evaluate_categories")
    layout, results = find_layout(root), Results(output, pipe)
    names = _checked_names(layout, categories)
    (results.output / "categories").mkdir(parents=True, exist_ok=True)
    contents, failed = {}, {}
    for name in names:
        try:
            contents[name] = content_digest(layout.root, layout.load(name, check=None))
        except (ValueError, OSError) as error:
            failed[name] = str(error)
    stored = ((name, results.read(name, contents[name], overwrite)) for name in contents)
    rows = {name: row for name, row in stored if row is not None}
    missing = [name for name in contents if name not in rows]
    for path in (path for name in missing for path in results.files(name)):
        check_writable(path)
    _logger.info("%d of %d categories are done already", len(rows), len(names))
    parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    tasks = (joblib.delayed(_evaluate_one)(clone(pipe), layout, name) for name in missing)
    bar = progress_bar(verbose=verbose, total=len(names), initial=len(rows), unit="category")
    with bar as progress:
        for name, row, outcome in parallel(tasks):
            progress.update()
            if row is None:
                failed[name] = outcome
                continue
            rows[name] = row
            try:
                results.write(name, contents[name], row, outcome)
            except OSError as error:
                failed[name] = f"its results cannot be written: {error}"
    return _finished(results, {name: rows[name] for name in names if name in rows}, failed)


def _finished(results, rows, failed):
    """Write the table of all rows and return it, or raise an error that says what is missing."""
    table, reasons = None, [f"- {name}: {failed[name]}" for name in sorted(failed)]
    if rows:
        table = results.table(rows)
        try:
            results.write_table(table)
        except OSError as error:
            reasons.append(f"- the table of all: {error}")
    if not reasons:
        return table
    stored = f"stored in {str(results.output)!r} and will not be computed again"
    headline = f"All categories are {stored}, but not all results could be written:"
    if failed:
        n_categories = len({*rows, *failed})
        others = f"; the others are {stored}" if rows.keys() - failed.keys() else ""
        headline = f"{len(failed)} of {n_categories} categories failed{others}:"
    raise CategoryError("\n".join([headline, *reasons]), table)


def _checked_names(layout, categories):
    names = list(layout.categories)
    wanted = [categories] if isinstance(categories, str) else categories
    wanted = names if wanted is None else list(wanted)
    if not wanted:
        raise ValueError("categories is empty: name one at least; None takes all of them")
    if unknown := sorted(set(wanted) - set(names)):
        raise ValueError(f"no category {unknown} in {str(layout.root)!r}; there are {names}")
    names = [name for name in names if name in wanted]
    if MEAN in names:
        raise ValueError(
            f"A category in {str(layout.root)!r} is called {MEAN!r}, as the last row of the table "
            "is: call its folder otherwise, or name the other categories."
        )
    return names


def _evaluate_one(pipe, layout, name):
    """Name, row of the table and scores of a category; None and the reason if it fails."""
    start = time.perf_counter()
    end_with_parent()
    try:
        images = layout.load(name)
        evaluation = evaluate(pipe.fit(images.train, images.train.y), images.test)
        row = {**_row(pipe, evaluation), "seconds": time.perf_counter() - start}
        return name, row, evaluation.scores
    except (ValueError, OSError) as error:
        return name, None, str(error)
    except Exception as error:  # whatever it is, it must not stop the other categories
        _logger.exception("%r failed", name)
        return name, None, f"{type(error).__name__}: {error}"


def _row(pipe, evaluation):
    scores, y = evaluation.scores, evaluation.images.y
    rejected = scores["is_anomalous"].to_numpy(dtype=bool)
    return {
        "train_images": fitted_steps(pipe)[0].n_images_,
        "test_images": len(y),
        "base_auroc": image_auroc_score(y, scores["base"]),
        "image_ap": image_ap_score(y, scores["anomaly_score"]),
        "f1_max": f1_max_score(y, scores["anomaly_score"]),
        **evaluation.areas(),
        "false_alarm_rate": rejected[y == GOOD].mean(),
        "miss_rate": (~rejected)[y != GOOD].mean(),
    }
