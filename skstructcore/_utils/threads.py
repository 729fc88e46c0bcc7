"""Work in parallel on plain threads, with the matrix library kept to one thread in each."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache


@contextmanager
def thread_pool(most=None):
    """Give a function that runs another on every item, in as many threads as numba is set to use.

    At most `most` threads. Kernels called this way release the interpreter lock. Matrix
    products run on one thread each: their own threads would wait for each other, the
    longer the busier the machine is. The number is put back afterwards.

    Examples
    --------
    >>> with thread_pool() as run:
    ...     run(abs, [-1, -2])
    [1, 2]
    """
    from numba import get_num_threads

    n_threads = get_num_threads() if most is None else min(most, get_num_threads())
    with _controller().limit(limits=1, user_api="blas"):
        if n_threads <= 1:
            yield lambda function, items: [function(item) for item in items]
            return
        with ThreadPoolExecutor(n_threads) as pool:
            yield lambda function, items: list(pool.map(function, items))


@cache
def _controller():
    # Looking for the loaded libraries takes milliseconds, so it is done once.
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def parts(n, size):
    """Slices of at most `size` that cover ``range(n)``.

    Examples
    --------
    >>> parts(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
