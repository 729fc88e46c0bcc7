"""Folders of images: which images are in them, and what their names say of these."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from ..images.files import images_among, tell_of_others
from ..images.image_list import StrPath
from ..images.labels import GOOD, GOOD_WORDS, means_defect, means_good
from .rows import DatasetError

_logger = logging.getLogger(__name__)

MASK_FOLDERS = frozenset("ground_truth groundtruth gt mask masks".split())


def walk(root: Path, without: Iterable[StrPath] = (), *, tell: bool = True) -> list[Path]:
    """Images in a folder, however deep, sorted; links are followed, each folder once.

    Folders of `without` are left out, wherever links to them lie. With `tell`, what does not count
    is logged.
    """
    seen, files, images = set(map(os.path.realpath, without)), [], []
    for folder, folders, names in os.walk(root, followlinks=True):
        real_path = os.path.realpath(folder)
        if real_path in seen:
            folders.clear()
            continue
        seen.add(real_path)
        if "scale.json" in names and _is_of_maps(Path(folder, "scale.json")):
            folders.clear()
            if tell:
                _logger.warning("Left out the maps in %r, which save_maps wrote", folder)
            continue
        folders[:] = sorted(
            n for n in folders if n.lower() not in MASK_FOLDERS and not n.startswith(".")
        )
        here = [Path(folder, name) for name in sorted(names)]
        files += here
        images += images_among(here)
    if tell:
        tell_of_others(files, images)
    return images


def _is_of_maps(file):
    """Whether a file is the note of `skstructcore.save_maps`, whose maps may lie among images."""
    try:
        return {"unit", "thresholds", "not_seen"} <= set(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return False


def folder_labels(root: Path, files: Sequence[Path], good: str | None) -> list[str | None]:
    """What folders, from `root` on, say of the files in them: "good", a type, or nothing (None).

    With ``good=None`` names of folders are not read as labels.
    """
    folders = [file.relative_to(root).parts[:-1] for file in files]
    if good is None:
        return [None] * len(folders)
    is_good = partial(means_good, good=good)
    # A word for defects counts most, wherever in the path it stands.
    defects = [next(filter(means_defect, names), None) for names in folders]
    # Folders in which one of good images lies: what lies beside that are types of defects.
    around = {names[:i] for names in folders for i, name in enumerate(names) if is_good(name)}
    if not around:
        label = _label_of_root(root, folders, any(defects), good)
        return [defect or label for defect in defects]
    top = min(map(len, around))
    if loose := [file for file, names in zip(files, folders, strict=True) if len(names) <= top]:
        raise DatasetError(root, [f"{file}: an image beside folders of images" for file in loose])
    labels = [
        GOOD if any(map(is_good, names)) else _type_of(names, around, top) for names in folders
    ]
    return [defect or label for defect, label in zip(defects, labels, strict=True)]


def _label_of_root(root, folders, has_defects, good):
    """What the name of a folder says of all in it, where no folder in it is named as good."""
    name = root.resolve().name
    if means_good(name, good):
        return GOOD
    if has_defects:
        shown = ", ".join(sorted({names[0] for names in folders if names})[:5])
        words = ", ".join(GOOD_WORDS[1:])
        why = f"folders of defects ({shown}), but none that is named {good!r} or {words}"
        raise DatasetError(root, [why])
    return name if means_defect(name) else None


def _type_of(names, around, top):
    """The folder that lies beside one of good images: of day/deep/dent, "dent" or "deep" or "day".

    It is the deepest such folder, or else that at the level of the topmost one of good images.
    """
    beside = [depth for depth in range(len(names)) if names[:depth] in around]
    return names[max(beside, default=top)]
