"""Models on disk: the same scores, no code, whole or not at all."""

import hashlib
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import Blocks
from sklearn.preprocessing import StandardScaler

import skstructcore
from skstructcore import ConvFeatures, CoresetBank, RandomProjection, make_structcore
from skstructcore.lifecycle import recalibrate
from skstructcore.model_files import persistence
from skstructcore.model_files._model_file import ModelFileError, write_model_file
from skstructcore.model_files._state import Reader, Writer

pytestmark = pytest.mark.filterwarnings("ignore:false_alarm_rate=")
PHOTOS = np.random.default_rng(0).integers(0, 256, (24, 32, 32), dtype=np.uint8)
KINDS = ["a"] * 8 + ["b"] * 8


def make(**params):
    features = ConvFeatures(Blocks(), layers=("stage1", "stage2"), image_size=32)
    return make_structcore(features, **{"projection__n_components": 6, **params})


@pytest.fixture(scope="module")
def pipe():
    return make().fit(PHOTOS[:16])


@pytest.fixture
def path(pipe, tmp_path):
    skstructcore.save(pipe, tmp_path / "model.structcore")
    return tmp_path / "model.structcore"


def with_network(pipe, features):
    return pipe.set_params(features__model=features.model)


def both(pipe, path, **options):
    """The pipeline, and what is read from its file."""
    skstructcore.save(pipe, path)
    return pipe, with_network(skstructcore.load(path, **options), pipe["features"])


@pytest.mark.parametrize(
    ("params", "fit_params"),
    [
        ({}, {}),
        ({"preset": "paper"}, {}),
        (
            {
                "structcore__norm": "linf",
                "structcore__descriptors": {"std": 2.0, "surprise_max": -1.0},
            },
            {},
        ),
        ({"projection__n_components": None, "structcore__lam": 0.5}, {}),
        ({"knn__calibration": "k-fold"}, {"bank__groups": np.arange(16) // 2}),
        ({}, {"bank__categories": KINDS}),
        ({"bank__n_routes": 2, "knn__routing": "top2"}, {}),
    ],
)
def test_scores_are_the_same_bit_by_bit(params, fit_params, tmp_path):
    before = make(**params).fit(PHOTOS[:16], **fit_params)
    scores, maps = before.score_samples(PHOTOS), before.transform(PHOTOS)
    decisions = before.predict(PHOTOS)
    table = before[-1].describe(before[:-1].transform(PHOTOS))
    for mmap_mode in (None, "r"):
        _, after = both(before, tmp_path / "model", mmap_mode=mmap_mode)
        np.testing.assert_array_equal(after.score_samples(PHOTOS), scores)
        np.testing.assert_array_equal(after.transform(PHOTOS), maps)
        np.testing.assert_array_equal(after.predict(PHOTOS), decisions)
        assert after[-1].describe(after[:-1].transform(PHOTOS)).equals(table)


def test_the_built_in_network_comes_back_by_its_name(tmp_path):
    fitted = make_structcore("efficientnet_lite0", features__image_size=32, bank__ratio=0.2)
    fitted.fit(PHOTOS[:8])
    skstructcore.save(fitted, tmp_path / "model")
    loaded = skstructcore.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.score_samples(PHOTOS), fitted.score_samples(PHOTOS))


def test_what_the_steps_share_stays_shared(pipe, path):
    loaded = skstructcore.load(path)
    assert loaded["bank"].bank_ is loaded["knn"].bank_
    assert path.stat().st_size < 1.2 * len(pickle.dumps(pipe)) + 4096


def test_another_process_loads_it(path):
    code = f"import skstructcore; print(len(skstructcore.load({str(path)!r})['bank'].bank_))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == str(len(skstructcore.load(path)["bank"].bank_))


def test_single_steps_are_kept_too(tmp_path):
    step = RandomProjection(3, random_state=0).fit(np.ones((4, 9)))
    skstructcore.save(step, tmp_path / "step")
    loaded = skstructcore.load(tmp_path / "step")
    np.testing.assert_array_equal(loaded.transform(np.eye(9)), step.transform(np.eye(9)))


def test_mapped_arrays_lie_in_the_file_and_cannot_be_written(path):
    values = skstructcore.load(path, mmap_mode="r")["bank"].bank_.values
    base = values
    while base.base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    assert not values.flags.writeable
    assert skstructcore.load(path)["bank"].bank_.values.flags.writeable


# -- the header --------------------------------------------------------------------------------


def test_info_says_what_the_file_is(pipe, path):
    header = skstructcore.info(path)
    assert header["training"]["n_images"] == 16
    assert header["training"]["n_bank_entries"] == len(pipe["bank"].bank_)
    decision = pipe["structcore"].calibration_.decision
    told = header["decisions"]["all"]
    assert (told["rule"], told["asked_rate"], told["rate"]) == ("expected", 0.01, 0.01)
    assert (told["threshold"], told["interval"]) == (decision.threshold, list(decision.interval))
    assert header["versions"]["skstructcore"] == skstructcore.__version__
    assert header["versions"]["numpy"] == np.__version__
    assert header["backbone"]["checksum"] == pipe["features"].model_checksum_
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", header["created"])
    assert header["bytes"] == path.stat().st_size
    json.dumps(header)  # for a log, or for another program


@pytest.mark.parametrize("categories", [None, KINDS])
def test_the_digest_tells_models_apart_also_recalibrated_ones(categories, tmp_path):
    def digest(model):
        skstructcore.save(model, tmp_path / "model")
        return skstructcore.info(tmp_path / "model")["digest"]

    pipe = make().fit(PHOTOS[:16], bank__categories=categories)
    known = digest(pipe)
    pipe.predict(PHOTOS)
    assert digest(pipe) == digest(make().fit(PHOTOS[:16], bank__categories=categories)) == known
    skstructcore.save(pipe, tmp_path / "model")
    again = with_network(skstructcore.load(tmp_path / "model"), pipe["features"])
    assert digest(again) == known
    others = [
        make().fit(PHOTOS[1:17], bank__categories=categories),
        recalibrate(pipe, false_alarm_rate=0.2),
        recalibrate(pipe, PHOTOS[16:], force=True),
    ]
    assert len({known, *map(digest, others)}) == 4


def test_info_does_not_read_the_bank(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert skstructcore.info(path)["training"]["n_images"] == 16
    with pytest.raises(ModelFileError, match="checksum of its arrays does not fit"):
        skstructcore.load(path)


def test_rates_of_routes_are_told_one_by_one(tmp_path):
    skstructcore.save(make().fit(PHOTOS[:16], bank__categories=KINDS), tmp_path / "model")
    assert set(skstructcore.info(tmp_path / "model")["decisions"]) == {"a", "b"}


# -- what is refused ---------------------------------------------------------------------------


def own_descriptor(maps):
    return maps.max(axis=(1, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"structcore__descriptors": ("std", own_descriptor)},
            r"Pipeline.steps\[4\]\[1\].descriptors\[1\] is a builtins.function "
            r"\(.*own_descriptor\)",
        ),
        ({"features__model": Blocks}, r"steps\[0\]\[1\].model is a builtins.type"),
        ({"bank__random_state": np.random.RandomState(0)}, "random_state is a numpy.random"),
        ({"projection": StandardScaler()}, "steps.*is a sklearn.preprocessing.*StandardScaler"),
    ],
)
def test_what_a_file_cannot_hold_is_refused_by_name(change, message, tmp_path):
    fitted = make().fit(PHOTOS[:16]).set_params(**change)
    with pytest.raises(TypeError, match=message):
        skstructcore.save(fitted, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []  # and nothing is left behind


def test_what_is_not_fitted_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not fitted"):
        skstructcore.save(make(), tmp_path / "model")


def test_folders_of_caches_are_not_kept(tmp_path):
    fitted = make(features__memory=str(tmp_path / "cache")).fit(PHOTOS[:16])
    fitted.set_params(memory=str(tmp_path / "steps"), transform_input=["groups"])
    skstructcore.save(fitted, tmp_path / "model")
    again = skstructcore.load(tmp_path / "model")
    assert again["features"].memory is None and again.memory is None
    assert again.transform_input == ["groups"]


def test_the_beginning_of_a_model_file_is_damaged_whatever_its_first_byte(tmp_path):
    for length in (120, 128, 3000):  # "x" and "\x80", as pickles begin
        (tmp_path / "model").write_bytes(length.to_bytes(8, "little") + b'{"__metadata__"')
        with pytest.raises(ModelFileError, match=r"damaged.*shorter than its head"):
            skstructcore.load(tmp_path / "model")


class Evil:
    def __reduce__(self):
        return os._exit, (7,)


@pytest.mark.parametrize("dump", [joblib.dump, lambda x, p: joblib.dump(x, p, compress=3)])
def test_pickles_are_refused_and_not_run(dump, tmp_path):
    dump(Evil(), tmp_path / "model.joblib")
    with pytest.raises(ModelFileError, match=r"looks like a pickle.*can run any code"):
        skstructcore.load(tmp_path / "model.joblib")


def written(path, state, arrays=None, file_format="skstructcore 2"):
    """A file with a checksum that fits, and whatever content."""
    header = json.dumps({"versions": {"skstructcore": "9.9"}})
    text = {"format": file_format, "header": header, "state": json.dumps(state)}
    with open(path, "wb") as file:
        write_model_file(file, arrays or {}, text)
    return path


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"new": "os:system", "number": 0, "state": {}}, "os:system, which"),
        ({"new": "subprocess:Popen", "number": 0, "state": {}}, "subprocess:Popen"),
        ({"new": "builtins:eval", "number": 0, "state": {}}, "builtins:eval"),
        ({"new": "sklearn.svm:SVC", "number": 0, "state": {}}, "sklearn.svm:SVC"),
        ({"new": "_utils.files:os", "number": 0, "state": {}}, "_utils.files:os"),
        ({"new": "cli:main", "number": 0, "state": {}}, "cli:main"),
        ({"new": "model_files._state:Path", "number": 0, "state": {}}, "model_files._state:Path"),
        ({"new": "features._modules:as_module", "number": 0, "state": {}}, "as_module"),
        ({"new": "..os:path", "number": 0, "state": {}}, "os:path"),
        ({"new": "containers:MemoryBank", "number": 0, "state": {}}, "MemoryBank lacks 'values'"),
        ({"pickle": "gASVFA=="}, r"unknown type, \['pickle'\]"),
        ({"same": 3}, "3 is missing"),
        ({"array": "none"}, "'none' is missing"),
        ({"scalar": ["O", 1]}, r"unknown type, \['scalar'\]"),
        (
            {"strings": ["a"], "shape": [1], "type": "O"},
            "unknown type, .*'strings'",
        ),
        ([1, 2], "is not an estimator instance"),
        (
            {
                "new": "projection:RandomProjection",
                "number": 0,
                "state": {"transform": 1, "components_": 1},
            },
            "RandomProjection has 'transform', which this release has not",
        ),
        (
            {
                "new": "projection:RandomProjection",
                "number": 0,
                "state": {"__class__": 1, "components_": 1},
            },
            "RandomProjection has '__class__'",
        ),
        (
            {
                "new": "projection:RandomProjection",
                "number": 0,
                "state": {"n_components": "many", "components_": None},
            },
            "'n_components' parameter of RandomProjection must be",
        ),
    ],
)
def test_unknown_types_and_states_are_refused_by_name(state, message, tmp_path):
    with pytest.raises(ModelFileError, match=message):
        skstructcore.load(written(tmp_path / "model", state))


def forged(path, change):
    """The file with a changed state, and a checksum that fits."""
    head = persistence.read_head(path)
    state = json.loads(head.text["state"])
    change(state["state"], state["state"]["steps"][0]["tuple"][1]["state"])
    return written(path.parent / "forged", state, persistence.read_arrays(head, None))


def test_a_file_of_others_cannot_name_the_folder_of_a_cache(path, tmp_path):
    def change(pipeline, features):
        pipeline["memory"] = features["memory"] = str(tmp_path / "cache")

    again = skstructcore.load(forged(path, change))
    assert again["features"].memory is None and again.memory is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _, features: features.pop("picture_"), "lacks 'picture_', which this release"),
        (lambda _, features: features.update(picture_=3), "an? int as 'picture_', not Picture"),
        (
            lambda _, features: features["picture_"]["state"].update(framing={"dict": []}),
            "Picture has a dict as 'framing', not Framing",
        ),
        (lambda _, features: features.update(_iter_features=3), "has '_iter_features', which"),
    ],
)
def test_learned_states_that_do_not_fit_are_refused_by_name(change, message, path):
    with pytest.raises(ModelFileError, match=message):
        skstructcore.load(forged(path, change))


def test_tables_keep_their_index_and_types(tmp_path):
    step = RandomProjection(3).fit(np.ones((4, 9)))
    columns = {"n": np.array([1, 2], np.int8), "x": np.float32([0.1, 2]), "good": [True, False]}
    step.table_ = pd.DataFrame({**columns, "name": ["a", None]}, index=["r", "s"])
    step.empty_ = step.table_[:0].reset_index(drop=True)
    skstructcore.save(step, tmp_path / "step")
    again = skstructcore.load(tmp_path / "step")
    pd.testing.assert_frame_equal(again.table_, step.table_)
    pd.testing.assert_frame_equal(again.empty_, step.empty_)


def test_masked_arrays_are_refused_as_their_mask_would_be_lost(tmp_path):
    step = RandomProjection(3).fit(np.ones((4, 9)))
    step.values_ = np.ma.masked_array([1.0, 2.0], [True, False])
    with pytest.raises(TypeError, match=r"values_ is a .*which a model file does not hold"):
        skstructcore.save(step, tmp_path / "step")


def test_deep_nesting_is_an_error(tmp_path):
    path = tmp_path / "model"
    text = {"format": "skstructcore 2", "header": "{}", "state": "[" * 10**5 + "]" * 10**5}
    with open(path, "wb") as file:
        write_model_file(file, {}, text)
    with pytest.raises(ModelFileError, match="nested too deeply"):
        skstructcore.load(path)


def test_other_formats_say_what_to_do(path, tmp_path):
    with pytest.raises(ModelFileError, match=r"'skstructcore 3'.*release that wrote it, or fit"):
        skstructcore.load(written(tmp_path / "newer", None, file_format="skstructcore 3"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "written by an unknown release, .*'header' is missing"),
        ({"header": "no JSON"}, "Expecting value"),
        ({"header": "3"}, "'int' object is not a mapping"),
    ],
)
def test_a_file_that_says_nothing_of_itself_is_refused(given, message, tmp_path):
    with open(tmp_path / "model", "wb") as file:
        write_model_file(file, {}, {"format": "skstructcore 2", "state": "1", **given})
    with pytest.raises(ModelFileError, match=message):
        skstructcore.info(tmp_path / "model")


def test_parameters_that_a_file_does_not_know_get_their_defaults(tmp_path):
    step = RandomProjection(3).fit(np.ones((4, 9)))
    skstructcore.save(step, tmp_path / "step")
    text = persistence.read_head(tmp_path / "step").text
    state = json.loads(text["state"])
    del state["state"]["random_state"]  # as if the parameter came with a later release
    arrays = {state["state"]["components_"]["array"]: step.components_}
    loaded = skstructcore.load(written(tmp_path / "older", state, arrays))
    assert loaded.random_state == 0
    np.testing.assert_array_equal(loaded.components_, step.components_)


def test_folders_pipes_and_other_files_are_refused(tmp_path):
    with pytest.raises(ModelFileError, match="is a folder"):
        skstructcore.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelFileError, match="no regular file"):
        skstructcore.load(tmp_path / "pipe")
    (tmp_path / "text").write_text("some text, longer than eight bytes")
    with pytest.raises(ModelFileError, match=r"is no model file of skstructcore\. Models are"):
        skstructcore.load(tmp_path / "text")
    (tmp_path / "empty").touch()
    with pytest.raises(ModelFileError, match="is empty"):
        skstructcore.load(tmp_path / "empty")
    with pytest.raises(FileNotFoundError):
        skstructcore.load(tmp_path / "absent")


# -- damage ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    """A model file of 3 kB, to be damaged in every way."""
    bank = CoresetBank(ratio=3, random_state=0).fit(np.arange(10.0).reshape(5, 2))
    path = tmp_path_factory.mktemp("small") / "model"
    skstructcore.save(bank, path)
    return path


def test_arrays_without_axes_keep_none():
    writer = Writer()
    node = writer.node(np.array(5.0), "here")
    assert Reader(writer.arrays).value(node).shape == ()


def test_changed_bytes_are_noticed(small_file, tmp_path):
    content = small_file.read_bytes()
    path = tmp_path / "model"
    for place in range(0, len(content), 3):
        changed = bytearray(content)
        changed[place] ^= 0x55
        path.write_bytes(changed)
        with pytest.raises(ModelFileError, match=re.escape(str(path))):
            skstructcore.load(path)


def test_other_lengths_are_noticed(small_file, tmp_path):
    content = small_file.read_bytes()
    path = tmp_path / "model"
    for length in range(0, len(content), 5):
        path.write_bytes(content[:length])
        with pytest.raises(ModelFileError):
            skstructcore.load(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(ModelFileError):
        skstructcore.load(path, mmap_mode="r")


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=400), st.integers(0, 3000), st.integers(0, 400))
def test_fuzzed_files_are_refused(small_file, tmp_path_factory, junk, place, cut):
    content = small_file.read_bytes()
    fuzzed = content[:place] + junk + content[place + cut :]
    path = small_file.with_name("fuzzed")
    path.write_bytes(fuzzed)
    if fuzzed == content:
        return
    for mmap_mode in (None, "r"):
        with pytest.raises(ModelFileError):
            skstructcore.load(path, mmap_mode)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "new number state same array tuple dict scalar float strings shape type path "
                "turned".split()
            ),
            inner
            | st.sampled_from(["sklearn.pipeline:Pipeline", "containers:MemoryBank", "U3", "a0"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(json_values)
def test_fuzzed_states_are_refused(small_file, state):
    """With a checksum that fits: what somebody wrote on purpose."""
    path = written(small_file.with_name("crafted"), state, {"a0": np.arange(3)})
    with pytest.raises(ModelFileError):
        skstructcore.load(path)


# -- the layout is the one of the safetensors format -------------------------------------------


def test_the_safetensors_library_reads_the_same_arrays(path, pipe):
    numpy_files = pytest.importorskip("safetensors.numpy", reason="needs safetensors")
    arrays = numpy_files.load_file(path)
    [values] = [array for name, array in arrays.items() if name.endswith("bank_.values")]
    np.testing.assert_array_equal(values, pipe["bank"].bank_.values)


def test_the_checksum_is_that_of_the_bytes_behind_the_head(path):
    _, text, _, start = persistence.read_head(path)
    assert text["arrays_sha256"] == hashlib.sha256(path.read_bytes()[start:]).hexdigest()


# -- writing -----------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_model(path, pipe, monkeypatch):
    before = path.read_bytes()

    def fail(file, *args):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(persistence, "write_model_file", fail)
    with pytest.raises(OSError, match="No space left"):
        skstructcore.save(pipe, path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_file_size_limit_leaves_the_old_model(path, pipe):
    faulty = pytest.importorskip("faulty", reason="needs limits of files")
    before = path.read_bytes()
    with faulty.files_up_to(len(before) // 2), pytest.raises(OSError, match="cannot be written"):
        skstructcore.save(pipe, path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_links_are_followed_and_what_is_no_file_is_refused(path, pipe, tmp_path):
    (tmp_path / "link").symlink_to(path.name)
    skstructcore.save(pipe, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    with pytest.raises(OSError, match="no file that could be replaced"):
        skstructcore.save(pipe, tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        skstructcore.save(pipe, tmp_path / "absent" / "model")


def test_the_file_may_be_read_by_whom_the_mask_lets(pipe, tmp_path):
    old = os.umask(0o027)
    try:
        skstructcore.save(pipe, tmp_path / "model")
    finally:
        os.umask(old)
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o640


KILLER = """
import os, random, signal, sys, time
import skstructcore
path, first, second, n_kills = sys.argv[1:5]
models = [skstructcore.load(first), skstructcore.load(second)]
random.seed(0)
skstructcore.save(models[0], path)
start = time.perf_counter()
for _ in range(5):
    skstructcore.save(models[0], path)
usual = (time.perf_counter() - start) / 5
whole = {open(p, "rb").read()[-2000:] for p in (first, second)}
folder = os.path.dirname(path)
def n_unfinished():
    return sum(name.endswith(".unfinished") for name in os.listdir(folder))
for kill in range(int(n_kills)):
    before = n_unfinished()
    started, start = os.pipe()
    child = os.fork()
    if not child:
        os.write(start, b"!")
        while True:
            for model in models:
                skstructcore.save(model, path)
    os.read(started, 1)  # on a busy machine that takes a while
    os.close(started), os.close(start)
    time.sleep(random.random() * 2 * usual)
    while kill % 2:  # every other one in the middle of a write, however busy the machine is
        os.kill(child, signal.SIGSTOP)
        os.waitpid(child, os.WUNTRACED)
        if n_unfinished() > before:
            break
        os.kill(child, signal.SIGCONT)
        time.sleep(random.random() * usual)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    skstructcore.load(path)  # raises if it is damaged
    assert open(path, "rb").read()[-2000:] in whole, kill
print(n_unfinished())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("n_kills", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_kills_leave_the_old_file_or_the_new_one(n_kills, tmp_path):
    (tmp_path / "out").mkdir()
    files = []
    for seed in (0, 1):
        table = np.random.default_rng(seed).normal(size=(4000, 32))
        step = CoresetBank(ratio=2000, random_state=0).fit(table)
        files.append(str(tmp_path / f"{seed}"))
        skstructcore.save(step, files[-1])
    command = [sys.executable, "-c", KILLER, str(tmp_path / "out" / "model"), *files, str(n_kills)]
    out = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert out.returncode == 0, out.stderr
    assert int(out.stdout) >= n_kills // 2  # killed in the middle of a write


def test_readers_never_see_a_part(path, pipe):
    """One thread writes all the time, another reads all the time."""
    from threading import Event, Thread

    stop = Event()

    def write():
        while not stop.is_set():
            skstructcore.save(pipe, path)

    writer = Thread(target=write)
    writer.start()
    try:
        for _ in range(20):
            skstructcore.load(path, mmap_mode="r")
    finally:
        stop.set()
        writer.join()


def test_joblib_still_works(pipe, tmp_path):
    joblib.dump(pipe, Path(tmp_path / "model.joblib"))
    loaded = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(loaded.score_samples(PHOTOS), pipe.score_samples(PHOTOS))
