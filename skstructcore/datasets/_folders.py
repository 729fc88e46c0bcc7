"""Looking into the folders of a data set on disk."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from ..images.files import images_among, tell_of_others

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .image_set import Problems

_logger = logging.getLogger(__name__)

_MASK_FOLDERS = frozenset("ground_truth groundtruth gt mask masks".split())


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; none if it is not there."""
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def images_in(folder: Path) -> list[Path]:
    """What has the name of an image in a folder, sorted; links are followed. Others are logged."""
    entries = sorted(folder.iterdir())
    images = images_among(entries)
    tell_of_others(entries, images)
    if not images:
        _logger.warning("There are no images in the folder %r", str(folder))
    return images


def masks_of(files: Sequence[Path], folder: Path, problems: Problems) -> list[Path | None]:
    """The mask of each file: `<stem>_mask` or `<stem>`, with any suffix; None without folder."""
    if not folder.is_dir():
        return [None] * len(files)
    masks = {path.stem: path for path in images_in(folder)}
    stems = Counter(path.stem for path in files)
    for stem, mask in masks.items():
        if stem not in stems and stem.removesuffix("_mask") not in stems:
            problems.add(f"{mask}: a mask without an image")
    matched = [masks.get(f"{path.stem}_mask", masks.get(path.stem)) for path in files]
    for path, mask in zip(files, matched, strict=True):
        if mask and stems[path.stem] > 1:
            problems.add(f"{mask}: {stems[path.stem]} images have this name")
    if not any(matched):
        problems.add(f"{folder}: no mask for any of the {len(files)} images of this type")
    return matched


def walk(root: Path, tell: bool = True) -> list[Path]:
    """Images in a folder, however deep, sorted; links are followed, each folder once."""
    seen, files, images = set(), [], []
    for folder, folders, names in os.walk(root, followlinks=True):
        real_path = os.path.realpath(folder)
        if real_path in seen:
            folders.clear()
            continue
        seen.add(real_path)
        if "scale.json" in names and _is_of_maps(Path(folder, "scale.json")):
            folders.clear()
            _logger.warning("Left out the maps in %r, which save_maps wrote", folder)
            continue
        masks = [name for name in folders if name.lower() in _MASK_FOLDERS]
        if masks:
            _logger.info("Left out the masks in %r: %s", folder, ", ".join(masks))
        folders[:] = sorted(n for n in folders if n not in masks and not n.startswith("."))
        here = [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
        images_here = images_among(here)
        stems = {file.stem for file in images_here}
        notes = [f for f in here if f.suffix.lower() in (".json", ".xml") and f.stem in stems]
        if notes and tell:
            _logger.warning(
                "%d annotations in %r are not read (%s, ...): see load_annotated",
                *(len(notes), folder, notes[0].name),
            )
        files += here
        images += images_here
    tell_of_others(files, images)
    return images


def _is_of_maps(file):
    """Whether a file is the note of `skstructcore.save_maps`, whose maps may lie among images."""
    try:
        return {"unit", "thresholds", "not_seen"} <= set(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return False
