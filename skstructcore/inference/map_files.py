"""Maps, overlays and masks of regions as files: one an image, in its own size."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sklearn.pipeline import Pipeline

from .._utils.files import atomic_file, escape_name, stamp, write_text
from ..containers import AnomalyMaps
from ..images.files import split_name
from ..images.geometry import place_on_image
from ..images.image_list import ImageList, ImagesLike, StrPath, as_images
from ..model_files.persistence import load
from ..pipeline.steps import check_takes_images, fitted_steps, intensity_of
from ..scoring.regions import find_regions
from ..scoring.structcore import StructCoreScorer
from .region_files import draw_mask
from .scores import OnError, iter_shards

_NOTE = "scale.json"
_STAMP = "image"  # text in each PNG: the stamp of the file that it was drawn from
#: Counts of a 16-bit map that the threshold has: distances to eight times of it fit in.
_COUNTS = {"euclidean": 8191, "sqeuclidean": 1023}
_VERMILLION = np.array([213, 94, 0], dtype=np.float32)


class MapWriter:
    """Writes files of maps while they are there, in whichever process: see `save_maps`.

    Begins in empty folders, or goes on in those of the same model and images. `images` may be a
    folder, where images are still to come. `folders` are of each kind of file, "map", "overlay" and
    "mask"; None: not wanted. With `keep_regions` calls return regions, also without masks.
    """

    def __init__(
        self,
        pipe: Pipeline,
        images: ImageList | str,
        folders: dict[str, StrPath | None],
        *,
        keep_regions: bool = False,
    ) -> None:
        # All images lie below one folder, as their files do below the `folders`. Files of images
        # whose names clash without their suffix keep it, as all do where images are still to come.
        self._base, self._clashing = (images, None) if isinstance(images, str) else _places(images)
        bank, knn, scorer = fitted_steps(pipe)
        check_takes_images(pipe, "save_maps")
        decisions = {k: route.calibration.base_decision for k, route in scorer.routes_.items()}
        self._thresholds = {k: float(decision.threshold) for k, decision in decisions.items()}
        self._unit = max(self._thresholds.values()) / _COUNTS[knn.metric]
        self._view = intensity_of(pipe)
        note = {
            "unit": self._unit,
            "thresholds": self._thresholds,
            "not_seen": 0,
            "images": escape_name(self._base),
            "model": joblib.hash([np.asarray(bank.bank_.values), self._thresholds]),
        }
        self.folders = {form: Path(place) for form, place in folders.items() if place is not None}
        if len({place.resolve() for place in self.folders.values()}) < len(self.folders):
            raise ValueError(f"{' and '.join(self.folders)} files need folders of their own.")
        for place in self.folders.values():
            _take_up(place, note)
        self._keeps_regions = keep_regions

    def paths(self, images: ImageList, i: int) -> dict[str, Path]:
        """Where each kind of file of image `i` is."""
        place = _place(images, i, self._base)
        keeps_suffix = self._clashing is None or str(place.with_suffix("")) in self._clashing
        name = escape_name(f"{place}.png" if keeps_suffix else str(place.with_suffix(".png")))
        return {form: folder / name for form, folder in self.folders.items()}

    def has_drawn(self, images: ImageList, i: int) -> bool:
        """Whether all files of image `i` are there, drawn from the file that is there now."""
        now, paths = stamp_of(images.items[i]), self.paths(images, i).values()
        return now is not None and all(_read_stamp(path) == str(now) for path in paths)

    def __call__(
        self, scorer: StructCoreScorer, images: ImageList, maps: AnomalyMaps
    ) -> list[list[dict[str, Any]] | None]:
        """Write the files of some images; return the regions of each, if they are to be kept."""
        regions = [None] * len(maps)
        if self._keeps_regions or "mask" in self.folders:
            regions = find_regions(maps, images.file_names(), scorer.routes_, scorer.resolution)
        routes = scorer.routes_.route_of(maps)
        for i, placed in enumerate(scorer.transform(maps) if self.folders else ()):
            if maps.geometry is not None:
                placed = place_on_image(placed, maps.geometry, i)
            drawn_from = PngInfo()
            drawn_from.add_text(_STAMP, str(stamp_of(images.items[i])))
            for form, path in self.paths(images, i).items():
                if form == "map":
                    counts = np.clip(np.rint(placed / self._unit) + 1, 1, 65535)
                    picture = np.nan_to_num(counts, nan=0).astype(np.uint16)
                elif form == "overlay":
                    shown = images.seen_through(self._view).read(i)
                    picture = _overlay(shown, placed, self._thresholds[routes[i]])
                else:  # "mask"
                    mask = draw_mask(regions[i], placed.shape)
                    picture = mask.astype(np.min_scalar_type(mask.max()))  # 8 bits, if they suffice
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_file(path, durable=False) as file:
                    Image.fromarray(picture).save(file, format="png", pnginfo=drawn_from)
        return regions if self._keeps_regions else [None] * len(maps)


def _places(images):
    """The folder below which all images lie, and names that clash without their suffix."""
    files = [os.path.abspath(item) for item in images.items if isinstance(item, str)]
    base = os.path.commonpath(map(os.path.dirname, files)) if files else ""
    places = [_place(images, i, base) for i in range(len(images))]
    stems, whole = Counter(str(place.with_suffix("")) for place in {*places}), set(map(str, places))
    # Where "a.png" keeps its suffix, its file is "a.png.png", which "a.png.bmp" must not have too.
    return base, frozenset(s for s, count in stems.items() if count > 1 or s in whole)


def _place(images, i, base):
    """Where image `i` lies below the folder of all of them."""
    item = images.items[i]
    if not isinstance(item, str):
        return Path(images[i].file_names()[0])
    path = split_name(item).path
    place = Path(os.path.relpath(os.path.abspath(path), base))
    return place.with_name(f"{place.stem}{item[len(path) :]}{place.suffix}")


def _overlay(image, placed, threshold):
    share = np.clip(np.nan_to_num(placed) / threshold - 0.5, 0, 1)[..., np.newaxis]
    shown = np.asarray(image, dtype=np.float32)
    return np.rint(shown + 0.65 * share * (_VERMILLION - shown)).astype(np.uint8)


def _take_up(folder, note):
    """Begin in an empty folder, or go on in one of the same model and images."""
    note_file, text = folder / _NOTE, json.dumps(note, indent=1)
    if not folder.exists() or not any(folder.iterdir()):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(note_file, text)
    elif not note_file.exists() or note_file.read_bytes() != text.encode():
        raise OSError(
            f"The folder {str(folder)!r} holds files of another model, of other settings or of "
            "other images, or files of something else, which are kept: name a new one."
        )


def save_maps(
    pipe: Pipeline | StrPath,
    images: ImagesLike,
    folder: StrPath | None,
    *,
    overlays: StrPath | None = None,
    masks: StrPath | None = None,
    on_error: OnError = "skip",
    n_jobs: int | None = None,
    shard_size: int = 16,
    verbose: int = 0,
) -> dict[str, str | None]:
    """Write the anomaly map of each image as a file of its own size.

    A map is a PNG of 16 bits: 0 where the backbone saw nothing, else ``(count - 1) * unit`` is the
    smoothed distance, up to eight times the largest threshold (64 times of squared distances). The
    file ``scale.json`` beside it has the ``unit`` and the ``thresholds`` of each route. Files lie
    as those of the images do and have their names: ``day/a.png`` is that of ``day/a.jpg``. Where
    two names differ by their suffix alone, it is kept: ``day/a.jpg.png``. A run that was ended goes
    on where it was.

    Parameters
    ----------
    pipe, images, on_error, n_jobs, verbose : see `score_images`
    folder : str, path-like or None
        Where maps go; made if it is not there. None: no maps.
    overlays : str or path-like, default=None
        Folder for the images with their maps over them, as PNG: transparent below half of the
        threshold of the image's route, in full colour from one and a half of it.
    masks : str or path-like, default=None
        Folder for the regions (`skstructcore.regions`), numbered from 1, as PNG.
    shard_size : int, default=16
        Images whose maps a process has in memory at a time.

    Returns
    -------
    failed : dict of str to str
        The reason by file, of images that could not be read; empty if all could.

    Raises
    ------
    OSError
        If a folder holds files that are none of this function, or maps of another model or of
        images that lie elsewhere.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from PIL import Image
    >>> from skstructcore import make_structcore, save_maps
    >>> photos = np.random.default_rng(0).integers(0, 256, (8, 48, 64), dtype=np.uint8)
    >>> pipe = make_structcore("efficientnet_lite0", features__image_size=64, bank__ratio=0.1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     failed = save_maps(pipe.fit(photos), photos[:2], folder)
    ...     np.asarray(Image.open(f"{folder}/image 1.png")).shape
    (48, 64)
    """
    if folder is None and overlays is None and masks is None:
        raise ValueError("Give a folder for maps, overlays= or masks=.")
    fitted = load(pipe, mmap_mode="r") if isinstance(pipe, str | os.PathLike) else pipe
    images = as_images(images)
    writer = MapWriter(fitted, images, {"map": folder, "overlay": overlays, "mask": masks})
    left = images[[i for i in range(len(images)) if not writer.has_drawn(images, i)]]
    options = {"on_error": on_error, "n_jobs": n_jobs, "shard_size": shard_size, "verbose": verbose}
    failed = {}
    for scores, _ in iter_shards(pipe, left, writer, **options):
        failed |= scores.set_index("file")["error"].dropna().to_dict()
    return failed


def stamp_of(item: object) -> tuple[int, ...] | None:
    """What changes when the file of an image is written again; None without a file."""
    try:
        return stamp(split_name(item).path) if isinstance(item, str) else None
    except (OSError, ValueError):  # to be reported when it is read
        return None


def _read_stamp(path):
    try:
        with Image.open(path) as drawn:
            return drawn.info.get(_STAMP)
    except OSError:
        return None
