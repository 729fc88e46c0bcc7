"""All categories of a data set: one model each, in parallel, and resumable after a kill."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import joblib
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from tqdm.auto import tqdm

from .. import __version__
from ..datasets import find_layout
from ..metrics import f1_max_score, image_ap_score, image_auroc_score
from .single import evaluate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sklearn.pipeline import Pipeline

    from ..images.image_list import StrPath

__all__ = ["CategoryError", "evaluate_categories", "format_markdown"]

logger = logging.getLogger(__name__)

# Parameters that decide over time and memory, but not over results.
_WITHOUT_EFFECT = frozenset(
    "batch_size compile device max_memory memory n_jobs transform_input verbose".split()
)


class CategoryError(ValueError):
    """Some categories could not be evaluated; all others were, and are stored."""


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
        Folder for the results; made if it is not there. The table is in ``results.csv``,
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
        If categories could not be evaluated. It says which, and why; the others are stored.

    Examples
    --------
    >>> from skstructcore import make_structcore
    >>> from skstructcore.evaluation.categories import evaluate_categories
    >>> evaluate_categories(make_structcore(), "mvtec_ad", "results")  # doctest: +SKIP
    """
    layout, output = find_layout(root), Path(output)
    names = _checked_names(layout, categories)
    settings = _settings(pipe)
    stamps = {name: _stamp(layout, name) for name in names}
    done = {name: _read_result(_result_file(output, name)) for name in names}
    done = {name: result for name, result in done.items() if result}
    if not overwrite:
        _check_settings(done, settings, output)
    rows = {
        name: result["row"]
        for name, result in done.items()
        if result["settings"] == settings and result["data"] == stamps[name]
    }
    (output / "categories").mkdir(parents=True, exist_ok=True)
    missing = [name for name in names if name not in rows]
    logger.info("%d of %d categories are done already", len(rows), len(names))

    failed = {}
    parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    tasks = (joblib.delayed(_evaluate_one)(clone(pipe), layout, name) for name in missing)
    progress = tqdm(total=len(names), initial=len(rows), unit="category", disable=not verbose)
    with progress:
        for name, row, outcome in parallel(tasks):
            if row is None:
                failed[name] = outcome
                continue
            _write(_scores_file(output, name), outcome.to_csv(index=False))
            result = {"row": row, "settings": settings, "data": stamps[name]}
            # Last: what has this file is finished.
            _write(_result_file(output, name), json.dumps(result, indent=1))
            rows[name] = row
            progress.update()
    if failed:
        reasons = "\n".join(f"- {name}: {failed[name]}" for name in sorted(failed))
        raise CategoryError(
            f"{len(failed)} of {len(names)} categories failed; the others are stored in "
            f"{str(output)!r} and will not be computed again:\n{reasons}"
        )
    table = _table({name: rows[name] for name in names})
    _write_tables(table, settings, output)
    return table


def format_markdown(table: pd.DataFrame) -> str:
    """Write a table of `evaluate_categories` as Markdown: areas and rates in percent.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"test_images": [83], "image_auroc": [0.98765]}, ["bottle"])
    >>> print(format_markdown(table.rename_axis("category")))
    | category | test_images | image_auroc |
    |---|---|---|
    | bottle | 83 | 98.8 |
    """
    lines = [[table.index.name, *table.columns]]
    for name, row in table.iterrows():
        lines.append([name, *(_text(column, value) for column, value in row.items())])
    head, *body = ("| " + " | ".join(line) + " |" for line in lines)
    return "\n".join([head, "|" + "---|" * len(lines[0]), *body])


def _text(column, value):
    if pd.isna(value):
        return ""
    if column in ("train_images", "test_images", "seconds"):
        return f"{value:.0f}"
    return f"{100 * value:.1f}"


def _checked_names(layout, categories):
    names = list(layout.categories)
    unknown = sorted(set(categories or ()) - set(names))
    if unknown:
        raise ValueError(f"no category {unknown} in {str(layout.root)!r}; there are {names}")
    return [name for name in names if not categories or name in categories]


def _evaluate_one(pipe, layout, name):
    """Name, row of the table and scores of a category; None and the reason if it fails."""
    start = time.perf_counter()
    try:
        images = layout.load(name)
        train, test = images.train, images.test
        pipe.fit(train, train.y)
        evaluation = evaluate(pipe, test)
    except (ValueError, OSError) as error:
        return name, None, str(error)
    scores, total = evaluation.scores, evaluation.table().loc["all"]
    n_good = int((scores["defect_type"] == "good").sum())
    row = {
        "train_images": pipe["bank"].n_images_,
        "test_images": len(test),
        "image_auroc": total["image_auroc"],
        "base_auroc": image_auroc_score(test.y, scores["base"]),
        "image_ap": image_ap_score(test.y, scores["anomaly_score"]),
        "f1_max": f1_max_score(test.y, scores["anomaly_score"]),
        "pixel_auroc": total["pixel_auroc"],
        "aupro": total["aupro"],
        "false_alarm_rate": total["false_alarms"] / n_good,
        "miss_rate": total["missed"] / (len(test) - n_good),
        "seconds": time.perf_counter() - start,
    }
    counts = ("train_images", "test_images")
    row = {key: int(value) if key in counts else float(value) for key, value in row.items()}
    return name, {key: None if math.isnan(value) else value for key, value in row.items()}, scores


def _settings(pipe):
    """All that decides over the results, as text: parameters, and the version of the package."""
    settings = {"skstructcore": __version__}
    for name, value in sorted(pipe.get_params().items()):
        if name == "steps" or name.split("__")[-1] in _WITHOUT_EFFECT:
            continue
        if isinstance(value, BaseEstimator):
            settings[name] = type(value).__name__
        elif callable(value):
            owner = value if hasattr(value, "__qualname__") else type(value)
            settings[name] = f"{owner.__module__}.{owner.__qualname__}"
        else:
            settings[name] = repr(value)
    return settings


def _check_settings(done, settings, output):
    for name, result in done.items():
        there = result["settings"]
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
            digest.update(f"{place} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _result_file(output, name):
    return output / "categories" / f"{name}.json"


def _scores_file(output, name):
    return output / "categories" / f"{name}.csv"


def _read_result(path):
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def _write(path, text):
    """Write a file so that nobody ever sees a part of it."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_text(text)
    unfinished.replace(path)


def _table(rows):
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("category")
    counts = ["train_images", "test_images"]
    areas = [column for column in table if column not in counts]
    table[areas] = table[areas].astype(np.float64)
    table.loc["mean", areas] = table[areas].mean()
    return table.astype(dict.fromkeys(counts, "Int64"))


def _write_tables(table, settings, output):
    _write(output / "results.csv", table.to_csv())
    rows = json.loads(table.to_json(orient="index", double_precision=15))
    mean = rows.pop("mean")
    text = json.dumps({"settings": settings, "categories": rows, "mean": mean}, indent=1)
    _write(output / "results.json", text)
    _write(output / "results.md", format_markdown(table) + "\n")
