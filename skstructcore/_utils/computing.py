"""Who computes: the device and worker processes; in which parts, and how far it is."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any


def find_device(device: str, among: Sequence[str] = ("cuda",)) -> str:
    """Name the device to use: "cpu" or a torch device, never "auto".

    "auto" is the first of `among` that this machine has, else "cpu". A torch device is "cuda",
    "cuda:1", "mps", …; "torch:cpu" is torch on the CPU. ValueError if torch cannot compute on it.

    Examples
    --------
    >>> find_device("cpu")
    'cpu'
    """
    if str(device) == "cpu":
        return "cpu"
    import torch

    if device == "auto":
        is_available = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
        return next((name for name in among if is_available[name]()), "cpu")
    try:
        torch.zeros(1, device=str(device).removeprefix("torch:")).cpu()  # "meta" computes nothing
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0].partition(". ")[0].rstrip(".")
        raise ValueError(
            f"device={str(device)!r} cannot be used here: {reason}. Use 'cpu', or 'auto' for a "
            "GPU where there is one."
        ) from error
    return str(device)


@contextmanager
def device_memory(advice: str):
    """Say what to change where the memory of a GPU runs out, as a ValueError; a decorator too."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ValueError(f"The memory of the GPU is not enough: {advice}. {error}") from error


def parts(n, size):
    """Slices of at most `size` that cover ``range(n)``, which may be empty.

    Unlike `sklearn.utils.gen_batches`, which takes no empty range and checks its arguments at
    a cost that counts between two blocks of a search.

    Examples
    --------
    >>> parts(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


@cache
def end_with_parent() -> None:
    """Let a process of joblib's end soon after the one that it works for, however that ended.

    A process that is killed tells its workers nothing, and may have sent half a message. They would
    wait for the rest for ever, with the model in memory. Does nothing in other processes.
    """
    kind = type(multiprocessing.current_process())
    if kind.__module__.startswith("joblib.externals.loky"):
        threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent):
    while os.getppid() == parent:
        time.sleep(2)
    os._exit(1)


_lock_of_bars = threading.RLock()


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
    """A bar of tqdm, with its options, as a context manager, or one that shows nothing.

    The lock of tqdm's own bars, also of those that are disabled, is shared by all processes that
    were forked from one: where one of them is killed while it holds it, the others wait for ever.
    Its watching thread, too, may hold the lock when a process is forked.

    Examples
    --------
    >>> with progress_bar(verbose=0, total=3) as bar:
    ...     bar.update(3)
    """
    if not verbose:
        return _NoBar()
    from tqdm.auto import tqdm

    class Bar(tqdm):
        _lock = _lock_of_bars
        monitor_interval = 0

    return Bar(**options)
