"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from ..images.image_list import StrPath


@contextlib.contextmanager
def atomic_file(path: StrPath) -> Iterator[BinaryIO]:
    """Open a new file beside `path` for writing; it takes that name when the block has ended.

    After an error, and after a kill at any moment, `path` is what it was. A kill leaves the
    unfinished file behind, ``.<name>.<letters>.unfinished``.
    """
    path = Path(os.path.realpath(path))  # through a link, as every other writer does
    if path.exists() and not path.is_file():
        raise OSError(f"{str(path)!r} is no file that could be replaced: choose another name.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path.parent)!r} to write to.")
    descriptor, unfinished = tempfile.mkstemp(".unfinished", f".{path.name[:50]}.", path.parent)
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # before the name: else a crash can leave an empty file
        os.chmod(unfinished, 0o666 & ~_umask())
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise
    _sync_folder(path.parent)


def _umask():
    # The process has no way to ask but to set it; threads may create files meanwhile.
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1], 8) for line in status if line.startswith("Umask"))
    except (OSError, StopIteration, ValueError):
        return 0o022


def _sync_folder(folder):
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
