"""Which images a bank is made of, and what is known of them: passed to fit, or carried by them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from .._utils.validation import check_labels, check_per_image
from ..images.image_list import Annotations
from ..images.labels import is_defect_in_training

if TYPE_CHECKING:
    from typing import Any, Literal

    from .._utils.rows import LazyRows
    from .._utils.typing import ArrayLike, NDArray

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
    lots: NDArray[np.int64] | None = None  # None: the images are not known to come in lots


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
    entry an image, no image is good, or groups cut through parts.
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
    carries_groups = is_auto(groups)
    groups = _passed_or_carried(groups, carried.groups, "groups", len(X))
    if groups is None and parts is not None:
        groups = parts  # views of one part depend on each other
    parts = None if parts is None else parts.astype(str)  # as model files keep them
    several = _several(carried.categories) if n_routes is None else None
    categories = _passed_or_carried(categories, several, "categories", len(X))
    names = [] if categories is None else sorted({str(name) for name in categories})
    is_good = _which_are_good(X, carried.labels if y is None else y)
    if is_good is not None:
        X = X[is_good]
        groups, categories, parts = (
            None if values is None else values[is_good] for values in (groups, categories, parts)
        )
    good = GoodImages(X, groups, categories, names, parts)
    return good if groups is None else _told_from_lots(good, carries_groups)


def _told_from_lots(good, carries_groups):
    """Tell lots from groups: where the images carry them, groups may be lots.

    Where groups cut through parts, the parts are held out.
    """
    groups, parts = np.unique(good.groups, return_inverse=True)[1], good.parts
    each = np.arange(len(groups))
    if parts is not None:
        each = np.unique(parts, return_inverse=True)[1]
        n_pairs = len(np.unique(np.column_stack([each, groups]), axis=0))
        if n_pairs > each.max() + 1:
            if not carries_groups:
                raise ValueError(
                    "groups cut through parts: views of one part are held out together. Give them "
                    "one group, or leave groups out."
                )
            _logger.warning("Images of one part lie in several groups: each part is held out")
            return good._replace(groups=parts)
        if n_pairs == groups.max() + 1:  # a group is a part
            return good
    in_lots = _in_lots(groups, good.categories)
    if not carries_groups or not in_lots.any():
        return good
    if in_lots.all():
        return good._replace(groups=parts, lots=groups)
    held_out = np.where(in_lots, groups.max() + 1 + each, groups)
    return good._replace(groups=held_out, lots=groups)


def _in_lots(groups, categories):
    """Of which images the groups, those of their folders for instance, are lots.

    There are fewer than 5 (of a category), of 5 or more images: a threshold of 2 folders finds
    nothing.
    """
    of_category = pd.Series(groups).groupby(
        np.zeros_like(groups) if categories is None else categories
    )
    n_groups, n_images = of_category.transform("nunique"), of_category.transform("size")
    return ((n_groups < MIN_IMAGES) & (n_images >= MIN_IMAGES * n_groups)).to_numpy()


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


def _which_are_good(X, y):
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
