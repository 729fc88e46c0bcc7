"""Devices, memory, threads and worker processes; slices of work, and bars of its progress."""

from __future__ import annotations

import math
import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import threadpoolctl


def find_device(device: str, among: Sequence[str] = ("cuda",)) -> str:
    """Name the device to use: "cpu", or one of torch ("cuda:1", "torch:cpu", …) that is there.

    "auto" is the first of `among` that this machine has, else "cpu".
    """
    if str(device) == "cpu":
        return "cpu"
    import torch

    if device == "auto":
        is_available = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
        return next((name for name in among if is_available[name]()), "cpu")
    try:
        torch.zeros(1, device=str(device).removeprefix("torch:")).cpu()  # "meta" computes nothing
    except (RuntimeError, AssertionError, ImportError) as error:
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


def available_memory() -> int:
    """Bytes that this process can still take: of the machine, or of the container it is in."""
    import psutil

    return min([psutil.virtual_memory().available, *_left_of_control_groups()])


def _left_of_control_groups(root=Path("/")):
    """What the limits of Linux containers leave; page cache that can be dropped is free."""
    top, file, left = root / "sys/fs/cgroup", root / "proc/self/cgroup", []
    of_v1 = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
    hierarchies = {
        "": (top, "memory.max", "memory.current", "inactive_file"),
        "memory": (top / "memory", *of_v1),
    }
    for line in file.read_text().splitlines() if file.exists() else ():
        _, controllers, path = line.split(":", 2)
        for controller in hierarchies.keys() & controllers.split(","):
            top, *names = hierarchies[controller]
            # In a container the path may be that of the host: its own folder is the top.
            folder = top / path.strip("/")
            for place in (folder, *folder.parents):
                if place.is_relative_to(top):
                    left += _left_of(place, *names)
    return left


def _left_of(folder, limit, used, cache):
    try:
        most, taken = (int((folder / name).read_text()) for name in (limit, used))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return [max(most - taken + int(stat.get(cache, 0)), 0)]
    except (OSError, ValueError):  # there is none, or it is "max"
        return []


def slices(n, size):
    """Slices of at most `size` that cover ``range(n)``, which may be empty.

    `sklearn.utils.gen_batches` takes no empty range, and costs too much between two blocks.
    """
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


@cache
def end_with_parent() -> None:
    """Let a process of joblib's end soon after the one that it works for; no other process.

    A process that is killed tells its workers nothing: they would wait for ever.
    """
    process_type = type(multiprocessing.current_process())
    if process_type.__module__.startswith("joblib.externals.loky"):
        threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent):
    while os.getppid() == parent:
        time.sleep(2)
    os._exit(1)


_lock_of_bars = threading.RLock()


def progress_bar(*, verbose: object, **options: Any) -> Any:
    """A bar of tqdm, with its options, as a context manager, or one that shows nothing.

    tqdm's own lock is shared by forked processes: where one is killed while it or its watching
    thread holds it, the others wait for ever.
    """
    if not verbose:
        return nullcontext(SimpleNamespace(update=lambda n=1: None))
    from tqdm.auto import tqdm

    class Bar(tqdm):
        _lock = _lock_of_bars
        monitor_interval = 0

    return Bar(**options)


@contextmanager
def thread_pool(most=None):
    """Yield ``run(function, items)``, which uses as many threads as numba is set to, or `most`.

    Kernels called this way release the interpreter lock. Matrix products
    run on one thread each: their own threads would wait for each other on a busy machine.
    """
    _let_numba_start()
    from numba import get_num_threads

    n_threads = min(most or math.inf, get_num_threads())
    with _one_thread_each:
        if n_threads <= 1:
            yield lambda function, items: [function(item) for item in items]
            return
        with ThreadPoolExecutor(n_threads) as pool:
            yield lambda function, items: list(pool.map(function, items))


_controller = cache(threadpoolctl.ThreadpoolController)  # which looks for libraries: milliseconds


class _OneThreadEach:
    """The limit on the matrix library's threads in this process, until the last call leaves."""

    _limit = None

    def __init__(self):
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self):
        """Start anew: the threads that were inside do not live on in a forked process."""
        self._lock, self._n_inside = threading.Lock(), 0
        self._restore()

    def __enter__(self):
        with self._lock:
            if self._n_inside == 0:
                self._limit = _controller().limit(limits=1, user_api="blas")
            self._n_inside += 1

    def __exit__(self, *exception):
        with self._lock:
            self._n_inside -= 1
            if self._n_inside == 0:
                self._restore()

    def _restore(self):
        if self._limit is not None:
            # threadpoolctl (from 3.8 on) lets only the thread that has set a limit change it,
            # and the last call may be in another thread than the first.
            _let_any_thread_set_limits()
            self._limit.restore_original_limits()
            self._limit = None
            _let_any_thread_set_limits()


_one_thread_each = _OneThreadEach()


def _let_any_thread_set_limits():
    release = getattr(threadpoolctl.OpenBLASController, "clear_controlling_thread", None)
    if release is not None:
        release(force=True)


@cache
def _let_numba_start():
    # When numba starts its threads, it sets the number of OpenMP threads of the thread that
    # asked for them, and with it that of torch. So a thread asks that nobody needs afterwards.
    from numba import get_num_threads

    thread = threading.Thread(target=get_num_threads)
    thread.start()
    thread.join()
