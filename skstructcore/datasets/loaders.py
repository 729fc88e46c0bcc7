"""Readers of data sets that are on disk, in the layouts in which they were published.

Nothing is downloaded. Every reader checks what it finds and raises one `DatasetError` that
lists all problems: files that cannot be read, masks that are missing or of another size.
"""

from __future__ import annotations

import csv
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..images.image_list import IMAGE_SUFFIXES, ImageReadError, list_images
from ..images.labels import GOOD
from ..images.masks import read_mask
from ._checks import DatasetError, find_problems
from ._image_set import ImageSet

if TYPE_CHECKING:
    from ..images.image_list import StrPath

__all__ = [
    "load_btad",
    "load_image_folder",
    "load_kolektor",
    "load_mvtec_ad",
    "load_visa",
]


def load_mvtec_ad(
    root: StrPath, category: str | None = None, *, groups: str | None = "auto", check: bool = True
) -> ImageSet:
    """Read a folder in the layout of MVTec AD.

    ::

        <root>/<category>/train/good/*.png
        <root>/<category>/test/good/*.png
        <root>/<category>/test/<type>/<stem>.png
        <root>/<category>/ground_truth/<type>/<stem>_mask.png
        <root>/<category>/groups.csv        (optional)

    Any image format will do. Masks are optional for a whole type of defect: without the
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
        have the label "good", others the name of their folder.

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
    return _load_trees(root, category, good=GOOD, groups=groups, check=check)


def load_btad(root: StrPath, category: str | None = None, *, check: bool = True) -> ImageSet:
    """Read BTAD (beanTech) as it was published.

    ::

        <root>/<category>/train/ok/*
        <root>/<category>/test/{ok,ko}/*
        <root>/<category>/ground_truth/ko/<stem>.{png,bmp}

    Parameters
    ----------
    root : str or path-like
        The folder of all categories ("01", "02", "03"), or of one category.
    category : str, default=None
        Which category to read; None reads all that there are.
    check : bool, default=True
        Whether to decode all images, to find the damaged ones; False reads their headers only.

    Returns
    -------
    images : ImageSet
        With `splits`, `categories` and `masks`; labels are "good" and "ko".

    Raises
    ------
    DatasetError
        If files are unreadable, missing or do not belong together; it lists all of them.
    """
    return _load_trees(root, category, good="ok", groups=None, check=check)


def load_visa(
    root: StrPath, category: str | None = None, *, split: str = "1cls", check: bool = True
) -> ImageSet:
    """Read VisA in either of its layouts.

    As it was published, with the splits in CSV files (columns object, split, label, image and
    mask)::

        <root>/split_csv/1cls.csv
        <root>/<category>/Data/Images/{Normal,Anomaly}/*.JPG
        <root>/<category>/Data/Masks/Anomaly/*.png

    and as the script of its authors rearranges it::

        <root>/<category>/train/good/*.JPG
        <root>/<category>/test/{good,bad}/*.JPG
        <root>/<category>/ground_truth/bad/<stem>.png

    Parameters
    ----------
    root : str or path-like
        The folder of all categories; of the second layout also the folder of one category.
    category : str, default=None
        Which category to read; None reads all that there are.
    split : str, default="1cls"
        Name of the CSV file, without ".csv"; ignored in the second layout.
    check : bool, default=True
        Whether to decode all images, to find the damaged ones; False reads their headers only.

    Returns
    -------
    images : ImageSet
        With `splits`, `categories` and `masks`; labels are "good", and "anomaly" or "bad".

    Raises
    ------
    DatasetError
        If files are unreadable, missing or do not belong together; it lists all of them.
    """
    root = Path(root)
    if not (root / "split_csv").is_dir():
        return _load_trees(root, category, good=GOOD, groups=None, check=check)
    rows = _read_table(
        root / "split_csv" / f"{split}.csv", ("object", "split", "label", "image", "mask")
    )
    categories = sorted({row["object"] for row in rows})
    if category is not None:
        if category not in categories:
            raise DatasetError(root, [f"no category {category!r}; there are {categories}"])
        rows = [row for row in rows if row["object"] == category]
    images = ImageSet(
        [root / row["image"] for row in rows],
        [GOOD if row["label"] == "normal" else row["label"] for row in rows],
        masks=[root / row["mask"] if row["mask"] else None for row in rows],
        categories=[row["object"] for row in rows],
        splits=[row["split"] for row in rows],
    )
    return _checked(root, images, [], check)


def load_kolektor(root: StrPath, *, check: bool = True) -> ImageSet:
    """Read KolektorSDD or KolektorSDD2 as they were published.

    The first has no split; the shots of one commutator are a group::

        <root>/kos01/Part0.jpg
        <root>/kos01/Part0_label.bmp

    The second has one, with anomalous images in its training part too::

        <root>/{train,test}/10000.png
        <root>/{train,test}/10000_GT.png

    An image is anomalous if its mask marks any pixel.

    Parameters
    ----------
    root : str or path-like
        The folder of the data set.
    check : bool, default=True
        Whether to decode all images, to find the damaged ones; False reads their headers only.

    Returns
    -------
    images : ImageSet
        With `masks`, and `groups` (KolektorSDD) or `splits` (KolektorSDD2); labels are "good"
        and "defect".

    Raises
    ------
    DatasetError
        If files are unreadable, missing or do not belong together; it lists all of them.
    """
    root = Path(root)
    parts = [root / name for name in ("train", "test") if (root / name).is_dir()]
    second = bool(parts)
    if not second:
        parts = sorted(path for path in root.glob("kos*") if path.is_dir())
    if not parts:
        raise DatasetError(root, ["neither folders train and test nor folders kos01, kos02, …"])
    ending = "_GT" if second else "_label"
    paths, mask_files, places, problems = [], [], [], []
    for part in parts:
        found = {path.stem: path for path in _image_files(part)}
        for stem, path in found.items():
            if stem.endswith(ending):
                if stem.removesuffix(ending) not in found:
                    problems.append(f"{path}: a mask without an image")
            elif stem + ending not in found:
                problems.append(f"{path}: no mask {stem}{ending}")
            else:
                paths.append(path)
                mask_files.append(found[stem + ending])
                places.append(part.name)
    with ThreadPoolExecutor() as pool:
        marked = list(pool.map(_marks_anything, mask_files))
    images = ImageSet(
        paths,
        ["defect" if mark else GOOD for mark in marked],
        masks=[mask if mark else None for mask, mark in zip(mask_files, marked, strict=True)],
        groups=None if second else places,
        splits=places if second else None,
    )
    return _checked(root, images, problems, check)


def load_image_folder(
    root: StrPath, *, good: str = GOOD, mask_root: StrPath | None = None, check: bool = True
) -> ImageSet:
    """Read a folder with one folder for each label, or with images directly inside.

    ::

        <root>/good/*.png
        <root>/<type>/<stem>.png
        <mask_root>/<type>/<stem>.png       (or <stem>_mask.png)

    Parameters
    ----------
    root : str or path-like
        The folder. Images that lie directly in it count as good, and there must be no folders
        with images beside them.
    good : str, default="good"
        Name of the folder of good images.
    mask_root : str or path-like, default=None
        The folder of masks; None: no masks.
    check : bool, default=True
        Whether to decode all images, to find the damaged ones; False reads their headers only.

    Returns
    -------
    images : ImageSet
        With `masks`; labels are "good" and the names of the other folders. It has no splits:
        use a splitter of `skstructcore.model_selection`.

    Raises
    ------
    DatasetError
        If files are unreadable, missing or do not belong together; it lists all of them.
    """
    root = Path(root)
    folders = _folders(root)
    if not folders:
        return _checked(root, ImageSet(list_images(root)), [], check)
    problems = [f"{path}: an image beside folders of images" for path in _image_files(root)]
    paths, y, masks = [], [], []
    for folder in folders:
        files = _image_files(folder)
        label = GOOD if folder.name == good else folder.name
        if label != GOOD and mask_root is not None:
            masks += _masks_of(files, Path(mask_root) / folder.name, problems)
        else:
            masks += [None] * len(files)
        paths += files
        y += [label] * len(files)
    return _checked(root, ImageSet(paths, y, masks=masks), problems, check)


def _load_trees(root, category, *, good, groups, check):
    """Read categories that have the folders train, test and ground_truth."""
    root = Path(root)
    if category is not None:
        folders = [root / category]
    elif (root / "train").is_dir():
        folders = [root]
    else:
        folders = [folder for folder in _folders(root) if (folder / "train").is_dir()]
    if not folders or not (folders[0] / "train").is_dir():
        raise DatasetError(
            root, [f"{folders[0] if folders else root}: no folder train, and no category has one"]
        )
    parts, problems = [], []
    for folder in folders:
        parts.append(_read_tree(Path(os.path.abspath(folder)), good, groups, problems))
    images = _joined(parts)
    return _checked(root, images, problems, check)


def _read_tree(folder, good, groups, problems):
    files, y, masks, splits = [], [], [], []
    for split in ("train", "test"):
        for type_folder in _folders(folder / split):
            found = _image_files(type_folder)
            label = GOOD if type_folder.name == good else type_folder.name
            files += found
            y += [label] * len(found)
            splits += [split] * len(found)
            if label == GOOD:
                masks += [None] * len(found)
            else:
                masks += _masks_of(found, folder / "ground_truth" / type_folder.name, problems)
    if ("train", GOOD) not in zip(splits, y, strict=True):
        problems.append(f"{folder / 'train' / good}: no images to train on")
    return ImageSet(
        files,
        y,
        masks=masks,
        groups=_read_groups(folder, files, groups, problems),
        categories=[folder.name] * len(files),
        splits=splits,
    )


def _masks_of(files, folder, problems):
    """The mask of each file: `<stem>_mask` or `<stem>`, with any suffix; None without folder."""
    masks = {path.stem: path for path in _image_files(folder)} if folder.is_dir() else {}
    stems = {path.stem for path in files}
    problems += [
        f"{path}: a mask without an image"
        for stem, path in masks.items()
        if stem not in stems and stem.removesuffix("_mask") not in stems
    ]
    found = [masks.get(f"{path.stem}_mask", masks.get(path.stem)) for path in files]
    if folder.is_dir() and not any(found):
        problems.append(f"{folder}: no mask for any of the {len(files)} images of this type")
    return found


def _read_groups(folder, files, groups, problems):
    """Names of groups, made unique by the category; None where there is no file."""
    if groups is None or (groups == "auto" and not (folder / "groups.csv").exists()):
        return None
    table = folder / ("groups.csv" if groups == "auto" else groups)
    rows = _read_table(table, ("split", "type", "file", "group"))
    group_of = {(row["split"], row["type"], row["file"]): row["group"] for row in rows}
    found = [group_of.get(path.relative_to(folder).parts) for path in files]
    problems += [
        f"{path}: no group in {table.name}"
        for path, group in zip(files, found, strict=True)
        if group is None
    ]
    return [f"{folder.name}/{group}" for group in found]


def _read_table(path, columns):
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except OSError as error:
        raise DatasetError(path.parent, [f"{path}: {error.strerror}"]) from error
    missing = [column for column in columns if column not in (reader.fieldnames or [])]
    if missing:
        raise DatasetError(path.parent, [f"{path}: no column {', '.join(missing)}"])
    return rows


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


def _checked(root, images, problems, check):
    if len(images):
        problems = problems + find_problems(images, decode=check)
    elif not problems:
        problems = ["there are no images"]
    if problems:
        raise DatasetError(root, problems)
    return images


def _marks_anything(mask_file):
    try:
        return bool(read_mask(mask_file).any())
    except ImageReadError:
        return True  # so that the check of the masks reports it


def _folders(folder):
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _image_files(folder):
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
