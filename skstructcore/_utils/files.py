"""Files that are written whole, or line by line; digests of files; file names as text."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

StrPath: TypeAlias = str | os.PathLike[str]

# What breaks a row of a table, a terminal or an encoder: control characters, line separators,
# and the surrogates by which Python spells bytes of a name that are not UTF-8.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def check_writable(path: StrPath) -> Path:
    """Return where `path` leads, or raise OSError if no file can be written there, before work."""
    if os.path.exists(path) and not os.path.isfile(path):  # /dev/stdout leads to no path
        raise OSError(f"{str(path)!r} is no file that could be replaced: choose another name.")
    path = Path(os.path.realpath(path))  # through a link, as every other writer does
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path.parent)!r} to write to: make it.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"The folder {str(path.parent)!r} cannot be written to.")
    return path


@contextlib.contextmanager
def atomic_file(path: StrPath, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a new file beside `path` for writing; it takes that name when the block has ended.

    After an error, and after a kill at any moment, `path` is what it was. A kill leaves
    ``.<name>.<digits>.unfinished`` behind. An OSError of the writing names `path`. With
    `durable` the file is on the disk at the end, and outlives a power cut.
    """
    path = check_writable(path)
    # Only a part of the name is taken, because it may be as long as names can be.
    unfinished = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.unfinished")
    try:
        with open(unfinished, "xb") as file:
            with contextlib.suppress(FileNotFoundError):  # what is replaced keeps its rights
                shutil.copymode(path, unfinished)
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())  # before the name: else a crash can leave an empty file
        os.replace(unfinished, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        # An error of writing to an open file has no file name. An error with another name is
        # about a file that the block reads.
        is_ours = isinstance(error, OSError) and error.errno is not None
        if is_ours and error.filename in (None, str(unfinished)):
            raise _write_error(path, error, "What was there before is still there.") from error
        raise
    if durable and hasattr(os, "O_DIRECTORY"):
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write_error(path, error, kept):
    return OSError(error.errno, f"{str(path)!r} cannot be written: {error.strerror}. {kept}")


def write_text(path: StrPath, text: str) -> None:
    """Write a text file as UTF-8, whole or not at all."""
    with atomic_file(path) as file:
        file.write(text.encode())


class Journal:
    """A text file that grows by whole lines, also after a kill; there need not be one yet."""

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)

    def read(self) -> tuple[bytes, bytes]:
        """All whole lines, and half a line that comes after these."""
        text = self.path.read_bytes() if self.path.exists() else b""
        n_whole = text.rfind(b"\n") + 1
        return text[:n_whole], text[n_whole:]

    def take_up(self) -> bytes:
        """All whole lines; half a line that comes after these is taken away."""
        whole, half = self.read()
        if half:
            os.truncate(self.path, len(whole))
        return whole

    def append(self, text: str) -> None:
        """Add whole lines; OSError names the file, whose lines before stay."""
        size = self.path.stat().st_size if self.path.exists() else 0
        try:
            with open(self.path, "ab") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):  # half a line, as of a full disk
                os.truncate(self.path, size)
            kept = "The rows in it are kept: the same command goes on after them."
            raise _write_error(self.path, error, kept) from error


def check_regular(path: StrPath) -> os.stat_result:
    """Status of a file or folder; an error for a pipe, reading which would wait for ever."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise OSError("it is no regular file")
    return status


def stamp(path: StrPath) -> tuple[int, ...]:
    """Size, time and number of a file: they change when it is written again."""
    status = check_regular(path)
    return status.st_size, status.st_mtime_ns, status.st_ino


def file_digest(path: StrPath, new: Callable[[], Any] = hashlib.sha256) -> str:
    """A file's digest of a kind that `new` starts; computed again only if the file changes."""
    return _file_digest(os.fspath(path), stamp(path), new)


@lru_cache(2**17)
def _file_digest(path, stamp, new):
    digest = new()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def escape_name(name: str) -> str:
    """Spell a name so that every text file, table and terminal shows it, and in one way.

    Nearly all names stay as they are. Control characters, bytes that are not UTF-8 and what a
    spreadsheet takes for a formula are quoted as shells do it, ``$'...'``.
    """
    if not (_UNSAFE.search(name) or name.startswith(("=", "+", "-", "@", "$'"))):
        return name
    quoted = re.sub(r"[\\']", r"\\\g<0>", name)
    return f"$'{_UNSAFE.sub(_escape, quoted)}'"


def _escape(match):
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"


def unescape_name(text: str) -> str:
    """The name that `escape_name` has spelled as `text`."""
    if not (text.startswith("$'") and text.endswith("'") and len(text) > 2):
        return text
    return re.sub(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|.)", _unescape, text[2:-1], flags=re.DOTALL)


def _unescape(match):
    escape = match[1]
    if escape[0] not in "xu" or len(escape) == 1:
        return escape
    code = int(escape[1:], 16)
    return chr(code + 0xDC00 if escape[0] == "x" and code >= 0x80 else code)
