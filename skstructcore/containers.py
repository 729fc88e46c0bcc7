"""The small containers that travel beside the numbers from step to step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ._utils.columns import OF_WHOLE, columns_of, join_rows, take_rows
from ._utils.rows import LazyRows, image_key, iter_placed
from ._utils.typing import Self
from ._utils.validation import check_same_length
from .images.geometry import Geometry
from .routing import RouteProfile


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """The one table of the good training images of a bank, by their position among these.

    Images that were forgotten keep their place. All columns have a row an image, or are None where
    nothing is known.
    """

    groups: NDArray[np.int64]  # images of one are held out together
    routes: NDArray[np.int64] | None = None  # positions in `MemoryBank.route_names`
    digests: NDArray[np.str_] | None = None  # of the content; "" once it is forgotten
    names: NDArray[np.str_] | None = None  # in tables and messages; None of given features
    parts: NDArray[Any] | None = None  # that images are views of
    lots: NDArray[np.int64] | None = None  # that they were found to come from
    sizes: NDArray[np.int64] | None = None  # (n_images, 2), height and width of the originals
    pooled: NDArray[np.floating] | None = None  # (n_images, n_features), with routes: mean patches
    left_out: NDArray[np.bool_] | None = None  # of the bank by `contamination`; default: none
    # Among all images that were given, defects too; later ones are numbered on. Default: in order.
    places: NDArray[np.int64] | None = None
    # The number of the change of the bank with which each image came (0: the fit) and went (0: it
    # is still there); default: zeros.
    came: NDArray[np.int64] | None = None
    went: NDArray[np.int64] | None = None

    def __post_init__(self):
        for name, dtype in (("left_out", np.bool_), ("came", np.int64), ("went", np.int64)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, np.zeros(len(self), dtype=dtype))
        if self.places is None:
            object.__setattr__(self, "places", np.arange(len(self)))
        check_same_length(**columns_of(self))

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def is_there(self) -> NDArray[np.bool_]:
        """Which images have not been forgotten."""
        return self.went == 0

    @property
    def n_given(self) -> int:
        """How many images were given, up to the last good one: the next one has this place."""
        return int(self.places.max()) + 1

    @property
    def _next_change(self):
        return max(self.came.max(), self.went.max()) + 1

    def find(self, digests: ArrayLike) -> NDArray[np.int64]:
        """Position of the first image of each digest that is there; -1 where none is."""
        known = [] if self.digests is None else self.digests.tolist()
        place = {digest: i for i, digest in reversed([*enumerate(known)])}
        place.pop("", None)  # of those that were forgotten
        return np.array([place.get(digest, -1) for digest in digests], dtype=np.int64)

    def join(self, other: TrainingImages) -> TrainingImages:
        """The rows of both, the others marked as new. Both must have the same columns."""
        came, places = np.full(len(other), self._next_change), self.n_given + other.places
        return join_rows(self, replace(other, came=came, places=places))

    def forget(self, which: NDArray[np.bool_]) -> TrainingImages:
        """The same, with some images marked as gone: without their digests and names."""
        names = None if self.names is None else np.where(which, "", self.names)
        digests = None if self.digests is None else np.where(which, "", self.digests)
        went = np.where(which & self.is_there, self._next_change, self.went)
        return replace(self, digests=digests, names=names, went=went)

    def is_unchanged_since(self, which: NDArray[np.bool_], among: NDArray[np.bool_]) -> bool:
        """Whether images `which` came with the last change among those `among`."""
        came, last = self.came[which & among], max(self.came[among].max(), self.went[among].max())
        return bool((came == last).all())


def _known(name):
    """A column of the training images, in the rows of a container; None where it is not known."""

    def column(self):
        values = None if self.images is None else getattr(self.images, name)
        return None if values is None else values[self.image_index]

    return property(column)


class OfTrainingImages:
    """What is known of rows that are training images: `image_index` says which of `images`."""

    groups, routes = _known("groups"), _known("routes")
    parts, lots, names = _known("parts"), _known("lots"), _known("names")
    left_out, places = _known("left_out"), _known("places")


@dataclass(frozen=True, eq=False)
class MemoryBank:
    """The patches of normal images that new patches are compared with.

    Attributes
    ----------
    values : ndarray of shape (n_entries, n_features), float32
        The selected patch features.
    image_index : ndarray of shape (n_entries,), int64
        Position of the good training image (see `TrainingImages`) that each entry was cut from.
    groups : ndarray of shape (n_entries,), int64
        Code of the group of that image, which equals `image_index` where there are no groups.
    routes : ndarray of shape (n_entries,), int64
        Position in `route_names` of the sub-bank that each entry belongs to.
    route_names : tuple of str
        Names of the sub-banks; ``("all",)`` without routing.
    profiles : tuple of RouteProfile, or None
        What tells the images of each route from others; None without categories or `n_routes`.

    Examples
    --------
    >>> import numpy as np
    >>> bank = MemoryBank.of_rows(np.eye(3, dtype=np.float32))
    >>> len(bank), bank.route_names
    (3, ('all',))
    """

    values: NDArray[np.floating]
    image_index: NDArray[np.int64]
    groups: NDArray[np.int64]
    routes: NDArray[np.int64]
    route_names: tuple[str, ...] = field(default=("all",), metadata=OF_WHOLE)
    profiles: tuple[RouteProfile, ...] | None = field(default=None, metadata=OF_WHOLE)

    def __post_init__(self):
        check_same_length(**columns_of(self))

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        size, n_features = self.values.shape
        routes = f"{len(self.route_names)} route(s)"
        return f"MemoryBank({size} entries x {n_features} features, {routes})"

    def take(self, rows: NDArray[Any] | slice) -> MemoryBank:
        """Return some of the entries; the routes stay, also those without an entry."""
        return take_rows(self, rows)

    def select(self, *routes: int) -> MemoryBank:
        """Return the entries of some routes, which keep their order, as a bank of their own."""
        routes = sorted(set(routes))
        rows = np.flatnonzero(np.isin(self.routes, routes))
        size = len(rows)
        if size and rows[-1] - rows[0] == size - 1:
            rows = slice(rows[0], rows[-1] + 1)  # a view: the entries need no second memory
        part = self.take(rows)
        return replace(
            part,
            routes=np.searchsorted(routes, part.routes),
            route_names=tuple(self.route_names[route] for route in routes),
            profiles=self.profiles and tuple(self.profiles[route] for route in routes),
        )

    def join(self, other: MemoryBank) -> MemoryBank:
        """Return the entries of both, route by route; routes of the other may be new.

        Images and groups are numbered as they are.
        """
        new = [name for name in other.route_names if name not in self.route_names]
        names = (*self.route_names, *new)
        places = np.array([names.index(name) for name in other.route_names], dtype=np.int64)
        profiles = self.profiles
        if profiles is not None and new:
            profiles += tuple(other.profiles[other.route_names.index(name)] for name in new)
        other = replace(other, routes=places[other.routes])
        both = replace(join_rows(self, other), route_names=names, profiles=profiles)
        return both.take(np.argsort(both.routes, kind="stable"))

    @classmethod
    def of_rows(cls, rows: NDArray[np.floating]) -> Self:
        """Return a bank whose entries are the rows of a table, one image each."""
        index = np.arange(len(rows), dtype=np.int64)
        return cls(values=rows, image_index=index, groups=index, routes=np.zeros_like(index))


@dataclass(frozen=True, eq=False)
class _ImageContainer(OfTrainingImages):
    """Behaviour that patches and maps share: one row is one image."""

    def __post_init__(self):
        check_same_length(**columns_of(self))
        if self.images is not None and self.image_index is None:  # all of them
            if len(self.images) != len(self):
                numbers = f"{len(self.images)} training images, but {len(self)} rows"
                raise ValueError(f"There are {numbers}: image_index must say which these are.")
            object.__setattr__(self, "image_index", np.arange(len(self)))

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, key: int | slice | Sequence[int] | NDArray[Any]) -> Self:
        key = image_key(key, type(self).__name__)
        if isinstance(key, int):  # the image axis stays
            if not -len(self) <= key < len(self):
                # This error also ends a `for` loop over the images.
                raise IndexError(f"there is no image {key}, there are {len(self)}")
            key = slice(key, key + 1 or None)
        return take_rows(self, key)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.values, dtype=dtype, copy=copy)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype})"


@dataclass(frozen=True, eq=False, repr=False)
class Patches(_ImageContainer):
    """Patch features of images, with the memory bank they are compared with.

    Attributes
    ----------
    values : ndarray or LazyFeatures of shape (n_images, h, w, n_features)
        The patch features. Those of ignored patches are NaN.
    bank : MemoryBank
        The fitted bank.
    image_index : ndarray of shape (n_images,), int64, or None
        Which training image each row is. Only `CoresetBank.fit_transform` knows it;
        None for every other image.
    images : TrainingImages or None
        All training images. `groups`, `routes`, `parts`, … are its columns in these rows.
    geometry : Geometry or None
        Where each patch grid lies on its image; None for plain arrays.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.zeros((4, 1, 1, 2), dtype=np.float32)
    >>> patches = Patches(rows, bank=MemoryBank.of_rows(rows[:, 0, 0]))
    >>> patches[:2].shape
    (2, 1, 1, 2)
    """

    values: NDArray[np.floating] | LazyRows
    bank: MemoryBank = field(metadata=OF_WHOLE)
    image_index: NDArray[np.int64] | None = None
    images: TrainingImages | None = field(default=None, metadata=OF_WHOLE)
    geometry: Geometry | None = None

    def iter_batches(self) -> Iterator[NDArray[np.floating]]:
        """Yield arrays ``(b, h, w, n_features)``; lazy values keep their own batches."""
        return (batch for _, batch in iter_placed(self.values))


@dataclass(frozen=True, eq=False, repr=False)
class AnomalyMaps(_ImageContainer):
    """Anomaly maps on the patch grid: the distance of each patch to normal patches.

    Attributes
    ----------
    values : ndarray of shape (n_images, h, w), float32
        Higher is more anomalous. All others are given by name.
    image_index, images, geometry : see `Patches`
    route : ndarray of shape (n_images,) of str, or None
        The sub-bank each image was compared with.
    route_distance : ndarray of shape (n_images,), float64, or None
        Mahalanobis distance of the mean of its patches to the training images of the route.
    surprise : ndarray of shape (n_images, h, w), float32, or None
        The same distances, each judged against what is normal for such content. None where no
        held-out training scores are known.
    ignored : ndarray of shape (n_images, h, w), dtype bool, or None
        Patches that do not count, with distance and surprise 0; None where there are none.
    without_lot : AnomalyMaps or None
        Of training images that come in lots: their maps without the entries of their whole lot.
    held_out : bool
        Whether these are training images that were scored without the entries of their groups.

    Examples
    --------
    >>> import numpy as np
    >>> maps = AnomalyMaps(np.zeros((3, 2, 2), dtype=np.float32))
    >>> np.asarray(maps[1]).shape
    (1, 2, 2)
    """

    values: NDArray[np.floating]
    _: KW_ONLY
    image_index: NDArray[np.int64] | None = None
    images: TrainingImages | None = field(default=None, metadata=OF_WHOLE)
    geometry: Geometry | None = None
    route: NDArray[Any] | None = None
    route_distance: NDArray[np.float64] | None = None
    surprise: NDArray[np.floating] | None = None
    ignored: NDArray[np.bool_] | None = None
    without_lot: AnomalyMaps | None = None
    held_out: bool = field(default=False, metadata=OF_WHOLE)
