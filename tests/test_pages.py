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

import pytest
from click.testing import CliRunner
from joblib.externals.loky import get_reusable_executor

from skstructcore import ConvFeatures
from skstructcore.cli import main
from skstructcore.cli.demo import write_images

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
    if page.name == "README.md":  # it shows what it is about before it says how to install it
        shutil.copytree(line3, "line3")
    for block in blocks:
        assert block.reason != "", f"{page}:{block.line}: say why this block cannot run"
        if block.language == "bash":
            if block.reason is None:
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
