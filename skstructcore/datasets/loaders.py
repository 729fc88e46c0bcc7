"""Readers of data sets that are on disk, in the layouts in which they were published.

Nothing is downloaded. Every reader checks what it finds and raises one `DatasetError` that
lists all problems: files that cannot be read, masks that are missing or of another size.

Links are followed, wherever they lead: data sets are often put together from links, and whoever
can make links here can put files here. A table cannot name files outside of its data set, because
tables come with downloads. Whatever is opened is only ever read as an image.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from ..images.labels import GOOD
from ..images.masks import read_mask
from ..images.reading import ImageReadError
from ._checks import DatasetError, checked
from ._folders import images_in, inside, read_table
from ._image_rows import ImageRow, as_image_set
from ._trees import load_mvtec_ad

if TYPE_CHECKING:
    from ..images.image_list import StrPath
    from ._image_set import ImageSet

__all__ = ["load_kolektor", "load_visa"]


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
        return load_mvtec_ad(root, category, groups=None, check=check)
    table = root / "split_csv" / f"{split}.csv"
    rows = read_table(table, ("object", "split", "label", "image", "mask"))
    categories = sorted({row["object"] for row in rows})
    if category is not None:
        if category not in categories:
            raise DatasetError(root, [f"no category {category!r}; there are {categories}"])
        rows = [row for row in rows if row["object"] == category]
    problems = []
    images = []
    for row in rows:
        file = inside(root, row["image"], table, problems)
        mask = inside(root, row["mask"], table, problems) if row["mask"] else None
        if row["label"] not in ("normal", "anomaly"):
            problems.append(f"{row['image']}: the label {row['label']!r} is not normal or anomaly")
        if row["split"] not in ("train", "test"):
            problems.append(f"{row['image']}: the split {row['split']!r} is not train or test")
        known = {"category": row["object"], "split": row["split"]}
        images.append(ImageRow(str(file), row["label"], mask, **known))
    if problems:  # before any file is opened
        raise DatasetError(root, problems)
    return checked(root, as_image_set(images), [], check)


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
    rows, problems = [], []
    for part in parts:
        by_stem = {path.stem: path for path in images_in(part)}
        for stem, path in by_stem.items():
            if stem.endswith(ending):
                if stem.removesuffix(ending) not in by_stem:
                    problems.append(f"{path}: a mask without an image")
            elif stem + ending not in by_stem:
                problems.append(f"{path}: no mask {stem}{ending}")
            else:
                known = {"split" if second else "group": part.name}
                rows.append(ImageRow(str(path), "defect", by_stem[stem + ending], **known))
    with ThreadPoolExecutor() as pool:
        marked = list(pool.map(_marks_anything, [row.mask for row in rows]))
    rows = [
        row if mark else row._replace(label=GOOD, mask=None)
        for row, mark in zip(rows, marked, strict=True)
    ]
    return checked(root, as_image_set(rows), problems, check)


def _marks_anything(mask_file):
    try:
        return bool(read_mask(mask_file).any())
    except ImageReadError:
        return True  # so that the check of the masks reports it
