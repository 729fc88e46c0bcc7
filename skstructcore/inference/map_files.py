"""Maps, overlays and masks of regions as files: one an image, in its own size."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

import joblib
import numpy as np
from PIL import Image

from .._utils.files import atomic_file, escape_name, write_text
from .._utils.validation import check_number
from ..images.files import split_page
from ..images.image_list import as_images
from ..images.resampling import place_on_image
from ..pipeline.steps import fitted_steps, intensity_of
from ..scoring.calibration import route_of_images
from ..scoring.describe import check_takes_images
from ..scoring.regions import find_regions
from .region_files import draw_mask
from .scores import score_batch

if TYPE_CHECKING:
    from typing import Any

    from sklearn.pipeline import Pipeline

    from ..containers import AnomalyMaps
    from ..images.image_list import ImageList, ImagesLike, StrPath
    from ..images.intensity import Intensity
    from ..scoring.structcore import StructCoreScorer

_NOTE = "scale.json"
#: Counts of a 16-bit map that the threshold has: distances to eight times of it fit in.
_COUNTS = {"euclidean": 8191, "sqeuclidean": 1023}
_VERMILLION = np.array([213, 94, 0], dtype=np.float32)


@dataclass(frozen=True)
class MapWriter:
    """Writes files of maps while they are there, in whichever process.

    See `skstructcore.save_maps`.

    Attributes
    ----------
    folders : dict of str to Path
        Of each kind of file, "map", "overlay" and "mask", that is wanted.
    base : str
        Folder below which all images lie, as their files do below the folders.
    alike : frozenset of str or None
        Places of images that differ by their suffix alone. None: images come one by one, nobody
        knows which; all names keep the suffix, and files are written whenever an image comes.
    unit : float
        What a count of a map is worth.
    view : Intensity or None
        How the pipeline sees values of images, which overlays show.
    keep_regions : bool
        Whether a call returns the regions of each image.
    """

    folders: dict[str, Path]
    base: str
    alike: frozenset[str] | None
    unit: float
    view: Intensity | None
    keep_regions: bool

    @classmethod
    def of(
        cls,
        pipe: Pipeline,
        images: ImageList | None,
        folders: dict[str, StrPath | None],
        *,
        keep_regions: bool = False,
        watched: StrPath | None = None,
    ) -> MapWriter:
        """Begin in empty folders, or go on in those of the same model and images.

        `watched` is a folder in which images will appear, instead of `images`.
        """
        if watched is None:
            base, alike = _places(images)
        else:
            base, alike = os.path.abspath(watched), None
        bank, knn, scorer = fitted_steps(pipe)
        check_takes_images(pipe, "save_maps")
        thresholds = _thresholds(scorer)
        note = {
            "unit": max(thresholds.values()) / _COUNTS[knn.metric],
            "thresholds": thresholds,
            "not_seen": 0,
            "images": escape_name(base),
            "model": joblib.hash([np.asarray(bank.bank_.values), thresholds]),
        }
        folders = {kind: Path(place) for kind, place in folders.items() if place is not None}
        if len({place.resolve() for place in folders.values()}) < len(folders):
            raise ValueError(f"{' and '.join(folders)} files need folders of their own.")
        for place in folders.values():
            _take_up(place, note)
        return cls(folders, base, alike, note["unit"], intensity_of(pipe), keep_regions)

    def to_do(self, images: ImageList, i: int) -> list[str]:
        """Kinds of files of image `i` that are missing or older than the image."""
        if self.alike is None:
            return list(self.folders)
        item = images.items[i]
        path = split_page(item)[0] if isinstance(item, str) else ""
        changed = os.stat(path).st_mtime_ns if os.path.isfile(path) else 0
        paths = {kind: folder / self._target(images, i) for kind, folder in self.folders.items()}
        return [k for k, p in paths.items() if not p.exists() or p.stat().st_mtime_ns < changed]

    def __call__(
        self, scorer: StructCoreScorer, images: ImageList, maps: AnomalyMaps
    ) -> list[list[dict[str, Any]]] | None:
        """Write the files of some images that are to do; the regions of each, if they are kept."""
        wanted = self.keep_regions or "mask" in self.folders
        found = find_regions(scorer, maps, images.file_names()) if wanted else None
        to_do = [self.to_do(images, i) for i in range(len(maps))]
        pixels = scorer.transform(maps) if any(to_do) else ()
        thresholds, routes = _thresholds(scorer), route_of_images(scorer.routes_, maps)
        for i, kinds in enumerate(to_do):
            if not kinds:
                continue
            placed = pixels[i]
            if maps.geometry is not None:
                placed = place_on_image(placed, maps.geometry, i)
            threshold = thresholds[routes[i]]
            for kind in kinds:
                if kind == "map":
                    picture = _as_counts(placed, self.unit)
                elif kind == "overlay":
                    picture = _overlay(images.seen_through(self.view).read(i), placed, threshold)
                else:
                    picture = _as_mask(draw_mask(found[i], placed.shape))
                path = self.folders[kind] / self._target(images, i)
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_file(path, durable=False) as file:
                    picture.save(file, format="png")
        return found if self.keep_regions else None

    def _target(self, images, i):
        place = _place(images, i, self.base)
        known = self.alike is None or str(place.with_suffix("")) in self.alike
        return escape_name(f"{place}.png" if known else str(place.with_suffix(".png")))


def _places(images):
    """The folder below which all images lie, and places whose files keep the suffix to differ."""
    files = [os.path.abspath(item) for item in images.items if isinstance(item, str)]
    base = os.path.commonpath(map(os.path.dirname, files)) if files else ""
    places = [_place(images, i, base) for i in range(len(images))]
    stems, whole = Counter(str(place.with_suffix("")) for place in places), set(map(str, places))
    # "a.png.bmp" is also there beside "a.png", which is "a.png.png" where it keeps its suffix.
    return base, frozenset(s for s, count in stems.items() if count > 1 or s in whole)


def _place(images, i, base):
    """Where image `i` lies below the folder of all of them."""
    item = images.items[i]
    if not isinstance(item, str):
        return Path(images[i].file_names()[0])
    path, _ = split_page(item)
    place = Path(os.path.relpath(os.path.abspath(path), base))
    return place.with_name(f"{place.stem}{item[len(path) :]}{place.suffix}")


def _thresholds(scorer):
    """Of the largest distance, for each route; "all" without."""
    found = scorer.calibrations_.items()
    return {str(route): float(known.base_decision.threshold) for route, known in found}


def _as_counts(placed, unit):
    counts = np.clip(np.rint(placed / unit) + 1, 1, 65535)
    return Image.fromarray(np.nan_to_num(counts, nan=0).astype(np.uint16))


def _overlay(image, placed, threshold):
    share = np.clip(np.nan_to_num(placed) / threshold - 0.5, 0, 1)[..., np.newaxis]
    shown = np.asarray(image, dtype=np.float32)
    return Image.fromarray(np.rint(shown + 0.65 * share * (_VERMILLION - shown)).astype(np.uint8))


def _as_mask(mask):
    return Image.fromarray(mask if mask.max(initial=0) > 255 else mask.astype(np.uint8))


def _take_up(folder, note):
    """Begin in an empty folder, or go on in one of the same model and images."""
    known = folder / _NOTE
    try:
        if json.loads(known.read_text()) == note:
            return
        what = "files of another model, of other settings or of other images"
    except (OSError, ValueError):
        if not folder.exists() or not any(folder.iterdir()):
            folder.mkdir(parents=True, exist_ok=True)
            write_text(known, json.dumps(note, indent=1))
            return
        what = "other files"
    raise OSError(f"The folder {str(folder)!r} holds {what}, which are kept: name a new one.")


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
    the backbone saw nothing, else ``(count - 1) * unit`` is the smoothed distance, 65535 one from
    eight times the largest threshold on (64 times of squared distances); ``thresholds`` are those
    of each route. Folders are as those of the images are; a page is ``a[2].png``. A run
    that was ended goes on where it was.

    Parameters
    ----------
    pipe : Pipeline
        Fitted, as `make_structcore` builds it.
    images : folder, sequence of paths, PIL images or arrays, or ndarray
    folder : str, path-like or None
        Where maps go; made if it is not there. None: no maps.
    overlays : str or path-like, default=None
        Folder for the images with their maps over them, as PNG: transparent below half of the
        threshold of the largest distance of the image's route, in full colour from one and a half
        of it.
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
        If a folder holds files that are none of this function, or maps of another model or of
        images that lie elsewhere.

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
    check_number(batch_size, "batch_size", 1, closed="left", kind=Integral)
    images = as_images(images)
    writer = MapWriter.of(pipe, images, {"map": folder, "overlay": overlays, "mask": masks})
    left = [i for i in range(len(images)) if writer.to_do(images, i)]
    failed = {}
    for start in range(0, len(left), batch_size):
        scores = score_batch(pipe, images[left[start : start + batch_size]], also=writer)
        wrong = scores[scores["error"].notna()]
        failed |= dict(zip(wrong["file"], wrong["error"], strict=True))
    return failed
