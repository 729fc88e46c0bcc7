"""Work on shards of images, where joblib's active backend says: here, or on a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import joblib

from .._utils.computing import end_with_parent, parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .._utils.rows import LazyRows
    from .._utils.typing import NDArray


def over_shards(
    function: Callable[..., Any], shard_size: int | None, X: LazyRows, *others: NDArray[Any]
) -> Iterator[Any]:
    """Yield what a function gives for each shard of features, in order.

    It takes the features of a shard, and its part of each of the `others`, which have a row an
    image. Without a `shard_size` all images are one shard, which is worked on here.
    """
    if shard_size is None:
        yield function(X, *others)
        return
    jobs = (
        joblib.delayed(_at_work)(function, *(part[shard] for part in (X, *others)))
        for shard in parts(len(X), shard_size)
    )
    # A worker that is lost costs the shards that it was at: what is done has been sent.
    yield from joblib.Parallel(return_as="generator")(jobs)


def _at_work(function, *arguments):
    end_with_parent()
    return function(*arguments)
