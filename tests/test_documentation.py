"""What the documentation has to hold besides code that runs (`test_pages`)."""

import os
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
    pages = {p.relative_to(DOCS).with_suffix("").as_posix(): p for p in DOCS.rglob("*.md")}
    listed = {"index"}
    for name, path in pages.items():
        for toctree in re.findall(r"^```\{toctree\}\n(.*?)^```", path.read_text(), re.M | re.S):
            for entry in toctree.split():
                found = Path(os.path.normpath(Path(name).parent / entry)).as_posix()
                listed |= {page for page in pages if Path(page).match(found)}
    assert pages.keys() - listed == set()


@pytest.mark.parametrize("page", ["README.md", *sorted(p.name for p in DOCS.glob("*.md"))])
def test_links_to_files_lead_somewhere(page):
    path = ROOT / page if page == "README.md" else DOCS / page
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_ci_runs_the_command_of_the_readme_and_the_block_of_the_developers():
    script = (ROOT / ".ci" / "run").read_text()
    for mark, page in (("tests", "README.md"), ("ci", "docs/development.md")):
        assert f"block {mark} {page}" in script
        [block] = re.findall(
            rf"<!-- {mark} -->\n```bash\n(.+?)\n```\n<!-- /{mark} -->",
            (ROOT / page).read_text(),
            re.S,
        )
        assert ".venv/bin/python -m pytest" in block


def test_the_version_is_the_same_in_the_package_the_citation_and_the_changelog():
    version = skstructcore.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## (\S+)", changes, re.M)[1] == version
