"""Images and a model that the tests of all commands share."""

import numpy as np
import pandas as pd
import pytest
from command import SMALL, run
from PIL import Image
from test_categories import write_category


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("parts")
    for seed, name in enumerate(("bolt", "nut")):
        write_category(root / name, seed)
    return root


@pytest.fixture(scope="session")
def model(root, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "bolt.model"
    result = run("fit", root / "bolt" / "train" / "good", "--model", path, *SMALL)
    assert result.exit_code == 0, result.output
    assert "Fitted on 6 good images" in result.output
    return path


@pytest.fixture(scope="session")
def good(root):
    return root / "bolt" / "train" / "good"


@pytest.fixture
def lines(tmp_path, monkeypatch):
    """Where one stands: two lines with folders OK, NG and dent, and a table of them."""
    monkeypatch.chdir(tmp_path)
    rng, rows = np.random.default_rng(0), []
    for line in ("line3", "line4"):
        for kind, n in {"OK": 8, "NG": 2, "dent": 1}.items():
            (tmp_path / line / kind).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(90, 130, (32, 32, 3), np.uint8)
                if kind != "OK":
                    pixels[8:24, 8:24] = 255
                Image.fromarray(pixels).save(f"{line}/{kind}/{i}.png")
                split = "train" if kind == "OK" and i < 6 else "test"
                rows.append((f"{line}/{kind}/{i}.png", kind, split))
    pd.DataFrame(rows, columns=["file", "label", "split"]).to_csv("all.csv", index=False)
    return tmp_path
