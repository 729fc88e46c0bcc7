"""Maps, overlays and masks of regions as files: one an image, in its own size."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import joblib
import numpy as np
from PIL import Image

from .._utils.files import atomic_file, escape_name, write_text
from ..images.image_list import ImageReadError, as_images
from ..images.resampling import place_on_image
from .region_files import label_masks
from .regions import regions

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from ..images.image_list import ImageList, ImagesLike, StrPath

__all__ = ["save_maps"]

_NOTE = "scale.json"
#: Counts of a 16-bit map that the threshold has: values to eight times of it fit in.
_COUNTS = 8191
_VERMILLION = np.array([213, 94, 0], dtype=np.float32)


def save_maps(
    pipe: Pipeline,
    images: ImagesLike,
    folder: StrPath | None,
    *,
    overlays: StrPath | None = None,
    masks: StrPath | None = None,
    batch_size: int = 16,
) -> dict[str, str | None]:
    """Write the anomaly map of each image as a file of its own size.

    A map is a PNG of 16 bits. The file ``scale.json`` beside it says what a count is worth: 0 where
    the backbone saw nothing, else ``(count - 1) * unit`` is the smoothed distance. Folders are
    as those of the images are. A run that was ended goes on where it was.

    Parameters
    ----------
    pipe : Pipeline
        Fitted, as `make_structcore` builds it.
    images : folder, sequence of paths, PIL images or arrays, or ndarray
    folder : str, path-like or None
        Where maps go; made if it is not there. None: no maps.
    overlays : str or path-like, default=None
        Folder for the images with their maps over them, as PNG: transparent below half of the
        threshold of the largest distance, in full colour from one and a half of it.
    masks : str or path-like, default=None
        Folder for the regions (`skstructcore.regions`), numbered from 1, as PNG.
    batch_size : int, default=16
        Images whose maps are in memory at a time.

    Returns
    -------
    failed : dict of str to str
        For images that cannot be read the reason.

    Raises
    ------
    OSError
        If a folder holds files that are none of this function, or maps of another model.

    See Also
    --------
    skstructcore.images.place_on_image : What brings a map to the size of its image.

    Examples
    --------
    >>> import json, tempfile
    >>> import numpy as np
    >>> from PIL import Image
    >>> from skstructcore import make_structcore, save_maps
    >>> photos = np.random.default_rng(0).integers(0, 256, (8, 48, 64), dtype=np.uint8)
    >>> pipe = make_structcore("efficientnet_lite0", features__image_size=64, bank__ratio=0.1)
    >>> pipe = pipe.fit(photos)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_maps(pipe, photos[:2], folder)
    ...     counts = np.asarray(Image.open(f"{folder}/image 1.png"))
    ...     unit = json.load(open(f"{folder}/scale.json"))["unit"]
    {}
    >>> counts.shape, counts.dtype, round(float(counts.max() * unit), 2) > 0
    ((48, 64), dtype('uint16'), True)
    """
    images = as_images(images)
    folders = {"map": folder, "overlay": overlays, "mask": masks}
    folders = {kind: Path(place) for kind, place in folders.items() if place is not None}
    scorer = pipe[-1]
    threshold = float(scorer.calibration_.base_decision.threshold)
    note = {
        "unit": threshold / _COUNTS,
        "threshold": threshold,
        "not_seen": 0,
        "model": joblib.hash([np.asarray(pipe["bank"].bank_.values), threshold]),
    }
    for place in folders.values():
        _take_up(place, note)
    targets = _targets(images)
    failed = {}
    names = images.file_names()
    left = [i for i in range(len(images)) if _is_to_do(names[i], targets[i], folders)]
    for start in range(0, len(left), batch_size):
        rows = left[start : start + batch_size]
        for part in _readable(pipe, images, rows, failed):
            _write_batch(scorer, images, *part, targets, folders, note["unit"], threshold)
    return failed


def _readable(pipe, images, rows, failed):
    """Rows and their maps, together if all can be read, else one by one."""
    try:
        yield rows, pipe[:-1].transform(images[rows])
        return
    except ImageReadError as error:
        if len(rows) == 1:
            failed[images.file_names()[rows[0]]] = str(error)
            return
    for row in rows:
        yield from _readable(pipe, images, [row], failed)


def _write_batch(scorer, images: ImageList, rows, maps, targets, folders, unit, threshold):
    pixels = scorer.transform(maps)
    drawn = label_masks(regions(scorer, maps)) if "mask" in folders else {}
    for k, row in enumerate(rows):
        placed = pixels[k] if maps.geometry is None else place_on_image(pixels[k], maps.geometry, k)
        for kind, folder in folders.items():
            if kind == "map":
                counts = np.clip(np.rint(placed / unit) + 1, 1, 65535)
                picture = Image.fromarray(np.nan_to_num(counts, nan=0).astype(np.uint16))
            elif kind == "overlay":
                share = np.clip(np.nan_to_num(placed) / threshold - 0.5, 0, 1)[..., np.newaxis]
                shown = np.asarray(images.read(row), dtype=np.float32)
                mixed = shown + 0.65 * share * (_VERMILLION - shown)
                picture = Image.fromarray(np.rint(mixed).astype(np.uint8))
            else:
                mask = drawn.get(f"image {k}", np.zeros(placed.shape, np.uint16))
                deep = mask.max(initial=0) > 255
                picture = Image.fromarray(mask if deep else mask.astype(np.uint8))
            path = folder / targets[row]
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path, durable=False) as file:
                picture.save(file, format="png")


def _take_up(folder, note):
    """Begin in an empty folder, or go on in one of the same model."""
    known = folder / _NOTE
    try:
        if json.loads(known.read_text()) == note:
            return
        what = "files of another model, or of other settings"
    except (OSError, ValueError):
        if not folder.exists() or not any(folder.iterdir()):
            folder.mkdir(parents=True, exist_ok=True)
            write_text(known, json.dumps(note, indent=1))
            return
        what = "other files"
    raise OSError(f"The folder {str(folder)!r} holds {what}, which are kept: name a new one.")


def _targets(images):
    """Relative path of the file of each image: as the images lie below what they have in common."""
    names = images.file_names()
    files = [os.path.abspath(name) if os.path.exists(name) else name for name in names]
    base = (
        os.path.commonpath([os.path.dirname(f) for f in files]) if os.path.isabs(files[0]) else ""
    )
    places = [Path(os.path.relpath(f, base) if base and os.path.isabs(f) else f) for f in files]
    counts = Counter(place.with_suffix("") for place in places)
    found = [
        place.with_suffix(".png") if counts[place.with_suffix("")] == 1 else f"{place}.png"
        for place in places
    ]
    return [escape_name(str(path)) for path in found]


def _is_to_do(name, target, folders):
    """Whether a file is missing, or older than its image."""
    changed = os.stat(name).st_mtime_ns if os.path.isfile(name) else 0
    paths = [folder / target for folder in folders.values()]
    return not all(path.exists() and path.stat().st_mtime_ns >= changed for path in paths)
