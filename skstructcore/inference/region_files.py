"""Regions in the forms that other programs read: COCO, GeoJSON, label masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..images.image_list import ImagesLike, as_images
from ..images.masks import fill_polygons

__all__ = ["to_coco", "to_geojson"]

#: How files of `to_coco` begin, by which commands know them again.
INFO = {"description": "Regions found by skstructcore"}
# Columns that become properties as they are.
_PROPERTIES = (
    "region area n_patches mean peak peak_row peak_col p_value touches_border too_small route"
).split()


def to_coco(regions: pd.DataFrame, images: ImagesLike | None = None) -> dict[str, Any]:
    """Regions as a COCO data set, for ``json.dump``.

    Parameters
    ----------
    regions : DataFrame
        As `skstructcore.regions` returns it, or some of its rows.
    images : folder, sequence of paths, ..., default=None
        The images that were looked at: those without a region are in the list then, too.

    Returns
    -------
    coco : dict
        "images", "categories" (one, "anomaly") and "annotations": polygon, area, box and, as
        "score", the peak; the rest of a region's columns under their own names.

    Examples
    --------
    >>> import numpy as np
    >>> from skstructcore import AnomalyMaps, make_structcore, regions
    >>> from skstructcore.inference.region_files import to_coco
    >>> good = np.random.default_rng(0).random((40, 4, 4))
    >>> pipe = make_structcore(structcore__false_alarm_rate=0.1)[4:].fit(good)
    >>> maps = np.zeros((1, 4, 4))
    >>> maps[0, 1, 2:] = 3
    >>> to_coco(regions(pipe, AnomalyMaps(maps)))["annotations"][0]["bbox"]
    [2.0, 1.0, 2.0, 1.0]
    """
    sizes = _sizes(regions, images)
    numbers = {name: number for number, name in enumerate(sizes, start=1)}
    listed = [
        {"id": numbers[name], "file_name": name, "height": height, "width": width}
        for name, (height, width) in sizes.items()
    ]
    annotations = []
    for number, row in enumerate(regions.to_dict("records"), start=1):
        top, left = row["top"], row["left"]
        annotation = {"id": number, "image_id": numbers[row["image"]], "category_id": 1}
        annotation["segmentation"] = [np.ravel(row["polygon"]).tolist()]
        annotation["bbox"] = [left, top, row["right"] - left, row["bottom"] - top]
        annotation |= {"iscrowd": 0, "score": row["peak"]}
        annotations.append(annotation | {name: row[name] for name in _PROPERTIES})
    lists = {"images": listed, "annotations": annotations}
    return {"info": INFO, "categories": [{"id": 1, "name": "anomaly"}], **lists}


def to_geojson(regions: pd.DataFrame) -> dict[str, Any]:
    """Regions as a GeoJSON-like FeatureCollection of polygons, for ``json.dump``.

    Coordinates are x and y in pixels of the upright original, y *down*; rings are closed.

    Parameters
    ----------
    regions : see `to_coco`

    Returns
    -------
    collection : dict
        A feature a region, whose properties are its other columns.
    """
    _sizes(regions, None)
    features = []
    for row in regions.to_dict("records"):
        ring = np.vstack([row["polygon"], row["polygon"][:1]]).tolist()
        geometry = {"type": "Polygon", "coordinates": [ring]}
        properties = {name: value for name, value in row.items() if name != "polygon"}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return {"type": "FeatureCollection", "features": features}


def draw_mask(rows: list[dict[str, Any]], size: tuple[int, int]) -> NDArray[np.uint16]:
    """The mask of an image: 0, or the number of the region, to which its holes belong."""
    mask = np.zeros(size, dtype=np.uint16)
    # The widest first, so that what lies in a hole of another stays visible.
    for row in sorted(rows, key=lambda row: row["left"] - row["right"]):
        top, left = max(int(row["top"]), 0), max(int(row["left"]), 0)
        bottom, right = int(np.ceil(row["bottom"])), int(np.ceil(row["right"]))
        part = mask[top:bottom, left:right]
        part[fill_polygons([row["polygon"] - [left, top]], part.shape)] = row["region"]
    return mask


def _sizes(regions, images):
    """Height and width of each image, in order; ValueError if these are no regions."""
    missing = sorted({"image", "polygon", *_PROPERTIES} - set(getattr(regions, "columns", ())))
    if missing:
        raise ValueError(f"regions must be what skstructcore.regions returns: no {missing[0]!r}.")
    size_of = regions.drop_duplicates("image").set_index("image")[["height", "width"]]
    if images is None:
        return size_of.astype(int).T.to_dict("list")
    images = as_images(images)
    names = images.file_names()
    strangers = sorted(set(size_of.index) - set(names))
    if strangers:
        raise ValueError(f"There are regions of {strangers[0]!r}, which is not among the images.")
    return dict(zip(names, images.sizes().tolist(), strict=True))
