"""Models of earlier releases: the same scores, or a refusal that says what to do."""

import json

import numpy as np
import pytest
from make_model_fixture import FOLDER, patches

import skstructcore
from skstructcore.lifecycle import ModelFileError

MODELS = sorted(FOLDER.glob("*.structcore"))


def test_there_are_models_to_read():
    assert len(MODELS) >= 2


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
    np.testing.assert_allclose(pipe.score_samples(patches(1)), expected["scores"], rtol=1e-5)
    np.testing.assert_array_equal(pipe.predict(patches(1)), expected["predictions"])
    assert skstructcore.info(path) == expected["info"]
