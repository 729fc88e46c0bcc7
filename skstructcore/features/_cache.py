"""Patch features of single images on disk, found by what the images contain."""

import contextlib
import hashlib
import itertools
import json
import logging
import math
import os
import stat
import time
import zlib
from pathlib import Path

import numpy as np

from .._utils.files import StrPath, atomic_file
from .._utils.validation import check_number

logger = logging.getLogger(__name__)

# Part of every key: raise it when the same recipe begins to give other features.
_FORMAT = 1


def to_json(value):
    """What decides over features, as text: the same for tuples and lists, NumPy and Python."""
    return json.dumps(value, sort_keys=True, default=lambda value: value.tolist())


class FeatureCache:
    """One folder of features that were made by one recipe, one file an image.

    A file holds the float32 values and their CRC-32; a damaged one counts as absent. That finds
    accidents, no attacks: who can write to the folder can change features.
    `recipe` is all that decides over the features of an image, as `to_json` can write it.
    """

    def __init__(self, location, recipe):
        text = to_json({"format": _FORMAT, **recipe})
        key = hashlib.sha256(text.encode()).hexdigest()[:32]
        self.folder = Path(location) / "skstructcore" / "features" / key
        self._failures = itertools.count()

    def shape(self, compute, name="shape"):
        """Shape of the features of one image; computed, and stored, if it is absent or damaged."""
        path = self.folder / f"{name}.json"
        try:
            text, crc = path.read_text().split("\n")
            if int(crc) == zlib.crc32(text.encode()):
                return tuple(json.loads(text))
        except (OSError, ValueError):
            pass
        shape = compute()
        text = json.dumps(shape)
        self._write(path, f"{text}\n{zlib.crc32(text.encode())}".encode())
        return shape

    def load(self, digest, out):
        """Read the features of the image with this digest into `out`; whether they were there."""
        crc = np.empty(1, np.uint32)
        try:
            with open(self._path(digest), "rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size != out.nbytes + crc.nbytes:
                    return False
                file.readinto(out.reshape(-1).view(np.uint8))
                file.readinto(crc.view(np.uint8))
        except OSError:  # not there, or not to be read
            return False
        return crc[0] == _crc(out)

    def store(self, digest, values):
        values = np.ascontiguousarray(values, np.float32)
        self._write(self._path(digest), values.tobytes() + _crc(values).tobytes())

    def _path(self, digest):
        return self.folder / digest[:2] / digest[2:]

    def _write(self, path, content):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path, durable=False) as file:
                file.write(content)
        except OSError as error:  # a full disk must not stop the computation
            # Of one image, not of thousands, whichever thread is the first.
            level = logging.DEBUG if next(self._failures) else logging.WARNING
            logger.log(level, "Features are not cached: %s", error)


def _crc(values):
    return np.uint32(zlib.crc32(values.reshape(-1).view(np.uint8)))


def cache_size(location: StrPath) -> tuple[int, int]:
    """Number of cached results and bytes below a folder that was given as `memory`.

    Returns
    -------
    n_results, n_bytes : int
        An image has a result for each recipe. Unfinished files, which killed processes have left,
        count in bytes only.
    """
    files = list(_files(location))
    return sum(path.suffix == "" for path, _ in files), sum(status.st_size for _, status in files)


def prune_cache(
    location: StrPath, *, max_bytes: float | None = None, max_age: float | None = None
) -> tuple[int, int]:
    """Delete cached features that have not been read for longest.

    Features that are missing are computed again: pruning costs time, and never a result. Returns
    the numbers of files and of bytes that were deleted.

    Parameters
    ----------
    location : str or path-like
        The folder that was given as `memory`. Nothing else in it is touched.
    max_bytes : int, default=None
        Delete until no more than that is left.
    max_age : float, default=None
        Delete what has been neither read nor written for so many days (on file systems that
        keep no time of reading: not written).
    """
    for name, value in (("max_bytes", max_bytes), ("max_age", max_age)):
        if value is not None:
            check_number(value, name, 0, closed="left")
    files = sorted(_files(location), key=lambda file: _last_use(file[1]))
    left = sum(status.st_size for _, status in files)
    oldest = -math.inf if max_age is None else time.time() - 86400 * max_age
    n_deleted = bytes_deleted = 0
    for path, status in files:
        if _last_use(status) >= oldest and (max_bytes is None or left <= max_bytes):
            break
        with contextlib.suppress(FileNotFoundError):  # somebody else prunes
            path.unlink()
        left -= status.st_size
        n_deleted, bytes_deleted = n_deleted + 1, bytes_deleted + status.st_size
    return n_deleted, bytes_deleted


def _last_use(status):
    return max(status.st_atime, status.st_mtime)


def _files(location):
    """Files of features, with their status; no links, and no other files."""
    for path in (Path(location) / "skstructcore" / "features").glob("*/*/*"):
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                yield path, status
