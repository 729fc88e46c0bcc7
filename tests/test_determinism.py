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
from networks import Blocks
from PIL import Image

import skstructcore
from skstructcore import ConvFeatures, make_structcore
from skstructcore.inference import score_images
from skstructcore.lifecycle import forget, recalibrate, update
from skstructcore.neighbors import NeighborIndex, coreset, greedy_k_center, index
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


# -- the same over batches, shards and blocks, in each way to fit and to search ----------------

PIXELS = np.random.default_rng(0).integers(0, 256, (34, 20, 16), dtype=np.uint8)
CATEGORIES = {"bank__categories": ["a"] * 12 + ["b"] * 12}


def make_small(batch_size=16, **params):
    """On a small network of our own, whose 80 patches an image become 6 numbers each."""
    features = ConvFeatures(
        Blocks(), layers=("stage1", "stage2"), image_size=16, batch_size=batch_size
    )
    settings = {"projection__n_components": 6, "bank__ratio": 0.02, **params}
    return make_structcore(features, **settings)


@pytest.mark.parametrize(
    ("params", "fit_params"),
    [
        ({}, {}),
        ({}, CATEGORIES),
        pytest.param({"bank__n_routes": 3, "knn__routing": "top2"}, {}, marks=pytest.mark.slow),
        ({"bank__max_memory": 30_000}, {}),  # selected from a stream
        pytest.param({"preset": "paper"}, {}, marks=pytest.mark.slow),
        ({"knn__calibration": "k-fold"}, {"bank__groups": np.arange(24) // 2}),
        ({"features__tile_size": 12, "features__tile_overlap": 4}, {}),
        pytest.param(
            {"knn__device": "torch:cpu", "bank__device": "torch:cpu"}, {}, marks=pytest.mark.slow
        ),
        pytest.param({"knn__algorithm": "approximate"}, {}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_batches_and_shards_of_any_size_give_the_same_scores(params, fit_params):
    fits = [make_small(size, **params).fit(PIXELS[:24], **fit_params) for size in (16, 1, 5)]
    expected = fits[0].score_samples(PIXELS)
    for fit in fits[1:]:
        np.testing.assert_array_equal(fit.score_samples(PIXELS), expected)
    for size in (1, 7):
        parts = [fits[0].score_samples(PIXELS[i : i + size]) for i in range(0, 34, size)]
        np.testing.assert_array_equal(np.concatenate(parts), expected)
    tables = [score_images(fits[0], PIXELS, shard_size=size) for size in (64, 1, 7)]
    assert tables[0].equals(tables[1]) and tables[0].equals(tables[2])  # every column
    np.testing.assert_array_equal(-tables[0]["anomaly_score"], expected)


@pytest.mark.parametrize("fit_params", [{}, CATEGORIES])
def test_batches_do_not_matter_to_updates(fit_params):
    fits = [make_small(size).fit(PIXELS[:24], **fit_params) for size in (16, 5)]
    updated = [update(fit, PIXELS[24:34], force=True) for fit in fits]
    shorter = [forget(fit, PIXELS[:3]) for fit in updated]
    calibrated = [recalibrate(fit, PIXELS[24:34], weight_old=0.5, force=True) for fit in fits]
    for changed in (updated, shorter, calibrated):
        for other in changed[1:]:
            np.testing.assert_array_equal(
                other.decision_function(PIXELS), changed[0].decision_function(PIXELS)
            )


def low_rank(n, seed):
    """Rows most of whose variance lies in 20 of 96 directions, as that of features does."""
    axes = np.random.default_rng(0).normal(size=(20, 96))
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 20)) @ axes + 0.1 * rng.normal(size=(n, 96))
    return rows.astype(np.float32)


@pytest.mark.parametrize(
    "blocks",
    [
        {"_BLOCK_QUERIES": 1, "_BLOCK_ENTRIES": 7},
        {"_BLOCK_QUERIES": 5, "_BLOCK_ENTRIES": 64, "_PRODUCTS_A_THREAD": 1},
        {"_BLOCK_QUERIES": 10**4, "_BLOCK_ENTRIES": 10**6, "_DEVICE_PRODUCTS": 3000},
        {"_DEVICE_PRODUCTS": 1},
    ],
    ids=str,
)
def test_blocks_of_a_search_do_not_matter(blocks, monkeypatch):
    queries, bank = low_rank(300, 1), low_rank(1500, 2)
    own, groups = np.arange(300) // 30, np.arange(1500) // 150

    def search():
        devices = ("cpu", "torch:cpu")
        indexes = [NeighborIndex(bank, groups=groups, device=d) for d in devices]
        return [index_.query(queries, 5, exclude=own) for index_ in indexes]

    expected = search()
    for name, size in blocks.items():
        monkeypatch.setattr(index, name, size)
    for found, wanted in zip(search(), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    # The kernels add up in another order than torch: to the last digits of float32.
    np.testing.assert_allclose(expected[0][0], expected[1][0], rtol=1e-6)
    np.testing.assert_array_equal(expected[0][1], expected[1][1])


@pytest.mark.parametrize(
    "blocks",
    [
        {"_BLOCK_ROWS": 1, "_BLOCK_PICKS": 1, "_LIVE_ROWS": 16},
        {"_BLOCK_ROWS": 37, "_BLOCK_PICKS": 5, "_LIVE_ROWS": 25},
        {"_BLOCK_ROWS": 10**5, "_BLOCK_PICKS": 10**4, "_LIVE_ROWS": 10**6, "_DEVICE_BLOCK": 1250},
    ],
    ids=str,
)
def test_blocks_of_the_selection_of_a_bank_do_not_matter(blocks, monkeypatch):
    rows, devices = low_rank(500, 1), ("cpu", "torch:cpu")
    expected = [greedy_k_center(rows, 50, device=device) for device in devices]
    for name, size in blocks.items():
        monkeypatch.setattr(coreset, name, size)
    for device, wanted in zip(devices, expected, strict=True):
        found = greedy_k_center(rows, 50, device=device)
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(expected[0][0], expected[1][0])
    np.testing.assert_allclose(expected[0][1], expected[1][1], rtol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n_descriptors", [1, 3, 8, 20])
def test_evidence_is_combined_alike_for_one_image_and_for_many(norm, n_descriptors):
    rng = np.random.default_rng(0)
    z = np.asfortranarray(rng.normal(size=(200, n_descriptors)))
    alone = [combine(z[i : i + 1], norm)[0] for i in range(200)]
    np.testing.assert_array_equal(combine(z, norm), alone)


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
        table = score_images(saved, files, shard_size=3)
    np.testing.assert_array_equal(-table["anomaly_score"], expected)


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


def test_another_process_fits_and_scores_alike_and_asks_nothing_of_the_network(
    files, expected, tmp_path
):
    """Every socket but those of this machine is refused."""
    environment = {"PYTHONHASHSEED": "7", "MALLOC_PERTURB_": "170"}
    environment |= {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "NUMBA")}
    code = f"""
        import socket, warnings; warnings.simplefilter("ignore")

        def refused(*args, **kwargs):
            raise AssertionError(f"a connection to {{args[1:]}}")

        socket.socket.connect = socket.socket.connect_ex = refused
        socket.getaddrinfo = socket.create_connection = refused
        import skstructcore
        from skstructcore.inference import score_images
        files = {files!r}
        pipe = skstructcore.make_structcore("efficientnet_lite0", **{SETTINGS!r}).fit(files[:12])
        skstructcore.save(pipe, {str(tmp_path / "model")!r})
        pipe = skstructcore.load({str(tmp_path / "model")!r})
        print((-score_images(pipe, files)["anomaly_score"]).tolist())
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
