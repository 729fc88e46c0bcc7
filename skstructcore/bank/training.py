"""Which images a bank is made of, and what is known of them: passed to fit, or carried by them."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from .._utils.rows import LazyRows
from .._utils.typing import ArrayLike, NDArray, RandomState
from .._utils.validation import check_labels, check_per_image
from ..containers import MemoryBank, TrainingImages
from ..images.image_list import Annotations, ImageList
from ..images.labels import is_defect_in_training
from ..routing import UNKNOWN, choose_routes
from .build import over_shards

_logger = logging.getLogger(__name__)

#: Of fewer independent images or groups a tail is no more than a guess.
MIN_IMAGES = 5


class GoodImages(NamedTuple):
    """The good images of a fit, with what was said of them."""

    X: LazyRows | NDArray[np.floating]
    groups: NDArray[Any] | None  # None: each image is a group of its own
    categories: NDArray[Any] | None  # None: the images are not told apart
    category_names: list[str]  # of all images, also of those that were left out as defects
    parts: NDArray[Any] | None = None  # None: each image is decided by itself
    lots: NDArray[np.int64] | None = None  # None: the images are not known to come in lots
    places: NDArray[np.int64] | None = None  # among all images that were given


def good_images(
    X: LazyRows | NDArray[np.floating],
    y: ArrayLike | None = None,
    groups: ArrayLike | Literal["auto"] | None = "auto",
    categories: ArrayLike | Literal["auto"] | None = "auto",
    parts: ArrayLike | Literal["auto"] | None = "auto",
    *,
    n_routes: int | str | None = None,
    single_views: bool = False,
) -> GoodImages:
    """Leave out the images that are labelled anomalous, and find what is known of the others.

    What is passed, see `CoresetBank.fit`, comes before what the images carry; with `n_routes`,
    categories that they carry do not count; with `single_views` each image may be a part.
    ValueError if something has not one entry an image, no image is good, or groups cut through
    parts.
    """
    carried = getattr(X, "annotations", None) or Annotations()
    if categories is not None and not is_auto(categories) and n_routes is not None:
        raise ValueError(
            f"n_routes={n_routes!r} groups images that have no labels, but fit got "
            "categories: set n_routes=None, or leave the categories out."
        )
    groups_auto, parts_auto = is_auto(groups), is_auto(parts)
    parts = _passed_or_carried(parts, carried.parts, "parts", len(X))
    groups = _passed_or_carried(groups, carried.groups, "groups", len(X))
    # One category for all is no reason for routing.
    several = carried.categories if n_routes is None else None
    if several is not None and len({str(name) for name in several}) < 2:
        several = None
    categories = _passed_or_carried(categories, several, "categories", len(X))
    names = [] if categories is None else sorted({str(name) for name in categories})
    places = np.arange(len(X))
    is_good = _which_are_good(X, carried.labels if y is None else y)
    if is_good is not None:
        X, places = X[is_good], places[is_good]
        groups, categories, parts = (
            None if values is None else values[is_good] for values in (groups, categories, parts)
        )
    if parts is not None and not single_views and len(set(parts)) == len(X):
        if not parts_auto:
            raise ValueError(
                f"parts gives each of {len(X)} images a part of its own: parts are what several "
                "images are views of. Leave parts out, or name those that show one part alike."
            )
        parts = None  # single pages, for instance
    if groups is None and parts is not None:
        groups = parts  # views of one part depend on each other
    parts = None if parts is None else parts.astype(str)  # as model files keep them
    good = GoodImages(X, groups, categories, names, parts, places=places)
    return good if groups is None else _told_from_lots(good, groups_auto)


def _told_from_lots(good, groups_auto):
    """Tell lots from groups that the images carry; where those cut through parts, go by parts."""
    groups = np.unique(good.groups, return_inverse=True)[1]
    parts = np.arange(len(groups))  # each image is one
    if good.parts is not None:
        parts = np.unique(good.parts, return_inverse=True)[1]
    if pd.Series(groups).groupby(parts).nunique().max() > 1:
        if not groups_auto:
            raise ValueError(
                "groups cut through parts: views of one part are held out together. Give them "
                "one group, or leave groups out."
            )
        _logger.warning("Images of one part lie in several groups: each part is held out")
        return good._replace(groups=good.parts)
    if good.parts is not None and groups.max() == parts.max():  # a group is a part
        return good
    # Fewer than 5 groups (of a category) of 5 or more images, those of folders for instance, are
    # lots: without one of 2 folders, thresholds would be too high, and a part has fewer shots.
    categories = np.zeros_like(groups) if good.categories is None else good.categories
    of_category = pd.Series(groups).groupby(categories)
    n_groups, n_images = of_category.transform("nunique"), of_category.transform("size")
    in_lots = ((n_groups < MIN_IMAGES) & (n_images >= MIN_IMAGES * n_groups)).to_numpy()
    if not groups_auto or not in_lots.any():
        return good
    if in_lots.all():
        return good._replace(groups=good.parts, lots=groups)
    held_out = np.where(in_lots, groups.max() + 1 + parts, groups)
    return good._replace(groups=held_out, lots=groups)


def is_auto(value: object) -> bool:
    """Whether groups or categories are to be those that the images carry, or found."""
    return isinstance(value, str) and value == "auto"


def _passed_or_carried(passed, carried, name, n_images):
    values = carried if is_auto(passed) else passed
    if values is not None:
        values = check_labels(values, n_images, name)
        if is_auto(passed):
            text = "Took the %s of the images: %d for %d images (pass %s=None to fit without)"
            _logger.info(text, name, len(np.unique(values)), n_images, name)
    return values


def _which_are_good(X, y):
    """Which images are not labelled anomalous; None: all."""
    if y is None:
        return None
    y = check_per_image(y, len(X), "y")
    # The y of a table may be any numbers: scikit-learn's own detectors ignore it.
    if X.ndim == 2 and not any(isinstance(label, str) for label in y.tolist()):
        return None
    good = ~is_defect_in_training(y)
    if not good.any():
        raise ValueError(f"y calls all {len(X)} training images anomalous; good ones are needed.")
    if not good.all():
        _logger.info("Left out %d of %d images labelled anomalous", (~good).sum(), len(X))
    return good


def number_images(
    good: GoodImages,
    n_routes: int | Literal["auto"] | None = None,
    pooled: NDArray[np.floating] | None = None,
    random_state: RandomState = None,
) -> tuple[TrainingImages, tuple[str, ...]]:
    """Number the groups and categories of images, or find routes where none are known.

    `pooled` are the mean patches of the images, where there are routes. Returns the table, and the
    names of the routes. ValueError if a route cannot be used.
    """
    groups = np.arange(len(good.X))
    if good.groups is not None:
        groups = np.unique(good.groups, return_inverse=True)[1]
    routes, names = np.zeros_like(groups), ("all",)
    if n_routes is not None:
        routes = choose_routes(pooled, n_routes, random_state=random_state)
        names = tuple(f"route{i}" for i in range(routes.max() + 1))
    elif good.categories is not None:
        names, routes = np.unique(good.categories, return_inverse=True)
        names = tuple(map(str, names))
    table = TrainingImages(groups, routes, parts=good.parts, lots=good.lots, places=good.places)
    if pooled is not None:
        _check_routes(table, names, good.category_names)
        table = replace(table, pooled=np.asarray(pooled, dtype=np.float32))
    return table, names


def _check_routes(table, names, category_names):
    """Raise ValueError if a route cannot be used, or a category has no good image."""
    if missing := sorted(set(category_names) - set(names)):
        raise ValueError(f"No good image is left in {', '.join(map(repr, missing))}: add some.")
    way_out = "set a smaller n_routes"
    if category_names:
        way_out = "fit without categories (categories=None)"
    for route, name in enumerate(names):
        if name.strip() == UNKNOWN:
            raise ValueError(
                f"A category cannot be called {name!r}: images of no known product get that route."
            )
        sizes = np.unique(table.groups[table.routes == route], return_counts=True)[1]
        if len(sizes) < 2:
            raise ValueError(
                f"Route {name!r} has {sizes.sum()} good training image(s) in "
                f"{len(sizes)} group(s); at least two are needed, to score one by the other. Add "
                f"images, leave it out, or {way_out}."
            )
        if sizes.sum() - sizes.max() < 2:
            _logger.warning(
                "Route %r has %d images in %d groups: one image tells nothing of how far another "
                "may be, so that no image is unknown to it. Add images",
                *(name, sizes.sum(), len(sizes)),
            )


def with_lots_as_groups(
    table: TrainingImages, bank: MemoryBank
) -> tuple[TrainingImages, NDArray[np.int64]]:
    """The table with groups that hold lots out as a whole, and the routes where that cannot be.

    Where all entries of a route come from one lot, nothing would be left: there, groups stay.
    """
    lots = table.lots[bank.image_index]
    routes = np.unique(bank.routes)
    of_one_lot = routes[[len(np.unique(lots[bank.routes == route])) < 2 for route in routes]]
    stays = np.isin(table.routes, of_one_lot)
    groups = np.where(stays, table.lots.max() + 1 + table.groups, table.lots)
    return replace(table, groups=groups, lots=None), of_one_lot  # lots are groups now


def recognised(
    table: TrainingImages,
    X: LazyRows | NDArray[np.floating],
    *,
    first: int = 0,
    shard_size: int | None = None,
) -> TrainingImages:
    """The table with digests, names and sizes of the images; names count on from `first`."""
    digests = np.concatenate(list(over_shards(digests_of, shard_size, X)))
    _, first_alike, which = np.unique(digests, return_index=True, return_inverse=True)
    first_alike = first_alike[which]
    copies = np.flatnonzero(table.groups != table.groups[first_alike])
    if len(copies) and len(X.shape) == 4:  # rows of a table may well be equal
        _logger.warning(
            "%d of %d good images are copies of others (the first: image %d of image %d), but "
            "count as independent: held out, a copy is explained by the other, and thresholds "
            "come out too low. Leave copies out, or give them one group",
            *(len(copies), len(digests), *table.places[[copies[0], first_alike[copies[0]]]]),
        )
    geometry = getattr(X, "geometry", None)
    return replace(
        table,
        digests=digests,
        names=names_of(X, first),
        sizes=None if geometry is None else geometry.original_sizes,
    )


def names_of(X: LazyRows | NDArray[np.floating], first: int = 0) -> NDArray[np.str_] | None:
    """Names of images, those without a file counted from `first`; None of given features."""
    return np.array(X.images.file_names(first)) if hasattr(X, "images") else None


def digests_of(X: LazyRows | ImageList | NDArray[np.floating]) -> NDArray[np.str_]:
    """Digest of the content of each image, or of its features where there is no image."""
    images = X if isinstance(X, ImageList) else getattr(X, "images", None)
    if images is not None:
        return np.array([images.digest(i) for i in range(len(images))])
    rows = np.ascontiguousarray(X, dtype=np.float32).reshape(len(X), -1)
    return np.array([hashlib.blake2b(row, digest_size=32).hexdigest() for row in rows])
