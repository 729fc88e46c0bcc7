"""The table of the training images of a bank: groups, routes, and how each is recognised."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..containers import TrainingImages
from ..images.image_list import ImageList
from ..routing import UNKNOWN
from ..routing.clusters import choose_routes
from .stream import over_shards

if TYPE_CHECKING:
    from typing import Literal

    from .._utils.rows import LazyRows
    from .._utils.typing import NDArray, RandomState
    from ..containers import MemoryBank
    from .training import GoodImages

_logger = logging.getLogger(__name__)


def number_images(
    good: GoodImages,
    n_routes: int | Literal["auto"] | None = None,
    pooled: NDArray[np.floating] | None = None,
    random_state: RandomState = None,
) -> tuple[TrainingImages, tuple[str, ...]]:
    """Number the groups and categories of images, or find routes where none are known.

    `pooled` are the mean patches of the images, where there are routes. Returns the table, and the
    names of the routes: one ``"all"`` without categories and `n_routes`. ValueError if a route
    cannot be used.
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
    table = TrainingImages(groups, routes, parts=good.parts, lots=good.lots)
    if pooled is not None:
        _check_routes(table, names, good.category_names)
        table = replace(table, pooled=np.asarray(pooled, dtype=np.float32))
    return table, names


def _check_routes(table, names, category_names):
    """Raise ValueError if a route cannot be used, or a category has no good image."""
    missing = sorted(set(category_names) - set(names))
    if missing:
        raise ValueError(f"No good image is left in {', '.join(map(repr, missing))}: add some.")
    by_category = "fit without categories (categories=None)"
    way_out = by_category if category_names else "set a smaller n_routes"
    for route, name in enumerate(names):
        if name.strip() in ("", UNKNOWN):
            raise ValueError(
                f"A category cannot be called {name!r}: images of no known product get the route "
                f"{UNKNOWN!r}, and a name cannot be empty."
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
    return replace(table, groups=groups), of_one_lot


def recognised(
    table: TrainingImages,
    X: LazyRows | NDArray[np.floating],
    *,
    first: int = 0,
    shard_size: int | None = None,
) -> TrainingImages:
    """The table with the digest of each image, or of its features as they were given, and its name.

    `first` is the position of the first among all training images of a bank.
    """
    digests = np.concatenate(list(over_shards(digests_of, shard_size, X)))
    if len(X.shape) == 4:  # rows of a table may well be equal
        _tell_of_copies(digests, table.groups)
    geometry = getattr(X, "geometry", None)
    return replace(
        table,
        digests=digests,
        names=np.array(X.images.file_names(first)) if hasattr(X, "images") else None,
        sizes=None if geometry is None else geometry.original_sizes,
    )


def _tell_of_copies(digests, groups):
    _, first, which = np.unique(digests, return_index=True, return_inverse=True)
    copies = np.flatnonzero(groups != groups[first[which]])
    if len(copies):
        _logger.warning(
            "%d of %d good images are copies of others (the first: image %d of image %d), but "
            "count as independent: held out, a copy is explained by the other, and thresholds "
            "come out too low. Leave copies out, or give them one group",
            len(copies),
            len(digests),
            copies[0],
            first[which[copies[0]]],
        )


def digests_of(X: LazyRows | ImageList | NDArray[np.floating]) -> NDArray[np.str_]:
    """Digest of the content of each image, or of its features where there is no image.

    Examples
    --------
    >>> import numpy as np
    >>> a, b, again = digests_of(np.array([[1.0, 2.0], [1.0, 3.0], [1.0, 2.0]]))
    >>> a == b, a == again
    (False, True)
    """
    images = X if isinstance(X, ImageList) else getattr(X, "images", None)
    if images is not None:
        return np.array([images.digest(i) for i in range(len(images))])
    rows = np.ascontiguousarray(X, dtype=np.float32).reshape(len(X), -1)
    return np.array([hashlib.blake2b(row, digest_size=32).hexdigest() for row in rows])
