"""Telling which published layout a folder has, and which categories are in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ._checks import DatasetError
from .loaders import load_btad, load_mvtec_ad, load_visa

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..images.image_list import StrPath
    from ._image_set import ImageSet

__all__ = ["Layout", "find_layout"]


class Layout(NamedTuple):
    """A data set on disk: what reads it, and what is in it.

    Attributes
    ----------
    root : pathlib.Path
        The folder.
    loader : callable
        `load_mvtec_ad`, `load_visa` or `load_btad`.
    categories : dict of str to (str or None)
        For each category its name and what the loader takes for it; None where the folder is
        that of one category.
    """

    root: Path
    loader: Callable[..., ImageSet]
    categories: dict[str, str | None]

    def load(self, category: str, **params: Any) -> ImageSet:
        """Read one category; `params` go to the loader."""
        return self.loader(self.root, self.categories[category], **params)


def find_layout(root: StrPath) -> Layout:
    """Recognise the layout of MVTec AD, VisA or BTAD, of one or of many categories.

    Only names of folders are looked at; no image is read.

    Parameters
    ----------
    root : str or path-like
        The folder of all categories, or of one.

    Returns
    -------
    layout : Layout

    Raises
    ------
    DatasetError
        If the folder has none of these layouts.

    Examples
    --------
    >>> from skstructcore.datasets import find_layout
    >>> layout = find_layout("mvtec_ad")              # doctest: +SKIP
    >>> images = layout.load("bottle")                # doctest: +SKIP
    """
    root = Path(root)
    tables = sorted((root / "split_csv").glob("*.csv"))
    if tables:
        folders = [path for path in root.iterdir() if (path / "Data" / "Images").is_dir()]
        return Layout(root, load_visa, {path.name: path.name for path in sorted(folders)})
    if (root / "train").is_dir():
        name = root.resolve().name
        return Layout(root, _tree_loader(root), {name: None})
    folders = sorted(path for path in root.glob("*") if (path / "train").is_dir())
    if not folders:
        raise DatasetError(
            root,
            [
                f"{root}: neither a folder train, nor folders that have one, nor a folder "
                "split_csv as VisA has it"
            ],
        )
    return Layout(root, _tree_loader(folders[0]), {path.name: path.name for path in folders})


def is_data_set(folder: Path) -> bool:
    """Whether `find_layout` would recognise a folder."""
    places = (folder / "train", folder / "split_csv")
    return any(p.is_dir() for p in places) or any(p.is_dir() for p in folder.glob("*/train"))


def _tree_loader(folder):
    return load_btad if (folder / "train" / "ok").is_dir() else load_mvtec_ad
