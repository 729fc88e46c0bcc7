"""The same scores, bit by bit, however they are computed."""

import multiprocessing
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from PIL import Image

import skstructcore
from skstructcore import make_structcore
from skstructcore.evaluation import score_samples
from skstructcore.scoring.calibration import NORMS, combine

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
SETTINGS = dict(features__image_size=64, bank__ratio=0.1)


def make(**params):
    return make_structcore("efficientnet_lite0", **SETTINGS, **params)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("images")
    for i in range(20):
        pixels = rng.integers(0, 256, (*rng.integers(40, 90, 2), 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return sorted(map(str, folder.iterdir()))


@pytest.fixture(scope="module")
def pipe(files):
    return make().fit(files[:12])


@pytest.fixture(scope="module")
def expected(pipe, files):
    return pipe.score_samples(files)


@pytest.fixture(scope="module")
def saved(pipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model"
    skstructcore.save(pipe, path)
    return str(path)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"features__batch_size": 1},
        {"features__batch_size": 7},
        {"features__n_jobs": 1},
        {"features__n_jobs": 3},
        {"features__batch_size": 100, "features__n_jobs": 2},
    ],
)
def test_fits_give_the_same_scores(params, files, expected):
    scores = make(**params).fit(files[:12]).score_samples(files)
    np.testing.assert_array_equal(scores, expected)


@pytest.mark.parametrize("routes", [{"bank__categories": ["a"] * 6 + ["b"] * 6}])
def test_fits_with_routes_give_the_same_scores(routes, files):
    fits = [make(features__batch_size=n).fit(files[:12], **routes) for n in (2, 16)]
    one, other = (fit.score_samples(files) for fit in fits)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20])
def test_an_image_has_one_score_alone_and_in_any_batch(size, pipe, files, expected):
    parts = [pipe.score_samples(files[i : i + size]) for i in range(0, 20, size)]
    np.testing.assert_array_equal(np.concatenate(parts), expected)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n_descriptors", [1, 3, 8, 20])
def test_evidence_is_combined_alike_for_one_image_and_for_many(norm, n_descriptors):
    rng = np.random.default_rng(0)
    z = np.asfortranarray(rng.normal(size=(200, n_descriptors)))
    half = rng.normal(size=(n_descriptors, n_descriptors))
    precision = half @ half.T
    alone = [combine(z[i : i + 1], norm, precision)[0] for i in range(200)]
    np.testing.assert_array_equal(combine(z, norm, precision), alone)


def test_neighbours_in_the_batch_do_not_matter(pipe, files, expected):
    order = np.random.default_rng(0).permutation(20)
    np.testing.assert_array_equal(pipe.score_samples([files[i] for i in order]), expected[order])


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_the_threads_of_torch_do_not_matter(n_threads, pipe, files, expected):
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        np.testing.assert_array_equal(pipe.score_samples(files), expected)
        np.testing.assert_array_equal(make().fit(files[:12]).score_samples(files), expected)
    finally:
        torch.set_num_threads(before)


def test_eight_threads_share_one_pipeline(pipe, files, expected):
    with ThreadPoolExecutor(8) as pool:
        for scores in pool.map(lambda _: pipe.score_samples(files), range(16)):
            np.testing.assert_array_equal(scores, expected)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_backends_do_not_matter(backend, saved, files, expected):
    with joblib.parallel_config(backend=backend, n_jobs=2):
        np.testing.assert_array_equal(score_samples(saved, files, shard_size=3), expected)


def _score(path, files, queue):
    queue.put(skstructcore.load(path).score_samples(files))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_started_processes_do_not_matter_nor_hang(method, saved, files, expected):
    """A fork after torch, numba and their threads have worked in the parent."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system does not {method}")
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_score, args=(saved, files, queue))
    child.start()
    scores = queue.get(timeout=120)
    child.join(30)
    assert child.exitcode == 0
    np.testing.assert_array_equal(scores, expected)


def test_a_process_that_is_killed_does_not_stop_those_it_was_forked_with(saved, files):
    """The lock of tqdm is one for all of them, and a kill may come while it is held."""
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    code = f"""
        import os, signal, skstructcore
        from tqdm.auto import tqdm
        pipe = skstructcore.load({saved!r})
        pipe.score_samples({files[:2]!r})
        tqdm.get_lock()
        child = os.fork()
        if not child:
            tqdm.get_lock().acquire()
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        signal.alarm(60)
        for verbose in (0, 1):
            pipe.set_params(features__verbose=verbose).score_samples({files[:2]!r})
    """
    assert subprocess.call([sys.executable, "-c", textwrap.dedent(code)]) == 0


@pytest.mark.parametrize(
    "environment",
    [
        {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
        {"PYTHONHASHSEED": "7", "MALLOC_PERTURB_": "170"},
    ],
)
def test_another_process_fits_and_scores_alike(environment, files, expected):
    code = f"""
        import warnings; warnings.simplefilter("ignore")
        from skstructcore import make_structcore
        files = {files!r}
        pipe = make_structcore("efficientnet_lite0", **{SETTINGS!r}).fit(files[:12])
        print(pipe.score_samples(files).tolist())
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    out = subprocess.check_output(command, text=True, env={**os.environ, **environment})
    np.testing.assert_array_equal(eval(out), expected)


def test_other_matrix_kernels_also_give_one_score_alone_and_in_any_batch(saved, files):
    """Those of OpenBLAS for AVX2 round a row otherwise where there are other numbers of rows."""
    cpu = Path("/proc/cpuinfo")
    if not cpu.exists() or "avx2" not in cpu.read_text():
        pytest.skip("this processor, or system, does not run these kernels")
    code = f"""
        import skstructcore
        pipe, files = skstructcore.load({saved!r}), {files!r}
        together = pipe.score_samples(files).tolist()
        print([pipe.score_samples([file])[0] for file in files] == together)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    environment = {**os.environ, "OPENBLAS_CORETYPE": "Haswell"}
    assert subprocess.check_output(command, text=True, env=environment).strip() == "True"


def test_nothing_is_asked_from_the_network(files, tmp_path):
    """Fit, score, save and load where every socket but those of this machine is refused."""
    code = f"""
        import socket, warnings; warnings.simplefilter("ignore")

        def refused(*args, **kwargs):
            raise AssertionError(f"a connection to {{args[1:]}}")

        socket.socket.connect = socket.socket.connect_ex = refused
        socket.getaddrinfo = socket.create_connection = refused
        import skstructcore
        from skstructcore.evaluation import score_images
        files = {files!r}
        pipe = skstructcore.make_structcore("efficientnet_lite0", **{SETTINGS!r}).fit(files[:12])
        skstructcore.save(pipe, {str(tmp_path / "model")!r})
        pipe = skstructcore.load({str(tmp_path / "model")!r})
        print(len(score_images(pipe, files)))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    assert subprocess.check_output(command, text=True).strip() == "20"
