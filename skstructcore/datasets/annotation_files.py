"""Where defects are, as programs for annotating write it: labelme, COCO, YOLO, Pascal VOC."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from .._utils.versions import import_extra
from ..images.image_list import StrPath, as_images
from ..images.labels import means_good
from ..images.masks import fill_polygons
from .folders import walk
from .image_set import ImageSet
from .rows import ImageRow, Problems, as_image_set

_logger = logging.getLogger(__name__)


class DrawnMask(NamedTuple):
    """Areas of an image, polygons or run lengths of COCO, that become a mask when it is read."""

    size: tuple[int, int]
    areas: tuple[Any, ...]

    def read(self) -> NDArray[np.bool_]:
        """The mask of shape `size`: pixels whose centre lies in an area."""
        mask = fill_polygons([area for area in self.areas if isinstance(area, list)], self.size)
        for area in self.areas:
            if isinstance(area, dict):
                mask |= _decoded(area, self.size)
        return mask


def load_annotated(
    folder: StrPath, annotations: StrPath | None = None, *, check: bool | None = True
) -> ImageSet:
    """Read a folder of images whose defects are annotated as polygons, boxes or run lengths.

    Parameters
    ----------
    folder : str or path-like
        The images, however deep.
    annotations : str or path-like, default=None
        A COCO JSON file, or a folder with a file for each image: labelme (``.json``), Pascal VOC
        (``.xml``) or YOLO (``.txt``; names of classes in the nearest ``classes.txt``, in this
        folder or one around the file). None: these files lie beside the images.
    check : see `load_mvtec_ad`

    Returns
    -------
    images : ImageSet
        With masks; of a COCO file, the images that it lists. An image without a shape, or only
        with labels that mean good, is "good"; others have the label of their first shape.

    Raises
    ------
    DatasetError
        If images or annotations cannot be read, are missing or do not belong together; it lists
        all of them.
    ImportError
        If COCO's compressed run lengths are met and pycocotools is not installed.
    """
    problems = Problems(folder)
    files = [str(file) for file in walk(Path(folder))]
    images = as_images(as_image_set(list(map(ImageRow, files)), problems, check=False))
    sizes = dict(zip(files, map(tuple, images.sizes().tolist()), strict=True))
    if annotations is not None and Path(annotations).is_file():
        shapes_of = _coco(Path(annotations), sizes, problems)
    else:
        place = Path(folder if annotations is None else annotations)
        shapes_of = _by_file_names(Path(folder), place, sizes, problems)
    problems.raise_any()
    rows = []
    for file, shapes in shapes_of.items():
        defects = [shape for shape in shapes if not means_good(shape[0])]
        if defects:
            labels, areas = zip(*defects, strict=True)
            rows.append(ImageRow(file, labels[0], DrawnMask(sizes[file], areas)))
        else:
            rows.append(ImageRow(file))
    return as_image_set(rows, problems, check)


def _by_file_names(folder, annotations, sizes, problems):
    """Label and area of each shape of each image; all readers of files below give these."""
    readers = {".json": _labelme, ".xml": _voc, ".txt": partial(_yolo, annotations)}
    shapes_of = {file: [] for file in sizes}
    n_read = 0
    for file, size in sizes.items():
        path = annotations / Path(file).relative_to(folder)
        sources = (path.with_suffix(suffix) for suffix in readers)
        source = next(filter(Path.is_file, sources), None)
        if source is not None:
            n_read += 1
            with problems.listed(source):
                shapes_of[file] = readers[source.suffix](source, size)
    if not n_read:
        problems.append(
            f"{annotations}: no .json, .xml or .txt has the name of an image; where they lie "
            "elsewhere, pass annotations=, their folder or the COCO file"
        )
    return shapes_of


def _labelme(path, size):
    data = json.loads(path.read_text("utf-8"))
    _check_size(data.get("imageHeight"), data.get("imageWidth"), size)
    return [(_named(s["label"]), _corners(s)) for s in data["shapes"]]


def _named(label):
    """A label that is one: a program for annotating may leave it out."""
    if label is None or not str(label).strip():
        raise ValueError("a shape has no label")
    return str(label)


def _check_size(height, width, size):
    """Refuse places that were drawn on an image of another size, or one that was turned."""
    if height and width and (int(height), int(width)) != size:
        raise ValueError(f"it is of an image of {(height, width)} pixels, this one has {size}")


def _corners(shape):
    shape_type = shape.get("shape_type", "polygon")
    points = np.array(shape["points"], dtype=np.float64).reshape(-1, 2)
    fewest = {"rectangle": 2, "circle": 2, "polygon": 3}.get(shape_type)
    if fewest is None or len(points) < fewest or not np.isfinite(points).all():
        raise ValueError(
            f"a shape of the type {shape_type!r} with {len(points)} points has no area"
        )
    if shape_type == "rectangle":
        return _box(*points.min(axis=0), *points.max(axis=0))
    if shape_type == "circle":
        angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)[:, np.newaxis]
        radius = np.hypot(*(points[1] - points[0]))
        points = points[0] + radius * np.hstack([np.cos(angle), np.sin(angle)])
    return points.tolist()


def _box(left, top, right, bottom):
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _voc(path, size):
    root, shapes = ElementTree.parse(path).getroot(), []
    _check_size(root.findtext("size/height"), root.findtext("size/width"), size)
    for item in root.iter("object"):
        box, label = item.find("bndbox"), _named(item.findtext("name"))
        if box is None:
            raise ValueError("an object has no bndbox")
        sides = [float(box.findtext(name)) for name in ("xmin", "ymin", "xmax", "ymax")]
        # The first pixel is 1, and the last one belongs to the box.
        shapes.append((label, _box(sides[0] - 1, sides[1] - 1, *sides[2:])))
    return shapes


def _yolo(root, path, size):
    names = (place / "classes.txt" for place in path.parents if place.is_relative_to(root))
    names = next(filter(Path.is_file, names), None)
    lines = names.read_text("utf-8").splitlines() if names else []
    labels = dict(enumerate(map(str.strip, lines)))
    shapes = []
    for line in filter(str.strip, path.read_text("utf-8").splitlines()):
        class_number, *values = map(float, line.split())
        is_box = len(values) == 4
        if not is_box and (len(values) < 6 or len(values) % 2):
            raise ValueError(f"{len(values) + 1} numbers in a line are no box and no segment")
        if class_number < 0 or class_number != int(class_number):
            raise ValueError(f"{line!r}: {class_number:g} is no number of a class")
        if not -0.01 <= min(values) <= max(values) <= 1.01:  # beyond by rounding
            raise ValueError(f"{line!r}: YOLO's places are shares of the image, from 0 to 1")
        corners = np.array(values).reshape(-1, 2)
        if is_box:
            centre, half = corners[0], corners[1] / 2
            corners = np.array(_box(*(centre - half), *(centre + half)))
        label = labels.get(class_number) or f"class {class_number:g}"
        shapes.append((label, (corners * size[::-1]).tolist()))
    return shapes


def _coco(path, sizes, problems):
    with problems.listed(f"{path}: no COCO file"):
        data = json.loads(path.read_text("utf-8"))
        names = {category["id"]: category["name"] for category in data.get("categories", ())}
        images = {image["id"]: (image["file_name"], image) for image in data["images"]}
        annotations = data["annotations"]
    problems.raise_any()
    file_of, of_name = {}, defaultdict(list)
    for file in sizes:
        of_name[Path(file).name].append(file)
    for key, (name, image) in images.items():
        ending = Path(name).parts
        same_name = of_name[Path(name).name]
        matches = [file for file in same_name if Path(file).parts[-len(ending) :] == ending]
        if len(matches) != 1:
            problems.append(f"{path}: {len(matches)} images are named {name!r}")
            continue
        file_of[key] = matches[0]
        with problems.listed(f"{path}: {name}"):
            _check_size(image.get("height"), image.get("width"), sizes[matches[0]])
    listed = set(file_of.values())
    shapes_of = {file: [] for file in sizes if file in listed}
    if len(shapes_of) < len(sizes):
        _logger.warning(
            "%s lists %d of %d images: the others are left out", path, len(shapes_of), len(sizes)
        )
    for number, item in enumerate(annotations):
        with problems.listed(f"{path}: annotation {number}"):
            if item["image_id"] not in images:
                raise ValueError(f"it is of the unknown image {item['image_id']}")
            if item["image_id"] in file_of:
                shapes_of[file_of[item["image_id"]]] += _coco_shapes(item, names)
    return shapes_of


def _coco_shapes(item, names):
    label = _named(names.get(item.get("category_id"), f"class {item.get('category_id')}"))
    outlines = item.get("segmentation")
    if isinstance(outlines, dict):
        return [(label, {"size": outlines["size"], "counts": outlines["counts"]})]
    if outlines:
        return [(label, _corners({"points": outline})) for outline in outlines]
    left, top, width, height = item["bbox"]
    return [(label, _box(left, top, left + width, top + height))]


def _decoded(runs, size):
    """The mask of COCO's run lengths, which go down the columns and begin with background."""
    counts = runs["counts"]
    n_pixels = sum(counts) if isinstance(counts, list) else size[0] * size[1]
    if tuple(runs["size"]) != tuple(size) or n_pixels != size[0] * size[1]:
        raise ValueError(
            f"run lengths of {n_pixels} pixels, {runs['size']}; the image has {list(size)}"
        )
    if isinstance(counts, list):
        flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        return flat.reshape(size[::-1]).T
    mask = import_extra("pycocotools.mask", "coco", "A compressed mask of COCO")
    return mask.decode(runs).astype(bool)
