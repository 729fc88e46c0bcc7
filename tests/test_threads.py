"""Threads of our own, and one thread for the matrix library in each of them."""

import multiprocessing
import subprocess
import sys
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from skstructcore._utils.computing import _let_any_thread_set_limits, thread_pool


def blas_threads():
    (number,) = {i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"}
    return number


@pytest.fixture(autouse=True)
def two_blas_threads():
    limits = threadpool_limits(2, "blas")
    _let_any_thread_set_limits()
    yield
    limits.restore_original_limits()
    _let_any_thread_set_limits()


class Inside:
    """A call of `thread_pool` in a thread of its own, that ends when it is told."""

    def __init__(self):
        self.entered, self.leave = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        assert self.entered.wait(10)

    def run(self):
        with thread_pool():
            self.entered.set()
            self.leave.wait(10)

    def end(self):
        self.leave.set()
        self.thread.join(10)


def test_results_come_in_the_order_of_the_items():
    with thread_pool() as run:
        assert run(abs, range(-3, 3)) == [3, 2, 1, 0, 1, 2]


@pytest.mark.parametrize("most", [None, 1])
def test_the_matrix_library_has_one_thread_inside_and_its_own_number_afterwards(most):
    with thread_pool(most):
        assert blas_threads() == 1
    assert blas_threads() == 2


def test_an_error_inside_gives_the_threads_back():
    with pytest.raises(ZeroDivisionError), thread_pool() as run:
        run(lambda x: 1 / x, [0])
    assert blas_threads() == 2


def test_calls_that_overlap_keep_the_limit_until_the_last_is_done():
    first = Inside()
    second = Inside()
    first.end()
    assert blas_threads() == 1
    second.end()
    assert blas_threads() == 2


def test_a_call_within_a_call():
    with thread_pool():
        with thread_pool():
            pass
        assert blas_threads() == 1
    assert blas_threads() == 2


def _threads_before_inside_and_after(queue):
    before = blas_threads()
    with thread_pool(1):
        inside = blas_threads()
    queue.put((before, inside, blas_threads()))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_that_is_forked_meanwhile_has_its_threads():
    other = Inside()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_threads_before_inside_and_after, args=(queue,))
    process.start()
    try:
        assert queue.get(timeout=30) == (2, 1, 2)
    finally:
        process.join(30)
        other.end()
    assert blas_threads() == 2


def test_fit_leaves_the_number_of_torchs_threads_alone():
    code = (
        "import numpy as np, torch; torch.set_num_threads(3)\n"
        "from skstructcore import CoresetBank\n"
        "CoresetBank(0.5).fit_transform(np.eye(8, dtype=np.float32))\n"
        "print(torch.get_num_threads())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "3"


def test_eight_threads_select_and_search_alike():
    from skstructcore.neighbors import NeighborIndex, greedy_k_center

    rows = np.random.default_rng(0).normal(size=(500, 16)).astype(np.float32)

    def work():
        picks, radii = greedy_k_center(rows, 20)
        found.append((picks, radii, *NeighborIndex(rows[picks]).query(rows[:50], 3)))

    found = []
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for results in found[1:]:
        for one, other in zip(results, found[0], strict=True):
            np.testing.assert_array_equal(one, other)
    assert blas_threads() == 2
