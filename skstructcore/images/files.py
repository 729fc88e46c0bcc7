"""Names of image files: those in a folder, and the page or the view that a name stands for.

``"tray.tif[2]"`` is one page of a file, counted from 0, unless there is a file of that name, and
``"board.png[200x100+30+40]"`` a view: 200 pixels wide and 100 high, from column 30 and row 40.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .._utils.files import StrPath

IMAGE_SUFFIXES = frozenset(
    ".avif .bmp .dib .gif .jfif .jp2 .jpe .jpeg .jpg .npy .pbm .pgm .png .pnm .ppm .tga .tif .tiff "
    ".webp".split()
)
# Files that usually lie beside images: that they are left out is not worth a warning.
_COMPANIONS = frozenset(".csv .db .ini .json .md .txt .xml .yaml .yml".split())
_PAGE = re.compile(r"(.+)\[(\d+)\]", re.DOTALL)
_VIEW = re.compile(r"(.+)\[(\d+)x(\d+)\+(\d+)\+(\d+)\]", re.DOTALL)
_logger = logging.getLogger(__name__)


def list_images(folder: StrPath) -> list[str]:
    """Paths of the image files that lie directly in a folder, at least one, sorted by name.

    Folders inside it are not searched. Files count by their suffix, see `images_among`; that others
    are left out is logged. A broken link is listed; reading it is an error.
    """
    folder = Path(folder)
    if not folder.is_dir():
        hint = "It is one file: pass a list, [path]." if folder.is_file() else "It does not exist."
        raise ValueError(f"{str(folder)!r} is not a folder of images. {hint}")
    entries = sorted(folder.iterdir())
    paths = [str(p) for p in images_among(entries) if not p.is_dir()]
    tell_of_others(entries, paths)
    if not paths:
        inside = [p.name for p in entries if p.is_dir()][:5]
        hint = f" It has folders ({', '.join(inside)}, ...): pass one of them." if inside else ""
        raise ValueError(f"No image files in the folder {str(folder)!r}.{hint}")
    return paths


def is_named_as_image(path: Path) -> bool:
    """Whether a file has the suffix of an image, see `IMAGE_SUFFIXES`."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def images_among(files: Sequence[Path]) -> list[Path]:
    """Files with the suffix of an image, but hidden ones; arrays only if there are no others.

    Beside images, arrays are often features or masks.
    """
    images = [p for p in files if is_named_as_image(p) and not p.name.startswith(".")]
    return [path for path in images if path.suffix.lower() != ".npy"] or images


def tell_of_others(files: Sequence[Path], images: Sequence[StrPath]) -> None:
    """Log once which of some files are left out, because they do not count as `images`."""
    counted = set(map(str, images))
    others = [
        path
        for path in files
        if not (path.suffix.lower() in _COMPANIONS or path.name.startswith(".") or path.is_dir())
        and str(path) not in counted
    ]
    if others:
        counts = Counter(path.suffix.lower() or "without suffix" for path in others)
        _logger.warning(
            "Files that do not count as images are left out: %s (%r%s)",
            ", ".join(f"{n} {suffix}" for suffix, n in counts.most_common(5)),
            str(others[0]),
            ", ..." if others[1:] else "",
        )


class FilePlace(NamedTuple):
    """What the name of an image stands for; page and view are None where it names none."""

    path: str
    page: int | None = None
    view: tuple[int, int, int, int] | None = None  # top, left, bottom and right


def split_name(name: str) -> FilePlace:
    """File, page and view that a name stands for.

    Examples
    --------
    >>> split_name("tray.tif[2][200x100+30+40]")
    FilePlace(path='tray.tif', page=2, view=(40, 30, 140, 230))
    """
    view = page = None
    if match := _brackets(_VIEW, name):
        name, width, height, left, top = match[1], *map(int, match.groups()[1:])
        view = top, left, top + height, left + width
    if match := _brackets(_PAGE, name):
        name, page = match[1], int(match[2])
    return FilePlace(name, page, view)


def _brackets(pattern, name):
    is_bracketed = name.endswith("]") and not os.path.exists(name)
    return pattern.fullmatch(name) if is_bracketed else None


def name_view(name: str, box: tuple[int, int, int, int]) -> str:
    """The name of a view, which `split_name` reads."""
    top, left, bottom, right = box
    return f"{name}[{right - left}x{bottom - top}+{left}+{top}]"
