"""What the documentation has to hold besides code that runs (`test_pages`)."""

import re
from pathlib import Path

import pytest

import skstructcore
import skstructcore.display

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def test_every_public_name_is_in_the_reference():
    text = (DOCS / "api.rst").read_text()
    listed = set(re.findall(r"^   ([\w.]+)$", text, re.M))
    public = {*skstructcore.__all__, *(f"display.{n}" for n in skstructcore.display.__all__)}
    assert public <= listed


def test_every_page_is_in_the_contents():
    contents = (DOCS / "index.md").read_text().split()
    pages = {p.relative_to(DOCS).with_suffix("").as_posix() for p in DOCS.rglob("*.md")}
    assert pages - {"index"} - set(contents) == set()


@pytest.mark.parametrize("page", ["README.md", *sorted(p.name for p in DOCS.glob("*.md"))])
def test_links_to_files_lead_somewhere(page):
    path = ROOT / page if page == "README.md" else DOCS / page
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), target
