"""What numba compiles is kept outside of the package."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = (
    "from skstructcore.neighbors import _kernels\n"
    "from numba.core import config\n"
    "kernels = [k for k in vars(_kernels).values() if hasattr(k, 'py_func')]\n"
    "print(*{k._cache.cache_path for k in kernels}, repr(config.CACHE_DIR), sep='\\n')"
)


def cache_paths(**environment):
    clean = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    run = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True, text=True, check=True, env=clean | environment,
    )  # fmt: skip
    return run.stdout.split("\n")[:-1]


def test_kernels_run_uncompiled_for_debugging_and_coverage():
    assert cache_paths(NUMBA_DISABLE_JIT="1") == ["''"]


@pytest.mark.skipif(sys.platform != "linux", reason="the user's cache folder is elsewhere")
def test_kernels_are_kept_in_the_users_cache_folder(tmp_path):
    *paths, setting = cache_paths(XDG_CACHE_HOME=str(tmp_path))
    assert all(Path(path).is_relative_to(tmp_path / "skstructcore") for path in paths)
    assert setting == "''"  # numba's own setting is as it was: other packages do as they did


def test_the_folder_that_the_user_has_set_for_numba_is_taken(tmp_path):
    *paths, setting = cache_paths(NUMBA_CACHE_DIR=str(tmp_path))
    assert all(Path(path).is_relative_to(tmp_path) for path in paths)
    assert setting == repr(str(tmp_path))


def test_without_a_folder_to_write_to_kernels_are_compiled_and_not_kept(tmp_path, monkeypatch):
    from numba.core import config

    from skstructcore.neighbors._kernels import compiled

    blocked = tmp_path / "no folder"
    blocked.write_text("")
    monkeypatch.setattr(config, "CACHE_DIR", str(blocked))
    code = compile("def double(x):\n    return 2 * x\n", "<nowhere>", "exec")
    exec(code, names := {})
    assert compiled()(names["double"])(3) == 6


@pytest.fixture
def double(tmp_path, monkeypatch):
    """Makes a compiled function, each time as a new process does."""
    from numba.core import config

    from skstructcore.neighbors._kernels import compiled

    (tmp_path / "kept").mkdir()
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "kept"))
    source = tmp_path / "double.py"
    source.write_text("def double(x):\n    return 2 * x\n")

    def make():
        exec(compile(source.read_text(), str(source), "exec"), names := {"__name__": "double"})
        return compiled()(names["double"])

    return make


def test_a_full_disk_costs_no_computation(double, tmp_path, caplog):
    faulty = pytest.importorskip("faulty", reason="needs limits of files")
    with faulty.files_up_to(0):
        assert double()(3) == 6
    assert "Compiled code is not kept" in caplog.text
    assert [path for path in (tmp_path / "kept").rglob("*.nb?")] == []


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [b"", b"no pickle", "cut"])
def test_damaged_code_is_compiled_again(damage, suffix, double, tmp_path, caplog):
    assert double()(3) == 6
    [path] = (tmp_path / "kept").rglob(f"*.{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else damage)
    assert double()(3) == 6 and "compiled again" in caplog.text
    caplog.clear()
    function = double()
    assert function(3) == 6 and not caplog.text  # it has been put right
    assert sum(function.stats.cache_hits.values()) == 1
