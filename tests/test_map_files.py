"""Maps, overlays and masks as files."""

import json
import os
import shutil

import joblib
import numpy as np
import pytest
from PIL import Image
from sklearn.exceptions import NotFittedError

from skstructcore import make_structcore, save, save_maps
from skstructcore.datasets import load_images
from skstructcore.images import as_images, place_on_image
from skstructcore.lifecycle import recalibrate


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    root = tmp_path_factory.mktemp("parts")
    pixels = np.random.default_rng(0).integers(90, 140, (14, 48, 80), dtype=np.uint8)
    pixels[12:, 10:30, 20:50] = 255
    for i, values in enumerate(pixels):
        path = root / ("good" if i < 12 else "day/new") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
    return root


@pytest.fixture(scope="module")
def pipe(parts):
    options = {"features__image_size": 64, "features__crop": 64, "bank__ratio": 0.1}
    pipe = make_structcore("efficientnet_lite0", **options)
    return pipe.fit(sorted(map(str, (parts / "good").iterdir())))


def files(parts):
    return [str(parts / "good/0.png"), str(parts / "day/new/12.png"), str(parts / "day/new/13.png")]


def test_a_map_has_the_size_of_its_image_and_its_values_come_back(pipe, parts, tmp_path):
    places = {kind: tmp_path / kind for kind in ("overlays", "masks")}
    assert save_maps(pipe, files(parts), tmp_path / "maps", **places, shard_size=2) == {}
    note = json.loads((tmp_path / "maps/scale.json").read_text())
    counts = np.asarray(Image.open(tmp_path / "maps/day/new/12.png"))
    assert counts.shape == (48, 80) and counts.dtype == np.uint16
    maps = pipe[:-1].transform(files(parts)[1:2])
    expected = place_on_image(pipe[-1].transform(maps)[0], maps.geometry, 0)
    outside = np.isnan(expected)
    assert 0 < outside.sum() == (counts == note["not_seen"]).sum()
    np.testing.assert_allclose(
        (counts[~outside] - 1.0) * note["unit"], expected[~outside], atol=note["unit"]
    )
    mask = np.asarray(Image.open(tmp_path / "masks/day/new/12.png"))
    assert mask[20, 35] == 1 and mask.shape == (48, 80)
    assert not np.asarray(Image.open(tmp_path / "masks/good/0.png")).any()
    overlay = np.asarray(Image.open(tmp_path / "overlays/day/new/12.png"))
    red, _, blue = np.moveaxis(overlay, -1, 0)
    assert red[20, 35] > blue[20, 35] + 50 and (red == blue)[outside].all()


def test_a_run_goes_on_and_nothing_foreign_is_replaced(pipe, parts, tmp_path):
    folder = tmp_path / "maps"
    save_maps(pipe, files(parts), folder)
    kept, lost = folder / "good/0.png", folder / "day/new/12.png"
    stamp = kept.stat().st_mtime_ns
    lost.unlink()
    save_maps(pipe, files(parts), folder)
    assert kept.stat().st_mtime_ns == stamp and lost.exists()
    (folder / "scale.json").write_text("{}")
    with pytest.raises(OSError, match="another model"):
        save_maps(pipe, files(parts), folder)
    with pytest.raises(ValueError, match="shard_size must be an int in the range"):
        save_maps(pipe, files(parts), tmp_path / "other", shard_size=0)
    with pytest.raises(OSError, match=r"files of something else, which are kept"):
        save_maps(pipe, files(parts), parts / "good")


def test_a_map_is_that_of_the_image_that_is_there_now(pipe, parts, tmp_path):
    image, folder = tmp_path / "a.png", tmp_path / "maps"
    shutil.copy(parts / "good/0.png", image)
    save_maps(pipe, [str(image)], folder)
    before = (folder / "a.png").read_bytes()
    shutil.copy(parts / "day/new/12.png", image)
    os.utime(image, ns=(0, 0))  # another image, older than the map
    save_maps(pipe, [str(image)], folder)
    save_maps(pipe, [str(image)], tmp_path / "own")
    assert before != (folder / "a.png").read_bytes() == (tmp_path / "own/a.png").read_bytes()


def test_maps_of_arrays_are_those_of_the_last(pipe, parts, tmp_path):
    first, second = (np.asarray(Image.open(file)) for file in files(parts)[:2])
    for values, folder in ((first, "maps"), (second, "maps"), (second, "own")):
        save_maps(pipe, [values], tmp_path / folder)
    drawn = [(tmp_path / folder / "image 0.png").read_bytes() for folder in ("maps", "own")]
    assert drawn[0] == drawn[1]


def test_maps_of_a_recalibrated_model_are_those_of_another(pipe, parts, tmp_path):
    save_maps(pipe, files(parts), tmp_path / "maps")
    with pytest.raises(OSError, match="files of another model"):
        save_maps(recalibrate(pipe, false_alarm_rate=0.2), files(parts), tmp_path / "maps")


def test_images_that_cannot_be_read_cost_no_others_their_map(pipe, parts, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    failed = save_maps(pipe, [*files(parts), str(broken)], tmp_path / "maps")
    assert list(failed) == [str(broken)] and "no image file" in failed[str(broken)]
    assert len(list((tmp_path / "maps").rglob("*.png"))) == 3


def test_a_saved_model_writes_the_same_maps_on_several_cores(pipe, parts, tmp_path):
    save_maps(pipe, files(parts), tmp_path / "one")
    save(pipe, tmp_path / "model")
    with joblib.parallel_config(backend="threading", n_jobs=2):
        save_maps(tmp_path / "model", files(parts), tmp_path / "two", shard_size=1)
    written = sorted(path for path in (tmp_path / "one").rglob("*.*"))
    assert len(written) == 4
    for path in written:
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert other.read_bytes() == path.read_bytes()


def test_names_that_differ_by_their_suffix_stay_apart(pipe, parts, tmp_path):
    def written(*names):
        for name in names:
            Image.open(parts / "good/0.png").save(tmp_path / name)
        folder = tmp_path / f"maps of {len(names)}"
        save_maps(pipe, [str(tmp_path / name) for name in names], folder)
        return sorted(path.name for path in folder.glob("*.png"))

    assert written("a.png") == ["a.png"]
    assert written(*["b.png"] * 5) == ["b.png"]  # one image, listed again
    assert written("a.png", "a.bmp") == ["a.bmp.png", "a.png.png"]
    assert len(written("a.png", "a.jpg", "a.png.bmp")) == 3
    assert len(written("a.jpg", "b.png", "a.jpg.png", "c.png")) == 4


def test_squared_distances_are_not_cut_short_earlier(tmp_path):
    """Values of a defect, a few times the distance of the threshold, have a count of their own."""
    photos = np.random.default_rng(0).integers(100, 140, (25, 48, 48), dtype=np.uint8)
    photos[24, 10:40, 10:40] = 255
    options = {"features__image_size": 48, "bank__ratio": 0.1, "preset": "paper"}
    pipe = make_structcore("efficientnet_lite0", **options).fit(photos[:24])
    save_maps(pipe, photos[24:], tmp_path / "maps")
    note = json.loads((tmp_path / "maps/scale.json").read_text())
    counts = np.asarray(Image.open(tmp_path / "maps/image 0.png")).astype(int)
    largest = pipe.transform(photos[24:]).max()
    assert largest > 8 * note["thresholds"]["all"]
    assert (counts.max() - 1) * note["unit"] == pytest.approx(largest, rel=1e-3)


def test_what_makes_no_maps_is_named(pipe, parts, tmp_path):
    for wrong, error, message in [
        ("no such model", FileNotFoundError, "no such model"),
        (make_structcore("efficientnet_lite0"), NotFittedError, "is not fitted"),
        (pipe[1:], TypeError, "save_maps takes images, but this pipeline begins with Random"),
    ]:
        with pytest.raises(error, match=message):
            save_maps(wrong, files(parts), tmp_path / "maps")
    assert not (tmp_path / "maps").exists()


def test_pages_have_files_of_their_own(pipe, parts, tmp_path):
    frames = [Image.open(path) for path in files(parts)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    save_maps(pipe, as_images([str(tmp_path / "a.tif")], pages="all"), tmp_path / "maps")
    found = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert found == ["a[0].png", "a[1].png", "a[2].png", "scale.json"]


def test_images_of_another_folder_do_not_pass_for_those_that_are_done(pipe, parts, tmp_path):
    for day in ("mon", "tue"):
        (tmp_path / day).mkdir()
        Image.open(files(parts)[0]).save(tmp_path / day / "1.png")
    save_maps(pipe, [str(tmp_path / "mon/1.png")], tmp_path / "maps")
    with pytest.raises(OSError, match="or of other images, or"):
        save_maps(pipe, [str(tmp_path / "tue/1.png")], tmp_path / "maps")
    with pytest.raises(ValueError, match="map and overlay files need folders of their own"):
        save_maps(pipe, files(parts), tmp_path / "m", overlays=tmp_path / "m")


def test_maps_that_lie_among_the_images_are_no_images(pipe, parts, tmp_path, caplog):
    for name in "ab":
        Image.open(files(parts)[0]).save(tmp_path / f"{name}.png")
    save_maps(pipe, [str(tmp_path / "a.png"), str(tmp_path / "b.png")], tmp_path / "maps")
    assert len(load_images(tmp_path)) == 2
    assert "Left out the maps in" in caplog.text


def test_an_overlay_is_drawn_by_the_threshold_of_its_own_route(tmp_path):
    rng = np.random.default_rng(0)
    calm = rng.integers(100, 108, (8, 48, 48), dtype=np.uint8)
    wild = rng.integers(0, 256, (8, 48, 48), dtype=np.uint8)
    pipe = make_structcore("efficientnet_lite0", features__image_size=48, bank__ratio=0.2)
    X, products = np.concatenate([calm, wild]), ["calm"] * 8 + ["wild"] * 8
    pipe.fit(X, bank__categories=products)
    save_maps(pipe, X[[0, 8]], tmp_path / "maps", overlays=tmp_path / "over")
    note = json.loads((tmp_path / "maps/scale.json").read_text())
    assert note["unit"] == max(note["thresholds"].values()) / 8191
    for i, product in enumerate(("calm", "wild")):
        counts = np.asarray(Image.open(tmp_path / f"maps/image {i}.png")).astype(float)
        share = (counts - 1) * note["unit"] / note["thresholds"][product]
        shown = X[8 * i].astype(float)
        red = shown + 0.65 * np.clip(share - 0.5, 0, 1) * (213 - shown)
        drawn = np.asarray(Image.open(tmp_path / f"over/image {i}.png"))[..., 0]
        np.testing.assert_allclose(drawn, red, atol=1)


@pytest.mark.parametrize(("dtype", "white"), [(np.float32, 1), (np.uint16, 1020)])
def test_an_overlay_shows_deep_images_as_the_model_sees_them(tmp_path, dtype, white):
    levels = np.random.default_rng(0).integers(100, 108, (9, 48, 48))
    X = (levels / 255 * white).astype(dtype)
    pipe = make_structcore("efficientnet_lite0", features__image_size=48, bank__ratio=0.2,
                           features__window=(0, white)).fit(X[:8])  # fmt: skip
    assert save_maps(pipe, X[8:], tmp_path / "maps", overlays=tmp_path / "over") == {}
    note = json.loads((tmp_path / "maps/scale.json").read_text())
    counts = np.asarray(Image.open(tmp_path / "maps/image 0.png")).astype(float)
    share = (counts - 1) * note["unit"] / note["thresholds"]["all"]
    blue = levels[8] * (1 - 0.65 * np.clip(share - 0.5, 0, 1))  # vermilion has none
    drawn = np.asarray(Image.open(tmp_path / "over/image 0.png"))[..., 2]
    np.testing.assert_allclose(drawn, blue, atol=1)


def test_what_was_asked_for_is_checked_also_where_nothing_is_to_be_drawn(parts, pipe, tmp_path):
    with pytest.raises(ValueError, match="Give a folder for maps, overlays= or masks="):
        save_maps(pipe, files(parts), None)
    assert save_maps(pipe, files(parts), tmp_path) == save_maps(pipe, files(parts), tmp_path) == {}
    with pytest.raises(ValueError, match="on_error must be"):
        save_maps(pipe, files(parts), tmp_path, on_error="never")
