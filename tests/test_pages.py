"""The Python blocks of the README and of all pages run, in order, page by page.

A page's blocks share one namespace and a folder of their own, which hold what `WORLD` and
`_write_files` prepare. A block after a line ``<!-- no run: reason -->`` is only compiled.
"""

import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from skstructcore import ConvFeatures
from skstructcore.datasets import load_image_folder, paint_copies

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(
    r"(?:^<!-- no run:(?P<reason>[^\n]*)-->\n)?^```python[^\n]*\n(?P<code>.*?)^```$", re.M | re.S
)


class Block(NamedTuple):
    line: int
    code: str
    reason: str | None  # why it cannot run


def blocks_of(text):
    """The Python blocks of a page."""
    return [
        Block(
            1 + text.count("\n", 0, match.start("code")),
            match["code"],
            match["reason"] and match["reason"].strip(),
        )
        for match in _BLOCK.finditer(text)
    ]


def pages_with_blocks():
    pages = {page: blocks_of(page.read_text(encoding="utf-8")) for page in PAGES}
    return [
        pytest.param(page, blocks, id=str(page.relative_to(ROOT)))
        for page, blocks in pages.items()
        if blocks
    ]


def _write_files(folder):
    """Twelve good images and eight defects of 48 pixels, in the folders that pages speak of."""
    rng = np.random.default_rng(0)
    good = rng.integers(90, 150, (16, 12, 12), dtype=np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    defects = {
        kind: paint_copies(good[:4], kinds=[look], severity=2)
        for kind, look in (("scratch", "scratch"), ("dent", "spot"))
    }
    for root in ("line3", "parts", "mvtec_ad/bottle"):
        layout = root != "line3"  # train, test and ground_truth
        for i, pixels in enumerate(good):
            split = ("train/" if i < 12 else "test/") * layout
            _save(pixels, folder / root / split / "good" / f"{i:02}.png")
        for kind, copies in defects.items():
            for i, (pixels, mask) in enumerate(zip(copies, copies.masks, strict=True)):
                split = "test/" * layout
                _save(pixels, folder / root / split / kind / f"{i:02}.png")
                if layout:
                    _save(mask, folder / root / "ground_truth" / kind / f"{i:02}_mask.png")
    for name, pixels in zip(("a", "b", "new"), good, strict=False):
        _save(pixels, folder / f"{name}.png")


def _save(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def world():
    """The names that pages use without saying where they come from."""
    images = load_image_folder("line3")
    images.groups = np.arange(len(images)) // 2
    good_images = sorted(map(str, Path("line3/good").iterdir()))
    return {
        "images": images,  # 16 good, 4 scratches, 4 dents, in twelve groups
        "good_images": good_images,
        "part_number": [i // 2 for i in range(len(good_images))],  # of the good images
        "names": ["nut", "bolt"] * (len(images) // 2),  # of the images
        "new_images": good_images[:2] + [str(p) for p in sorted(Path("line3/dent").iterdir())[:2]],
        "pin_images": good_images[:6],
    }


def test_blocks_are_found_with_their_lines_and_reasons():
    text = "Text.\n```python\n1\n```\n```bash\nls\n```\n<!-- no run: slow -->\n```python\n2\n```\n"
    assert blocks_of(text) == [Block(3, "1\n", None), Block(10, "2\n", "slow")]


@pytest.mark.parametrize(("page", "blocks"), pages_with_blocks())
def test_the_blocks_of_a_page_run(page, blocks, tmp_path, monkeypatch):
    # So that all pages together take seconds: 96 pixels where a page does not ask for a size.
    monkeypatch.setitem(ConvFeatures.__init__.__kwdefaults__, "image_size", 96)
    _write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    names = world()
    for line, code, reason in blocks:
        # As many empty lines before it as the page has, so that errors name its lines.
        compiled = compile("\n" * (line - 1) + code, page.relative_to(ROOT), "exec")
        if reason is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # so few images promise little
                exec(compiled, names)
        else:
            assert reason, f"{page}:{line}: say why this block cannot run"


def test_most_blocks_run():
    blocks = [block for page in pages_with_blocks() for block in page.values[1]]
    assert sum(block.reason is None for block in blocks) >= 10
    assert sum(block.reason is not None for block in blocks) <= len(blocks) / 3
