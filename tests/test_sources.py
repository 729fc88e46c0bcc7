"""Images as people have them on disk."""

import logging
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_categories import write_category

from skstructcore.datasets import DatasetError, load_images, load_mvtec_ad, load_verdicts
from skstructcore.datasets.sources import SourceOptions, find_rows
from skstructcore.images import as_images


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Write small images, and stand in their folder."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8)).save(tmp_path / name)

    return make


def table(images):
    return dict(zip(images.paths, images.y, strict=True))


@pytest.mark.parametrize(
    ("files", "source", "expected"),
    [
        (["p/OK/a.png", "p/NG/b.png"], "p", {"p/OK/a.png": "good", "p/NG/b.png": "NG"}),
        (["p/Normal/a.png", "p/dent/b.png"], "p",
         {"p/Normal/a.png": "good", "p/dent/b.png": "dent"}),
        (["good/lot1/a.png", "good/lot2/b.png"], "good", dict.fromkeys(
            ["good/lot1/a.png", "good/lot2/b.png"], "good")),
        (["p/day1/ok/a.png", "p/day1/dent/b.png", "p/day2/ok/c.png"], "p",
         {"p/day1/ok/a.png": "good", "p/day1/dent/b.png": "dent", "p/day2/ok/c.png": "good"}),
        (["p/ok/a.png", "p/dent/lot1/b.png"], "p",
         {"p/ok/a.png": "good", "p/dent/lot1/b.png": "dent"}),
        (["p/gut/a.png", "p/gut/bad/b.png"], "p/gut",
         None),
        (["good/a.png", "good/bad/b.png"], "good", {"good/a.png": "good", "good/bad/b.png": "bad"}),
        (["p/ok/1/a.png", "p/dent/1/b.png"], "p/**/*.png",
         {"p/ok/1/a.png": "good", "p/dent/1/b.png": "dent"}),
        (["p/ok/a.png", "p/dent/b.png"], "p/*", {"p/ok/a.png": "good", "p/dent/b.png": "dent"}),
        (["p/ng/a.png", "p/ng/x/b.png"], "p/ng", {"p/ng/a.png": "ng", "p/ng/x/b.png": "ng"}),
        (["p/ng/a.png"], "p/ng/a.png", {"p/ng/a.png": "ng"}),
        (["p/ok/a.png", "p/day/ok/b.png", "p/day/dent/c.png", "p/hole/lot1/d.png"], "p",
         {"p/ok/a.png": "good", "p/day/ok/b.png": "good", "p/day/dent/c.png": "dent",
          "p/hole/lot1/d.png": "hole"}),
        (["p/x/y/a.png", "p/ground_truth/b.png", "p/.trash/c.png"], "p", {"p/x/y/a.png": "good"}),
    ],
)  # fmt: skip
def test_folders_say_what_their_images_are(make, files, source, expected):
    make(*files)
    if expected is None:
        with pytest.raises(DatasetError, match=r"folders of defects \(bad\), but none .* normal"):
            load_images(source)
    else:
        assert table(load_images(source)) == expected


@pytest.mark.parametrize("sources", [["p/OK", "p/NG", "p/holes"], ["p/NG/b.png", "p/holes/c.png"]])
def test_what_the_shell_makes_of_a_star_never_trains_on_defects_unasked(make, sources):
    make("p/OK/a.png", "p/NG/b.png", "p/holes/c.png", "p/lot2/d.png")
    with pytest.raises(DatasetError, match=r"holes: good images or defects\? .* beside 'NG'"):
        load_images(*sources)
    # What they are matters to nobody here.
    assert len(find_rows(sources, SourceOptions(good=None))) == len(sources)
    assert table(load_images("p"))["p/holes/c.png"] == "holes"
    assert table(load_images("p/OK", "p/NG")) == {"p/OK/a.png": "good", "p/NG/b.png": "NG"}
    assert set(load_images("p/OK", "p/lot2").y) == {"good"}


def test_a_pattern_may_match_data_sets_and_other_folders(make):
    make("x/a/train/good/1.png", "x/b/2.png", "x/NG/3.png")
    with pytest.raises(DatasetError, match=r"folders of defects \(NG, b\)"):
        load_images("x/[a-zA-Z]*")
    images = load_images("x/[ab]")
    assert [os.path.relpath(path) for path in images] == ["x/a/train/good/1.png", "x/b/2.png"]


def test_masks_that_a_pattern_meets_are_no_images(make):
    make("q/good/1.png", "q/scratch/2.png", "q/ground_truth/scratch/2.png")
    expected = {"q/good/1.png": "good", "q/scratch/2.png": "scratch"}
    assert table(load_images("q/**/*.png")) == table(load_images("q/*")) == expected
    assert list(table(load_images("q/ground_truth/*/*.png"))) == ["q/ground_truth/scratch/2.png"]


def test_arrays_count_as_images_where_no_others_lie(make, tmp_path, caplog):
    make("p/one/a.png")
    (tmp_path / "p/two").mkdir()
    for name in ("one/a.npy", "one/b.npy", "two/c.npy"):
        np.save(tmp_path / "p" / name, np.zeros((8, 8), np.uint8))
    assert list(table(load_images("p"))) == ["p/one/a.png", "p/two/c.npy"]
    assert caplog.text.count("left out: 2 .npy") == 1
    assert list(table(load_images("p/one/*.npy"))) == ["p/one/a.npy", "p/one/b.npy"]
    caplog.clear()
    assert list(table(load_images("p/one/*"))) == ["p/one/a.png"]
    assert caplog.text.count("left out: 2 .npy") == 1


@pytest.mark.parametrize("text", ['{"mm_per_pixel": 0.1}', "[1, 2]", "0.1", "no JSON"])
def test_a_file_of_the_users_leaves_no_folder_out(make, tmp_path, text):
    make("p/good/a.png", "p/crack/b.png")
    (tmp_path / "p/good/scale.json").write_text(text)
    assert table(load_images("p")) == {"p/good/a.png": "good", "p/crack/b.png": "crack"}


def test_another_word_for_good_can_be_given(make):
    make("p/gut/a.png", "p/Riss/b.png")
    assert table(load_images("p", good="gut")) == {"p/gut/a.png": "good", "p/Riss/b.png": "Riss"}


def test_an_image_beside_labelled_folders_is_refused(make):
    make("p/good/a.png", "p/b.png")
    with pytest.raises(DatasetError, match=r"p.b.png: an image beside folders"):
        load_images("p")
    rows = find_rows(["p"], SourceOptions(good=None))
    assert [row.file for row in rows] == ["p/b.png", "p/good/a.png"]


def test_folders_of_good_images_are_lots(make, caplog):
    make("good/lot1/a.png", "good/lot1/b.png", "good/lot2/c.png")
    caplog.set_level(logging.INFO)
    assert load_images("good").groups.tolist() == ["good/lot1", "good/lot1", "good/lot2"]
    assert "Each folder is taken as a group: lot1 (2), lot2 (1)" in caplog.text
    assert (
        load_images("good/lot2", "good/lot1").groups.tolist() == ["good/lot2"] + ["good/lot1"] * 2
    )
    # One folder tells nothing apart, nor does a folder of defects beside it.
    assert load_images("good/lot1").groups is None
    make("p/ok/a.png", "p/dent/b.png")
    assert load_images("p").groups is None
    assert load_images("good", groups=None).groups is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_and_tables_are_utf_8_or_16_and_whole(make, tmp_path, encoding):
    make("ö.png")
    for name, text in (("@l.txt", "ö.png\r\n"), ("t.csv", "file\r\nö.png\r\n")):
        file = tmp_path / name.removeprefix("@")
        file.write_bytes(text.encode(encoding))
        assert load_images(name).paths == ["ö.png"]
        file.write_bytes(text.encode("utf-16")[:-1])
        with pytest.raises(DatasetError, match="truncated data"):
            load_images(name)


@pytest.mark.parametrize("option", [{"split": "val"}, {"groups": "folders"}])
def test_options_that_there_are_not_are_refused(make, option):
    make("a/1.png")
    with pytest.raises(ValueError, match="must be"):
        load_images("a", **option)


def test_the_last_verdict_counts_however_the_file_is_spelled(make, tmp_path):
    make("a.png", "b.png")
    rows = f"{tmp_path / 'a.png'},,defect\na.png,,good\nb.png,,defect\n"
    (tmp_path / "v.csv").write_text(f"file,digest,verdict\n{rows}")
    assert load_verdicts("v.csv").y.tolist() == ["good", "defect"]
    assert load_images("v.csv").y.tolist() == ["good", "defect"]


def test_files_patterns_and_lists_are_mixed_and_each_image_is_there_once(make, tmp_path):
    make("a/1.png", "a/2.png", "b/deep/3.png", "c/4.png")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/more.txt").write_text("# a comment\n\nc/4.png\n../b\na/1.png\n")
    images = load_images("a/*.png", "@lists/more.txt", groups=None)
    expected = ["a/1.png", "a/2.png", "c/4.png", "lists/../b/deep/3.png"]
    assert images.paths == expected
    assert load_images("**/deep/*.png").paths == ["b/deep/3.png"]
    assert load_images("?").paths == ["a/1.png", "a/2.png", "b/deep/3.png", "c/4.png"]
    make("cam/lot1/1.png", "cam/2.png", "cam/masks/1.png")  # one image drops no folder
    assert load_images("cam/*").paths == ["cam/2.png", "cam/lot1/1.png"]
    assert load_images("ca?/masks").paths == ["cam/masks/1.png"]
    with pytest.raises(DatasetError, match="matches no image"):
        load_images("x*")
    with pytest.raises(DatasetError, match="list cannot be read"):
        load_images("@lost.txt")
    with pytest.raises(DatasetError, match="there is no such file"):
        load_images("a/lost.png")
    with pytest.raises(ValueError, match="no images are named"):
        load_images()


def test_a_list_names_lists_beside_it_but_not_itself(make, tmp_path):
    make("lists/a.png")
    (tmp_path / "lists/all.txt").write_text("@more.txt\n")
    (tmp_path / "lists/more.txt").write_text("a.png\n")
    assert load_images("@lists/all.txt").paths == ["lists/a.png"]
    (tmp_path / "lists/more.txt").write_text("@all.txt\n")
    with pytest.raises(DatasetError, match="names itself"):
        load_images("@lists/all.txt")


@pytest.mark.parametrize("columns", ["file,verdict", "File,Verdict", "file,verdict,lot"])
def test_verdicts_are_read_like_other_tables(make, tmp_path, columns):
    make("t/1.png", "t/2.png", "t/3.png")
    lot = ",x" * (columns.count(",") - 1)
    rows = [f"{k}.png,{verdict}{lot}" for k, verdict in ((1, "good"), (2, "NG"), (3, "unsure"))]
    (tmp_path / "t/v.csv").write_text("\n".join([columns, *rows]))
    images = load_images("t/v.csv")
    assert images.paths == ["t/1.png", "t/2.png"] and (images.y == "good").tolist() == [True, False]
    assert (images.groups is None) == (lot == "")


def test_the_verdict_counts_beside_the_label_of_before(make, tmp_path):
    make("t/1.png")
    (tmp_path / "t/v.csv").write_text("file,label,verdict\n1.png,good,defect\n")
    assert load_verdicts("t/v.csv").y.tolist() == ["defect"]


def test_a_table_has_labels_masks_groups_and_categories(make, tmp_path):
    make("t/1.png", "t/2.png", "t/masks/2.png")
    rows = {"Path": ["1.png", "2.png"], "Label": ["OK", "scratch"], "mask": ["", "masks/2.png"]}
    pd.DataFrame({**rows, "lot": [7, 8], "product": ["nut", "bolt"]}).to_csv("t/all.csv")
    images = load_images("t/all.csv")
    assert table(images) == {"t/1.png": "good", "t/2.png": "scratch"}
    assert images.masks == [None, "t/masks/2.png"] and images.groups.tolist() == ["7", "8"]
    assert images.categories.tolist() == ["nut", "bolt"]
    pd.DataFrame({**rows, "Label": ["gut", "scratch"]}).to_csv("t/all.csv")
    with pytest.raises(DatasetError, match="is a word for good: good, normal"):
        load_images("t/all.csv")
    pd.DataFrame({"where": ["1.png"]}).to_csv("t/all.csv")
    with pytest.raises(DatasetError, match="no column file or path"):
        load_images("t/all.csv")


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("file;label\n1.png;OK\n2.png;NG\n", ["good", "NG"]),
        ("file\tlabel\n1.png\tOK\n2.png\tNG\n", ["good", "NG"]),
        ("file,label\n1.png,0\n2.png,1\n", ["good", "anomalous"]),
        ("file,label\n1.png,1.0\n2.png,-1.0\n", ["good", "anomalous"]),
        ("file,label\n1.png,False\n2.png,True\n", ["good", "anomalous"]),
    ],
)
def test_tables_as_spreadsheets_and_programs_write_them(make, text, labels):
    make("t/1.png", "t/2.png")
    Path("t/all.csv").write_text(text)
    assert load_images("t/all.csv").y.tolist() == labels


@pytest.mark.parametrize("name", ["t.csv", "t.txt"])
def test_tables_and_lists_of_windows_name_files_of_folders(make, tmp_path, name):
    make("day 1/a.png", "day 1/b.png", r"c\d.png")
    lines = [r"day 1\a.png", r"day 1\b.png", r"c\d.png"]
    (tmp_path / name).write_text("\r\n".join(["file"] * name.endswith("csv") + lines))
    images = load_images(name if name.endswith("csv") else f"@{name}")
    assert images.paths == ["day 1/a.png", "day 1/b.png", r"c\d.png"]


def test_a_table_without_a_column_of_files_says_what_it_has(make, tmp_path):
    (tmp_path / "t.csv").write_text("Datei;Label\na.png;OK\n")
    with pytest.raises(DatasetError, match=r"no column file or path.*; found 'datei', 'label'"):
        load_images("t.csv")
    (tmp_path / "t.csv").write_text("")
    with pytest.raises(DatasetError, match=r"no rows, or no column file .*; found nothing"):
        load_images("t.csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,label\na.png,1\n", "t.csv: y holds nothing but 1"),
        ("file,Label,label\na.png,OK,NG\n", "t.csv: 2 columns are called 'label'"),
    ],
)
def test_a_table_that_cannot_be_understood_is_named(make, tmp_path, text, words):
    make("a.png")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DatasetError, match=words):
        load_images(tmp_path / "t.csv")


def test_a_table_of_utf_16_is_read(make, tmp_path):
    make("höhe.png")
    (tmp_path / "t.csv").write_text("file\tlabel\nhöhe.png\tOK\n", encoding="utf-16")
    assert load_images("t.csv").y.tolist() == ["good"]


def test_a_split_is_read_in_any_case(make):
    make("t/1.png", "t/2.png")
    Path("t/all.csv").write_text("file,split\n1.png,Train\n2.png,TEST\n")
    assert load_images("t/all.csv", split="test").paths == ["t/2.png"]
    Path("t/all.csv").write_text("file,split\n1.png,valid\n")
    with pytest.raises(DatasetError, match="line 2: a split is 'train' or 'test', not 'valid'"):
        load_images("t/all.csv")


def test_images_that_a_data_set_does_not_read_are_told_of(make, caplog):
    make("r/bottle/train/good/0.png", "r/capsule/good/0.png", "r/loose.png")
    assert len(load_images("r")) == 1
    assert "2 images elsewhere in it are not read, 'r/" in caplog.text
    caplog.clear()
    make("r/bottle/test/bad/0.png", "r/bottle/ground_truth/bad/0_mask.png")
    load_images("r/bottle")
    assert "not read" not in caplog.text
    make("r/bottle/train/good/lot2/0.png", "r/bottle/test/bad/deep/0.png", "r/bottle/test/1.png")
    assert len(load_images("r/bottle", split="test")) == 1
    assert "3 images elsewhere in it are not read, 'r/bottle/test/1.png'" in caplog.text


def test_another_word_for_good_counts_in_data_sets_too(make):
    make("r/train/fine/0.png", "r/test/Fine/1.png", "r/test/dent/2.png")
    assert load_images("r", good="fine").y.tolist() == ["good"]
    assert load_images("r", good="fine", split="test").y.tolist() == ["good", "dent"]
    assert load_mvtec_ad("r", good="fine").train.y.tolist() == ["good"]
    with pytest.raises(DatasetError, match="no images to train on"):
        load_images("r")


def test_a_zero_among_words_is_refused(make):
    make("t/1.png", "t/2.png", "t/3.png")
    Path("t/all.csv").write_text("file,label\n1.png,good\n2.png,0\n3.png,1\n")
    with pytest.raises(DatasetError, match="label '0' means good beside other numbers, not words"):
        load_images("t/all.csv")


def test_labels_that_are_missing_or_contradict_each_other_are_refused(make):
    make("t/1.png", "t/2.png")
    Path("t/all.csv").write_text("file,label\n1.png,OK\n2.png,\n")
    with pytest.raises(DatasetError, match=r"2.png: its label is an empty cell"):
        load_images("t/all.csv")
    assert [row.label for row in find_rows(["t/all.csv"], SourceOptions())] == ["good", ""]
    Path("t/all.csv").write_text("file,label\n1.png,OK\n1.png,NG\n")
    with pytest.raises(DatasetError, match=r"1.png: it is named twice, with label 'good' and 'NG'"):
        load_images("t/all.csv")
    # An empty cell takes nothing back, and is an error where nothing else says more.
    Path("t/all.csv").write_text("file,label,lot\n1.png,,3\n")
    Path("t/OK.csv").write_text("file,label\n1.png,OK\n")
    for sources in (["t/all.csv", "t/OK.csv"], ["t/OK.csv", "t/all.csv"]):
        images = load_images(*sources)
        assert (images.y.tolist(), images.groups.tolist()) == (["good"], ["3"])
    with pytest.raises(DatasetError, match=r"1.png: its label is an empty cell"):
        load_images("t/1.png", "t/all.csv")
    Path("t/all.csv").write_text("file,label\n1.png,OK\n2.png,NG\n")
    # The folder says nothing of its images, and takes nothing back.
    assert load_images("t/all.csv", "t").y.tolist() == ["good", "NG"]


def test_categories_are_told_by_folder_expression_or_table(make, tmp_path):
    make("p/nut/good/a.png", "p/nut/bad/b.png", "p/bolt/lot1/c.png", "p/bolt/lot2/d.png")
    images = load_images("p", categories="folder")
    assert images.categories.tolist() == ["bolt", "bolt", "nut", "nut"]
    # That nuts have a folder of good images says nothing of the folders of bolts.
    assert images.y.tolist() == ["good", "good", "bad", "good"]
    pd.DataFrame({"file": images.paths, "category": list("wxyz")}).to_csv("c.csv")
    assert load_images("p", categories="c.csv").categories.tolist() == list("wxyz")
    found = load_images("p", categories="^p/([a-z])").categories
    assert found.tolist() == ["b", "b", "n", "n"]
    with pytest.raises(DatasetError, match=r"bolt.lot1.c.png: it has no category"):
        load_images("p", categories="(nut)")
    with pytest.raises(ValueError, match="one group in parentheses"):
        load_images("p", categories="nut")
    Path("others.csv").write_text("file,category\nq/a.png,nut\n")
    for categories, source in ((r"/(screw|pin)_", "p"), ("others.csv", "p"), ("folder", "p/*/*/*")):
        with pytest.raises(DatasetError, match="says nothing of any of the 4 images"):
            load_images(source, categories=categories)
    with pytest.raises(DatasetError, match="name the folder that holds those of all categories"):
        load_images("p/bolt/lot1", "p/bolt/lot2", categories="folder")


def test_lots_are_looked_for_within_a_category(make):
    make("p/nut/a.png", "p/nut/b.png", "p/bolt/lot1/c.png", "p/bolt/lot2/d.png")
    groups = load_images("p", categories="folder").groups.tolist()
    assert groups == ["p/bolt/lot1", "p/bolt/lot2", "p/nut/a.png", "p/nut/b.png"]


def test_a_data_set_gives_the_split_that_is_wanted(tmp_path):
    for seed, name in enumerate(("bolt", "nut")):
        write_category(tmp_path / name, seed)
    train, test = (load_images(tmp_path / "bolt", split=split) for split in ("train", "test"))
    assert set(train.y) == {"good"} and "spot" in set(test.y) and train.categories is None
    both = load_images(tmp_path)
    assert sorted(set(both.categories)) == ["bolt", "nut"] and len(both) == 2 * len(train)


def test_masks_may_lie_in_a_folder_of_their_own(make):
    make("p/OK/a.png", "p/dent/b.png", "q/OK/c.png", "q/dent/d.png")
    pixels = np.full((8, 8), 255, np.uint8)
    pixels[0, :3] = 0
    for name in ("b", "d_mask"):
        Path("masks/dent").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(f"masks/dent/{name}.png")
    images = load_images("p", "q", masks="masks")
    assert [images.load_mask(i).sum() for i in range(4)] == [0, 61, 0, 61]
    images = load_images("p", "q", masks="masks", inverted_masks=True)
    assert [images.load_mask(i).sum() for i in range(4)] == [0, 3, 0, 3]
    Path("p.csv").write_text(
        "file,label,mask\np/OK/a.png,ok,\np/dent/b.png,dent,masks/dent/b.png\n"
    )
    images = load_images("p.csv", "q", masks="masks", inverted_masks=True)
    assert [images.load_mask(i).sum() for i in range(4)] == [0, 61, 0, 3]
    with pytest.raises(ValueError, match="inverted_masks=True is about the masks in the folder"):
        load_images("p.csv", inverted_masks=True)
    with pytest.raises(DatasetError, match=r"d_mask\.png: a mask without an image"):
        load_images("p", masks="masks")
    with pytest.raises(DatasetError, match="masks= is no folder"):
        load_images("p", masks="nowhere")
    with pytest.raises(DatasetError, match=r"no folder of masks is named like a type \(dent\)"):
        load_images("p", masks="masks/dent")


def test_links_in_a_circle_end(make):
    make("p/a.png")
    os.symlink("..", "p/up")
    assert load_images("p", groups=None).paths == ["p/a.png"]


def test_damaged_images_are_all_listed(make, tmp_path):
    make("p/a.png")
    for name in "bc":
        (tmp_path / f"p/{name}.png").write_bytes(np.arange(9, dtype=np.uint8).tobytes())
    with pytest.raises(DatasetError) as report:
        load_images("p")
    assert len(report.value.problems) == 2


def test_pages_and_very_large_files_are_taken_if_asked_for(make, tmp_path, monkeypatch):
    make("p/a.png")
    frames = [Image.new("L", (8, 8), level) for level in (10, 20)]
    frames[0].save("p/b.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(DatasetError, match="holds 2 images"):
        load_images("p")
    images = load_images("p", pages="parts")
    assert images.paths == ["p/a.png", "p/b.tif[0]", "p/b.tif[1]"]
    assert images[1:].parts.tolist() == ["p/b.tif"] * 2
    assert load_images("p/b.tif[1]").paths == ["p/b.tif[1]"]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DatasetError, match="more than 20 are refused"):
        load_images("p/a.png")
    large = load_images("p/a.png", max_pixels=64)[[0]]
    assert as_images(large).read(0).size == (8, 8)


def test_pages_and_very_large_files_of_data_sets_and_verdicts(make, monkeypatch):
    make("d/train/good/a.png", "d/test/good/b.png")
    frames = [Image.new("L", (8, 8), level) for level in (10, 20)]
    for name in ("train/good/0.tif", "test/scratch/1.tif"):
        Path("d", name).parent.mkdir(exist_ok=True)
        frames[0].save(f"d/{name}", save_all=True, append_images=frames[1:])
    Path("d/ground_truth/scratch").mkdir(parents=True)
    frames[0].save("d/ground_truth/scratch/1_mask.png")
    Path("v.csv").write_text("file,digest,verdict\nd/train/good/0.tif,,good\n")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    given = {"pages": "parts", "max_pixels": 64}

    images = load_images("d", split="test", **given)

    assert images.y.tolist() == ["good", "scratch", "scratch"]
    assert [Path(part).name for part in images.parts] == ["b.png", "1.tif", "1.tif"]
    assert images.load_mask(2).all()
    assert [len(load_images(source, **given)) for source in ("d", "v.csv")] == [3, 2]
    for source in ("d", "v.csv"):
        with pytest.raises(DatasetError, match="more than 20 are refused"):
            load_images(source, pages="parts")
        with pytest.raises(DatasetError, match="holds 2 images"):
            load_images(source, max_pixels=64)
    with pytest.raises(DatasetError, match="holds 2 images"):
        load_verdicts("v.csv", max_pixels=64)


def test_a_table_may_say_which_images_are_views_of_a_part(make):
    make("t/1.png", "t/2.png", "t/3.png")
    pd.DataFrame({"file": ["1.png", "2.png", "3.png"], "part": [7, 7, 8]}).to_csv("t/all.csv")
    images = load_images("t/all.csv")
    assert as_images(images).annotations.parts.tolist() == ["7", "7", "8"]
    assert images.groups is None


def test_a_view_that_does_not_fit_is_never_the_whole_image(make, tmp_path, monkeypatch):
    make("a.png")
    Image.new("L", (20, 20)).save("b.png")
    fitting, view = load_images("b.png", views=[(9, 9, 20, 20)]), (9, 9, 20, 20)
    assert fitting.paths == ["b.png[11x11+9+9]"]
    with pytest.raises(DatasetError, match=r"1 problem.*\n.*a.png\[11x11\+9\+9\].*not within"):
        load_images("a.png", "b.png", views=[view])
    with pytest.raises(ValueError, match="at least one"):
        load_images("b.png", views=[])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    large = load_images("b.png", views=[view], max_pixels=400)
    assert large.paths == fitting.paths


def test_pages_and_views_in_tables_are_found_from_where_one_is(make):
    make("sub[1]/x.png", "line/c.png")
    frames = [Image.new("L", (8, 8), level) for level in (10, 20)]
    frames[0].save("a.tif", save_all=True, append_images=frames[1:])
    names = ["a.tif[1]", "a.tif[0][4x4+0+0]", "line/c.png"]
    rows = [f"{name},,good" for name in names]
    Path("sub[1]/v.csv").write_text("\n".join(["file,digest,verdict", *rows]))
    Path("sub[1]/l.txt").write_text("\n".join(names))
    assert load_verdicts("sub[1]/v.csv").paths == names
    assert load_images("sub[1]/v.csv").paths == names
    assert load_images("@sub[1]/l.txt").paths == names
    Path("sub[1]/p.txt").write_text("../line/*.png")
    assert load_images("@sub[1]/p.txt").paths == ["sub[1]/../line/c.png"]


def test_an_image_of_two_spellings_is_there_once(make, tmp_path):
    make("line/a.png", "line/b.png")
    named = ["line", "./line/a.png", tmp_path / "line/a.png", "line/../line/b.png"]
    assert load_images(*named).paths == ["line/a.png", "line/b.png"]
    views = load_images(*named, views=[(0, 0, 4, 4)])
    assert views.paths == ["line/a.png[4x4+0+0]", "line/b.png[4x4+0+0]"]
