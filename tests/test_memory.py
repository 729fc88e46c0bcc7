"""The estimate of memory before a fit, and what is said where it is not enough."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import make_pipeline

from skstructcore import (
    ConvFeatures,
    CoresetBank,
    JoinedFeatures,
    estimate_memory,
    estimate_time,
    make_structcore,
)
from skstructcore._utils.computing import _left_of_control_groups, available_memory
from skstructcore.bank.memory import shape_of_fit
from skstructcore.bank.training import good_images
from skstructcore.cli import main
from skstructcore.features._networks import Network

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def make(**params):
    return make_structcore("efficientnet_lite0", **{"features__image_size": 64, **params})


def photos(n):
    return np.random.default_rng(0).integers(0, 256, (n, 64, 64, 3), dtype=np.uint8)


@pytest.fixture
def only(monkeypatch):
    """Make so many bytes available."""

    def give(n_bytes):
        monkeypatch.setattr("skstructcore.bank.memory.available_memory", lambda: n_bytes)

    return give


def test_the_patches_are_counted_exactly():
    # 8 x 8 patches of 152 float32 an image.
    assert estimate_memory(make(), photos(50)).patches == 50 * 64 * 152 * 4


def test_images_labelled_anomalous_do_not_count():
    y = ["good"] * 20 + ["scratch"] * 10
    assert estimate_memory(make(), photos(30), y).patches == 20 * 64 * 152 * 4


def test_streamed_patches_take_max_memory():
    pipe = make(bank__max_memory=500_000)
    assert estimate_memory(pipe, photos(50)).patches == 500_000


def test_the_peak_is_what_is_there_at_once():
    estimate = estimate_memory(make(), photos(50))
    work = max(estimate.extraction, estimate.selection, estimate.held_out)
    assert estimate.peak == estimate.network + estimate.patches + work
    assert estimate.fits == (estimate.peak <= estimate.available)


def test_k_fold_copies_the_patches_of_the_other_folds():
    params = {"projection__n_components": 150}
    plain = estimate_memory(make(**params), photos(50))
    folds = estimate_memory(make(**params, knn__calibration="k-fold"), photos(50))
    assert folds.held_out - plain.held_out >= 0.8 * plain.patches
    in_sample = estimate_memory(make(knn__calibration="in-sample"), photos(50))
    assert in_sample.held_out == 0


def test_each_patch_is_compared_with_the_entries_of_its_category():
    bank = CoresetBank(ratio=0.5)
    features = np.zeros((12, 2, 2, 3), np.float32)
    one = shape_of_fit(bank, good_images(features))
    assert (one.n_entries, one.n_pairs) == (24, 48 * 24)
    # Of 8 and 4 images with 4 patches each: 16 and 8 entries.
    two = shape_of_fit(bank, good_images(features, categories=["a"] * 8 + ["b"] * 4))
    assert (two.n_entries, two.n_pairs) == (24, 32 * 16 + 16 * 8)


def test_categories_and_ignored_regions_copy_the_patches_that_count():
    pipe, X = make(bank__ratio=20), photos(200)
    plain = estimate_memory(pipe, X)
    halves = estimate_memory(pipe, X, bank__categories=["a", "b"] * 100)
    # Twice 20 entries, in three tables of float32; half of all patches.
    assert halves.selection - plain.selection == 12 * 20 * 152 + plain.patches // 2
    ignore = np.zeros((64, 64), bool)
    ignore[:, :32] = True
    ignored = estimate_memory(pipe.set_params(features__ignore=ignore), X)
    assert ignored.selection - plain.selection == plain.patches // 2


def test_batches_threads_tiles_and_networks_are_counted():
    X = photos(40)
    work = estimate_memory(make(features__n_jobs=1), X)
    assert estimate_memory(make(features__n_jobs=2), X).extraction > work.extraction
    assert estimate_memory(make(features__batch_size=1), X).extraction < work.extraction
    tiles = make(features__image_size=128, features__tile_size=64)
    assert estimate_memory(tiles, X).extraction > 0
    parts = [ConvFeatures(image_size=64), ConvFeatures(image_size=64, layers=["_blocks.3"])]
    joined = make_structcore(JoinedFeatures(parts), projection__n_components=32)
    assert estimate_memory(joined, X).network == 2 * work.network


def test_nothing_is_fitted_or_changed():
    pipe = make()
    before = str(pipe.get_params())
    estimate_memory(pipe, photos(5))
    assert str(pipe.get_params()) == before
    assert not hasattr(pipe["features"], "model_checksum_")


def test_a_pass_is_measured_by_the_tensors_that_live():
    class Doubling(Network):
        def __init__(self):
            pass

        def __call__(self, pixels):
            return pixels.float() * 2

    # An image of 2 x 5 pixels of 3 bytes, the same in float32, and twice that: 30 + 120 + 120.
    assert Doubling().pass_memory(2, 5) == (0, 270)


def test_what_is_too_much_is_refused_before_anything_is_computed(only, monkeypatch):
    def computed(*args, **kwargs):
        raise AssertionError("the network ran")

    pipe, X = make(), photos(40)
    pipe["features"].fit(X)
    monkeypatch.setattr("skstructcore.features._extraction.Extraction.iter_batches", computed)
    only(30_000_000)
    with pytest.raises(ValueError, match=r"The fit takes about 32 MB of 30 MB available .*Set "):
        pipe.fit(X)
    only(10**9)
    with pytest.raises(AssertionError, match="the network ran"):
        pipe.fit(X)


def test_the_advice_leads_to_a_fit(only):
    X = photos(400)
    params = {"features__n_jobs": 1, "features__batch_size": 1, "bank__ratio": 20}
    pipe = make(**params, knn__calibration="k-fold")
    peak = estimate_memory(pipe, X).peak
    only(peak - 1_000_000)
    refused = estimate_memory(pipe, X)
    assert not refused.fits
    with pytest.raises(ValueError, match=r"Set bank__max_memory=\d+: the bank is then selected"):
        refused.check()
    most = int(refused.advice.split("=")[1].split(":")[0])
    advised = estimate_memory(pipe.set_params(bank__max_memory=most), X)
    assert advised.fits and advised.patches == most
    advised.check()


@pytest.mark.parametrize("known", [{}, {"bank__categories": ["a", "b"] * 5}])
def test_more_patches_than_there_are_is_no_lack_of_memory(known):
    with pytest.raises(ValueError, match=r"ratio=1000000000 is larger than the \d+ patches"):
        make(bank__ratio=10**9).fit(photos(10), **known)


def test_a_backbone_that_takes_too_much_is_named_by_its_parameters(only):
    X = photos(60)
    pipe = make(features__image_size=256, features__n_jobs=2)
    pipe.set_params(features__batch_size=1)
    only(estimate_memory(pipe, X).peak + 5_000_000)
    estimate = estimate_memory(pipe.set_params(features__batch_size=32), X)
    assert estimate.advice.startswith("Set features__batch_size=1, or use")
    named = make_pipeline(*[step for _, step in pipe.steps])
    assert estimate_memory(named, X).advice.startswith("Set convfeatures__batch_size=1, or use")
    only(1000)
    assert estimate_memory(pipe, X).advice == (
        "Set a smaller image_size, or a tile_size, or use a machine with more memory."
    )


def test_the_command_says_what_a_fit_takes_and_refuses_too_much(only, tmp_path):
    for i, pixels in enumerate(photos(12)):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    command = ["fit", str(tmp_path), "-o", str(tmp_path / "model"), "--no-estimate"]
    command += ["--set", "features__image_size=64", "--set", "bank__ratio=0.1"]
    only(20_000_000)
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert "of 20 MB available" in result.output and not (tmp_path / "model").exists()
    only(10**9)
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert "of 1,000 MB available" in result.stderr


class Blocks(TransformerMixin, BaseEstimator):
    """Features of one's own, without constraints of parameters."""

    def fit(self, X, y=None):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def transform(self, X):
        return np.asarray(X, np.float32).reshape(len(X), 8, 8, -1)


def test_a_step_of_ones_own_is_estimated():
    assert estimate_memory(make_structcore(Blocks()), photos(6)).patches == photos(6).size * 4


def test_a_pipeline_without_a_bank_is_refused():
    with pytest.raises(ValueError, match="whose last steps are CoresetBank"):
        estimate_memory(make()[:2], photos(2))


@pytest.mark.parametrize("estimate", [estimate_memory, estimate_time])
@pytest.mark.parametrize("name", ["bank__group", "bnk__groups", "bank__y"])
def test_parameters_that_fit_does_not_have_are_named(estimate, name):
    with pytest.raises(ValueError, match=f"no parameters {name}: there are bank__groups, bank"):
        estimate(make(), photos(4), **{name: [0, 0, 1, 1]})


def write(folder, limit, used, stat, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip((*names, "memory.stat"), (limit, used, stat), strict=True):
        Path(folder, name).write_text(f"{text}\n")


V2 = ("memory.max", "memory.current")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def test_limits_of_containers_are_found(tmp_path):
    proc, top = tmp_path / "proc/self", tmp_path / "sys/fs/cgroup"
    assert _left_of_control_groups(tmp_path) == []  # not Linux
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text("0::/user/job\n")
    write(top / "user/job", "max", 10, "inactive_file 0", V2)
    write(top / "user", 1000, 700, "anon 500\ninactive_file 150", V2)
    assert _left_of_control_groups(tmp_path) == [450]
    # Seen from a container, the path is that of the host: its own limits are at the top.
    (proc / "cgroup").write_text("0::/docker/1a2b\n")
    write(top, 1000, 990, "inactive_file 5", V2)
    assert _left_of_control_groups(tmp_path) == [15]
    (proc / "cgroup").write_text("11:cpu:/\n4:cpuset,memory:/job\n")
    write(top / "memory/job", 800, 900, "total_inactive_file 40", V1)
    assert _left_of_control_groups(tmp_path) == [0]
    assert 0 < available_memory() < 2**50


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read on Linux")
def test_estimates_are_within_20_percent_of_what_is_measured():
    script = Path(__file__).parents[1] / "benchmarks/bench_estimate.py"
    names = ["100 images", "k-fold", "three categories", "streamed", "images of 4000 pixels"]
    command = [sys.executable, "-W", "ignore", script, "--only", *names]
    lines = subprocess.check_output(command, text=True).strip().splitlines()[-len(names) :]
    differences = {line.split("|")[1].strip(): line.split("|")[-2].strip() for line in lines}
    assert sorted(differences) == sorted(names)
    assert {n: d for n, d in differences.items() if abs(int(d.rstrip("%"))) > 20} == {}


def test_time_grows_with_the_images_and_with_the_patches_times_the_entries(monkeypatch):
    """On a clock that goes on by a second whenever it is asked."""
    ticks = iter(range(100))
    monkeypatch.setattr("skstructcore.pipeline.estimates.perf_counter", lambda: next(ticks))
    pipe = make(bank__ratio=0.125)

    few, many = (estimate_time(pipe, photos(n)) for n in (48, 96))

    assert (few.features, few.selection, few.held_out, few.total) == (1, 1, 1, 3)
    assert (many.features, many.selection, many.held_out) == (2, 4, 4)
    # Of what is streamed, half of max_memory is kept to be held out.
    streamed = estimate_time(pipe.set_params(bank__max_memory=many_bytes(96) // 2), photos(96))
    assert (streamed.selection, streamed.held_out) == (4, 1)
    assert str(streamed) == "7 s (features 2 s, selection 4 s, held out 1 s)"


def test_time_is_estimated_of_pipelines_whose_bank_has_routes_or_many_neighbours():
    X = np.random.default_rng(0).normal(size=(60, 3, 3, 4)).astype(np.float32)
    for params in ({"bank__n_routes": 2, "knn__routing": "top1"}, {"knn__n_neighbors": 50}):
        pipe = make_structcore(bank__ratio=0.5, **params)[2:]
        assert estimate_time(pipe, X).held_out > 0


def many_bytes(n):
    return n * 64 * 152 * 4


@pytest.mark.parametrize(
    ("work", "advice"),
    [
        ("features", "a smaller features__batch_size"),
        ("search", "knn__device='cpu', or a smaller bank"),
        ("bank", "bank__device='cpu', or bank__max_memory"),
    ],
)
def test_a_gpu_without_enough_memory_says_what_to_change(work, advice, monkeypatch):
    import torch

    from skstructcore.features import _networks
    from skstructcore.neighbors import NeighborIndex, greedy_k_center

    X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    features = ConvFeatures(image_size=64).fit(np.zeros((2, 64, 64, 3), np.uint8))
    index = NeighborIndex(X, device="torch:cpu")
    place, name, run = {  # what of torch or the network is out of memory
        "features": (
            *(_networks.ConvNetwork, "__call__"),
            lambda: np.asarray(features.transform(np.zeros((2, 64, 64, 3), np.uint8))),
        ),
        "search": (torch, "addmm", lambda: index.query(X)),
        "bank": (torch, "minimum", lambda: greedy_k_center(X, 3, device="torch:cpu")),
    }[work]

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    monkeypatch.setattr(place, name, full)
    with pytest.raises(ValueError, match=f"memory of the GPU is not enough: use {advice}.*2 GiB"):
        run()
