import os
import pickle

import numpy as np
import pytest
from PIL import Image

from skstructcore.datasets import (
    DatasetError,
    find_layout,
    load_btad,
    load_kolektor,
    load_mvtec_ad,
    load_visa,
)

SIZE = (6, 4)  # height, width


def image(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 99, np.uint8)).save(path)


def mask(path, *, size=SIZE, value=255):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(size, np.uint8)
    pixels[0, 0] = value
    Image.fromarray(pixels).save(path)


@pytest.fixture
def mvtec(tmp_path):
    for category in ("bottle", "cable"):
        folder = tmp_path / category
        for i in range(2):
            image(folder / f"train/good/{i:03}.png")
        image(folder / "test/good/000.png")
        for i in range(2):
            image(folder / f"test/crack/{i:03}.png")
            mask(folder / f"ground_truth/crack/{i:03}_mask.png")
        image(folder / "test/bent/000.png")  # a type without masks
        (folder / "license.txt").write_text("")
    return tmp_path


def test_mvtec_ad(mvtec):
    images = load_mvtec_ad(mvtec, "bottle")
    assert list(images.train.y) == ["good", "good"]
    assert list(images.test.y) == ["bent", "crack", "crack", "good"]
    assert images.test.paths[1] == str(mvtec / "bottle/test/crack/000.png")
    assert images.test.masks == [
        None,
        str(mvtec / "bottle/ground_truth/crack/000_mask.png"),
        str(mvtec / "bottle/ground_truth/crack/001_mask.png"),
        None,
    ]
    assert images.test.load_mask(1).sum() == 1
    assert set(images.categories) == {"bottle"} and images.groups is None


def test_mvtec_ad_of_all_categories_and_of_the_folder_of_one(mvtec):
    everything = load_mvtec_ad(mvtec)
    assert len(everything) == 12 and set(everything.categories) == {"bottle", "cable"}
    assert load_mvtec_ad(mvtec / "cable").paths == load_mvtec_ad(mvtec, "cable").paths


def test_mvtec_ad_with_groups(mvtec):
    rows = ["split,type,file,group", "train,good,000.png,7", "train,good,001.png,7"]
    rows += ["test,good,000.png,8", "test,crack,000.png,8", "test,crack,001.png,9"]
    (mvtec / "bottle/groups.csv").write_text("\n".join([*rows, "test,bent,000.png,9"]))

    images = load_mvtec_ad(mvtec, "bottle")
    assert list(images.train.groups) == ["bottle/7", "bottle/7"]
    assert list(images.test.groups) == ["bottle/9", "bottle/8", "bottle/9", "bottle/8"]
    assert load_mvtec_ad(mvtec, "bottle", groups=None).groups is None
    # Beside a category without groups, each image of which is its own.
    assert len(set(load_mvtec_ad(mvtec).groups)) == 3 + 6

    (mvtec / "bottle/groups.csv").write_text("\n".join(rows))
    with pytest.raises(DatasetError, match=r"bent.000.png: no group in groups.csv"):
        load_mvtec_ad(mvtec, "bottle")
    (mvtec / "bottle/groups.csv").write_text("file,group\n")
    with pytest.raises(DatasetError, match="no column split, type"):
        load_mvtec_ad(mvtec, "bottle")
    with pytest.raises(DatasetError, match=r"parts.csv: No such file"):
        load_mvtec_ad(mvtec, "bottle", groups="parts.csv")


def test_one_report_lists_all_problems(mvtec):
    bottle = mvtec / "bottle"
    (bottle / "ground_truth/crack/001_mask.png").unlink()
    mask(bottle / "ground_truth/crack/007_mask.png")
    mask(bottle / "ground_truth/crack/000_mask.png", size=(5, 4))
    whole = (bottle / "train/good/001.png").read_bytes()
    (bottle / "train/good/001.png").write_bytes(whole[:-30])
    (bottle / "test/good/000.png").write_text("no image")

    with pytest.raises(DatasetError) as report:
        load_mvtec_ad(mvtec, "bottle")

    problems = "\n".join(report.value.problems)
    assert len(report.value.problems) == 5
    for message in (
        "007_mask.png: a mask without an image",
        "crack/001.png: no mask, but others of 'crack' have",
        "000_mask.png: the mask has (5, 4) pixels, its image (6, 4)",
        "train/good/001.png: ",
        "test/good/000.png: it is no image file",
    ):
        assert message in problems.replace("\\", "/")
    assert problems in str(report.value).replace("\n- ", "\n")
    assert pickle.loads(pickle.dumps(report.value)).problems == report.value.problems


def test_masks_that_contradict_the_label_are_told(mvtec, caplog):
    load_mvtec_ad(mvtec, category="bottle")
    assert "contradict" not in caplog.text
    mask(mvtec / "bottle/ground_truth/crack/000_mask.png", value=0)
    load_mvtec_ad(mvtec, category="bottle")
    assert "1 masks contradict the label of their image" in caplog.text
    assert "crack/000.png" in caplog.text


def test_damaged_masks_and_empty_mask_folders_are_reported(mvtec):
    (mvtec / "bottle/ground_truth/crack/000_mask.png").write_text("")
    (mvtec / "bottle/ground_truth/bent").mkdir()
    with pytest.raises(DatasetError) as report:
        load_mvtec_ad(mvtec, "bottle")
    assert len(report.value.problems) == 2
    assert "Cannot read the mask" in str(report.value)
    assert "bent: no mask for any of the 1 images" in str(report.value)


def test_masks_beside_an_empty_folder_of_their_type_are_reported(mvtec):
    for file in (mvtec / "bottle/test/crack").iterdir():  # a copy that was cut short
        file.unlink()
    with pytest.raises(DatasetError) as report:
        load_mvtec_ad(mvtec, "bottle")
    assert len(report.value.problems) == 3
    assert "crack/000_mask.png: a mask without an image" in str(report.value)
    assert "crack: no mask for any of the 0 images" in str(report.value)
    for file in (mvtec / "bottle/ground_truth/crack").iterdir():
        file.unlink()
    (mvtec / "bottle/ground_truth/crack").rmdir()
    assert set(load_mvtec_ad(mvtec, "bottle").y) == {"bent", "good"}


def test_folders_that_are_no_data_set_are_named(mvtec, tmp_path):
    with pytest.raises(DatasetError, match="spoon: no folder train, and the categories are"):
        load_mvtec_ad(mvtec, "spoon")
    with pytest.raises(DatasetError, match="no folder train, and no category has one"):
        load_mvtec_ad(tmp_path / "bottle/test")
    (mvtec / "cable/train/good/000.png").unlink()
    (mvtec / "cable/train/good/001.png").unlink()
    with pytest.raises(DatasetError, match=r"cable.train.good: no images to train on"):
        load_mvtec_ad(mvtec, "cable")


def test_btad(tmp_path):
    # As published: products 01 and 03 have bmp images, 02 png; masks are png or bmp.
    image(tmp_path / "01/train/ok/0000.bmp")
    image(tmp_path / "01/test/ok/0010.bmp")
    image(tmp_path / "01/test/ko/0020.bmp")
    mask(tmp_path / "01/ground_truth/ko/0020.png")
    image(tmp_path / "03/train/ok/0000.bmp")
    image(tmp_path / "03/test/ko/0020.bmp")
    mask(tmp_path / "03/ground_truth/ko/0020.bmp")

    images = load_btad(tmp_path)
    assert list(images.y) == ["good", "ko", "good", "good", "ko"]
    assert list(images.categories) == ["01"] * 3 + ["03"] * 2
    assert images.masks[1].endswith("0020.png") and images.masks[4].endswith("0020.bmp")
    assert len(load_btad(tmp_path, "03")) == 2


def visa_original(root):
    lines = ["object,split,label,image,mask"]
    for category in ("candle", "pcb1"):
        data = f"{category}/Data"
        for i, split in enumerate(["train", "train", "test"]):
            image(root / f"{data}/Images/Normal/{i:04}.JPG")
            lines.append(f"{category},{split},normal,{data}/Images/Normal/{i:04}.JPG,")
        image(root / f"{data}/Images/Anomaly/000.JPG")
        mask(root / f"{data}/Masks/Anomaly/000.png", value=2)  # numbers of defect classes
        lines.append(
            f"{category},test,anomaly,{data}/Images/Anomaly/000.JPG,{data}/Masks/Anomaly/000.png"
        )
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text("\n".join(lines) + "\n")


def test_visa_as_published(tmp_path):
    visa_original(tmp_path)
    images = load_visa(tmp_path)
    assert len(images) == 8
    candle = load_visa(tmp_path, "candle")
    assert list(candle.y) == ["good", "good", "good", "anomaly"]
    assert list(candle.splits) == ["train", "train", "test", "test"]
    assert candle.load_mask(3).sum() == 1
    with pytest.raises(DatasetError, match=r"no category 'fryum'; there are .'candle', 'pcb1'."):
        load_visa(tmp_path, "fryum")
    with pytest.raises(DatasetError, match=r"2cls_fewshot.csv: No such file"):
        load_visa(tmp_path, split="2cls_fewshot")
    with pytest.raises(DatasetError, match="no folder train"):
        load_visa(tmp_path / "candle")
    (tmp_path / "pcb1/Data/Images/Normal/0001.JPG").unlink()
    with pytest.raises(DatasetError, match=r"0001.JPG: there is no such file"):
        load_visa(tmp_path)


def test_visa_as_rearranged_by_its_script(tmp_path):
    image(tmp_path / "candle/train/good/0000.JPG")
    image(tmp_path / "candle/test/good/0001.JPG")
    image(tmp_path / "candle/test/bad/000.JPG")
    mask(tmp_path / "candle/ground_truth/bad/000.png")
    images = load_visa(tmp_path)
    assert list(images.y) == ["good", "bad", "good"]
    assert images.masks[1].endswith("000.png")
    assert load_visa(tmp_path / "candle", split="none").paths == images.paths


def test_kolektor_sdd(tmp_path):
    for folder in ("kos01", "kos02"):
        for shot in range(2):
            image(tmp_path / folder / f"Part{shot}.jpg")
            value = 1 if (folder, shot) == ("kos02", 1) else 0
            mask(tmp_path / folder / f"Part{shot}_label.bmp", value=value)
    images = load_kolektor(tmp_path)
    assert list(images.y) == ["good", "good", "good", "defect"]
    assert list(images.groups) == ["kos01", "kos01", "kos02", "kos02"]
    assert images.splits is None
    assert images.masks[:3] == [None] * 3 and images.load_mask(3).sum() == 1


def test_kolektor_sdd2(tmp_path):
    for split, number, value in [("train", 1, 0), ("train", 2, 255), ("test", 3, 255)]:
        image(tmp_path / split / f"1000{number}.png")
        mask(tmp_path / split / f"1000{number}_GT.png", value=value)
    images = load_kolektor(tmp_path)
    assert list(images.y) == ["good", "defect", "defect"]
    assert list(images.splits) == ["train", "train", "test"]

    image(tmp_path / "test/10004.png")
    mask(tmp_path / "test/10005_GT.png")
    (tmp_path / "test/10003_GT.png").write_text("")
    with pytest.raises(DatasetError) as report:
        load_kolektor(tmp_path)
    assert len(report.value.problems) == 3
    assert "10004.png: no mask 10004_GT" in str(report.value)
    assert "10005_GT.png: a mask without an image" in str(report.value)
    assert "Cannot read the mask" in str(report.value)
    with pytest.raises(DatasetError, match="neither folders train and test"):
        load_kolektor(tmp_path / "test")


def test_defects_of_a_type_may_lie_in_train_and_in_test(tmp_path):
    for name in ("train/good/0", "test/good/1", "train/crack/2", "test/crack/3"):
        image(tmp_path / f"{name}.png")
    for stem in (2, 3):
        mask(tmp_path / f"ground_truth/crack/{stem}_mask.png")
    images = load_mvtec_ad(tmp_path)
    assert images.y.tolist() == ["crack", "good", "crack", "good"]
    assert [os.path.basename(str(m)) for m in images.masks if m] == ["2_mask.png", "3_mask.png"]
    mask(tmp_path / "ground_truth/crack/4_mask.png")
    with pytest.raises(DatasetError, match=r"^1 problem.*\n.*4_mask.png: a mask without an image"):
        load_mvtec_ad(tmp_path)


def test_a_mask_of_two_images_is_a_problem(tmp_path):
    for name in ("train/good/0", "train/crack/1", "test/crack/1"):
        image(tmp_path / f"{name}.png")
    mask(tmp_path / "ground_truth/crack/1_mask.png")
    with pytest.raises(DatasetError, match=r"1_mask.png: 2 images have this name"):
        load_mvtec_ad(tmp_path)


@pytest.mark.parametrize("place", ["../secret.png", "/etc/secret.png", "a/../../secret.png"])
def test_a_table_cannot_name_files_outside_of_its_data_set(tmp_path, place):
    root = tmp_path / "visa"
    visa_original(root)
    table = root / "split_csv" / "1cls.csv"
    image(tmp_path / "secret.png")  # readable, but none of this data set
    table.write_text(table.read_text() + f"candle,train,normal,{place},\n")
    with pytest.raises(DatasetError, match="points outside of the data set"):
        load_visa(root)


def test_links_are_followed_and_dangling_ones_are_named(mvtec, tmp_path):
    image(tmp_path / "elsewhere" / "7.png")
    good = mvtec / "bottle" / "train" / "good"
    (good / "7.png").symlink_to(tmp_path / "elsewhere" / "7.png")
    assert str(good / "7.png") in load_mvtec_ad(mvtec, "bottle").train.paths
    (good / "8.png").symlink_to(tmp_path / "elsewhere" / "8.png")
    with pytest.raises(DatasetError, match=r"8\.png.*there is no such file"):
        load_mvtec_ad(mvtec, "bottle")


def test_names_that_are_not_utf_8_are_read_from_folders_and_tables(mvtec):
    folder = mvtec / "bottle"
    odd = os.fsdecode(b"\xff.png")
    image(folder / "train" / "good" / "x.png")
    os.rename(folder / "train" / "good" / "x.png", folder / "train" / "good" / odd)
    rows = ["split,type,file,group"]
    for path in sorted(folder.glob("*/*/*.png")):
        split, kind, file = path.relative_to(folder).parts
        if split != "ground_truth":
            rows.append(f"{split},{kind},{file},{kind}-1")
    (folder / "groups.csv").write_bytes(os.fsencode("\n".join(rows)))
    images = load_mvtec_ad(mvtec, "bottle")
    at = images.paths.index(str(folder / "train" / "good" / odd))
    assert images.groups[at] == "bottle/good-1"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("candle,train,Normal,{image},", "the label 'Normal' is not normal or anomaly"),
        ("candle,train,,{image},", "the label '' is not normal or anomaly"),
        ("candle,tset,normal,{image},", "the split 'tset' is not train or test"),
        ("candle,train,normal,,", "it is a folder"),
    ],
)
def test_rows_of_a_table_that_say_something_else_are_named(tmp_path, row, message):
    visa_original(tmp_path)
    table = tmp_path / "split_csv" / "1cls.csv"
    row = row.format(image="candle/Data/Images/Normal/0000.JPG")
    table.write_text(table.read_text() + row + "\n")
    with pytest.raises(DatasetError, match=message):
        load_visa(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column split, type, file, group"),
        ("x" * 200_000, "field larger than field limit"),
        ("split,type,file,group\ntrain,good,000.png,\n", "train.good.000.png: no group"),
        (
            "split,type,file,group\ntrain,good,000.png,1\ntrain,good,000.png,2\n",
            "train/good/000.png: two groups in groups.csv",
        ),
    ],
)
def test_tables_of_groups_that_are_none_are_named(mvtec, text, message):
    (mvtec / "bottle/groups.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        load_mvtec_ad(mvtec, "bottle")


def test_what_is_left_out_of_a_data_set_is_told(mvtec, caplog):
    (mvtec / "bottle/train/good/002.heic").write_bytes(b"x")
    (mvtec / "bottle/test/scratch/deeper").mkdir(parents=True)
    load_mvtec_ad(mvtec, "bottle")
    assert "left out: 1 .heic" in caplog.text and "002.heic" in caplog.text
    assert f"no images in the folder {str(mvtec / 'bottle/test/scratch')!r}" in caplog.text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_place_of_a_table_does_not_hang(mvtec):
    os.mkfifo(mvtec / "bottle/groups.csv")
    with pytest.raises(DatasetError, match=r"groups.csv: it is no regular file"):
        load_mvtec_ad(mvtec, "bottle")


def category(folder, good="good"):
    image(folder / "train" / good / "0.png")
    image(folder / "test" / good / "0.png")
    image(folder / "test" / "hole" / "0.png")
    mask(folder / "ground_truth" / "hole" / "0_mask.png")


def test_folders_of_categories_as_in_mvtec_ad(tmp_path):
    for name in ("nut", "bolt"):
        category(tmp_path / name)
    (tmp_path / "readme").mkdir()
    layout = find_layout(tmp_path)
    assert layout.loader is load_mvtec_ad and list(layout.categories) == ["bolt", "nut"]
    images = layout.load("nut")
    assert set(images.categories) == {"nut"} and len(images) == 3


def test_the_folder_of_one_category(tmp_path):
    category(tmp_path / "nut")
    layout = find_layout(tmp_path / "nut")
    assert list(layout.categories) == ["nut"]
    assert len(layout.load("nut")) == 3


def test_the_layout_of_visa_as_published(tmp_path):
    visa_original(tmp_path)
    layout = find_layout(tmp_path)
    assert layout.loader is load_visa and "candle" in layout.categories
    assert set(layout.load("candle").categories) == {"candle"}


def test_btad_has_a_folder_ok(tmp_path):
    category(tmp_path / "01", good="ok")
    layout = find_layout(tmp_path)
    assert layout.loader is load_btad
    assert layout.load("01").y.tolist() == ["good", "hole", "good"]


def test_any_other_folder_is_an_error(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DatasetError, match="neither a folder train"):
        find_layout(tmp_path)
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv/1cls.csv").write_text("object,split,label,image,mask\n")
    with pytest.raises(DatasetError, match="nor VisA's split_csv and <category>/Data/Images"):
        find_layout(tmp_path)
