"""Whatever comes in: the scores of its clean twin, or an error that names file and reason."""

import os
import re
import warnings

import numpy as np
import odd_images
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import Blocks
from odd_images import ARRAYS, BROKEN, FILES, MODES, NAMES, WRONG_ARRAYS

from skstructcore import ConvFeatures, make_structcore
from skstructcore.images import ImageReadError
from skstructcore.inference import score_images

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def pipe():
    features = ConvFeatures(Blocks(), layers=("stage1", "stage2"), image_size=32)
    rng = np.random.default_rng(0)
    photos = [odd_images.RGB ^ rng.integers(0, 32, odd_images.RGB.shape, np.uint8) for _ in "x" * 8]
    return make_structcore(features, projection__n_components=6, bank__ratio=0.1).fit(photos)


def named(cases):
    return pytest.mark.parametrize(
        ("name", "item", "means"), cases, ids=[ascii(c[0]) for c in cases]
    )


def check_twin(pipe, item, twin):
    np.testing.assert_array_equal(
        pipe.score_samples([item]), pipe.score_samples([np.ascontiguousarray(twin)])
    )


def test_the_corpus_is_as_large_as_promised():
    n_cases = len(MODES + FILES + BROKEN + ARRAYS + WRONG_ARRAYS) + len(NAMES)
    assert n_cases >= 150


@named(MODES + ARRAYS)
def test_images_in_memory_score_as_their_twins(name, item, means, pipe):
    check_twin(pipe, item, means)


@named(FILES)
def test_files_score_as_their_twins(name, item, means, pipe, tmp_path):
    path = odd_images.write(tmp_path, name, item)
    several = name.startswith(("animated", "pages"))
    check_twin(pipe, f"{path}[0]" if several else path, means)


@named(BROKEN)
def test_broken_files_are_named_with_the_reason(name, item, means, pipe, tmp_path):
    path = odd_images.write(tmp_path, name, item)
    good = odd_images.write(tmp_path, "good.png", odd_images.content(odd_images.PICTURE, "png"))
    try:
        score = pipe.score_samples([path])
    except ImageReadError as error:
        assert name in str(error) and "position 0" in str(error)
        assert re.search(means, str(error).partition("list): ")[2], re.IGNORECASE)
    else:  # what is cut off was not needed: the whole picture is there
        whole = odd_images.content(odd_images.PICTURE, {"jpg": "jpeg", "tif": "tiff"}.get(
            name[-3:], name.rpartition(".")[2]))  # fmt: skip
        twin = odd_images.decoded(whole)
        np.testing.assert_array_equal(score, pipe.score_samples([twin]))
        return
    table = score_images(pipe, [good, path])
    assert table["error"].notna().tolist() == [False, True]
    assert name in table["error"][1]
    assert table["anomaly_score"][0] == -pipe.score_samples([good])[0]


@named(WRONG_ARRAYS)
def test_what_is_no_image_is_refused(name, item, means, pipe):
    with pytest.raises((ValueError, TypeError), match=f"(?i){means}"):
        pipe.score_samples([item])


@pytest.mark.parametrize("X", [np.zeros((0, 8, 8), np.uint8), [], "", 7, None, b"png"])
def test_lists_that_are_none_are_refused(X, pipe):
    with pytest.raises((ValueError, TypeError)):
        pipe.score_samples(X)


@pytest.mark.parametrize("name", NAMES, ids=map(ascii, NAMES))
def test_odd_names_are_read_and_named(name, pipe, tmp_path):
    path = odd_images.write(tmp_path, name, odd_images.content(odd_images.PICTURE, "png"))
    check_twin(pipe, path, odd_images.RGB)
    os.truncate(path, 60)
    with pytest.raises(ImageReadError) as error:
        pipe.score_samples([path])
    assert repr(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_names_of_wrong_kinds_are_errors(pipe, tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "dangling.png").symlink_to("nothing")
    for path in (tmp_path / "folder.png", tmp_path / "dangling.png", tmp_path / "absent.png"):
        with pytest.raises(ImageReadError, match=path.name):
            pipe.score_samples([path])
    with pytest.raises(ImageReadError):
        pipe.score_samples(["nul\0byte.png"])
    with pytest.raises(ImageReadError):
        pipe.score_samples(["x" * 5000 + ".png"])


# -- fuzzing: 600 inputs -----------------------------------------------------------------------

KINDS = {kind: odd_images.content(odd_images.PICTURE, kind) for kind in (
    "png", "jpeg", "tiff", "webp", "bmp", "gif", "ppm")}  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(sorted(KINDS)),
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=6)), min_size=1, max_size=5),
    st.floats(0, 1),
)
def test_fuzzed_files_give_a_finite_score_or_a_named_error(
    pipe, tmp_path_factory, kind, edits, cut
):
    data = bytearray(KINDS[kind])
    for place, junk in edits:
        at = int(place * (len(data) - 1))
        data[at : at + len(junk)] = junk
    if cut > 0.8:
        del data[int(len(data) * cut) :]
    path = odd_images.write(tmp_path_factory.getbasetemp(), f"fuzzed.{kind}", data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            [score] = pipe.score_samples([path])
    except ImageReadError as error:
        assert f"fuzzed.{kind}" in str(error)
    else:
        assert np.isfinite(score)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(
        ["u1", "i1", "u2", "i4", "u8", "f2", "f4", "f8", "c8", "?", "O", "U3", "M8[s]"]
    ),
    st.lists(st.integers(0, 9), max_size=5),
    st.integers(0, 2**32 - 1),
)
def test_fuzzed_arrays_give_a_finite_score_or_an_error(pipe, dtype, shape, seed):
    values = np.random.default_rng(seed).integers(0, 256, shape)
    array = values.astype(dtype) if dtype != "M8[s]" else values.astype("M8[s]")
    for X in ([array], array):
        try:
            scores = pipe.score_samples(X)
        except (ValueError, TypeError) as error:
            assert str(error)
        else:
            assert np.isfinite(scores).all()
            assert len(scores) == len(X)
