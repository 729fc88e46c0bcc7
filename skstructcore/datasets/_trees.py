"""Trees of folders train, test and ground_truth, as MVTec AD has them and others after it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..images.labels import GOOD, GOOD_WORDS, means_good
from ._checks import DatasetError, checked
from ._folders import folders_in, images_in, masks_of, read_table
from ._image_rows import ImageRow, as_image_set

if TYPE_CHECKING:
    from ..images.image_list import StrPath
    from ._image_set import ImageSet


def load_mvtec_ad(
    root: StrPath, category: str | None = None, *, groups: str | None = "auto", check: bool = True
) -> ImageSet:
    """Read a folder in the layout of MVTec AD, or of BTAD (beanTech).

    ::

        <root>/<category>/train/good/*.png
        <root>/<category>/test/good/*.png
        <root>/<category>/test/<type>/<stem>.png
        <root>/<category>/ground_truth/<type>/<stem>_mask.png
        <root>/<category>/groups.csv        (optional)

    Any image format will do, and masks may have the name of their image alone. The folder of good
    images may also be named "ok", as that of BTAD is, or by another of the words in
    `skstructcore.images.labels`. Masks are optional for a whole type of defect: without the
    folder `ground_truth/<type>` its images have none, and pixel metrics leave them out, as
    they leave out images whose mask is empty.

    Parameters
    ----------
    root : str or path-like
        The folder of all categories, or of one category.
    category : str, default=None
        Which category to read; None reads all that there are.
    groups : {"auto"}, str or None, default="auto"
        A CSV file in each category's folder with the columns split, type, file and group:
        which images show the same part. "auto" reads `groups.csv` where there is one; None
        reads none.
    check : bool, default=True
        Whether to decode all images, to find the damaged ones; False reads their headers only.

    Returns
    -------
    images : ImageSet
        With `splits`, `categories`, `masks`, and `groups` where there are any. Good images
        (of folders named "good", "OK", ...) have the label "good", others the name of their folder.

    Raises
    ------
    DatasetError
        If files are unreadable, missing or do not belong together; it lists all of them.

    Examples
    --------
    >>> from skstructcore.datasets import load_mvtec_ad
    >>> bottle = load_mvtec_ad("mvtec_ad", "bottle")  # doctest: +SKIP
    >>> pipe.fit(bottle.train).predict(bottle.test)   # doctest: +SKIP
    """
    root = Path(root)
    folders = tree_folders(root) if category is None else [root / category]
    if not folders or not (folders[0] / "train").is_dir():
        place = folders[0] if folders else root
        raise DatasetError(root, [f"{place}: no folder train, and no category has one"])
    rows, problems = [], []
    for folder in folders:
        rows += _read_tree(Path(os.path.abspath(folder)), groups, problems)
    if not rows:
        raise DatasetError(root, problems)
    return checked(root, as_image_set(rows), problems, check)


load_btad = load_mvtec_ad


def tree_folders(root: Path) -> list[Path]:
    """Folders that have a folder train: the root itself, or else those in it, sorted."""
    if (root / "train").is_dir():
        return [root]
    return sorted(train.parent for train in root.glob("*/train") if train.is_dir())


def _read_tree(folder, groups, problems):
    """Rows of one category."""
    rows, mask_of = [], {}
    group_of = _read_groups(folder, groups, problems)
    found = [
        (split, place.name, images_in(place))
        for split in ("train", "test")
        for place in folders_in(folder / split)
    ]
    for kind in dict.fromkeys(kind for _, kind, _ in found if not means_good(kind)):
        files = [file for _, other, files in found if other == kind for file in files]
        masks = masks_of(files, folder / "ground_truth" / kind, problems)
        mask_of.update(zip(files, masks, strict=True))
    for split, kind, files in found:
        label = GOOD if means_good(kind) else kind
        for file in files:
            known = {"group": group_of(file), "category": folder.name, "split": split}
            rows.append(ImageRow(str(file), label, mask_of.get(file), **known))
    if not any(row.split == "train" and row.label == GOOD for row in rows):
        problems.append(
            f"{folder / 'train' / GOOD}: no images to train on; the folder may also be named "
            f"{', '.join(GOOD_WORDS[1:])}"
        )
    return rows


def _read_groups(folder, groups, problems):
    """What finds the group of a file, unique by the category; None where there is no table."""
    if groups is None or (groups == "auto" and not (folder / "groups.csv").exists()):
        return lambda file: None
    table = folder / ("groups.csv" if groups == "auto" else groups)
    groups_of = {}
    for row in read_table(table, ("split", "type", "file", "group")):
        image = row["split"], row["type"], row["file"]
        if row["group"] and groups_of.setdefault(image, row["group"]) != row["group"]:
            problems.append(f"{'/'.join(image)}: two groups in {table.name}")

    def group_of(file):
        group = groups_of.get(file.relative_to(folder).parts)
        if group is None:
            problems.append(f"{file}: no group in {table.name}")
        return f"{folder.name}/{group}"

    return group_of
