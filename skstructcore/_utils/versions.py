"""Versions of installed libraries, and the import of those that an extra brings."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
from types import ModuleType


def versions_of(*libraries: str) -> dict[str, str]:
    """Versions by name; libraries without metadata are left out, which must not fail a run."""
    versions = {}
    for name in libraries:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def import_extra(name: str, extra: str, what: str) -> ModuleType:
    """A module of a library that comes with an extra; `what` needs it, as the error says."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        command = f'{name.partition(".")[0]}: pip install "skstructcore[{extra}]"'
        raise ImportError(f"{what} needs {command}") from error
