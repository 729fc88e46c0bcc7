"""A text file that grows line by line, and goes on after a kill or on a disk that was full."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .files import write_error

if TYPE_CHECKING:
    from .files import StrPath


class Journal:
    """Lines that are whole and on disk once `append` returns.

    Parameters
    ----------
    path : str or path-like
        Need not be there.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "rows.csv")
    >>> Journal(path).append("1,good\\n2,bad\\n")
    >>> Journal(path).take_up(1)  # by the process after this one
    b'1,good\\n'
    >>> Journal(path).append("2,good\\n")
    >>> path.read_text()
    '1,good\\n2,good\\n'
    """

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)

    def take_up(self, n: int | None = None) -> bytes:
        """The first `n` lines, or all; half a line, and what comes after these, is taken away."""
        text = self.path.read_bytes() if self.path.exists() else b""
        lines = text.split(b"\n")[:-1]  # a carriage return may be within a quoted field
        whole = b"".join(line + b"\n" for line in lines[:n])
        if len(whole) < len(text):
            os.truncate(self.path, len(whole))
        return whole

    def append(self, text: str) -> None:
        """Add whole lines; OSError names the file, whose lines before stay."""
        try:
            with open(self.path, "ab") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            kept = "The rows in it are kept: the same command goes on after them."
            raise write_error(self.path, error, kept) from error
