"""What the README and the pages say to type runs, in order, page by page.

Python blocks of a page share one namespace, and lines of bash blocks that begin with
``skstructcore`` are run as commands, all in one empty folder. A block after a line
``<!-- no run: reason -->`` is only compiled.
"""

import re
import shlex
import shutil
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner
from joblib.externals.loky import get_reusable_executor
from PIL import Image

from skstructcore import ConvFeatures
from skstructcore.cli import main
from skstructcore.cli.demo import write_images
from skstructcore.datasets import load_image_folder, paint_copies

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(
    r"(?:^<!-- no run:(?P<reason>[^\n]*)-->\n)?"
    r"^```(?P<language>python|bash)\b[^\n]*\n(?P<code>.*?)^```$",
    re.M | re.S,
)
_MAKE_IMAGES = "skstructcore demo --images line3"
_FIT = "skstructcore fit line3/good -o line3.structcore --false-alarms 0.05"


class Block(NamedTuple):
    line: int
    code: str
    reason: str | None  # why it cannot run
    language: str = "python"


def blocks_of(text):
    """The Python and bash blocks of a page."""
    return [
        Block(
            1 + text.count("\n", 0, match.start("code")),
            match["code"],
            match["reason"] and match["reason"].strip(),
            match["language"],
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
    assert blocks_of(text) == [
        Block(3, "1\n", None),
        Block(6, "ls\n", None, "bash"),
        Block(10, "2\n", "slow"),
    ]


@pytest.fixture(scope="session")
def line3(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "line3"
    write_images(folder)
    return folder


@pytest.mark.parametrize(("page", "blocks"), pages_with_blocks())
def test_the_blocks_of_a_page_run(page, blocks, line3, tmp_path, monkeypatch):
    # So that all pages together take seconds: 96 pixels where a page does not ask for a size.
    monkeypatch.setitem(ConvFeatures.__init__.__kwdefaults__, "image_size", 96)
    monkeypatch.chdir(tmp_path)
    # Workers of an earlier page are in its folder, where the paths of this one lead nowhere.
    get_reusable_executor().shutdown(wait=True)
    names = {}
    makes_images = any(_MAKE_IMAGES in block.code for block in blocks)
    if not makes_images:
        _write_files(tmp_path)
        names = world()
    if page.name == "README.md":  # it shows what it is about before it says how to install it
        shutil.copytree(line3, "line3")
    for block in blocks:
        assert block.reason != "", f"{page}:{block.line}: say why this block cannot run"
        if block.language == "bash":
            if block.reason is None and makes_images:
                _run_commands(block, page, line3)
            continue
        # As many empty lines before it as the page has, so that errors name its lines.
        code = "\n" * (block.line - 1) + block.code
        compiled = compile(code, page.relative_to(ROOT), "exec")
        if block.reason is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # so few images promise little
                exec(compiled, names)


def _run_commands(block, page, line3):
    model = line3.with_suffix(".structcore")
    for line in block.code.splitlines():
        command = shlex.split(line, comments=True)
        if line.startswith(_MAKE_IMAGES):
            shutil.copytree(line3, "line3", dirs_exist_ok=True)
        elif line.startswith(_FIT) and model.exists():  # by an earlier page
            shutil.copy(model, "line3.structcore")
        elif command[:1] == ["skstructcore"]:
            done = CliRunner().invoke(main, command[1:])
            assert done.exit_code == 0, f"{page}:{block.line}: {line}\n{done.output}"
            if line.startswith(_FIT):
                shutil.copy("line3.structcore", model)


def test_most_blocks_run():
    blocks = [block for page in pages_with_blocks() for block in page.values[1]]
    blocks = [block for block in blocks if block.language == "python"]
    assert sum(block.reason is None for block in blocks) >= 10
    assert sum(block.reason is not None for block in blocks) <= len(blocks) / 3
