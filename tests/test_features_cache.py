"""The memory of feature estimators: each image goes through the network once."""

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from types import MethodType

import numpy as np
import pytest
from joblib import Memory, Parallel, delayed
from networks import Blocks, LoggedBlocks
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skstructcore import ConvFeatures, make_structcore
from skstructcore.features._cache import cache_size, prune_cache

OWN = dict(layers=("stage1", "stage2"), image_size=32)


@pytest.fixture
def folder(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 40, 40), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(images / f"{number}.png")
    return images


def run(X, module, memory, **params):
    """Features from a new estimator, and how many images went through the network for it."""
    before = module.n_images
    values = np.asarray(ConvFeatures(module, **OWN | params, memory=memory).fit_transform(X))
    return values, module.n_images - before


@pytest.mark.parametrize("kind", [str, lambda path: path, lambda path: Memory(path, verbose=0)])
def test_an_image_goes_through_the_network_once(kind, folder, tmp_path):
    module = Blocks()
    first, n_first = run(folder, module, kind(tmp_path / "cache"))
    again, n_again = run(folder, module, kind(tmp_path / "cache"))
    assert (n_first, n_again) == (5, 0)  # one more at first, for the shape of the features
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(again, run(folder, module, None)[0])


def test_memory_without_location_caches_nothing(folder):
    module = Blocks()
    assert [run(folder, module, Memory(None))[1] for _ in range(2)] == [5, 5]


def test_content_decides_not_the_name(folder, tmp_path):
    module = Blocks()
    run(folder, module, tmp_path / "cache")
    (folder / "0.png").rename(folder / "9.png")
    assert run(folder, module, tmp_path / "cache")[1] == 0
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(folder / "1.png")
    assert run(folder, module, tmp_path / "cache")[1] == 1


@pytest.mark.parametrize(
    "params",
    [
        {"image_size": 30},
        {"crop": True},
        {"crop": 40},
        {"layers": ("stage2", "stage1")},
        {"mean": (0, 0, 0)},
        {"dtype": "bfloat16"},
    ],
)
def test_parameters_that_matter_have_features_of_their_own(params, folder, tmp_path):
    module = Blocks()
    run(folder, module, tmp_path)
    expected = run(folder, module, None, **params)[0]
    np.testing.assert_array_equal(run(folder, module, tmp_path, **params)[0], expected)


@pytest.mark.parametrize("params", [{"batch_size": 1}, {"n_jobs": 1}, {"verbose": 1}])
def test_parameters_that_do_not_matter_share_features(params, folder, tmp_path):
    module = Blocks()
    run(folder, module, tmp_path)
    assert run(folder, module, tmp_path, **params)[1] == 0


def test_other_weights_have_features_of_their_own(folder, tmp_path):
    run(folder, Blocks(), tmp_path)
    assert run(folder, Blocks(), tmp_path)[1] == 0
    assert run(folder, Blocks(seed=1), tmp_path)[1] == 5


def damage_truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def damage_zero(path):
    path.write_bytes(bytes(len(path.read_bytes())))


def damage_flip(path):
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


def damage_swap(path):
    """Two pages change places, which leaves every sum as it is."""
    content = path.read_bytes()
    path.write_bytes(content[256:512] + content[:256] + content[512:])


def damage_empty(path):
    path.write_bytes(b"")


def damage_lengthen(path):
    path.write_bytes(path.read_bytes() + b"\0")


def damage_link(path):
    path.unlink()
    path.symlink_to("nowhere")


@pytest.mark.parametrize(
    "damage",
    [damage_truncate, damage_zero, damage_flip, damage_swap, damage_empty, damage_lengthen,
     damage_link],
)  # fmt: skip
def test_damaged_entries_are_computed_again(damage, folder, tmp_path):
    module = Blocks()
    expected, _ = run(folder, module, tmp_path / "cache")
    entries = [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.suffix != ".json"]
    assert len(entries) == 4
    damage(entries[0])
    values, n_images = run(folder, module, tmp_path / "cache")
    assert n_images == 1
    np.testing.assert_array_equal(values, expected)
    assert run(folder, module, tmp_path / "cache")[1] == 0


def test_a_folder_in_the_place_of_an_entry_does_not_stop_the_work(folder, tmp_path, caplog):
    module = Blocks()
    expected, _ = run(folder, module, tmp_path / "cache")
    entry = next(p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.suffix == "")
    entry.unlink()
    entry.mkdir()
    for _ in range(2):  # it stays there: nothing of somebody else is deleted
        values, n_images = run(folder, module, tmp_path / "cache")
        assert n_images == 1 and str(entry) in caplog.text
        np.testing.assert_array_equal(values, expected)


def test_a_folder_that_cannot_be_written_does_not_stop_the_work(folder, tmp_path, caplog):
    (tmp_path / "file").touch()  # no folder can be made below it
    values, _ = run(folder, module := Blocks(), tmp_path / "file")
    np.testing.assert_array_equal(values, run(folder, module, None)[0])
    assert "Features are not cached" in caplog.text


def test_processes_build_no_network_that_they_do_not_need(folder, tmp_path, network_log):
    features = ConvFeatures(LoggedBlocks, **OWN, memory=tmp_path / "cache").fit(folder)
    lazy = features.transform(folder)
    expected = np.asarray(lazy)
    assert network_log("built") <= 1  # 0 if another test has built it in this process
    assert network_log("image") == 5
    results = Parallel(n_jobs=2)(delayed(np.asarray)(lazy[i : i + 2]) for i in (0, 2))
    np.testing.assert_array_equal(np.concatenate(results), expected)
    assert network_log("image") == 5


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search_runs_the_network_once_an_image(n_jobs, folder, tmp_path, network_log):
    pipe = make_structcore(
        ConvFeatures(LoggedBlocks, **OWN, memory=tmp_path / "cache"),
        projection__n_components=4,
        structcore__threshold="guaranteed",
    )
    X = sorted(map(str, folder.iterdir()))
    # As the documentation advises for several processes: the features of all images first.
    np.asarray(clone(pipe["features"]).fit_transform(X))
    grid = {"bank__ratio": [0.05, 0.1], "knn__n_neighbors": [1, 2]}
    GridSearchCV(pipe, grid, scoring=mean_score, cv=2, n_jobs=n_jobs, error_score="raise").fit(X)
    assert network_log("image") == 5


def mean_score(pipe, X, y=None):
    return pipe.score_samples(X).mean()


def test_built_in_network_is_not_loaded_when_all_features_are_there(folder, tmp_path):
    code = f"""
        import sys
        import numpy as np
        from skstructcore import ConvFeatures
        features = ConvFeatures(image_size=64, memory={str(tmp_path)!r})
        np.asarray(features.fit_transform({str(folder)!r}))
        print("efficientnet_lite_pytorch" in sys.modules)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    loaded = [subprocess.check_output(command, text=True).strip() for _ in range(2)]
    assert loaded == ["True", "False"]


@pytest.mark.parametrize("shape", ["[4, 4, 10]", "[4, 4, 10]\n0", "{", "7"])
def test_a_damaged_shape_is_not_trusted(shape, folder, tmp_path):
    expected, _ = run(folder, Blocks(), tmp_path)
    [path] = tmp_path.rglob("shape.json")
    path.write_text(shape)
    values, n_images = run(folder, Blocks(), tmp_path)
    assert n_images == 1  # to learn the shape again
    np.testing.assert_array_equal(values, expected)


def test_two_writers_of_one_cache_do_not_disturb_each_other(folder, tmp_path):
    """Threads of two estimators compute and store the same entries at the same time."""
    modules = [Blocks() for _ in range(4)]  # here: seeds are not for threads
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda module: run(folder, module, tmp_path)[0], modules))
    expected = run(folder, Blocks(), None)[0]
    for values in (*runs, run(folder, Blocks(), tmp_path)[0]):
        np.testing.assert_array_equal(values, expected)
    cached = (tmp_path / "skstructcore").rglob("*")
    assert {p.name for p in cached if "." in p.name} == {"shape.json"}  # nothing unfinished


def test_a_full_disk_costs_the_cache_and_nothing_else(folder, tmp_path, caplog):
    """A limit of 500 bytes a file: every entry fails half-written."""
    faulty = pytest.importorskip("faulty", reason="needs limits of files")
    with faulty.files_up_to(500):
        values, _ = run(folder, Blocks(), tmp_path / "cache")
    np.testing.assert_array_equal(values, run(folder, Blocks(), None)[0])
    assert caplog.text.count("Features are not cached") == 1  # not once an image
    left = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert [p.name for p in left] == ["shape.json"]  # small enough; no half-written entry


def test_the_size_of_a_cache_is_told_and_pruned(folder, tmp_path):
    cache = tmp_path / "cache"
    assert cache_size(cache) == (0, 0)
    run(folder, Blocks(), cache)
    (cache / "note.txt").write_text("of somebody else")
    n_images, n_bytes = cache_size(cache)
    assert n_images == 4
    entries = [p for p in (cache / "skstructcore").rglob("*") if p.is_file() and p.suffix == ""]
    size = entries[0].stat().st_size
    assert n_bytes == 4 * size
    for age, path in enumerate(entries):
        os.utime(path, (1e9 - age, 1e9 - age))  # the last one is the oldest
    assert prune_cache(cache, max_bytes=3 * size) == (1, size)
    assert not entries[-1].exists()
    assert prune_cache(cache, max_bytes=3 * size) == (0, 0)
    assert prune_cache(cache, max_age=1) == (3, 3 * size)
    assert cache_size(cache) == (0, 0)
    assert (cache / "note.txt").exists()
    assert run(folder, Blocks(), cache)[1] == 4  # computed again; the shape is still known
    with pytest.raises(ValueError, match=r"max_age must be .*, got -1"):
        prune_cache(cache, max_age=-1)


def test_a_pil_image_and_an_array_in_another_order_of_colours_are_kept_apart(tmp_path):
    frame = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    features = ConvFeatures(
        Blocks(), ("stage1",), image_size=32, channels="bgr", memory=tmp_path
    ).fit([frame])
    of_frame, of_image = (
        np.asarray(features.transform([image])) for image in (frame, Image.fromarray(frame))
    )
    assert not np.array_equal(of_frame, of_image)


def test_a_forward_that_is_replaced_belongs_to_its_part(folder, tmp_path):
    """Two networks that differ in which of two equal parts squares what it gives."""
    modules = [Blocks() for _ in range(2)]
    for module, name in zip(modules, ("stage1", "stage2"), strict=True):
        part = getattr(module, name)
        part.forward = MethodType(squared, part)
    _, expected = (run(folder, module, None)[0] for module in modules)
    run(folder, modules[0], tmp_path)
    np.testing.assert_array_equal(run(folder, modules[1], tmp_path)[0], expected)


def squared(self, x):
    return type(self).forward(self, x) ** 2
