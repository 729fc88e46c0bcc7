"""Patch features of single images on disk, found by what the images contain."""

import contextlib
import hashlib
import json
import logging
import os
import threading
from pathlib import Path

import numpy as np

logger = logging.getLogger(__name__)

# Part of every key: raise it when the same recipe begins to give other features.
_FORMAT = 1
_MAGIC = np.uint32(0x5C0DE)


class FeatureCache:
    """One folder of features that were made by one recipe, one file an image.

    A file holds the float32 values and a check word, is written under another name first and
    then renamed: whoever reads sees the whole file or none. What is damaged counts as absent.

    Parameters
    ----------
    memory : str, path-like or joblib.Memory
        The folder of all caches, or a Memory, whose location is taken.
    recipe : dict
        All that decides over the features of an image, as JSON can write it.
    """

    def __init__(self, memory, recipe):
        text = json.dumps({"format": _FORMAT, **recipe}, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:32]
        location = getattr(memory, "location", memory)
        self.folder = Path(location) / "skstructcore" / "features" / key

    def load_shape(self):
        """Shape of the features of one image, or None if nobody has stored it."""
        try:
            return tuple(json.loads((self.folder / "shape.json").read_text()))
        except (OSError, ValueError):
            return None

    def store_shape(self, shape):
        self._write(self.folder / "shape.json", json.dumps([int(n) for n in shape]).encode())

    def load(self, digest, out):
        """Read the features of the image with this digest into `out`; whether they were there."""
        word = np.empty(1, np.uint32)
        try:
            with open(self._path(digest), "rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size != out.nbytes + word.nbytes:
                    return False
                file.readinto(out.reshape(-1).view(np.uint8))
                file.readinto(word.view(np.uint8))
        except OSError:  # not there, or not to be read
            return False
        return word[0] == _check_word(out)

    def store(self, digest, values):
        values = np.ascontiguousarray(values, np.float32)
        self._write(self._path(digest), values.tobytes() + _check_word(values).tobytes())

    def _path(self, digest):
        return self.folder / digest[:2] / digest[2:]

    def _write(self, path, content):
        unfinished = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(content)
            unfinished.replace(path)
        except OSError as error:  # a full disk must not stop the computation
            logger.warning("Features are not cached: %s", error)
            with contextlib.suppress(OSError):
                unfinished.unlink()


def _check_word(values):
    return np.bitwise_xor.reduce(values.reshape(-1).view(np.uint32)) ^ _MAGIC
