"""All categories of a data set: one model each, in parallel, and resumable after a kill."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import time
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING

import joblib
import numpy as np
from joblib.func_inspect import get_func_code
from sklearn.base import BaseEstimator, clone

from .._utils.computing import end_with_parent, progress_bar
from .._version import __version__
from ..datasets import find_layout
from ..images.labels import GOOD
from ..metrics import f1_max_score, image_ap_score, image_auroc_score
from .results import (
    COUNTS,
    MEAN,
    Result,
    format_markdown,
    make_table,
    read_result,
    write_result,
    write_tables,
)
from .single import evaluate

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from sklearn.pipeline import Pipeline

    from ..images.image_list import StrPath

__all__ = ["CategoryError", "evaluate_categories", "format_markdown"]

_logger = logging.getLogger(__name__)

# Parameters that decide over time and memory, but not over results.
_WITHOUT_EFFECT = ("batch_size", "memory", "n_jobs", "verbose")


class CategoryError(ValueError):
    """Some categories could not be evaluated, or their results not be written.

    Attributes
    ----------
    table : DataFrame or None
        As `evaluate_categories` returns it, of all categories that were evaluated.
    """

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

    The active joblib backend works on the categories:
    ``joblib.parallel_config(backend="dask")`` spreads them over a cluster, whose machines need
    to see the data under the same path. What a category gave is written as soon as it is
    there; called again, after a kill for instance, only what is missing is computed.

    Parameters
    ----------
    pipe : Pipeline
        As `make_structcore` builds it, fitted or not.
    root : str or path-like
        Folder in the layout of MVTec AD, VisA or BTAD, of all categories or of one.
    output : str or path-like
        Folder for the results; made if it is not there. What is missing or damaged in it is
        computed again. The table is in ``results.csv``,
        ``results.json`` and ``results.md``; in ``categories/`` each category has its
        ``<category>.csv``, the scores of all test images, and ``<category>.json``, its row of
        the table with the settings.
    categories : sequence of str, default=None
        Which categories; None: all.
    n_jobs : int, default=None
        Number of processes; -1: all there are. None: what `joblib.parallel_config` says, and
        1 without it.
    overwrite : bool, default=False
        Whether results of other settings may be replaced.
    verbose : int, default=0
        Whether to show a progress bar.

    Returns
    -------
    table : DataFrame
        A row a category, and ``mean``. Columns: ``train_images`` and ``test_images``;
        ``image_auroc``; ``base_auroc``, that of the base score alone (max pooling, unless the
        pipeline says otherwise); ``image_ap``, ``f1_max``, ``pixel_auroc`` and ``aupro`` (NaN
        without masks), all in [0, 1]; ``false_alarm_rate`` and ``miss_rate`` at the
        pipeline's own threshold; ``seconds`` from reading to scores.

    Raises
    ------
    ValueError
        If a category is unknown, or `output` holds results of other settings.
    CategoryError
        If categories could not be evaluated, or their results not be written. It says which, and
        why; the others are stored, and the tables, also its own `table`, hold them.
    OSError
        If `output` cannot be made.

    Examples
    --------
    >>> from skstructcore import make_structcore
    >>> from skstructcore.evaluation.categories import evaluate_categories
    >>> evaluate_categories(make_structcore(), "mvtec_ad", "results")  # doctest: +SKIP
    """
    layout, output = find_layout(root), Path(output)
    names = _checked_names(layout, categories)
    settings = _settings(pipe)
    (output / "categories").mkdir(parents=True, exist_ok=True)
    done = {name: read_result(output, name) for name in names}
    done = {name: result for name, result in done.items() if result}
    if not overwrite:
        _check_settings(done, settings, output)
    rows, stamps, failed = {}, {}, {}
    for name in names:
        try:
            stamps[name] = _stamp(layout, name)
        except OSError as error:
            failed[name] = str(error)
            continue
        result = done.get(name)
        if result and result.settings == settings and result.data == stamps[name]:
            rows[name] = result.row
    _logger.info("%d of %d categories are done already", len(rows), len(names))

    missing = [name for name in stamps if name not in rows]
    parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    tasks = (joblib.delayed(_evaluate_one)(clone(pipe), layout, name) for name in missing)
    bar = progress_bar(verbose=verbose, total=len(names), initial=len(rows), unit="category")
    with bar as progress:
        for name, row, outcome in parallel(tasks):
            if row is None:
                failed[name] = outcome
                continue
            try:
                write_result(output, name, Result(row, settings, stamps[name]), outcome)
            except OSError as error:
                failed[name] = f"its results cannot be written: {error}"
            rows[name] = row
            progress.update()
    table = make_table({name: rows[name] for name in names if name in rows}) if rows else None
    reasons = [f"- {name}: {failed[name]}" for name in sorted(failed)]
    if rows:
        try:
            write_tables(output, table, settings)
        except OSError as error:
            reasons.append(f"- the table of all: {error}")
    if reasons:
        raise CategoryError(
            f"{len(failed)} of {len(names)} categories failed; the others are stored in "
            f"{str(output)!r} and will not be computed again:\n" + "\n".join(reasons),
            table,
        )
    return table


def _checked_names(layout, categories):
    names = list(layout.categories)
    categories = [categories] if isinstance(categories, str) else categories
    unknown = sorted(set(categories or ()) - set(names))
    if unknown:
        raise ValueError(f"no category {unknown} in {str(layout.root)!r}; there are {names}")
    names = [name for name in names if not categories or name in categories]
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
        train, test = images.train, images.test
        pipe.fit(train, train.y)
        evaluation = evaluate(pipe, test)
        return name, _row(pipe, evaluation, start), evaluation.scores
    except (ValueError, OSError) as error:
        return name, None, str(error)
    except Exception as error:  # whatever it is, it must not stop the other categories
        _logger.exception("%r failed", name)
        return name, None, f"{type(error).__name__}: {error}"


def _row(pipe, evaluation, start):
    scores, test = evaluation.scores, evaluation.images
    table = evaluation.table()
    # Taken cell by cell, because a whole row has a type that turns NaN into pandas' NA.
    total = {column: table.at["all", column] for column in table}
    n_anomalous = int((test.y != GOOD).sum())
    row = {
        "train_images": pipe["bank"].n_images_,
        "test_images": len(test),
        "image_auroc": total["image_auroc"],
        "base_auroc": image_auroc_score(test.y, scores["base"]),
        "image_ap": image_ap_score(test.y, scores["anomaly_score"]),
        "f1_max": f1_max_score(test.y, scores["anomaly_score"]),
        "pixel_auroc": total["pixel_auroc"],
        "aupro": total["aupro"],
        "false_alarm_rate": total["false_alarms"] / (len(test) - n_anomalous),
        "miss_rate": total["missed"] / n_anomalous,
        "seconds": time.perf_counter() - start,
    }
    row = {key: int(value) if key in COUNTS else float(value) for key, value in row.items()}
    return {key: None if math.isnan(value) else value for key, value in row.items()}


def _settings(pipe):
    """All that decides over the results, as text: parameters, and the version of the package."""
    settings = {"skstructcore": __version__}
    for name, value in sorted(pipe.get_params().items()):
        if name == "steps" or name.split("__")[-1] in _WITHOUT_EFFECT:
            continue
        settings[name] = _text_of(value)
    return settings


def _text_of(value):
    """A parameter as text; equal texts are equal parameters."""
    if isinstance(value, BaseEstimator):
        return type(value).__name__
    if callable(value):
        owner = value if hasattr(value, "__qualname__") else type(value)
        return f"{owner.__module__}.{owner.__qualname__} ({joblib.hash(_content_of(value))})"
    if isinstance(value, np.ndarray):
        return f"{value!r} ({joblib.hash(value)})"  # repr shows the corners of large ones only
    if isinstance(value, dict):
        pairs = (f"{_text_of(key)}: {_text_of(part)}" for key, part in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text_of, value))}]"
    return repr(value)


def _content_of(value):
    """What a function or a network computes with; of other callables, they themselves."""
    if hasattr(value, "state_dict"):
        # In bytes, because running a network may change how its arrays lie in memory.
        weights = value.state_dict().items()
        return repr(value), {name: part.cpu().numpy().tobytes() for name, part in weights}
    if not isinstance(value, FunctionType):
        return value
    cells = [cell.cell_contents for cell in value.__closure__ or ()]
    return get_func_code(value)[0], value.__defaults__, cells


def _check_settings(done, settings, output):
    for name, result in done.items():
        there = result.settings
        changed = [
            f"{key}: {there.get(key, 'absent')} there, {settings.get(key, 'absent')} now"
            for key in sorted({**there, **settings})
            if there.get(key) != settings.get(key)
        ]
        if changed:
            raise ValueError(
                f"{str(output)!r} holds results of {name!r} with other settings "
                f"({'; '.join(changed)}): choose another output folder, or overwrite them"
            )


def _stamp(layout, name):
    """Digest of names, sizes and times of all files that a category consists of."""
    folder = layout.root if layout.categories[name] is None else layout.root / name
    files = [folder / "groups.csv", *(layout.root / "split_csv").glob("*.csv")]
    for part in ("train", "test", "ground_truth", "Data"):
        files += (folder / part).rglob("*")
    digest = hashlib.sha256()
    for path in sorted(files):
        if path.is_file():
            status = path.stat()
            place = path.relative_to(layout.root).as_posix()
            digest.update(os.fsencode(f"{place} {status.st_size} {status.st_mtime_ns}\n"))
    return digest.hexdigest()
