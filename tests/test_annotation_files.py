"""Annotations of the usual programs: written here, with the mask that they mean."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from skstructcore.datasets import DatasetError, load_annotated, load_images

# A box of 4 columns and 3 rows in an image of 12 x 20 pixels.
MASK = np.zeros((12, 20), bool)
MASK[4:7, 5:9] = True
CORNERS = [[5, 4], [9, 4], [9, 7], [5, 7]]
RUNS = np.flatnonzero(np.diff(np.r_[False, MASK.T.ravel(), False]))
LABELME = {"imageHeight": 12, "imageWidth": 20}
VOC = """<annotation><object><name>dent</name><bndbox><xmin>6</xmin><ymin>5</ymin><xmax>9</xmax>
<ymax>7</ymax></bndbox></object></annotation>"""


SIZE = "<size><width>12</width><height>20</height></size>"


def labelme(points, kind):
    return json.dumps(
        {**LABELME, "shapes": [{"label": "dent", "points": points, "shape_type": kind}]}
    )


def coco(**shape):
    return json.dumps(
        {
            "images": [{"id": 1, "file_name": "bad.png"}, {"id": 2, "file_name": "ok.png"}],
            "categories": [{"id": 7, "name": "dent"}],
            "annotations": [{"image_id": 1, "category_id": 7, **shape}],
        }
    )


@pytest.fixture
def folder(tmp_path):
    for name in ("bad", "ok"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.new("L", (20, 12)).save(tmp_path / f"photos/{name}.png")
    return tmp_path / "photos"


def test_all_damaged_images_are_listed(folder):
    (folder / "bad.json").write_text(labelme(CORNERS, "polygon"))
    for name in ("b", "c"):
        (folder / f"{name}.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"^2 problem.*\n.*b\.png: .*\n.*c\.png: "):
        load_annotated(folder)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bad.json", labelme(CORNERS, "polygon")),
        ("bad.json", labelme([[9, 7], [5, 4]], "rectangle")),
        ("bad.xml", VOC),
        ("bad.txt", f"0 {7 / 20} {5.5 / 12} {4 / 20} {3 / 12}\n"),
        ("bad.txt", "0 " + " ".join(f"{x / 20} {y / 12}" for x, y in CORNERS)),
        ("all.json", coco(segmentation=[np.ravel(CORNERS).tolist()])),
        ("all.json", coco(bbox=[5, 4, 4, 3])),
        (
            "all.json",
            coco(segmentation={"size": [12, 20], "counts": np.diff(np.r_[0, RUNS, 240]).tolist()}),
        ),
    ],
)
def test_each_format_marks_the_same_pixels(folder, name, text):
    (folder / name).write_text(text)
    (folder / "classes.txt").write_text("dent\nscratch\n")
    images = load_annotated(folder, folder / name if name == "all.json" else None)
    assert images.y.tolist() == ["dent", "good"]
    np.testing.assert_array_equal(images.load_mask(0), MASK)
    assert images.masks[1] is None and not images.load_mask(1).any()


def test_compressed_run_lengths_are_read_by_pycocotools(folder):
    mask = pytest.importorskip("pycocotools.mask")
    runs = mask.encode(np.asfortranarray(MASK.astype(np.uint8)))
    runs["counts"] = runs["counts"].decode()
    (folder / "all.json").write_text(coco(segmentation=runs))
    np.testing.assert_array_equal(load_annotated(folder, folder / "all.json").load_mask(0), MASK)


@pytest.mark.parametrize("place", ["labels/classes.txt", "labels/train/classes.txt"])
@pytest.mark.parametrize(("number", "label"), [(1, "scratch"), (2, "class 2"), (3, "class 3")])
def test_classes_have_the_names_of_the_nearest_list(tmp_path, place, number, label):
    for name in ("images/train", "labels/train"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "classes.txt").write_text("of\nanother\ndata\nset\n")
    (tmp_path / place).write_text("dent\nscratch\n\n")
    Image.new("L", (20, 12)).save(tmp_path / "images/train/a.png")
    (tmp_path / "labels/train/a.txt").write_text(f"{number} .5 .5 .2 .2\n")
    assert load_annotated(tmp_path / "images", tmp_path / "labels").y.tolist() == [label]


def test_annotations_that_are_not_asked_for_are_mentioned(folder, caplog):
    (folder / "bad.json").write_text("{}")
    assert len(load_images(folder)) == 2
    assert "1 annotations" in caplog.text and "bad.json" in caplog.text


def test_compressed_run_lengths_need_pycocotools(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    (folder / "all.json").write_text(coco(segmentation={"size": [12, 20], "counts": "abc"}))
    with pytest.raises(ImportError, match=r'pip install "skstructcore\[coco\]"'):
        load_annotated(folder, folder / "all.json")


def test_a_folder_of_its_own_and_labels_that_mean_good(folder, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/bad.json").write_text(labelme(CORNERS, "polygon").replace("dent", "OK"))
    assert load_annotated(folder, tmp_path / "notes").y.tolist() == ["good", "good"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("bad.json", "{", r"bad.json: JSONDecodeError"),
        ("bad.json", labelme(CORNERS[:2], "line"), "'line' with 2 points has no area"),
        ("bad.json", labelme([], "rectangle"), "'rectangle' with 0 points has no area"),
        ("bad.json", labelme(CORNERS[:1], "circle"), "'circle' with 1 points has no area"),
        ("bad.json", labelme(CORNERS, "polygon").replace('"dent"', "null"), "has no label"),
        ("bad.json", json.dumps({"imageHeight": 9, "imageWidth": 9, "shapes": []}), "this one has"),
        ("bad.txt", "0 0.1 0.2\n", "3 numbers in a line"),
        ("bad.txt", "0\n", "1 numbers in a line"),
        ("bad.txt", "-1 0.5 0.5 0.2 0.2\n", "-1 is no number of a class"),
        ("bad.txt", "0.5 0.1 0.1 0.1 0.1\n", "0.5 is no number of a class"),
        ("bad.txt", "0 7 5 4 3\n", "shares of the image"),
        ("bad.xml", "<a", "ParseError"),
        ("bad.xml", VOC.replace("<object>", SIZE + "<object>"), r"this one has \(12, 20\)"),
        ("bad.xml", "<a><object><name>dent</name></object></a>", "an object has no bndbox"),
        ("bad.xml", VOC.replace("<name>dent</name>", ""), "a shape has no label"),
        ("other.txt", "", "no .json, .xml or .txt has the name of an image"),
    ],
)
def test_what_cannot_be_read_is_listed(folder, name, text, message):
    (folder / name).write_text(text)
    with pytest.raises(DatasetError, match=message):
        load_annotated(folder)


def test_images_that_coco_names_and_are_not_there(folder):
    (folder / "all.json").write_text(coco(bbox=[0, 0, 1, 1]).replace("ok.png", "lost.png"))
    with pytest.raises(DatasetError, match=r"0 images are named 'lost.png'"):
        load_annotated(folder, folder / "all.json")


def test_coco_of_another_size_and_images_that_it_does_not_list(folder, caplog):
    """The other images may be those of another split: nothing says that they are good."""
    Image.new("L", (20, 12)).save(folder / "other.png")
    (folder / "all.json").write_text(coco(bbox=[5, 4, 4, 3]))
    images = load_annotated(folder, folder / "all.json")
    assert images.y.tolist() == ["dent", "good"]
    assert "lists 2 of 3 images: the others are left out" in caplog.text
    turned = coco(bbox=[5, 4, 4, 3]).replace('"bad.png"', '"bad.png", "height": 20, "width": 12')
    (folder / "all.json").write_text(turned)
    with pytest.raises(DatasetError, match=r"bad.png: it is of an image of \(20, 12\) pixels"):
        load_annotated(folder, folder / "all.json")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({}, "annotation 0: KeyError: 'bbox'"),
        ({"image_id": 3, "bbox": [0, 0, 1, 1]}, "unknown image 3"),
        ({"segmentation": [[1, 2, 3]]}, "annotation 0: cannot reshape"),
    ],
)
def test_annotations_of_coco_that_are_wrong_are_listed(folder, shape, message):
    (folder / "all.json").write_text(coco(**shape))
    with pytest.raises(DatasetError, match=message):
        load_annotated(folder, folder / "all.json")
