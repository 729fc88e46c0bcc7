"""Fits in shards: the same bank whoever works on them, within the bound, whatever is killed."""

import os
from pathlib import Path

import joblib
import numpy as np
import pytest
from click.testing import CliRunner
from networks import Blocks, DeadlyBlocks
from PIL import Image

import skstructcore
from skstructcore import ConvFeatures, CoresetBank, make_structcore
from skstructcore.cli import main


def pictures(n, seed=0):
    rng = np.random.default_rng(seed)
    stripes = 120 + 60 * np.sin(np.arange(32) / 3)[:, np.newaxis] * [1.0, 0.5, -0.6]
    X = stripes + rng.normal(0, 12, (n, 32, 32, 3))
    return np.clip(X, 0, 255).astype(np.uint8)


def pipe_of(model=Blocks, **params):
    features = ConvFeatures(model, layers=("stage1", "stage2"), image_size=32)
    params = {"bank__ratio": 60, "bank__random_state": 0, **params}
    return make_structcore(features, projection__n_components=None, **params)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    for i, image in enumerate(pictures(24)):
        Image.fromarray(image).save(folder / f"{i:02}.png")
    return folder


def assert_same(pipe, other):
    np.testing.assert_array_equal(pipe["bank"].bank_.values, other["bank"].bank_.values)
    np.testing.assert_array_equal(pipe["bank"].images_.digests, other["bank"].images_.digests)
    assert pipe["bank"].radius_ == other["bank"].radius_
    new = pictures(6, seed=1)
    np.testing.assert_array_equal(pipe.score_samples(new), other.score_samples(new))
    assert pipe[-1].offset_ == other[-1].offset_


@pytest.mark.parametrize("shard_size", [5, 24, 100])
def test_the_bank_of_shards_covers_all_patches_within_its_radius(shard_size):
    pipe = pipe_of(bank__shard_size=shard_size).fit(pictures(24))
    patches = np.asarray(pipe[0].transform(pictures(24))).reshape(-1, 10)
    distances = np.linalg.norm(patches[:, np.newaxis] - pipe["bank"].bank_.values, axis=-1)
    bound = pipe["bank"].radius_[0]
    assert distances.min(axis=1).max() <= bound * (1 + 1e-6)
    whole = pipe_of().fit(pictures(24))
    # Each selection adds at most twice the radius of one of all patches; the second none, where
    # it keeps what the only shard has selected.
    n_selections = 2 if shard_size < 24 else 1
    assert bound <= 2 * n_selections * whole["bank"].radius_[0] * (1 + 1e-6)
    # A new patch is no nearer to the bank than to all training patches, and at most that farther.
    new = np.asarray(pipe[0].transform(pictures(4, seed=1))).reshape(-1, 10)
    nearest = np.linalg.norm(new[:, np.newaxis] - patches, axis=-1).min(axis=1)
    in_bank = np.linalg.norm(new[:, np.newaxis] - pipe["bank"].bank_.values, axis=-1).min(axis=1)
    assert (in_bank >= nearest * (1 - 1e-6)).all() and (in_bank <= nearest + bound + 1e-6).all()


def test_whoever_works_on_the_shards_the_model_is_the_same(folder):
    expected = pipe_of(bank__shard_size=5).fit(folder)
    with joblib.parallel_config(backend="threading", n_jobs=3):
        assert_same(pipe_of(bank__shard_size=5).fit(folder), expected)


def test_images_are_held_out_across_shards():
    X = np.concatenate([pictures(12), pictures(12)])  # each image has a copy in another shard
    groups = np.tile(np.arange(12), 2)
    pipe = pipe_of(bank__shard_size=6).fit(X, bank__groups=groups)
    maps = pipe["knn"].fit_transform(
        pipe["bank"].fit_transform(pipe[0].transform(X), groups=groups)
    )
    apart = pipe_of().fit(pictures(12))
    expected = apart["knn"].fit_transform(
        apart["bank"].fit_transform(apart[0].transform(pictures(12)))
    )
    # Without groups the copies would explain each other, at distances of zero.
    radii = pipe["bank"].radius_[0] + apart["bank"].radius_[0]
    assert np.abs(maps.values[:12] - expected.values).max() <= radii
    assert maps.values.mean() > 0.5 * expected.values.mean()


def test_categories_and_routes_are_found_in_shards_too():
    X = np.concatenate([pictures(12), 255 - pictures(12)])
    names = np.repeat(["a", "b"], 12)
    for params in ({"bank__categories": names}, {}):
        n_routes = None if params else 2
        bank = pipe_of(bank__shard_size=5, bank__n_routes=n_routes, bank__ratio=20)
        pipe = bank.fit(X, **params)
        assert len(pipe["bank"].bank_.route_names) == 2
        found = pipe[-1].describe(pipe[:-1].transform(X))["route"]
        assert len(set(found[:12])) == len(set(found[12:])) == 1 and found[0] != found[23]


def test_what_does_not_go_with_shards_is_said():
    with pytest.raises(ValueError, match="without shards"):
        pipe_of(bank__shard_size=5, bank__contamination=0.1).fit(pictures(12))
    with pytest.raises(ValueError, match="shard_size"):
        CoresetBank(shard_size=0).fit(np.zeros((4, 2)))


@pytest.fixture
def cluster(_network_log_file):
    distributed = pytest.importorskip("distributed", reason="pip install skstructcore[distributed]")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        yield cluster


@pytest.mark.slow
def test_a_cluster_fits_the_same_model_and_a_lost_worker_costs_its_shard(
    folder, cluster, network_log
):
    paths = sorted(map(str, folder.iterdir()))
    expected = pipe_of(DeadlyBlocks, bank__shard_size=4).fit(paths)
    before = network_log("image")
    with joblib.parallel_config(backend="dask"):
        assert_same(pipe_of(DeadlyBlocks, bank__shard_size=4).fit(paths), expected)
    # A few more than images, where a process looks at what the network gives.
    without = network_log("image") - before
    kill = Path(os.environ["BLOCKS_LOG"] + ".kill")
    kill.touch()
    with joblib.parallel_config(backend="dask"):
        pipe = pipe_of(DeadlyBlocks, bank__shard_size=4).fit(paths)
    assert not kill.exists()
    assert_same(pipe, expected)
    assert network_log("image") - before - without <= without + 4


@pytest.mark.slow
def test_commands_work_on_a_cluster(folder, cluster, tmp_path):
    def run(*arguments):
        done = CliRunner().invoke(main, [str(part) for part in arguments])
        assert done.exit_code == 0, done.output
        return done

    there = ("--cluster", cluster.scheduler_address)
    small = ("--set", "features__image_size=32", "--no-estimate")
    run("fit", folder, "-o", tmp_path / "m", *small, *there)
    run("fit", folder, "-o", tmp_path / "n", *small, "--set", "bank__shard_size=64")
    one, other = skstructcore.load(tmp_path / "m"), skstructcore.load(tmp_path / "n")
    np.testing.assert_array_equal(one["bank"].bank_.values, other["bank"].bank_.values)
    run("score", tmp_path / "m", folder, "--csv", tmp_path / "a.csv", "--shard-size", 4, *there)
    run("score", tmp_path / "m", folder, "--csv", tmp_path / "b.csv", "--shard-size", 4)
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_named(folder, tmp_path):
    pytest.importorskip("distributed", reason="pip install skstructcore[distributed]")
    done = CliRunner().invoke(
        main, ["fit", str(folder), "-o", str(tmp_path / "m"), "--cluster", "tcp://127.0.0.1:9"]
    )
    assert done.exit_code == 2 and "tcp://127.0.0.1:9" in done.output
    assert "Traceback" not in done.output
