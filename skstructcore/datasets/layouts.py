"""Telling which published layout a folder has, and which categories are in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ._folders import folders_in
from .checks import DatasetError
from .loaders import load_mvtec_ad, load_visa, tree_folders

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..images.image_list import StrPath
    from .image_set import ImageSet

__all__ = ["Layout", "find_layout"]


class Layout(NamedTuple):
    """A data set on disk: what reads it, and what is in it.

    Attributes
    ----------
    root : pathlib.Path
        The folder.
    loader : callable
        `load_mvtec_ad` (of which `load_btad` is another name) or `load_visa`.
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
    layout = layout_or_none(Path(root))
    if layout is None:
        raise DatasetError(
            root,
            [
                f"{root}: neither a folder train, nor folders that have one, nor a folder "
                "split_csv as VisA has it"
            ],
        )
    return layout


def layout_or_none(root: Path) -> Layout | None:
    """What `find_layout` finds; None instead of its error."""
    if any((root / "split_csv").glob("*.csv")):
        folders = [folder for folder in folders_in(root) if (folder / "Data" / "Images").is_dir()]
        return Layout(root, load_visa, {folder.name: folder.name for folder in folders})
    folders = tree_folders(root)
    if not folders:
        return None
    if folders[0] == root:
        return Layout(root, load_mvtec_ad, {root.resolve().name: None})
    return Layout(root, load_mvtec_ad, {folder.name: folder.name for folder in folders})
