"""Models on disk: written whole or not at all, read without running code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, Literal

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from .._utils.files import atomic_file
from .._utils.versions import versions_of
from .._version import __version__
from ..bank.coreset_bank import CoresetBank
from ..features._backbone import PatchFeatures
from ..images.image_list import StrPath
from ..scoring.structcore import StructCoreScorer
from ..scoring.summary import closing_sentences
from ._model_file import ModelFileError, read_arrays, read_head, refusing, write_model_file
from ._state import PIPELINE, Reader, Writer

#: Increased when what is fitted changes so that files of before would give other scores.
FORMAT = 2
_LIBRARIES = ("numpy", "scikit-learn", "scipy", "torch", "pillow", "numba")


def save(model: BaseEstimator, path: StrPath) -> None:
    """Write a fitted pipeline, so that `load` gives it back with the same scores, bit by bit.

    Whenever the machine stops, `path` is the old file or the new one. It holds numbers and text
    only, no code, and of the weights of the backbone their name and checksum. ``memory``, the
    folder of a cache, is None again.

    Parameters
    ----------
    model : Pipeline or estimator
        Fitted, of estimators of this package.
    path : str or path-like
        The file; one that is there is replaced. The name may end as you like.

    Raises
    ------
    TypeError
        If the model holds what a file cannot hold, a function of your own for instance.
        ``joblib.dump`` keeps such a model.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import skstructcore
    >>> X = np.random.default_rng(0).normal(size=(20, 4, 4, 8))
    >>> pipe = skstructcore.make_structcore()[2:].fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     skstructcore.save(pipe, f"{folder}/model.structcore")
    ...     again = skstructcore.load(f"{folder}/model.structcore")
    >>> bool((again.score_samples(X) == pipe.score_samples(X)).all())
    True
    """
    writer, state = _written(model)
    header = json.dumps(_header(model))
    text = {"format": f"skstructcore {FORMAT}", "header": header, "state": json.dumps(state)}
    with atomic_file(path) as file:
        write_model_file(file, writer.arrays, text)


def trusted_types(model: BaseEstimator) -> list[str]:
    """Name the types of this package that a fitted model is made of.

    skops, and MLflow which uses it, read a model only if the types in it are trusted. Whoever
    trusts this package can trust these; `save` writes files that need no such list.

    Parameters
    ----------
    model : see `save`, also for what is refused

    Returns
    -------
    names : list of str
        With their modules, sorted.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import RandomProjection, trusted_types
    >>> trusted_types(RandomProjection(2).fit(np.eye(3)))
    ['skstructcore.projection.RandomProjection']
    """
    writer, _ = _written(model)
    return sorted(f"skstructcore.{name.replace(':', '.')}" for name in writer.types - {PIPELINE})


def _written(model):
    check_is_fitted(model)
    writer = Writer()
    return writer, writer.node(model, type(model).__name__)


def load(
    path: StrPath,
    mmap_mode: Literal["r"] | None = None,
    *,
    weights: StrPath | Sequence[StrPath] | None = None,
) -> BaseEstimator:
    """Read a fitted pipeline that `save` has written; no code in the file can run.

    Parameters
    ----------
    path : see `save`
    mmap_mode : {"r"} or None, default=None
        "r" maps the arrays into memory, read-only: processes share one copy of the bank.
    weights : str, path-like or sequence of them, default=None
        Where the weights of the network are now, if they have moved since the fit: what
        `DinoFeatures` or `TimmFeatures` takes, one for each network. They must be the same weights.

    Returns
    -------
    model : Pipeline or estimator
        Fitted, as it was saved.

    Raises
    ------
    ModelFileError
        If the file is damaged, no model file, of another format, or names a type that is not of
        this package. It is an OSError and a ValueError.
    ValueError
        If `weights` are not as many as the networks that take some.

    Notes
    -----
    The checksum in the file finds accidents. It does not say who wrote the file: whoever can
    replace your models can make them accept everything.
    """
    if mmap_mode not in (None, "r"):
        raise ValueError(f"mmap_mode must be None or 'r', got {mmap_mode!r}.")
    head = _read_head(path)
    arrays = read_arrays(head, mmap_mode)
    with refusing(_unusable, head):
        model = Reader(arrays).value(json.loads(head.text["state"]))
        check_is_fitted(model)
    return model if weights is None else with_weights(model, weights)


def with_weights(model: BaseEstimator, weights: StrPath | Sequence[StrPath]) -> BaseEstimator:
    """Tell the networks of a model, in place, where their weights are; see `load`."""
    given = [weights] if isinstance(weights, str | os.PathLike) else list(weights)
    steps = [step for step in (model, *model.get_params().values()) if hasattr(step, "weights")]
    networks = [step for step in steps if isinstance(step, PatchFeatures)]
    if len(given) != len(networks):
        raise ValueError(
            f"weights: {len(given)} given, but {len(networks)} networks of the model have theirs "
            "in files."
        )
    for network, place in zip(networks, given, strict=True):
        network.set_params(weights=os.fspath(place))
    return model


def info(path: StrPath) -> dict[str, Any]:
    """Read what a model file says about itself, without its bank.

    Parameters
    ----------
    path : see `save`

    Returns
    -------
    header : dict
        "created" (UTC); "versions" of this package and of the libraries below it; "steps";
        "training", with the number of good images, of bank entries and of routes;
        "decisions", for each route ("all" without) the rule of the threshold, the false-alarm rate
        that was asked for, the one it stands for and its interval; "summary", what the fit came to
        in words; "backbone", the name and checksum of the weights; "picture", the "input_size" that
        the network sees and the "scale" of heights and widths, or None without a network;
        "format"; "digest", of all parameters and all that is fitted: the same for the same
        training, another once the model is recalibrated or changed in any way; and "bytes", the
        size of the file.

    Raises
    ------
    ModelFileError
        If the file is no model file, of another format, or its head is damaged.
    """
    head = _read_head(path)
    text = head.text
    with refusing(_unusable, head):
        return {
            **json.loads(text["header"]),
            "format": text["format"],
            "digest": hashlib.sha256((text["state"] + text["arrays_sha256"]).encode()).hexdigest(),
            "bytes": os.stat(path).st_size,
        }


def _read_head(path):
    head = read_head(path)
    given = head.text.get("format", "no format that this package knows")
    if given != f"skstructcore {FORMAT}":
        raise ModelFileError(
            f"{os.fspath(path)!r} has {given!r}; this release ({__version__}) reads 'skstructcore "
            f"{FORMAT}'. Load it with the release that wrote it, or fit again with this one."
        )
    return head


def _unusable(head, reason):
    try:
        by = f"skstructcore {json.loads(head.text['header'])['versions']['skstructcore']}"
    except (ValueError, KeyError, TypeError):
        by = "an unknown release"
    return ModelFileError(
        f"{os.fspath(head.path)!r}, written by {by}, cannot be used by {__version__}: {reason}. "
        "Load it with the release that wrote it, or fit again with this one."
    )


def _header(model):
    steps = [step for _, step in getattr(model, "steps", [("", model)])]
    first, last = steps[0], steps[-1]
    network = getattr(first, "features", [first])[0]  # all joined networks see the same
    bank = next((step for step in steps if isinstance(step, CoresetBank)), None)
    scorer = last if isinstance(last, StructCoreScorer) else None
    seen = {name: getattr(network, f"{name}_", None) for name in ("input_size", "scale")}
    names = ("source", "checksum")
    rates = ("rule", "asked_rate", "rate", "interval", "threshold")
    decided = scorer.routes_.decisions.items() if scorer else ()
    decisions = {k: {name: getattr(decision, name) for name in rates} for k, decision in decided}
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {"skstructcore": __version__, **versions_of(*_LIBRARIES)},
        "steps": [type(step).__name__ for step in steps],
        "backbone": {name: getattr(first, f"model_{name}_", None) for name in names},
        "picture": seen if seen["input_size"] else None,
        "training": {
            "n_images": bank and bank.n_images_,
            "n_bank_entries": bank and len(bank.bank_),
            "n_routes": bank and len(bank.bank_.route_names),
        },
        "decisions": decisions,
        "summary": closing_sentences(scorer) if scorer else [],
    }
