"""What is installed, and what runs meanwhile.

`tests/lowest.py` runs all tests with the lowest releases.
"""

import importlib
import re
import sys
from pathlib import Path

import lowest
import pytest

ROOT = Path(__file__).parents[1]
CONSTRAINTS = [
    line.split(";")[0].strip()
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if not line.startswith("#")
]


def pyproject():
    # pytest brings tomli to Python 3.10.
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def requirements():
    """Name and the rest of each requirement, once, without those of this package's own extras."""
    project = pyproject()["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    found = {requirement for group in groups for requirement in group}
    return [
        re.fullmatch(r"([\w.-]+)(.*)", requirement).groups()
        for requirement in sorted(found)
        if not requirement.startswith("skstructcore[")
    ]


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_has_one_lower_bound_and_no_upper_one():
    for name, rest in requirements():
        assert re.fullmatch(r">=\d[\d.]*", rest), name + rest


def test_lower_bounds_are_the_releases_that_are_tested():
    lines = (ROOT / "tests" / "lowest.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins == [f"{name}{rest.replace('>=', '==')}" for name, rest in requirements()]


def test_constraints_pin_one_release_of_every_dependency():
    names = {normalised(line.split("==")[0]) for line in CONSTRAINTS}
    assert {normalised(name) for name, _ in requirements()} <= names
    for line in CONSTRAINTS:
        assert re.fullmatch(r"[\w.-]+==\d[\w.]*", line), line


def test_what_runs_at_install_is_one_release_of_setuptools():
    build = pyproject()["build-system"]
    assert build["build-backend"] == "setuptools.build_meta" and "backend-path" not in build
    [backend] = build["requires"]
    assert re.fullmatch(r"setuptools==[\d.]+", backend)
    assert backend in CONSTRAINTS
    assert not (ROOT / "setup.py").exists() and not (ROOT / "setup.cfg").exists()


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_pages_install_wheels_of_pinned_releases_only(page):
    commands = re.findall(r"pip install [^&`\n]*", (ROOT / page).read_text("utf-8"))
    here = [command for command in commands if re.search(r'"?\.(\[|"| |$)', command)]
    assert here
    for command in here:
        assert "-c constraints.txt" in command and "--only-binary :all:" in command, command


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [("VERSIONS", ("2.0",), "no Python 2.0 on the path"), ("GIGABYTES", 10**9, "are needed")],
)
def test_the_run_of_the_lowest_releases_says_why_it_cannot_be(
    name, value, reason, monkeypatch, tmp_path
):
    monkeypatch.setattr(lowest, "VERSIONS", (f"{sys.version_info[0]}.{sys.version_info[1]}",))
    monkeypatch.setattr(lowest, name, value)
    assert reason in lowest.main(tmp_path)
    assert not list(tmp_path.iterdir())
