"""JoinedFeatures: several networks on one grid, lazily."""

import pickle
import threading

import joblib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import Blocks
from sklearn.base import clone
from sklearn.pipeline import Pipeline

import skstructcore
from skstructcore import ConvFeatures, JoinedFeatures, RandomProjection, make_structcore

X = np.random.default_rng(0).integers(0, 256, (5, 40, 40, 3), dtype=np.uint8)


def fine(**params):
    return ConvFeatures(Blocks, ("stage1",), image_size=32, **params)


def coarse(**params):
    return ConvFeatures(Blocks, ("stage2",), image_size=32, **params)


def test_features_are_those_of_the_parts_at_the_finest_grid():
    joined = JoinedFeatures([coarse(), fine()]).fit(X)
    small, large = (np.asarray(part.fit_transform(X)) for part in (coarse(), fine()))
    scaled = F.interpolate(torch.tensor(small).permute(0, 3, 1, 2), (16, 16), mode="bilinear")
    expected = np.concatenate([scaled.permute(0, 2, 3, 1), large], axis=-1)
    lazy = joined.transform(X)
    assert lazy.shape == expected.shape == (5, 16, 16, 10)
    np.testing.assert_allclose(np.asarray(lazy), expected, atol=1e-6)
    assert joined.grid_shape_ == (16, 16)
    names = joined.get_feature_names_out()
    assert (names[0], names[-1], len(names)) == ("0__convfeatures0", "1__convfeatures3", 10)


def test_parts_with_batches_of_other_sizes_stay_in_step():
    parts = [coarse(batch_size=2), fine(batch_size=3)]
    lazy = JoinedFeatures(parts).fit_transform(X)
    assert [len(batch) for batch in lazy] == [2, 2, 1]
    expected = np.asarray(JoinedFeatures([coarse(), fine()]).fit_transform(X))
    # Not to the last bit with every torch: it may convolve few channels by the size of the batch.
    np.testing.assert_allclose(np.asarray(lazy), expected, atol=1e-6)
    np.testing.assert_allclose(np.asarray(lazy[[3, 0]]), expected[[3, 0]], atol=1e-6)


def test_tiled_and_whole_parts_are_joined():
    tiled = fine(tile_size=16, tile_overlap=8)
    found = np.asarray(JoinedFeatures([tiled, coarse()]).fit_transform(X))
    expected = np.asarray(fine(tile_size=16, tile_overlap=8).fit_transform(X))
    np.testing.assert_array_equal(found[..., :4], expected)


def test_parts_are_cached_by_themselves(tmp_path):
    module = Blocks()
    parts = [ConvFeatures(module, (f"stage{k}",), image_size=32, memory=tmp_path) for k in (1, 2)]
    lazy = JoinedFeatures(parts).fit_transform(X)
    expected = np.asarray(lazy)
    module.n_images = 0
    np.testing.assert_array_equal(np.asarray(lazy), expected)
    assert module.n_images == 0


def test_no_thread_stays_where_an_image_cannot_be_read(tmp_path):
    images = [*X, *X, str(tmp_path / "missing.png"), *X]
    lazy = JoinedFeatures([fine(batch_size=2), coarse(batch_size=2)]).fit(X).transform(images)
    n_threads = threading.active_count()
    with pytest.raises(OSError, match="missing") as error:
        np.asarray(lazy)
    assert threading.active_count() <= n_threads
    del error  # which was kept until here, as a notebook keeps it


def test_parameters_go_by_position():
    joined = JoinedFeatures([fine(), coarse()])
    pipe = Pipeline([("features", joined), ("projection", RandomProjection(2))])
    pipe.set_params(features__1__batch_size=3, features__0=fine(crop=True))
    assert joined.features[1].batch_size == 3
    assert joined.get_params()["0__crop"] is True
    joined.set_params(features__1__batch_size=5)  # as the pipeline spells it
    assert joined.features[1].batch_size == 5
    assert type(joined.features) is list
    with pytest.raises(ValueError, match="Invalid parameter '2'"):
        joined.set_params(**{"2__batch_size": 3})
    with pytest.raises(ValueError, match="Invalid parameter 'batch'"):
        joined.set_params(**{"0__batch": 3})


def test_clone_and_pickle():
    joined = JoinedFeatures([fine(), coarse()]).fit(X)
    copied = clone(joined)
    assert not hasattr(copied, "grid_shape_")
    assert copied.features[0] is not joined.features[0]
    expected = np.asarray(joined.transform(X))
    loaded = pickle.loads(pickle.dumps(joined))
    np.testing.assert_array_equal(np.asarray(loaded.transform(X)), expected)
    lazy = joined.transform(["a.png"])
    assert joblib.hash(lazy) == joblib.hash(pickle.loads(pickle.dumps(lazy)))


def test_later_parameters_do_not_change_what_was_given():
    joined = JoinedFeatures([fine(), coarse()]).fit(X)
    lazy = joined.transform(X)
    expected = np.asarray(lazy)
    joined.set_params(**{"0__layers": ["_blocks.1"]})
    np.testing.assert_array_equal(np.asarray(lazy), expected)


def test_parameters_of_parts_that_changed_after_fit_are_an_error():
    joined = JoinedFeatures([fine(), coarse()]).fit(X)
    joined.set_params(**{"1__channels": "bgr"})
    with pytest.raises(ValueError, match="channels is"):
        joined.transform(X)


def test_ignored_patches_are_those_of_the_first():
    mask = np.zeros((40, 40), np.uint8)
    mask[:20] = 1
    ignoring = JoinedFeatures([coarse(ignore=mask), fine()]).fit_transform(X)
    found = np.asarray(ignoring)
    assert np.isnan(found[:, :8]).all()
    expected = np.asarray(JoinedFeatures([coarse(), fine()]).fit_transform(X))
    np.testing.assert_array_equal(found[:, 8:], expected[:, 8:])


def test_pipeline_is_fitted_scored_and_saved(tmp_path):
    parts = [ConvFeatures(layers=[f"_blocks.{k}"], image_size=64) for k in (2, 10)]
    pipe = make_structcore(JoinedFeatures(parts), projection__n_components=8)
    pipe.fit(X)
    scores = pipe.score_samples(X)
    assert np.isfinite(scores).all()
    skstructcore.save(pipe, tmp_path / "model")
    np.testing.assert_array_equal(skstructcore.load(tmp_path / "model").score_samples(X), scores)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (lambda: [], "at least one; got none"),
        (lambda: [fine(), RandomProjection()], "got RandomProjection among them"),
        (lambda: [fine(), fine().set_params(image_size=64)], "image_size .* has 32, .* 64"),
        (lambda: [fine(), fine().set_params(crop=True)], r"crop must be the same"),
        (lambda: [fine(), fine(ignore="background")], r"features\[1\]: give ignore"),
        (lambda: [part := fine(), part], r"features\[1\] is there twice"),
        (lambda: [fine().set_params(batch_size=0)], "batch_size"),
    ],
)
def test_what_cannot_be_joined_is_named(parts, message):
    with pytest.raises(ValueError, match=message):
        JoinedFeatures(parts()).fit(X)


def test_what_is_compared_are_the_parameters_not_what_they_came_to():
    strips = np.zeros((3, 32, 160, 3), np.uint8)
    fitted = fine().fit(strips)  # which sees 8 x 40 pixels or more
    joined = JoinedFeatures([fitted, coarse()]).fit(strips)
    assert joined.features[0].input_size_ == joined.features[1].input_size_
    with pytest.raises(ValueError, match="image_size must be the same"):
        joined.set_params(**{"0__image_size": 64}).fit(strips)


def test_boxes_may_be_arrays():
    parts = [part.set_params(crop=np.array([0, 0, 40, 40])) for part in (fine(), coarse())]
    assert len(JoinedFeatures(parts).fit_transform(X)) == len(X)


def test_memory_follows_a_change_of_the_parts():
    lazy = JoinedFeatures([fine(), coarse()]).fit_transform(X)
    assert lazy.memory(batch_size=1)[1] == 1 < lazy.memory()[1]


@pytest.mark.parametrize("change", ["order", "one left out", "one not fitted", "a setting"])
def test_estimators_changed_after_fit_are_refused(change):
    one, other = fine(), coarse()  # of the same weights
    joined = JoinedFeatures([one, other]).fit(X)
    if change == "a setting":
        joined.set_params(**{"1__channels": "bgr"})
    else:
        parts = {
            "order": [other, one],
            "one left out": [one],
            "one not fitted": [one, clone(other)],
        }
        joined.set_params(features=parts[change])
    with pytest.raises(ValueError, match=r"in another order|channels is|not fitted"):
        joined.transform(X)


def test_all_networks_of_an_estimator_stay_loaded(monkeypatch):
    monkeypatch.setattr("skstructcore.features._extraction._n_kept", 2)
    loaded, load = [], ConvFeatures._load
    monkeypatch.setattr(
        ConvFeatures, "_load", lambda self, *args: loaded.append(self) or load(self, *args)
    )
    parts = [
        ConvFeatures(Blocks, (layer,), image_size=32) for layer in ("stage1", "stage2", "stage2.0")
    ]
    joined = JoinedFeatures(parts).fit(X)
    np.asarray(joined.transform(X))
    loaded.clear()
    np.asarray(joined.transform(X))
    assert not loaded
