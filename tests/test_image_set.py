import pickle

import joblib
import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import KFold, train_test_split
from sklearn.utils import _safe_indexing, indexable

from skstructcore.datasets import ImageSet
from skstructcore.datasets.masks import check_masks
from skstructcore.images import read_mask


@pytest.fixture
def images():
    return ImageSet(
        ["a.png", "b.png", "c.png", "d.png"],
        ["good", "good", "crack", "stain"],
        masks=[None, None, "c_mask.png", np.ones((2, 2), bool)],
        groups=[0, 0, 1, 2],
        categories=["tile"] * 4,
        splits=["train", "test", "test", "test"],
    )


@pytest.mark.parametrize(
    "key",
    [slice(1, 3), [1, 2], np.array([1, 2]), np.array([False, True, True, False])],
    ids=["slice", "list", "int array", "bool mask"],
)
def test_everything_that_belongs_to_an_image_is_cut_with_it(images, key):
    for cut in (images[key], _safe_indexing(images, key)):
        assert isinstance(cut, ImageSet)
        assert cut.paths == ["b.png", "c.png"]
        assert list(cut.y) == ["good", "crack"]
        assert cut.masks == [None, "c_mask.png"]
        assert list(cut.groups) == [0, 1]
        assert list(cut.splits) == ["test", "test"]


def test_no_rows_are_a_set_of_no_images(images):
    assert len(images[[]]) == len(images[:0]) == 0


def test_a_mask_of_several_pages_is_an_error(tmp_path):
    pages = [Image.new("L", (4, 4), level) for level in (0, 255)]
    pages[0].save(tmp_path / "mask.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ValueError, match=r"mask.tif.*holds 2 images"):
        read_mask(tmp_path / "mask.tif")


def test_a_mask_may_be_a_list():
    images = ImageSet([np.zeros((1, 2), np.uint8)], ["crack"], masks=[[[0, 1]]])
    assert images.load_mask(0).tolist() == [[False, True]]


def test_an_integer_gives_one_image(images):
    assert images[0] == "a.png"
    assert images[np.int64(-1)] == "d.png"
    with pytest.raises(IndexError):
        images[4]


def test_the_splits_are_parts(images):
    assert images.train.paths == ["a.png"]
    assert len(images.test) == 3
    with pytest.raises(AttributeError, match="no splits"):
        ImageSet(["a.png"]).train  # noqa: B018


def test_scikit_learn_takes_it_for_an_array(images):
    indexable(images, images.y)
    folds = [(len(images[a]), len(images[b])) for a, b in KFold(2).split(images, images.y)]
    assert folds == [(2, 2), (2, 2)]
    left, right = train_test_split(images, random_state=0)
    assert isinstance(left, ImageSet) and len(left) + len(right) == 4


def test_pickles_and_hashes_by_content(images):
    copy = pickle.loads(pickle.dumps(images))
    assert copy.paths == images.paths
    assert joblib.hash(copy) == joblib.hash(images)
    assert joblib.hash(images[:3]) != joblib.hash(images)


def test_labels_default_to_good():
    assert list(ImageSet(["a.png", "b.png"]).y) == ["good", "good"]
    assert ImageSet(name for name in ["a.png", "b.png"]).paths == ["a.png", "b.png"]


def test_what_is_no_file_and_no_array_is_an_error():
    with pytest.raises(TypeError, match="paths must hold files and arrays, not <PIL"):
        ImageSet([Image.new("L", (4, 4))])


def test_a_wrong_number_of_anything_is_an_error():
    with pytest.raises(ValueError, match="masks has 1 entries for 2 images"):
        ImageSet(["a.png", "b.png"], masks=[None])
    with pytest.raises(ValueError, match="y must have one entry per image: expected 2"):
        ImageSet(["a.png", "b.png"], ["good"] * 3)


@pytest.mark.parametrize("y", [[0, 1, 1], [1, -1, -1], [False, True, True], np.array([0.0, 1, 1])])
def test_numbers_become_labels_that_say_the_same_in_every_part(y):
    images = ImageSet(np.zeros((3, 4, 4), np.uint8), y)
    assert images.y.tolist() == ["good", "anomalous", "anomalous"]
    # A part of it, here a lone good image or defect, means what it meant in the whole.
    assert images[:1].y.tolist() == ["good"] and images[1:2].y.tolist() == ["anomalous"]
    assert repr(images) == "ImageSet(n_images=3, good=1, anomalous=2)"
    # Good images need no mask, defects without a mask have none.
    assert not images.load_mask(0).any() and images.load_mask(1) is None


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["good", 1], "types"),
        (["good", np.nan], "empty label for image 1"),
        ([1, 1], "nothing but 1"),
    ],
)
def test_labels_that_may_be_read_in_two_ways_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        ImageSet(["a.png", "b.png"], y)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"paths": "parts"}, "paths must be a list of images, not 'parts'"),
        ({"y": [["good"], ["hole"]]}, "y must have one entry per image"),
        ({"y": "good"}, "y must have one entry per image"),
        ({"groups": "ab"}, "groups must have one entry per image"),
        ({"groups": [[1, 2], [3, 4]]}, "groups must have one entry per image"),
        ({"categories": ["nut"]}, "categories must have one entry per image"),
    ],
)
def test_what_is_not_one_entry_an_image_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        ImageSet(**{"paths": ["a.png", "b.png"], **settings})


def test_names_beside_numbers_stay_what_they_are():
    # numpy alone would make the strings "nan" and "1" of them.
    images = ImageSet(["a.png", "b.png"], groups=["lot", np.nan], categories=["nut", 1])
    assert images.groups[1] is np.nan and images.categories[1] == 1


@pytest.fixture
def drawn(tmp_path):
    """A square of 6 x 6 in 24 x 24 pixels, and what writes it as a file."""
    mask = np.zeros((24, 24), bool)
    mask[8:14, 10:16] = True

    def write(values, name="m.png", **options):
        path = tmp_path / name
        (values if isinstance(values, Image.Image) else Image.fromarray(values)).save(
            path, **options
        )
        return path

    return mask, write


def test_masks_of_every_coding_mark_the_same_pixels(drawn):
    mask, write = drawn
    grey = mask.astype(np.uint8)
    for value in (1, 3, 255):
        np.testing.assert_array_equal(read_mask(write(value * grey)), mask)
    np.testing.assert_array_equal(read_mask(write(65535 * mask.astype(np.uint16))), mask)
    np.testing.assert_array_equal(~read_mask(write(255 - 255 * grey)), mask)
    np.testing.assert_array_equal(read_mask(write(Image.fromarray(255 * grey).convert("1"))), mask)
    for colours in ("CMYK", "YCbCr"):  # of which black is not stored as zeros
        drawing = Image.fromarray(255 * grey).convert("RGB").convert(colours)
        np.testing.assert_array_equal(read_mask(write(drawing, "m.tif")), mask)
    palette = Image.fromarray(grey).convert("P")
    np.testing.assert_array_equal(read_mask(write(palette)), mask)
    # Classes: all that are not 0 count, be they ever so near to it.
    classes = grey.copy()
    classes[8:14, 12:16] = 9
    np.testing.assert_array_equal(read_mask(write(classes)), mask)
    # Cut out: white everywhere, transparent where there is no defect.
    cut_out = np.full((24, 24, 4), 255, np.uint8)
    cut_out[..., 3] = 255 * grey
    np.testing.assert_array_equal(read_mask(write(cut_out)), mask)
    # Drawn in red on an opaque image.
    colour = np.zeros((24, 24, 4), np.uint8)
    colour[..., 0], colour[..., 3] = 255 * grey, 255
    np.testing.assert_array_equal(read_mask(write(colour)), mask)


def test_a_mask_is_read_as_images_are(drawn, tmp_path):
    mask, write = drawn
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    turned = write(255 * mask[:20].astype(np.uint8), exif=exif)
    np.testing.assert_array_equal(read_mask(turned), np.rot90(mask[:20], -1))
    np.save(tmp_path / "m.npy", mask.astype(np.uint8))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.npy"), mask)


@pytest.mark.parametrize("quality", [30, 60, 95])
def test_the_ringing_of_a_jpeg_is_no_defect(drawn, quality, caplog):
    mask, write = drawn
    path = write(255 * mask.astype(np.uint8), "m.jpg", quality=quality)
    if quality < 90:
        assert (np.asarray(Image.open(path)) > 0).sum() > mask.sum() + 10
    np.testing.assert_array_equal(read_mask(path), mask)
    assert "has more than two values (a JPEG)" in caplog.text
    assert not read_mask(write(np.zeros((24, 24), np.uint8), "m.jpg")).any()
    with pytest.raises(ValueError, match=r"m.jpg.*: it is a JPEG with values up to \d+, which may"):
        read_mask(write(20 * mask.astype(np.uint8), "m.jpg"))


def test_soft_edges_count_from_half_on_with_a_word(drawn, caplog):
    _, write = drawn
    ramp = np.tile(np.arange(0, 240, 10, dtype=np.uint8), (24, 1))
    np.testing.assert_array_equal(read_mask(write(ramp)), ramp > 115)
    assert "soft edges" in caplog.text


def test_numbers_of_regions_all_count(drawn, caplog):
    _, write = drawn
    regions = np.zeros((24, 24), np.uint8)
    regions[::4, ::4] = np.arange(1, 37).reshape(6, 6)
    np.testing.assert_array_equal(read_mask(write(regions)), regions > 0)
    np.testing.assert_array_equal(read_mask(write(3 * regions)), regions > 0)  # with gaps
    np.testing.assert_array_equal(read_mask(write(regions, "m.tif")), regions > 0)
    many = np.arange(24 * 24, dtype=np.uint16).reshape(24, 24)
    np.testing.assert_array_equal(read_mask(write(many)), many > 0)
    palette = Image.fromarray(7 * regions, mode="L")
    palette.putpalette(np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes())
    assert palette.mode == "P"
    np.testing.assert_array_equal(read_mask(write(palette)), regions > 0)
    assert not caplog.text
    shares = (many / many.max()).astype(np.float32)  # of a program that draws soft edges
    np.testing.assert_array_equal(read_mask(write(shares, "m.tif")), many > many.max() / 2)


@pytest.mark.parametrize("mask", [np.full((4, 4), np.nan), np.full((4, 4), "x")])
def test_a_mask_of_no_numbers_is_an_error(mask):
    images = ImageSet(np.zeros((1, 4, 4), np.uint8), ["hole"], masks=[mask])
    with pytest.raises(ValueError, match="the mask of image 0 holds values that are no finite"):
        images.load_mask(0)
    with pytest.raises(ValueError, match="the mask of image 0 holds values"):
        check_masks(images)
