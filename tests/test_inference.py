import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import skstructcore
from skstructcore import inference, make_structcore
from skstructcore.images import ImageReadError
from skstructcore.inference import iter_scores, score_images


@pytest.fixture(scope="module")
def photos():
    return np.random.default_rng(0).integers(0, 256, (24, 64, 64), dtype=np.uint8)


@pytest.fixture(scope="module")
def pipe(photos):
    pipe = make_structcore("efficientnet_lite0", features__image_size=64, bank__ratio=0.1)
    return pipe.fit(photos[:12])


@pytest.fixture
def files(photos, tmp_path):
    for i, photo in enumerate(photos[12:]):
        Image.fromarray(photo).save(tmp_path / f"{i:02}.png")
    return sorted(map(str, tmp_path.iterdir()))


def break_file(path):
    with open(path, "wb") as file:
        file.write(b"no image")


def test_scores_are_those_of_the_pipeline_in_the_order_of_the_images(pipe, photos, files):
    scores = score_images(pipe, files, shard_size=5)
    assert scores["file"].tolist() == files
    assert scores.index.tolist() == list(range(12))
    assert scores["error"].isna().all()
    np.testing.assert_allclose(-scores["anomaly_score"], pipe.score_samples(files), rtol=1e-5)
    np.testing.assert_array_equal(scores["is_anomalous"], pipe.predict(files) == -1)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_backends_and_numbers_of_jobs_give_identical_scores(pipe, files, backend):
    expected = score_images(pipe, files, shard_size=4)
    with joblib.parallel_config(backend=backend, n_jobs=2):
        pd.testing.assert_frame_equal(score_images(pipe, files, shard_size=4), expected)


@pytest.mark.slow
def test_a_cluster_gives_identical_scores_and_opens_the_model_once_a_worker(pipe, files):
    distributed = pytest.importorskip("distributed", reason="needs dask: pip install distributed")
    expected = score_images(pipe, files, shard_size=2)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
        joblib.parallel_config(backend="dask"),
    ):
        client.run(count_openings)
        pd.testing.assert_frame_equal(score_images(pipe, files, shard_size=2), expected)
        assert set(client.run(lambda: inference.scores.pickle.loads.n_calls).values()) == {1}


def count_openings():
    load = inference.scores.pickle.loads

    def loads(data):
        loads.n_calls += 1
        return load(data)

    loads.n_calls = 0
    inference.scores.pickle = type("Counted", (), {"loads": staticmethod(loads)})


def test_unreadable_files_are_reported_and_all_others_scored(pipe, files):
    expected = score_images(pipe, files, shard_size=4)
    for i in (1, 6):
        break_file(files[i])
    scores = score_images(pipe, files, shard_size=4, n_jobs=2)
    assert scores.index[scores["error"].notna()].tolist() == [1, 6]
    assert files[6] in scores["error"][6] and "position 6" in scores["error"][6]
    assert scores.loc[1].drop(["file", "error"]).isna().all()
    good = scores["error"].isna()
    pd.testing.assert_series_equal(scores["is_anomalous"][good], expected["is_anomalous"][good])
    np.testing.assert_allclose(
        scores["anomaly_score"][good], expected["anomaly_score"][good], rtol=1e-5
    )


def test_a_shard_without_any_readable_file_keeps_its_rows(pipe, files):
    types = score_images(pipe, files).dtypes
    for path in files[:2]:
        break_file(path)
    scores = score_images(pipe, files, shard_size=2)
    assert scores["file"].tolist() == files
    pd.testing.assert_series_equal(scores.dtypes, types)
    for path in files:
        break_file(path)
    nothing = score_images(pipe, files, shard_size=2)
    assert nothing.columns.tolist() == types.index.tolist()
    assert nothing["anomaly_score"].isna().all()


def test_shards_come_one_by_one(pipe, files, capsys):
    shards = iter_scores(pipe, files, shard_size=5, verbose=1)
    assert next(shards)["file"].tolist() == files[:5]
    assert [len(shard) for shard in shards] == [5, 2]
    assert "12/12" in capsys.readouterr().err


def test_arrays_are_named_by_their_position(pipe, photos):
    assert score_images(pipe, photos[12:15])["file"].tolist() == ["image 0", "image 1", "image 2"]


def test_bad_input_is_an_error_before_anything_is_scored(pipe, files, tmp_path):
    with pytest.raises(ValueError, match="not fitted"):
        score_images(make_structcore("efficientnet_lite0"), files)
    with pytest.raises(ValueError, match=r"shard_size must be an int in the range.*, got 0"):
        score_images(pipe, files, shard_size=0)
    with pytest.raises(ValueError, match="empty"):
        score_images(pipe, [])


def test_skipped_images_have_no_score_and_are_never_accepted(pipe, files):
    expected = pipe.score_samples(files)
    for i in (1, 6):
        break_file(files[i])
    good = np.delete(np.arange(12), [1, 6])
    table = score_images(pipe, files, shard_size=4)
    np.testing.assert_array_equal(-table["anomaly_score"][good], expected[good])  # bit by bit
    assert table["anomaly_score"][[1, 6]].isna().all()
    decisions = np.where(table["is_anomalous"].fillna(True), -1, 1)
    np.testing.assert_array_equal(decisions[good], pipe.predict([files[i] for i in good]))
    assert (decisions[[1, 6]] == -1).all()


def test_images_that_cannot_be_read_may_raise(pipe, files):
    break_file(files[6])
    with pytest.raises(ImageReadError, match=r"position 6"):
        score_images(pipe, files, on_error="raise")
    with pytest.raises(ValueError, match="on_error must be 'skip' or 'raise', got 'ignore'"):
        score_images(pipe, files, on_error="ignore")


def test_a_saved_model_is_mapped_by_all_processes(pipe, files, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model"
    skstructcore.save(pipe, path)
    expected = score_images(pipe, files, shard_size=4)
    for n_jobs in (1, 2):
        found = score_images(path, files, shard_size=4, n_jobs=n_jobs)
        pd.testing.assert_frame_equal(found, expected)
    with pytest.raises(FileNotFoundError):
        score_images("no such model", files)


def test_a_model_that_is_written_again_is_read_again(pipe, files, tmp_path):
    skstructcore.save(pipe, tmp_path / "m")
    before = score_images(tmp_path / "m", files)
    skstructcore.save(skstructcore.recalibrate(pipe, false_alarm_rate=0.4), tmp_path / "m")
    after = score_images(tmp_path / "m", files)  # most likely within the same second
    assert (after["p_value"] == before["p_value"]).all()
    assert after["is_anomalous"].tolist() == (before["p_value"] <= 0.4).tolist()


def test_a_pipeline_that_takes_features_is_refused_before_images_are_looked_at(pipe, monkeypatch):
    monkeypatch.setattr("skstructcore.inference.scores.as_images", lambda images: 1 / 0)
    with pytest.raises(TypeError, match="score_images takes images"):
        score_images(pipe[1:], ["missing.png"])


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_functions_of_a_notebook_are_sent_too(photos, n_jobs):
    steps = {"features__image_size": 64, "bank__ratio": 0.1}
    steps["structcore__descriptors"] = [lambda values: values.max(axis=(1, 2)), "std"]
    pipe = make_structcore("efficientnet_lite0", **steps).fit(photos[:12])
    scores = score_images(pipe, photos[12:16], n_jobs=n_jobs, shard_size=2)
    np.testing.assert_array_equal(-scores["anomaly_score"], pipe.score_samples(photos[12:16]))
