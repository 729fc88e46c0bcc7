"""Threads of ours, and one thread of the matrix library in each.

Otherwise every thread of ours has as many of the matrix library, which wait for each other.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache


@contextmanager
def thread_pool(most=None):
    """Give a function that runs another on every item, in as many threads as numba is set to use.

    At most `most` threads. Kernels called this way release the interpreter lock. Matrix
    products run on one thread each: their own threads would wait for each other, the
    longer the busier the machine is. The number is put back when the last of the calls that
    overlap is done.

    Examples
    --------
    >>> with thread_pool() as run:
    ...     run(abs, [-1, -2])
    [1, 2]
    """
    n_threads = _n_threads() if most is None else min(most, _n_threads())
    with _one_thread_each:
        if n_threads <= 1:
            yield lambda function, items: [function(item) for item in items]
            return
        with ThreadPoolExecutor(n_threads) as pool:
            yield lambda function, items: list(pool.map(function, items))


class _OneThreadEach:
    """The limit on the matrix library's threads, which is one for the whole process."""

    def __init__(self):
        self._lock = threading.Lock()
        self._n_inside = 0
        self._limit = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._lock.acquire,
                after_in_parent=self._lock.release,
                after_in_child=self._forget,
            )

    def __enter__(self):
        with self._lock:
            if self._n_inside == 0:
                self._limit = _controller().limit(limits=1, user_api="blas")
            self._n_inside += 1

    def __exit__(self, *exception):
        with self._lock:
            self._n_inside -= 1
            self._restore()

    def _restore(self):
        if self._n_inside == 0 and self._limit is not None:
            # threadpoolctl (from 3.8 on) lets only the thread that has set a limit change it,
            # and the last call may be in another thread than the first.
            _let_any_thread_set_limits()
            self._limit.restore_original_limits()
            self._limit = None
            _let_any_thread_set_limits()

    def _forget(self):
        """The threads that were inside do not live on in a forked process."""
        self._n_inside = 0
        self._restore()
        self._lock.release()


_one_thread_each = _OneThreadEach()


def _let_any_thread_set_limits():
    import threadpoolctl

    release = getattr(threadpoolctl.OpenBLASController, "clear_controlling_thread", None)
    if release is not None:
        release(force=True)


@cache
def _controller():
    # Looking for the loaded libraries takes milliseconds, so it is done once.
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _n_threads():
    from numba import get_num_threads

    _let_numba_start()
    return get_num_threads()


@cache
def _let_numba_start():
    # When numba starts its threads, it sets the number of OpenMP threads of the thread that
    # asked for them, and with it that of torch. So a thread asks that nobody needs afterwards.
    from numba import get_num_threads

    thread = threading.Thread(target=get_num_threads)
    thread.start()
    thread.join()
