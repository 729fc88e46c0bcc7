"""The structure of the package: rooms in the order of the data, imports that never point ahead."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import skstructcore

ROOT = Path(skstructcore.__file__).parent

# The way of the data, then the user's doors. A room may import those before it, and itself.
ROOMS = (
    "_version _utils images datasets features projection neighbors routing containers bank knn "
    "scoring pipeline model_files inference lifecycle serving metrics model_selection evaluation "
    "display report cli"
).split()


def _modules():
    paths = (p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")
    return {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in sorted(paths)}


def _without_typing(nodes):
    """All nodes but those that only type checkers see."""
    for node in nodes:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _without_typing(ast.iter_child_nodes(node))


def _imports(module, path, names):
    """Modules of the package that a module imports, at its top or later."""
    package = module.split(".")[:-1]
    for node in _without_typing(ast.parse(path.read_text()).body):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            base += node.module.split(".") if node.module else []
            for alias in node.names:
                candidates = (".".join([*base, alias.name]), ".".join(base))
                candidates += tuple(f"{c}.__init__" for c in candidates)
                found = [c for c in candidates if c in names]
                if found:
                    yield found[0]


@pytest.fixture(scope="module")
def graph():
    modules = _modules()
    return {name: set(_imports(name, path, modules)) for name, path in modules.items()}


def test_every_module_lies_in_a_known_room():
    assert {name.split(".")[0] for name in _modules()} == set(ROOMS)


def test_imports_never_point_ahead(graph):
    place = {room: i for i, room in enumerate(ROOMS)}
    ahead = [
        f"{module} -> {imported}"
        for module, all_imported in graph.items()
        for imported in all_imported
        if place[imported.split(".")[0]] > place[module.split(".")[0]]
    ]
    assert ahead == []


def test_imports_have_no_circle(graph):
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {' -> '.join(error.args[1])}")


def test_the_top_level_has_at_most_25_entries():
    entries = [p.name for p in ROOT.iterdir() if p.name != "__pycache__"]
    assert len(entries) <= 25, entries


def test_importing_the_package_loads_neither_torch_nor_numba():
    code = "import sys, skstructcore; print(sorted({'torch', 'numba', 'sklearn'} & {*sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
