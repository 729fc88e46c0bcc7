"""Readers of data sets that are on disk, in the layouts in which they were published.

Nothing is downloaded. Links are followed, wherever they lead: data sets are often put together
from links, and whoever can make links here can put files here. A table cannot name files outside
of its data set, because tables come with downloads.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ..images.files import images_among, tell_of_others
from ..images.image_list import StrPath
from ..images.labels import GOOD, GOOD_WORDS, means_good
from ..images.masks import read_mask
from ..images.reading import ImageReadError
from .image_set import ImageSet
from .rows import DatasetError, ImageRow, Problems, as_image_set
from .tables import read_table

_logger = logging.getLogger(__name__)


def load_mvtec_ad(
    root: StrPath,
    category: str | None = None,
    *,
    groups: str | None = "auto",
    good: str = GOOD,
    check: bool | None = True,
) -> ImageSet:
    """Read a folder in the layout of MVTec AD, or of BTAD (beanTech).

    ::

        <root>/<category>/train/good/*.png
        <root>/<category>/test/good/*.png
        <root>/<category>/test/<type>/<stem>.png
        <root>/<category>/ground_truth/<type>/<stem>_mask.png
        <root>/<category>/groups.csv        (optional)

    Any image format will do, and masks may have the name of their image alone. The folder of good
    images may be named by any word for good in `skstructcore.images.labels`. Without the folder
    `ground_truth/<type>` the images of a type have no masks.

    Parameters
    ----------
    root : str or path-like
        The folder of all categories, or of one category.
    category : str, default=None
        Which category to read; None reads all that there are.
    groups : {"auto"}, str or None, default="auto"
        A CSV file in each category's folder with the columns split, type, file and group: which
        images show the same part. "auto": `groups.csv` where there is one.
    good : str, default="good"
        Name of the folders of good images, beside the words for good.
    check : bool or None, default=True
        Whether to decode all images, to find the damaged ones; False reads their headers only,
        None leaves it to the model, which reads them anyway.

    Returns
    -------
    images : ImageSet
        With `splits`, `categories`, `masks`, and `groups` where there are any. Labels are "good"
        or the name of the folder.

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
    folders = _tree_folders(root) if category is None else [root / category]
    if not folders or not (folders[0] / "train").is_dir():
        place, names = folders[0] if folders else root, [f.name for f in _tree_folders(root)]
        others = f"the categories are {names}" if names else "no category has one"
        raise DatasetError(root, [f"{place}: no folder train, and {others}"])
    rows, problems = [], Problems(root)
    for folder in folders:
        rows += _read_tree(Path(os.path.abspath(folder)), groups, good, problems)
    if not rows:
        problems.raise_any()
    return as_image_set(rows, problems, check)


load_btad = load_mvtec_ad


def _tree_folders(root):
    """Folders that have a folder train: the root itself, or else those in it."""
    if (root / "train").is_dir():
        return [root]
    return [folder for folder in _folders_in(root) if (folder / "train").is_dir()]


def _folders_in(folder):
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def load_visa(
    root: StrPath,
    category: str | None = None,
    *,
    split: str = "1cls",
    good: str = GOOD,
    check: bool | None = True,
) -> ImageSet:
    """Read VisA as it was published, or as the script of its authors rearranges it.

    As published, with the splits in CSV files (columns object, split, label, image and mask)::

        <root>/split_csv/1cls.csv
        <root>/<category>/Data/Images/{Normal,Anomaly}/*.JPG
        <root>/<category>/Data/Masks/Anomaly/*.png

    Rearranged, it has the layout of `load_mvtec_ad`.

    Parameters
    ----------
    root, category, good, check : see `load_mvtec_ad`, also for errors
        As published, `root` is the folder of all categories, and the CSV file has the labels.
    split : str, default="1cls"
        Name of the CSV file, without ".csv"; it plays no part rearranged.

    Returns
    -------
    images : ImageSet
        With `splits`, `categories` and `masks`; labels are "good", and "anomaly" or "bad".
    """
    root = Path(root)
    if not (root / "split_csv").is_dir():
        return load_mvtec_ad(root, category, groups=None, good=good, check=check)
    table = root / "split_csv" / f"{split}.csv"
    rows = read_table(table, ("object", "split", "label", "image", "mask"))
    categories = sorted({row["object"] for row in rows})
    if category not in (None, *categories):
        raise DatasetError(root, [f"no category {category!r}; there are {categories}"])
    images, problems = [], Problems(root)
    for row in rows:
        if category not in (None, row["object"]):
            continue
        for place in (row["image"], row["mask"]):
            parts = PurePosixPath(place.replace("\\", "/"))
            if parts.is_absolute() or ".." in parts.parts or Path(place).is_absolute():
                problems.append(f"{table}: {place!r} points outside of the data set")
        file, mask = root / row["image"], root / row["mask"] if row["mask"] else None
        for name, one, other in (("label", "normal", "anomaly"), ("split", "train", "test")):
            if row[name] not in (one, other):
                problems.append(f"{row['image']}: the {name} {row[name]!r} is not {one} or {other}")
        columns = {"category": row["object"], "split": row["split"]}
        images.append(ImageRow(str(file), row["label"], mask, **columns))
    problems.raise_any()  # before any file is opened
    return as_image_set(images, problems, check)


def load_kolektor(root: StrPath, *, check: bool | None = True) -> ImageSet:
    """Read KolektorSDD or KolektorSDD2 as they were published.

    The first has no split; the shots of one commutator are a group. The second has one, with
    anomalous images in its training part too::

        <root>/kos01/Part0.jpg              <root>/{train,test}/10000.png
        <root>/kos01/Part0_label.bmp        <root>/{train,test}/10000_GT.png

    An image is anomalous if its mask marks any pixel.

    Parameters
    ----------
    root : str or path-like
        The folder of the data set.
    check : see `load_mvtec_ad`, also for errors

    Returns
    -------
    images : ImageSet
        With `masks`, and `groups` (KolektorSDD) or `splits` (KolektorSDD2); labels are "good"
        and "defect".
    """
    root = Path(root)
    splits = [root / name for name in ("train", "test") if (root / name).is_dir()]
    parts = [folder for folder in _folders_in(root) if folder.name.startswith("kos")]
    if not splits and not parts:
        raise DatasetError(root, ["neither folders train and test nor folders kos01, kos02, …"])
    ending, column = ("_GT", "split") if splits else ("_label", "group")
    rows, problems = [], Problems(root)
    for folder in splits or parts:
        by_stem = {path.stem: path for path in _images_in(folder)}
        for stem, path in by_stem.items():
            if stem.endswith(ending):
                if stem.removesuffix(ending) not in by_stem:
                    problems.append(f"{path}: a mask without an image")
            elif stem + ending not in by_stem:
                problems.append(f"{path}: no mask {stem}{ending}")
            else:
                row = ImageRow(str(path), "defect", by_stem[stem + ending])
                rows.append(row._replace(**{column: folder.name}))
    with ThreadPoolExecutor() as pool:
        marked = list(pool.map(_marks_anything, [row.mask for row in rows]))
    rows = [
        row if mark else row._replace(label=GOOD, mask=None)
        for row, mark in zip(rows, marked, strict=True)
    ]
    return as_image_set(rows, problems, check)


def _marks_anything(mask_file):
    try:
        return bool(read_mask(mask_file).any())
    except ImageReadError:
        return True  # so that the check of the masks reports it


def _images_in(folder):
    """What has the name of an image in a folder, sorted; links are followed. Others are logged."""
    entries = sorted(folder.iterdir())
    images = images_among(entries)
    tell_of_others(entries, images)
    if not images:
        _logger.warning("There are no images in the folder %r", str(folder))
    return images


def find_masks(
    files_of: dict[str, Collection[Path]], root: Path, problems: Problems
) -> dict[Path, Path | None]:
    """The masks of the images of each type: `<root>/<type>/<stem>_mask` or `<stem>`, any suffix."""
    mask_of = {}
    for defect, files in files_of.items():
        folder = root / defect
        if not folder.is_dir():
            continue
        masks = {path.stem: path for path in _images_in(folder)}
        stems = Counter(path.stem for path in files)
        for stem, mask in masks.items():
            if stem not in stems and stem.removesuffix("_mask") not in stems:
                problems.append(f"{mask}: a mask without an image")
        paired = {path: masks.get(f"{path.stem}_mask", masks.get(path.stem)) for path in files}
        for path, mask in paired.items():
            if mask and stems[path.stem] > 1:
                problems.append(f"{mask}: {stems[path.stem]} images have this name")
        if not any(paired.values()):
            problems.append(f"{folder}: no mask for any of the {len(files)} images of this type")
        mask_of |= paired
    return mask_of


def _read_tree(folder, groups, good, problems):
    """Rows of one category."""
    places = [place for split in ("train", "test") for place in _folders_in(folder / split)]
    files = [file for place in places for file in _images_in(place)]
    files_of = {place.name: [] for place in places if not means_good(place.name, good)}
    for file in files:
        if file.parent.name in files_of:
            files_of[file.parent.name].append(file)
    mask_of = find_masks(files_of, folder / "ground_truth", problems)
    group_of = _read_groups(folder, groups, files, problems)
    rows = []
    for file in files:
        split, name, _ = file.relative_to(folder).parts
        label = name if name in files_of else GOOD
        columns = {"group": group_of.get(file), "category": folder.name, "split": split}
        rows.append(ImageRow(str(file), label, mask_of.get(file), **columns))
    if not any(row.split == "train" and row.label == GOOD for row in rows):
        problems.append(
            f"{folder / 'train' / good}: no images to train on; the folder may also be named "
            f"{', '.join(GOOD_WORDS[1:])}"
        )
    return rows


def _read_groups(folder, groups, files, problems):
    """The group of each file, unique by the category; of none where there is no table."""
    if groups is None or (groups == "auto" and not (folder / "groups.csv").exists()):
        return {}
    table, groups_of = folder / ("groups.csv" if groups == "auto" else groups), {}
    for row in read_table(table, ("split", "type", "file", "group")):
        image = row["split"], row["type"], row["file"]
        if row["group"] and groups_of.setdefault(image, row["group"]) != row["group"]:
            problems.append(f"{'/'.join(image)}: two groups in {table.name}")
    group_of = {file: groups_of.get(file.relative_to(folder).parts) for file in files}
    for file, group in group_of.items():
        if group is None:
            problems.append(f"{file}: no group in {table.name}")
    return {file: f"{folder.name}/{group}" for file, group in group_of.items()}


class Layout(NamedTuple):
    """A data set on disk; `categories` by name, as `loader` takes them: None in a folder of one."""

    root: Path
    loader: Callable[..., ImageSet]
    categories: dict[str, str | None]

    def load(self, category: str, **params: Any) -> ImageSet:
        """Read one category; `params` go to the loader."""
        return self.loader(self.root, self.categories[category], **params)


def find_layout(root: StrPath) -> Layout:
    """Recognise the layout of MVTec AD, VisA or BTAD by names of folders; no image is read.

    Parameters
    ----------
    root : str or path-like
        The folder of all categories, or of one.

    Returns
    -------
    layout : Layout
        ``layout.load("bottle")`` reads one of ``layout.categories``.

    Raises
    ------
    DatasetError
        If the folder has none of these layouts.
    """
    layout = layout_or_none(Path(root))
    if layout is None:
        why = (
            "neither a folder train, nor folders that have one, nor VisA's split_csv and "
            "<category>/Data/Images"
        )
        raise DatasetError(root, [f"{root}: {why}"])
    return layout


def layout_or_none(root: Path) -> Layout | None:
    """What `find_layout` finds; None instead of its error."""
    if any((root / "split_csv").glob("*.csv")):
        folders = [folder for folder in _folders_in(root) if (folder / "Data" / "Images").is_dir()]
        return Layout(root, load_visa, {f.name: f.name for f in folders}) if folders else None
    folders = _tree_folders(root)
    if folders == [root]:
        return Layout(root, load_mvtec_ad, {root.resolve().name: None})
    categories = {folder.name: folder.name for folder in folders}
    return Layout(root, load_mvtec_ad, categories) if folders else None
