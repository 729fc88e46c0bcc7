"""Models of earlier releases: the same scores, or a refusal that says what to do."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from make_model_fixture import FOLDER, inputs

import skstructcore
from skstructcore.model_files import ModelFileError

MODELS = sorted(FOLDER.glob("*.structcore"))
HERE = FOLDER.parents[1]


def test_there_are_models_to_read():
    kinds = {path.stem.partition("_")[2] for path in MODELS}
    assert kinds == {"plain", "routed", "images"}


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_old_models_keep_their_scores_or_are_refused(path):
    """Identical on the machine that wrote them; rounding differs a little between processors."""
    expected = json.loads(path.with_suffix(".json").read_text())
    try:
        pipe = skstructcore.load(path)
    except ModelFileError as error:
        assert "Load it with the release that wrote it, or fit again" in str(error)
        assert skstructcore.__version__ != expected["info"]["versions"]["skstructcore"], error
        return
    np.testing.assert_allclose(pipe.score_samples(inputs(path)), expected["scores"], rtol=1e-5)
    np.testing.assert_array_equal(pipe.predict(inputs(path)), expected["predictions"])
    assert skstructcore.info(path) == expected["info"]
    if path.stem.endswith("_images"):
        assert sorted(set(expected["predictions"])) == [-1, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41",
         "OPENBLAS_CORETYPE": "Nehalem", "NUMBA_CPU_NAME": "generic"},
        {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2",
         "OPENBLAS_CORETYPE": "Haswell"},
    ],
    ids=["SSE", "AVX2"],
)  # fmt: skip
def test_the_kernels_of_older_processors_give_the_same_scores(environment, tmp_path):
    """As far as a processor that is newer can stand in for them."""
    environment = {**os.environ, **environment, "NUMBA_CACHE_DIR": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent)])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
