"""Which libraries are at work."""

from __future__ import annotations

import contextlib
import importlib.metadata


def versions_of(*libraries: str) -> dict[str, str]:
    """Versions by name; a library without a record of it is left out, as it must cost no result."""
    found = {}
    for name in libraries:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
