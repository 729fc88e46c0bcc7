"""Regions: which, where, how high, how rare; and the forms that other programs read."""

import json

import numpy as np
import pandas as pd
import pytest
from networks import Blocks
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from skstructcore import (
    AnomalyMaps,
    ConvFeatures,
    StructCoreScorer,
    describe,
    describe_parts,
    make_structcore,
    regions,
)
from skstructcore.containers import TrainingImages
from skstructcore.images import Geometry
from skstructcore.inference.region_files import draw_mask, to_coco, to_geojson

N_TRAIN = 19


def of_maps(scorer, maps, **params):
    """The regions of maps, by a pipeline whose last step is the scorer."""
    return regions(make_pipeline(scorer), maps, **params)


@pytest.fixture
def scorer():
    """Good images whose largest distances are 1, 2, ..., 19."""
    maps = np.full((N_TRAIN, 4, 6), 0.5)
    maps[:, 1, 1] = np.arange(1, N_TRAIN + 1)
    return StructCoreScorer(false_alarm_rate=0.2, descriptors=["std"], threshold="guaranteed").fit(
        AnomalyMaps(maps)
    )


@pytest.fixture
def maps():
    """Over 15, of which 4 of 19 training images are higher, (1 + 4) / 20 = 0.25 with ties."""
    values = np.full((3, 4, 6), 0.5)
    values[1, 0, 0:2] = [17, 30]  # at the border
    values[1, 2, 3], values[1, 3, 4] = 18, 16.5  # connected at a corner
    values[2, 1, 1] = 15.5
    sizes, boxes = np.tile([40, 60], (3, 1)), np.tile([0, 0, 40, 60.0], (3, 1))
    sizes[2], boxes[2] = (100, 100), (20, 10, 60, 70)  # a crop
    return AnomalyMaps(values, geometry=Geometry((32, 48), sizes, boxes))


def test_rows_are_worked_out_by_hand(scorer, maps):
    assert (
        scorer.calibration_.base_decision.threshold == 16
    )  # (1 + 3) / 20 = 0.2 of good images exceed it
    found = of_maps(scorer, maps)
    assert found["image"].tolist() == ["image 1", "image 1"]
    assert found["region"].tolist() == [1, 2]
    assert found["polygon"][0].tolist() == [[0, 0], [20, 0], [20, 10], [0, 10]]
    corner = [[30, 20], [40, 20], [40, 30], [50, 30], [50, 40], [40, 40], [40, 30], [30, 30]]
    assert found["polygon"][1].tolist() == corner
    assert found["area"].tolist() == [200, 200]
    assert found["n_patches"].tolist() == [2, 2]
    assert found["mean"].tolist() == [23.5, 17.25]
    assert found["peak"].tolist() == [30, 18]
    assert found[["peak_row", "peak_col"]].to_numpy().tolist() == [[5, 15], [25, 35]]
    boxes = found[["top", "left", "bottom", "right"]].to_numpy().tolist()
    assert boxes == [[0, 0, 10, 20], [20, 30, 40, 50]]
    # No good image is as high as 30; 18 and 19 are as high as 18.
    assert found["p_value"].tolist() == [1 / 20, 3 / 20]
    assert found["touches_border"].tolist() == [True, True]
    assert not found["too_small"].any()
    assert set(found["route"]) == {"all"}
    assert found[["height", "width"]].to_numpy().tolist() == [[40, 60]] * 2


def test_a_larger_rate_shows_fainter_regions_and_a_crop_lies_on_its_original(scorer, maps):
    found = of_maps(scorer, maps, false_alarm_rate=0.3)  # over 14: (1 + 5) / 20
    row = found[found["image"] == "image 2"].iloc[0]
    assert (row["top"], row["left"], row["bottom"], row["right"]) == (30, 20, 40, 30)
    assert row["p_value"] == 5 / 20 and not row["touches_border"]
    assert (row["height"], row["width"]) == (100, 100)


def test_small_regions_are_marked_not_dropped(scorer, maps, caplog):
    maps.values[1, 0, 0] = 0
    with caplog.at_level("INFO"):
        found = of_maps(scorer, maps, min_area=150)
    assert found["too_small"].tolist() == [True, False]
    assert "1 of 2 regions are smaller than min_area=150" in caplog.text


def test_the_box_around_the_peak_is_that_of_describe(scorer, maps):
    described = scorer.describe(maps).iloc[1]
    found = of_maps(scorer, maps).iloc[0]
    for side in ("top", "left", "bottom", "right"):
        assert described[f"region_{side}"] == found[side]
    assert (described["peak_row"], described["peak_col"]) == (found["peak_row"], found["peak_col"])


def test_groups_count_as_one_and_routes_have_their_own_threshold():
    rng = np.random.default_rng(0)
    values = rng.uniform(0, 1, (40, 3, 3))
    values[20:] *= 10
    routes = np.repeat(["nut", "pin"], 20)
    maps = AnomalyMaps(
        values,
        images=TrainingImages(np.repeat(np.arange(20), 2)),
        route=routes,
        route_distance=rng.uniform(1, 2, 40),
    )
    scorer = StructCoreScorer(
        false_alarm_rate=0.2, descriptors=["std"], threshold="guaranteed"
    ).fit(maps)
    new = np.zeros((2, 3, 3))
    new[:, 1, 1] = 5
    images = AnomalyMaps(new, route=np.array(["nut", "pin"]), route_distance=np.ones(2))
    found = of_maps(scorer, images)
    assert found[["image", "route"]].to_numpy().tolist() == [["image 0", "nut"]]
    assert found["p_value"].tolist() == [1 / 11]  # ten groups of nuts


def test_ignored_patches_are_in_no_region(scorer, maps):
    ignored = np.zeros(maps.shape, dtype=bool)
    ignored[1, :2] = True
    values = np.where(ignored, 0, maps.values)
    found = of_maps(scorer, AnomalyMaps(values, geometry=maps.geometry, ignored=ignored))
    assert found["peak"].tolist() == [18]


def test_no_region_is_an_empty_table_with_all_columns(scorer, maps):
    found = of_maps(scorer, maps[:1])
    assert len(found) == 0
    full = of_maps(scorer, maps)
    assert found.dtypes.equals(full.dtypes)
    assert to_coco(found)["annotations"] == [] and to_geojson(found)["features"] == []


@pytest.fixture
def pipe_and_images(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.integers(100, 130, (13, 40, 60), dtype=np.uint8)
    pipe = make_structcore(
        ConvFeatures(Blocks(), ("stage1",), image_size=(40, 60)),
        projection__n_components=None,
        bank__ratio=60,
        structcore__false_alarm_rate=0.1,
        structcore__threshold="guaranteed",
    ).fit(X[:10])
    paths = [tmp_path / f"part{i}.png" for i in range(3)]
    X[11, 10:16, 20:28] = 255
    for path, image in zip(paths, X[10:], strict=True):
        Image.fromarray(image).save(path)
    return pipe, [str(path) for path in paths]


@pytest.mark.parametrize("resolution", ["grid", "full"])
def test_a_defect_is_found_where_it_is(pipe_and_images, resolution):
    pipe, paths = pipe_and_images
    if resolution == "full":
        pipe.set_params(structcore__resolution="full")
        training = np.random.default_rng(0).integers(100, 130, (13, 40, 60), dtype=np.uint8)
        pipe.fit(training[:10])
    found = regions(pipe, paths)
    row = found[found["image"] == paths[1]].iloc[0]
    assert row["top"] < 13 < row["bottom"] and row["left"] < 24 < row["right"]
    assert row["area"] < 40 * 60 / 4
    assert row["p_value"] == 1 / 11
    described = pipe[-1].describe(pipe[:-1].transform(paths)).iloc[1]
    for side in ("top", "left", "bottom", "right"):
        assert described[f"region_{side}"] == row[side]
    assert (described["peak_row"], described["peak_col"]) == (row["peak_row"], row["peak_col"])
    maps = pipe[:-1].transform(paths)
    features = pipe[0].transform(paths)
    for other in (regions(pipe, maps), regions(pipe[1:], features)):
        assert other["image"].tolist() == [f"image {paths.index(name)}" for name in found["image"]]
        pd.testing.assert_frame_equal(other.drop(columns="image"), found.drop(columns="image"))


def test_exports_hold_the_same_regions(pipe_and_images, tmp_path):
    pipe, paths = pipe_and_images
    found = regions(pipe, paths)
    coco = json.loads(json.dumps(to_coco(found, paths)))
    assert [image["file_name"] for image in coco["images"]] == paths
    assert coco["images"][0] | {"id": 1} == coco["images"][0]
    assert len(coco["annotations"]) == len(found)
    for annotation, (_, row) in zip(coco["annotations"], found.iterrows(), strict=True):
        assert annotation["image_id"] == paths.index(row["image"]) + 1
        assert (
            np.reshape(annotation["segmentation"][0], (-1, 2)).tolist() == row["polygon"].tolist()
        )
        assert annotation["area"] == row["area"] and annotation["score"] == row["peak"]
    geojson = json.loads(json.dumps(to_geojson(found)))
    ring = geojson["features"][0]["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1] and len(ring) == len(found["polygon"][0]) + 1
    assert geojson["features"][0]["properties"]["p_value"] == found["p_value"][0]
    assert set(geojson["features"][0]["properties"]) == set(found) - {"polygon"}
    for exported in (coco["annotations"][0], geojson["features"][0]["properties"]):
        assert exported["n_patches"] == found["n_patches"][0]


def test_a_region_in_the_hole_of_another_stays_visible(scorer):
    scorer = StructCoreScorer(false_alarm_rate=0.2, descriptors=["std"]).fit(
        AnomalyMaps(np.random.default_rng(0).random((9, 13, 13)))
    )
    for half in (1, 4):  # the patches within are fewer, and more, than those of the ring
        values = np.zeros((1, 13, 13))
        values[0, 1:12, 1:12], values[0, 2:11, 2:11] = 20, 0
        values[0, 7 - half : 6 + half, 7 - half : 6 + half] = 30
        mask = draw_mask(of_maps(scorer, AnomalyMaps(values)).to_dict("records"), (13, 13))
        assert mask[6, 6] == 1 and mask[1, 1] == 2 and mask[0, 0] == 0


@pytest.mark.parametrize(
    "params, error, message",
    [
        (
            dict(false_alarm_rate=0.0),
            ValueError,
            r"false_alarm_rate must be a float in the range \(0.0, 1.0\), got 0.0",
        ),
        (dict(min_area=-1), ValueError, "min_area must be a float in the range"),
        (dict(min_area=np.nan), ValueError, "min_area must be a float in the range"),
    ],
)
def test_wrong_parameters_are_refused(scorer, maps, params, error, message):
    with pytest.raises(error, match=message):
        of_maps(scorer, maps, **params)


def test_what_cannot_be_compared_is_refused(scorer, maps, tmp_path):
    for other in (ConvFeatures(), make_pipeline(ConvFeatures()), scorer):
        with pytest.raises(TypeError, match="a pipeline whose last step is a StructCoreScorer"):
            regions(other, maps)
        with pytest.raises(TypeError, match="describe needs a pipeline whose last step"):
            describe(other, maps)
        with pytest.raises(TypeError, match="describe_parts needs a pipeline whose last step"):
            describe_parts(other, maps, [1] * len(maps))
    with pytest.raises(NotFittedError, match="not fitted"):
        describe(make_structcore("efficientnet_lite0"), np.zeros((2, 64, 64), np.uint8))
    described = describe(make_pipeline(scorer), maps)
    assert described["image"].tolist() == [f"image {i}" for i in range(len(maps))]
    assert described.drop(columns="image").equals(scorer.describe(maps))
    with pytest.raises(ValueError, match="not among the images"):
        to_coco(of_maps(scorer, maps), np.zeros((1, 8, 8), np.uint8))


@pytest.mark.parametrize("table", [[1], pd.DataFrame({"image": ["a.png"]}), None])
@pytest.mark.parametrize("export", [to_coco, to_geojson])
def test_what_is_no_table_of_regions_is_not_exported(export, table):
    with pytest.raises(ValueError, match="regions must be what skstructcore"):
        export(table)


def test_maps_that_are_not_finite_have_no_regions_but_an_error(scorer):
    maps = AnomalyMaps(np.full((1, 4, 6), np.nan))
    for use in (lambda: of_maps(scorer, maps), lambda: scorer.transform(maps)):
        with pytest.raises(ValueError, match="maps holds NaN or infinity"):
            use()
