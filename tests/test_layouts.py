import pytest
from test_loaders import image, mask, visa_original

from skstructcore.datasets import DatasetError, find_layout, load_btad, load_mvtec_ad, load_visa


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


def test_visa_as_published(tmp_path):
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
