"""The file that a model is kept in: a text head, then the bytes of all arrays.

The layout is that of the safetensors format: the length of the head as 8 bytes, the head as
JSON with the type, shape and place of every array, then the arrays without gaps. Reading it runs
no code, and an array can be mapped into memory where it lies. (The library of that name copies all
arrays before it writes them, and maps none for numpy.)
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..images.image_list import StrPath

_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "|i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
_CODES = {np.dtype(name): code for code, name in _TYPES.items()}
NUMBER_TYPES = frozenset(dtype.name for dtype in _CODES)
_ALIGNMENT = 64
_LONGEST_HEAD = 100 * 2**20  # as the safetensors library allows


class ModelFileError(OSError, ValueError):
    """A model file cannot be used; the message names the file and says why."""


@contextmanager
def refusing(error_of: Callable[..., ModelFileError], file: object) -> Iterator[None]:
    """Raise what is wrong with the content of a file as `error_of` the file and the reason."""
    try:
        yield
    except RecursionError:
        raise error_of(file, "its entries are nested too deeply") from None
    except KeyError as error:
        raise error_of(file, f"{error.args[0]!r} is missing") from error
    except (ValueError, TypeError, AttributeError, IndexError, ArithmeticError) as error:
        raise error_of(file, error) from error


def can_hold(dtype: np.dtype) -> bool:
    """Whether arrays of this type can be kept."""
    return dtype.newbyteorder("<") in _CODES


def write_model_file(file: BinaryIO, arrays: dict[str, NDArray], text: dict[str, str]) -> None:
    """Write arrays and text, with checksums of both beside the text."""
    # Larger items first: so each array begins at a multiple of the size of its items.
    places, content, digest, start = {}, [], hashlib.sha256(), 0
    for key in sorted(arrays, key=lambda key: (-arrays[key].itemsize, key)):
        array = arrays[key].astype(arrays[key].dtype.newbyteorder("<"), copy=False)
        place = {"dtype": _CODES[array.dtype], "shape": list(array.shape)}
        places[key] = {**place, "data_offsets": [start, start + array.nbytes]}
        content.append(array.reshape(-1).view(np.uint8))
        digest.update(content[-1])
        start += array.nbytes
    text = {**text, "arrays_sha256": digest.hexdigest()}
    text["sha256"] = _digest_of_head(text, places)
    head = json.dumps({"__metadata__": text, **places}).encode()
    head += b" " * (-(8 + len(head)) % _ALIGNMENT)
    file.writelines([len(head).to_bytes(8, "little"), head, *content])


class Head(NamedTuple):
    """What a model file begins with."""

    path: StrPath
    text: dict[str, str]
    places: dict[str, dict]  # type, shape and place of each array
    start: int  # where the arrays begin in the file


def read_head(path: StrPath) -> Head:
    """Read and check the head; the arrays are not looked at."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        form = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise ModelFileError(f"{os.fspath(path)!r} is {form}, so it holds no model.")
    with open(path, "rb") as file:
        first = file.read(8)
        length = int.from_bytes(first, "little")
        if len(first) < 8 or not 2 <= length <= _LONGEST_HEAD:
            raise ModelFileError(f"{os.fspath(path)!r} {_what_it_is(first)}")
        head = file.read(length)
    with refusing(_damaged, path):
        if len(head) < length:
            raise ValueError("it is shorter than its head")
        entries = json.loads(head)
        text = entries.pop("__metadata__")
        if not all(isinstance(value, str) for value in text.values()):
            raise ValueError("the head holds something else than text")
        if text.pop("sha256") != _digest_of_head(text, entries):
            raise ValueError("the checksum of its head does not fit")
    return Head(path, text, entries, 8 + length)


def read_arrays(head: Head, mmap_mode: Literal["r"] | None) -> dict[str, NDArray]:
    """Read (or map) all arrays, and compare their checksum."""
    path, text, places, start = head
    with refusing(_damaged, path):
        if mmap_mode is None or os.path.getsize(path) == start:
            content = np.fromfile(path, np.uint8, offset=start)
        elif start % _ALIGNMENT:
            raise ValueError("its arrays do not lie where they can be mapped")
        else:
            content = np.asarray(np.memmap(path, np.uint8, "r", offset=start))
        if hashlib.sha256(content).hexdigest() != text["arrays_sha256"]:
            raise ValueError("the checksum of its arrays does not fit")
        return {
            key: content[slice(*place["data_offsets"])]
            .view(_TYPES[place["dtype"]])
            .reshape(place["shape"])
            for key, place in places.items()
        }


def _digest_of_head(text, places):
    return hashlib.sha256(json.dumps([text, places], sort_keys=True).encode()).hexdigest()


def _damaged(path, reason):
    return ModelFileError(
        f"{os.fspath(path)!r} is damaged or no model file of skstructcore: {reason}. Take a copy, "
        "or fit again."
    )


def _what_it_is(first):
    if not first:
        return "is empty."
    if first.startswith((b"\x80", b"\x1f\x8b", b"x")):  # pickles, gzip or zlib of joblib
        return (
            "looks like a pickle, as joblib.dump writes it. Reading such a file can run any code: "
            "if you trust it, joblib.load it, and keep it by skstructcore.save from now on."
        )
    return "is no model file of skstructcore. Models are written by skstructcore.save."
