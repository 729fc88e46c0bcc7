"""Trees of folders train, test and ground_truth, as MVTec AD has them and others after it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..images.labels import GOOD, GOOD_WORDS, means_good
from ._checks import DatasetError, checked
from ._folders import folders_in, images_in, masks_of, read_table
from ._image_set import ImageSet

if TYPE_CHECKING:
    from ..images.image_list import StrPath


def load_trees(
    root: StrPath, category: str | None, *, groups: str | None = None, check: bool
) -> ImageSet:
    """Read categories that have the folders train, test and ground_truth."""
    root = Path(root)
    if category is not None:
        found = [root / category]
    elif (root / "train").is_dir():
        found = [root]
    else:
        found = [folder for folder in folders_in(root) if (folder / "train").is_dir()]
    if not found or not (found[0] / "train").is_dir():
        raise DatasetError(
            root, [f"{found[0] if found else root}: no folder train, and no category has one"]
        )
    parts, problems = [], []
    for folder in found:
        parts.append(_read_tree(Path(os.path.abspath(folder)), groups, problems))
    images = _joined(parts)
    return checked(root, images, problems, check)


def _read_tree(folder, groups, problems):
    files, y, masks, splits = [], [], [], []
    for split in ("train", "test"):
        for type_folder in folders_in(folder / split):
            found = images_in(type_folder)
            label = GOOD if means_good(type_folder.name) else type_folder.name
            files += found
            y += [label] * len(found)
            splits += [split] * len(found)
            if label == GOOD:
                masks += [None] * len(found)
            else:
                masks += masks_of(found, folder / "ground_truth" / type_folder.name, problems)
    if ("train", GOOD) not in zip(splits, y, strict=True):
        problems.append(
            f"{folder / 'train' / GOOD}: no images to train on; the folder may also be named "
            f"{', '.join(GOOD_WORDS[1:])}"
        )
    return ImageSet(
        files,
        y,
        masks=masks,
        groups=_read_groups(folder, files, groups, problems),
        categories=[folder.name] * len(files),
        splits=splits,
    )


def _read_groups(folder, files, groups, problems):
    """Names of groups, made unique by the category; None where there is no file."""
    if groups is None or (groups == "auto" and not (folder / "groups.csv").exists()):
        return None
    table = folder / ("groups.csv" if groups == "auto" else groups)
    rows = read_table(table, ("split", "type", "file", "group"))
    group_of = {}
    for row in rows:
        place = row["split"], row["type"], row["file"]
        if row["group"] and group_of.setdefault(place, row["group"]) != row["group"]:
            problems.append(f"{'/'.join(place)}: two groups in {table.name}")
    found = [group_of.get(path.relative_to(folder).parts) for path in files]
    problems += [
        f"{path}: no group in {table.name}"
        for path, group in zip(files, found, strict=True)
        if group is None
    ]
    return [f"{folder.name}/{group}" for group in found]


def _joined(parts):
    """One ImageSet of several; where only some have groups, the others' images are their own."""
    if len(parts) == 1:
        return parts[0]
    groups = None
    if any(part.groups is not None for part in parts):
        groups = [
            group
            for part in parts
            for group in (part.paths if part.groups is None else part.groups)
        ]
    return ImageSet(
        [path for part in parts for path in part.paths],
        np.concatenate([part.y for part in parts]),
        masks=[mask for part in parts for mask in part.masks],
        groups=groups,
        categories=np.concatenate([part.categories for part in parts]),
        splits=np.concatenate([part.splits for part in parts]),
    )
