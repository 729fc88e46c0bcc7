"""Progress bars."""

from __future__ import annotations

import threading
from typing import Any

_LOCK = threading.RLock()


class _NoBar:
    """Counts, and shows nothing."""

    n = 0

    def update(self, n: int = 1) -> None:
        self.n += n

    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


def progress_bar(*, verbose: object, **options: Any) -> Any:
    """A bar of tqdm as a context manager, or one that shows nothing.

    The lock of tqdm's own bars, also of those that are disabled, is shared by all processes that
    were forked from one: where one of them is killed while it holds it, the others wait for ever.
    And its watching thread may hold it when a process is forked.

    Parameters
    ----------
    verbose : bool or int
        Whether to show the bar.
    **options
        For ``tqdm.auto.tqdm``.

    Examples
    --------
    >>> with progress_bar(verbose=0, total=3) as bar:
    ...     bar.update(3)
    """
    if not verbose:
        return _NoBar()
    from tqdm.auto import tqdm

    class Bar(tqdm):
        _lock = _LOCK
        monitor_interval = 0

    return Bar(**options)
