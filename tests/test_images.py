"""Reading images: every kind of file comes out as the upright RGB that a viewer shows."""

import io
import os
import pickle
import re
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from skstructcore import ConvFeatures
from skstructcore.datasets import ImageSet
from skstructcore.images import (
    ImageReadError,
    as_images,
    find_unreadable,
    list_images,
    read_mask,
)
from skstructcore.images.geometry import Framing


@pytest.fixture
def rgb():
    """A picture without symmetry: 4 rows, 6 columns."""
    return np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def read(X, i=0):
    return np.asarray(as_images(X).read(i))


def saved(folder, image, name="image.png", **options):
    path = folder / name
    image.save(path, **options)
    return str(path)


def test_folder_gives_its_image_files_sorted(tmp_path, rgb):
    for name in ("b.png", "A.JPG", "c.tif"):
        saved(tmp_path, Image.fromarray(rgb), name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "deeper").mkdir()
    saved(tmp_path / "deeper", Image.fromarray(rgb), "d.png")
    names = [path.rsplit("/", 1)[1] for path in list_images(tmp_path)]
    assert names == ["A.JPG", "b.png", "c.tif"]
    assert len(as_images(str(tmp_path))) == 3


def test_folder_without_images_says_where_they_may_be(tmp_path):
    (tmp_path / "good").mkdir()
    with pytest.raises(ValueError, match=r"No image files .* has folders \(good, \.\.\.\)"):
        as_images(tmp_path)


def test_one_file_or_one_image_is_not_a_list(tmp_path, rgb):
    path = saved(tmp_path, Image.fromarray(rgb))
    with pytest.raises(ValueError, match=r"one file: pass a list, \[path\]"):
        as_images(path)
    with pytest.raises(ValueError, match=r"not a folder of images. It does not exist"):
        as_images(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"pass \[image\]"):
        as_images(Image.fromarray(rgb))
    with pytest.raises(ValueError, match=r"one colour image: pass it in a list, \[image\]"):
        as_images(rgb)


@pytest.mark.parametrize("kind", ["path", "Path", "PIL", "array", "stack", "ImageSet", "strings"])
def test_all_kinds_of_input_give_the_same_pixels(kind, tmp_path, rgb):
    path = saved(tmp_path, Image.fromarray(rgb))
    X = {
        "path": [path],
        "Path": [tmp_path / "image.png"],
        "PIL": [Image.open(path)],
        "array": [rgb],
        "stack": rgb[np.newaxis],
        "ImageSet": ImageSet([path], ["good"]),
        "strings": np.array([path]),
    }[kind]
    np.testing.assert_array_equal(read(X), rgb)
    assert as_images(X).sizes().tolist() == [[4, 6]]


def test_grey_arrays_become_rgb_of_equal_channels(rgb):
    grey = rgb[..., 0]
    expected = np.stack([grey] * 3, axis=-1)
    for X in ([grey], grey[np.newaxis], [grey[..., np.newaxis]], grey[np.newaxis, ..., np.newaxis]):
        np.testing.assert_array_equal(read(X), expected)


def test_images_of_different_sizes_keep_them(rgb):
    images = as_images([rgb, rgb[:2, :, 0], Image.fromarray(rgb[:, :1])])
    assert images.sizes().tolist() == [[4, 6], [2, 6], [4, 1]]
    assert [images.read(i).size for i in range(3)] == [(6, 4), (6, 2), (1, 4)]


def test_palette_with_a_transparent_colour_lies_on_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    path = saved(tmp_path, image, transparency=1)
    assert read([path]).tolist() == [[[10, 20, 30], [255, 255, 255]]]
    opaque = saved(tmp_path, image, "opaque.png")
    assert read([opaque]).tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_alpha_is_composed_on_white(tmp_path):
    rgba = np.array([[[0, 0, 0, 255], [0, 0, 0, 0], [0, 100, 200, 51]]], dtype=np.uint8)
    # 20 % of the colour and 80 % of white: 204, 0.2 * 100 + 204 = 224, 0.2 * 200 + 204 = 244
    expected = [[[0, 0, 0], [255, 255, 255], [204, 224, 244]]]
    assert read([saved(tmp_path, Image.fromarray(rgba))]).tolist() == expected
    assert read([rgba]).tolist() == expected
    la = Image.fromarray(np.array([[[0, 0], [100, 51]]], dtype=np.uint8), "LA")
    assert read([saved(tmp_path, la, "la.png")]).tolist() == [[[255] * 3, [224] * 3]]


def test_cmyk_becomes_rgb(tmp_path):
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # no cyan, all magenta and yellow: red
    red = read([saved(tmp_path, cmyk, "red.tif")])
    assert red[0, 0].tolist() == [255, 0, 0]
    assert np.abs(read([saved(tmp_path, cmyk, "red.jpg")]) - [254, 0, 0]).max() < 6


def test_black_and_white_files_are_read(tmp_path):
    image = Image.fromarray(np.array([[False, True]]))
    assert read([saved(tmp_path, image)]).tolist() == [[[0] * 3, [255] * 3]]


# How each EXIF orientation is undone, by the definition of the tag.
ORIENTATIONS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("name", ["turned.png", "turned.tif", "turned.jpg", "turned.webp"])
def test_exif_rotated_files_come_out_upright(orientation, name, tmp_path):
    stored = np.repeat(np.repeat(np.eye(4, 6, k=1, dtype=np.uint8) * 200, 8, 0), 8, 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(stored), name, exif=exif)
    upright = ORIENTATIONS[orientation](stored)
    # Pillow itself reads a lying, uncompressed TIFF wrongly when it is opened by name.
    for X in ([path], [Image.open(path)]) if name != "turned.tif" else ([path],):
        found = read(X)
        assert found.shape[:2] == upright.shape
        assert np.abs(found[..., 0].astype(int) - upright).mean() < 8  # lossy formats
        assert as_images(X).sizes().tolist() == [list(upright.shape)]


def test_orientation_behind_the_pixels_of_a_png_counts(tmp_path, rgb):
    """The chunk may stand after the image data; the header is read without decoding them."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "png", exif=exif)
    content = buffer.getvalue()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    chunk, rest = content[start:end], content[:start] + content[end:]
    path = tmp_path / "late.png"
    path.write_bytes(rest[:-12] + chunk + rest[-12:])
    assert as_images([path]).sizes().tolist() == [[6, 4]]
    np.testing.assert_array_equal(read([path]), np.rot90(rgb, -1))


def test_pixels_of_a_png_are_not_looked_at_for_its_header(tmp_path):
    """Stored as they are, they spell the name of a chunk; half of them are lost."""
    pixels = np.full((64, 64, 4), np.frombuffer(b"eXIf", np.uint8))
    path = tmp_path / "half.png"
    Image.fromarray(pixels).save(path, compress_level=0)
    path.write_bytes(path.read_bytes()[:9000])
    assert as_images([path]).sizes().tolist() == [[64, 64]]


@pytest.fixture
def damaged(tmp_path, rgb):
    """Good, missing, truncated, no image, empty, a folder, good."""
    good = saved(tmp_path, Image.fromarray(rgb), "good.png")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    truncated = tmp_path / "truncated.jpg"
    Image.fromarray(noise).save(truncated)
    truncated.write_bytes(truncated.read_bytes()[:-2000])
    text = tmp_path / "text.png"
    text.write_text("no image")
    empty = tmp_path / "empty.png"
    empty.touch()
    return [good, str(tmp_path / "missing.png"), truncated, text, empty, tmp_path, good]


@pytest.mark.parametrize(
    ("position", "reason"),
    [
        (1, "missing.png' .position 1 in the list.: there is no such file"),
        (2, "truncated.jpg' .position 2 in the list.: image file is truncated"),
        (3, "text.png' .position 3 in the list.: it is no image file that Pillow knows"),
        (4, "empty.png' .position 4 in the list.: it is no image file: the file is empty"),
        (5, "' .position 5 in the list.: it is a folder"),
    ],
)
def test_unreadable_files_are_named_with_their_position(damaged, position, reason):
    with pytest.raises(ImageReadError, match=reason):
        read(damaged, position)
    with pytest.raises(ImageReadError, match=reason):  # a subset knows the position in the whole
        as_images(damaged)[[position]].read(0)


def test_report_lists_all_unreadable_files(damaged):
    report = find_unreadable(damaged)
    assert [entry.position for entry in report] == [1, 2, 3, 4, 5]
    assert report[0].name == damaged[1]
    assert report[0].reason == "there is no such file"
    # The header of the truncated file is in order.
    assert [e.position for e in find_unreadable(damaged, decode=False)] == [1, 3, 4, 5]
    assert find_unreadable([damaged[0]]) == []


def test_arrays_of_names_are_names(tmp_path):
    path = str(tmp_path / "missing.png")
    types = [np.str_, object] + (
        [np.dtypes.StringDType()] if hasattr(np.dtypes, "StringDType") else []
    )
    for dtype in types:
        [entry] = find_unreadable(np.array([path], dtype))
        assert entry == (0, path, "there is no such file")
        with pytest.raises(ImageReadError, match=f"^Cannot read image {re.escape(repr(path))} "):
            read(np.array([path], dtype))


def test_read_error_survives_another_process(damaged):
    with pytest.raises(ImageReadError) as error:
        read(damaged, 1)
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([], "list of images is empty"),
        (np.zeros((0, 4, 4), np.uint8), "list of images is empty"),
        (np.zeros((2, 4, 4, 3), complex), "array of complex128; convert it to uint8"),
        (np.zeros((2, 4, 5), object), "Image 0 is an array of object; convert it to uint8"),
        (np.zeros((4, 4), np.uint8), r"shape \(n, h, w\) or \(n, h, w, 3\), got \(4, 4\)"),
        ([np.zeros((4, 4, 3, 1), np.uint8)], r"Image 0 is an array of shape \(4, 4, 3, 1\)"),
        ([np.zeros((4, 4), np.uint8), np.zeros((0, 4), np.uint8)], "Image 1 .* at least one pixel"),
        ([np.zeros((4, 4), np.uint8), None], "Image 1 is of type NoneType"),
        (7, "must be a folder, a sequence or an array, not int"),
    ],
)
def test_what_is_no_image_is_refused(X, message):
    with pytest.raises(ValueError, match=message):
        as_images(X)


def test_digest_follows_content_not_name(tmp_path, rgb):
    first = saved(tmp_path, Image.fromarray(rgb), "first.png")
    same = saved(tmp_path, Image.fromarray(rgb), "same.png")
    images = as_images([first, same, rgb, rgb.copy(), rgb[::-1]])
    digests = [images.digest(i) for i in range(5)]
    assert digests[0] == digests[1]
    assert digests[2] == digests[3] != digests[4]
    saved(tmp_path, Image.fromarray(rgb[::-1]), "first.png")
    assert as_images([first]).digest(0) != digests[0]


def test_digest_follows_the_transparent_value_of_16_bits():
    opaque, transparent = (Image.fromarray(np.full((4, 4), 7, np.uint16)) for _ in range(2))
    transparent.info["transparency"] = 7
    images = as_images([opaque, transparent])
    assert images.digest(0) != images.digest(1)


def test_subsets_pickle_and_hash_stably(rgb):
    images = as_images(["a.png", "b.png", rgb])
    assert [images[[2, 0]].name(i) for i in range(2)] == ["<ndarray>", "'a.png'"]
    assert len(images[np.array([True, False, True])]) == 2
    assert joblib.hash(images) == joblib.hash(pickle.loads(pickle.dumps(images)))


def test_whole_image_is_the_default_box():
    assert Framing((64, 64)).box((100, 200)) == (0, 0, 100, 200)


def test_crop_of_the_paper_by_hand():
    # 448 x 896 after the resize by 0.5; the crop of 392 starts at (28, 252), in the original at
    # (56, 504), and is 784 long there.
    assert Framing((392, 392), 448, True).box((896, 1792)) == (56, 504, 840, 1288)


def test_crop_without_resize_covers_the_input():
    # The smallest scale that covers 50 x 50 is 0.5: 50 x 100; the middle is cut out.
    assert Framing((50, 50), None, True).box((100, 200)) == (0, 50, 100, 150)


@given(st.tuples(*[st.integers(1, 500)] * 2), st.tuples(*[st.integers(1, 300)] * 2))
def test_crop_lies_in_the_image_and_keeps_the_aspect_ratio(size, target):
    top, left, bottom, right = Framing(target, None, True).box(size)
    assert -1e-9 <= top < bottom <= size[0] + 1e-9
    assert -1e-9 <= left < right <= size[1] + 1e-9
    # One axis fits exactly; the other is off by the rounding to whole pixels, half a pixel.
    scaled = max(t / s for t, s in zip(target, size, strict=True)) * np.array(size)
    factors = np.array([target[0] / (bottom - top), target[1] / (right - left)])
    assert (np.abs(factors * size - scaled) <= 0.5 + 1e-6).all()


@pytest.mark.parametrize("crop", [(0.1, 0.1, 1.05, 0.9), [(0, 0), (1.2, 0), (0.5, 1)]])
def test_a_crop_of_shares_ends_at_the_border(crop):
    features = ConvFeatures(image_size=64, crop=crop)
    with pytest.raises(ValueError, match="from 0 to 1 as shares"):
        features.fit(np.zeros((2, 64, 64, 3), np.uint8))


def test_crop_that_does_not_fit_names_the_image(tmp_path, rgb):
    path = saved(tmp_path, Image.fromarray(rgb))
    with pytest.raises(ImageReadError, match=r"image.png.*crop=8, is smaller than image_size=\(9"):
        as_images([path]).box(0, Framing((9, 9), 8, True))


def test_pixels_are_those_of_resize_then_crop():
    smooth = np.linspace(0, 255, 90 * 60).reshape(90, 60)
    X = np.stack([smooth, smooth[::-1], smooth[:, ::-1]], axis=-1).astype(np.uint8)
    found = as_images([X]).pixels(0, Framing((32, 40), 45, True))
    # By the book: shorter side 60 -> 45, 90 -> 67; crop from (round(17.5), round(2.5)).
    whole = Image.fromarray(X).resize((45, 67), Image.Resampling.BILINEAR)
    expected = np.asarray(whole.crop((2, 18, 42, 50)))
    assert found.shape == (32, 40, 3)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_reduction_does_not_alias():
    stripes = np.zeros((1, 256, 256), np.uint8)
    stripes[:, :, ::2] = 255
    found = as_images(stripes).pixels(0, Framing((32, 32)))  # at the border the filter is cut off
    assert np.ptp(found[1:-1, 1:-1]) <= 1


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("rule", [(None, False), (70, True)])
def test_large_jpegs_give_the_same_pixels_however_they_come(orientation, rule, tmp_path):
    """A reduced decoding, possible for paths only, would make another picture of them."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 90), dtype=np.uint8)
    photo = Image.fromarray(noise).resize((904, 600), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, photo, "photo.jpg", exif=exif, quality=95)
    upright = np.asarray(as_images([path]).read(0))
    images = as_images([path, Image.open(path), upright])
    path_pixels, *others = (images.pixels(i, Framing((64, 48), *rule)) for i in range(3))
    for pixels in others:
        np.testing.assert_array_equal(pixels, path_pixels)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_orientations_that_do_not_exist_are_ignored(orientation, tmp_path, rgb):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(rgb), exif=exif)
    assert as_images([path]).sizes().tolist() == [[4, 6]]
    np.testing.assert_array_equal(read([path]), rgb)


def test_files_of_a_folder_that_are_left_out_are_told(tmp_path, rgb, caplog):
    for name in ("a.png", "b.jfif", "c.TGA"):
        Image.fromarray(rgb).save(tmp_path / name, {"a": "png", "b": "jpeg", "c": "tga"}[name[0]])
    (tmp_path / "d.png").symlink_to("nothing")
    for name in ("raw.cr2", "readme.txt", ".hidden", "._a.png"):  # the last as Macs write it
        (tmp_path / name).touch()
    images = as_images(tmp_path)
    assert [Path(item).name for item in images.items] == ["a.png", "b.jfif", "c.TGA", "d.png"]
    assert "left out: 1 .cr2" in caplog.text and "raw.cr2'" in caplog.text
    assert [(r.position, r.reason) for r in find_unreadable(images)] == [
        (3, "there is no such file")
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_an_error_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    images = as_images(tmp_path)
    for use in (images.read, images.size, images.digest):
        with pytest.raises(ImageReadError, match=r"pipe\.png.*it is no regular file"):
            use(0)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([np.ma.array(np.zeros((4, 4), np.uint8), mask=np.eye(4))], "Image 0 is a masked array"),
        (pd.DataFrame({"file": ["a.png"], "lot": [1]}), "not a table with columns"),
        (torch.zeros(2, 4, 4), r"NumPy arrays, not a torch.Tensor: pass np.asarray\(images\)"),
    ],
)
def test_what_would_lose_a_part_of_itself_is_refused(X, message):
    with pytest.raises(ValueError, match=message):
        as_images(X)


@pytest.mark.parametrize("shape", [(), (1, 1)])
def test_an_array_of_names_has_one_axis(shape):
    with pytest.raises(ValueError, match="one axis, an image each; got shape"):
        as_images(np.full(shape, "a.png"))


@pytest.mark.parametrize("X", [{"a.png"}, frozenset({"a.png"}), {"a.png": 1}, {"a": 1}.keys()])
def test_images_without_an_order_are_refused(X):
    with pytest.raises(ValueError, match="must come in an order"):
        as_images(X)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_place_of_a_mask_is_an_error_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "mask.png")
    with pytest.raises(ImageReadError, match=r"mask\.png.*it is no regular file"):
        read_mask(tmp_path / "mask.png")


def test_values_that_only_a_model_can_read_are_no_damage(tmp_path):
    # With a window or channels a model takes them; whether they are whole can be told without.
    for name, values in {
        "floats.tif": np.linspace(0, 1, 300, dtype=np.float32).reshape(15, 20),
        "deep.tif": np.arange(300, dtype=np.int32).reshape(15, 20) * 1000,
    }.items():
        Image.fromarray(values).save(tmp_path / name)
        assert find_unreadable([tmp_path / name]) == []
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:-100])
        assert len(find_unreadable([tmp_path / name])) == 1


def test_a_table_of_one_column_is_that_column():
    table = pd.DataFrame({"path": ["a.png", "b.png"]}, index=[7, 3])
    assert as_images(table).items == as_images(table["path"]).items == ["a.png", "b.png"]


def test_a_fault_of_the_program_is_no_fault_of_the_image(tmp_path, monkeypatch):
    def spoiled(*arguments):
        raise AttributeError("no such name")

    whole, damaged = tmp_path / "a.png", tmp_path / "b.png"
    Image.new("RGB", (40, 40)).save(whole)
    damaged.write_bytes(whole.read_bytes()[:60])
    monkeypatch.setattr("skstructcore.images.image_list.scaled_pixels", spoiled)
    images = as_images([whole, damaged])
    with pytest.raises(AttributeError, match="no such name"):
        images.pixels(0, Framing((8, 8)))
    with pytest.raises(ImageReadError, match=r"b\.png"):
        images.pixels(1, Framing((8, 8)))
