"""Which images a bank is made of, and what is known of them: passed to fit, or carried by them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .._utils.validation import check_labels, check_per_image
from ..images.image_list import Annotations
from ..images.labels import is_defect_in_training
from ..routing.grouping import check_routes, choose_routes

if TYPE_CHECKING:
    from typing import Any, Literal

    from .._utils.rows import LazyRows
    from .._utils.typing import ArrayLike, NDArray, RandomState
    from ..containers import MemoryBank

_logger = logging.getLogger(__name__)

#: Of fewer independent images or groups a tail is no more than a guess; groups of as many images
#: are more than the shots of one part.
MIN_IMAGES = 5


class GoodImages(NamedTuple):
    """The good images of a fit, with what was said of them."""

    X: LazyRows | NDArray[np.floating]
    groups: NDArray[Any] | None  # None: each image is a group of its own
    categories: NDArray[Any] | None  # None: the images are not told apart
    category_names: list[str]  # of all images, also of those that were left out as defects
    parts: NDArray[Any] | None = None  # None: each image is decided by itself


def good_images(
    X: LazyRows | NDArray[np.floating],
    y: ArrayLike | None = None,
    groups: ArrayLike | Literal["auto"] | None = "auto",
    categories: ArrayLike | Literal["auto"] | None = "auto",
    parts: ArrayLike | Literal["auto"] | None = "auto",
    *,
    n_routes: int | str | None = None,
) -> GoodImages:
    """Leave out the images that are labelled anomalous, and find what is known of the others.

    What is passed, see `CoresetBank.fit`, comes before what the images carry (see `Annotations`);
    with `n_routes`, categories that they carry do not count. ValueError if something has not one
    entry an image, or no image is good.
    """
    carried = getattr(X, "annotations", None) or Annotations()
    if categories is not None and not is_auto(categories) and n_routes is not None:
        raise ValueError(
            f"n_routes={n_routes!r} groups images that have no labels, but fit got "
            "categories: set n_routes=None, or leave the categories out."
        )
    was_passed = parts is not None and not is_auto(parts)
    parts = _passed_or_carried(parts, carried.parts, "parts", len(X))
    if parts is not None and len(set(parts)) == len(X):
        if was_passed:
            raise ValueError(
                f"parts gives each of {len(X)} images a part of its own: parts are what several "
                "images are views of. Leave parts out, or name those that show one part alike."
            )
        parts = None  # single pages, for instance
    groups = _passed_or_carried(groups, carried.groups, "groups", len(X))
    if groups is None and parts is not None:
        groups = parts  # views of one part depend on each other
    parts = None if parts is None else parts.astype(str)  # as model files keep them
    several = _several(carried.categories) if n_routes is None else None
    categories = _passed_or_carried(categories, several, "categories", len(X))
    names = [] if categories is None else sorted({str(name) for name in categories})
    good = _good_images(X, carried.labels if y is None else y)
    if good is None:
        return GoodImages(X, groups, categories, names, parts)
    groups, categories, parts = (
        None if part is None else part[good] for part in (groups, categories, parts)
    )
    return GoodImages(X[good], groups, categories, names, parts)


def lots_among(
    good: GoodImages, groups: ArrayLike | Literal["auto"] | None
) -> tuple[GoodImages, NDArray[np.int64] | None]:
    """Tell lots from groups: the training images with what is held out, and the lots.

    Groups that the images carry, those of their folders for instance, are lots where there are
    fewer than 5 (of a category), of 5 or more images: a threshold of 2 folders finds nothing.
    Where they cut through parts, the parts are held out; ValueError if such `groups` were passed.
    """
    own, parts = good.groups, good.parts
    if own is None:
        return good, None
    own = np.unique(own, return_inverse=True)[1]
    if parts is not None:
        views = np.unique(parts, return_inverse=True)[1]
        pairs = len(np.unique(np.column_stack([views, own]), axis=0))
        if pairs > views.max() + 1:
            if not is_auto(groups):
                raise ValueError(
                    "groups cut through parts: views of one part are held out together. Give them "
                    "one group, or leave groups out."
                )
            _logger.warning("Images of one part lie in several groups: each part is held out")
            return good._replace(groups=parts), None
        if pairs == own.max() + 1:  # a group is a part
            return good, None
    routes = np.zeros_like(own) if good.categories is None else good.categories
    in_lots = np.zeros(len(own), dtype=bool)
    for name in np.unique(routes):
        sizes = np.unique(own[routes == name], return_counts=True)[1]
        in_lots[routes == name] = len(sizes) < MIN_IMAGES <= sizes.mean()
    if not is_auto(groups) or not in_lots.any():
        return good, None
    if in_lots.all():
        return good._replace(groups=parts), own
    each = np.arange(len(own)) if parts is None else views
    return good._replace(groups=np.where(in_lots, own.max() + 1 + each, own)), own


def lots_as_groups(
    lots: NDArray[np.int64],
    groups: NDArray[np.int64],
    routes: NDArray[np.int64],
    bank: MemoryBank,
) -> tuple[NDArray[np.int64], list[int]]:
    """Groups of the images whose lots are held out, and the routes where that cannot be.

    Where all entries of a route come from one lot, nothing would be left: there, groups stay.
    """
    held_out, of_one_lot = lots.copy(), []
    for route in np.unique(bank.routes).tolist():
        if len(np.unique(lots[bank.image_index[bank.routes == route]])) < 2:
            of_one_lot.append(route)
            mine = routes == route
            held_out[mine] = lots.max() + 1 + groups[mine]
    return held_out, of_one_lot


def number_images(
    good: GoodImages,
    n_routes: int | Literal["auto"] | None = None,
    pooled: NDArray[np.floating] | None = None,
    random_state: RandomState = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """Number the groups and categories of images, or find routes where none are known.

    `pooled` are the mean patches of the images, with `n_routes`. Returns the groups, the routes and
    the names of these: one route ``"all"`` without categories and `n_routes`. ValueError if a route
    cannot be used, see `check_routes`.
    """
    groups = np.arange(len(good.X))
    if good.groups is not None:
        groups = np.unique(good.groups, return_inverse=True)[1]
    if n_routes is None and good.categories is None:
        return groups, np.zeros_like(groups), ("all",)
    if n_routes is None:
        names, routes = np.unique(good.categories, return_inverse=True)
        names = tuple(map(str, names))
    else:
        routes = choose_routes(pooled, n_routes, random_state=random_state)
        names = tuple(f"route{i}" for i in range(routes.max() + 1))
    check_routes(routes, names, groups, good.category_names)
    return groups, routes, names


def is_auto(value: object) -> bool:
    """Whether groups or categories are to be those that the images carry, or found."""
    return isinstance(value, str) and value == "auto"


def _several(categories):
    """Categories that tell images apart: one for all is no reason for routing."""
    if categories is None or len({str(name) for name in categories}) < 2:
        return None
    return categories


def _passed_or_carried(passed, carried, name, n_images):
    if passed is None or (is_auto(passed) and carried is None):
        return None
    if not is_auto(passed):
        return check_labels(passed, n_images, name)
    values = check_labels(carried, n_images, name)
    _logger.info(
        "Took the %s of the images: %d for %d images (pass %s=None to fit without)",
        name,
        len(np.unique(values)),
        n_images,
        name,
    )
    return values


def _good_images(X, y):
    """Which images are not labelled anomalous; None: all."""
    n_images = len(X)
    if y is None:
        return None
    y = check_per_image(y, n_images, "y")
    any_string = any(isinstance(label, str) for label in y.tolist())
    # The y of a table may be any numbers: scikit-learn's own detectors ignore it.
    if not any_string and X.ndim == 2:
        return None
    good = ~is_defect_in_training(y)
    if not good.any():
        raise ValueError(f"y calls all {n_images} training images anomalous; good ones are needed.")
    if not good.all():
        _logger.info("Left out %d of %d images labelled anomalous", (~good).sum(), n_images)
    return good
