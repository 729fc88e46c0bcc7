"""Other tools that people keep models with; skipped where they are not installed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_pages import fit_pipe, write_images

from skstructcore import StructCoreScorer, trusted_types


@pytest.fixture(scope="module")
def pipe():
    return fit_pipe()


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return pd.DataFrame({"path": write_images(tmp_path_factory.mktemp("images")).paths})


def test_the_trusted_types_are_those_of_this_package_in_the_model(pipe):
    names = trusted_types(pipe)
    assert "skstructcore.scoring.structcore.StructCoreScorer" in names
    assert all(name.startswith("skstructcore.") for name in names) and names == sorted(set(names))


def test_a_function_of_ones_own_is_not_trusted():
    scorer = StructCoreScorer(
        descriptors=[lambda maps: maps.max(axis=(1, 2))], false_alarm_rate=0.1
    )
    scorer.fit(np.random.default_rng(0).random((20, 4, 4)))
    with pytest.raises(TypeError, match="descriptors"):
        trusted_types(scorer)


def test_a_column_of_paths_is_scored_like_a_list(pipe, table):
    expected = pipe.score_samples(table["path"].tolist())
    np.testing.assert_array_equal(pipe.score_samples(table), expected)
    np.testing.assert_array_equal(pipe.score_samples(table["path"]), expected)


@pytest.mark.slow
def test_skops_keeps_a_model(pipe, table):
    skops = pytest.importorskip("skops.io")
    content = skops.dumps(pipe)
    assert set(skops.get_untrusted_types(data=content)) <= set(trusted_types(pipe))
    again = skops.loads(content, trusted=trusted_types(pipe))
    np.testing.assert_array_equal(again.score_samples(table), pipe.score_samples(table))


@pytest.mark.slow
def test_mlflow_keeps_a_model_and_asks_it_with_a_table(pipe, table, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    path = Path(tmp_path / "model")
    signature = mlflow.models.infer_signature(table, pipe.predict(table))
    mlflow.sklearn.save_model(
        pipe, path, skops_trusted_types=trusted_types(pipe), signature=signature
    )
    np.testing.assert_array_equal(
        mlflow.pyfunc.load_model(str(path)).predict(table), pipe.predict(table)
    )
