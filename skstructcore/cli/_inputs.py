"""What commands take: images and models, as the command line names them."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._errors import Refused
from ._output import say

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from sklearn.pipeline import Pipeline

    from ..datasets import ImageSet
    from ..datasets.image_set import ImageRow
    from ..images import ImageList


@dataclass(frozen=True)
class Reading:
    """How files of images are read: keywords of `load_images`."""

    pages: str | None = None
    views: Sequence[Any] | None = None
    max_pixels: int | None = None


@dataclass(frozen=True)
class Sources:
    """Images as people name them, and how their files are read."""

    paths: tuple[Path, ...]
    reading: Reading = Reading()

    def of(self, paths: tuple[Path, ...]) -> Sources:
        """Others that are read alike."""
        return replace(self, paths=paths)

    def rows(self, good: str | None, split: str) -> list[ImageRow]:
        """A row an image, page or view."""
        from ..datasets._rows import find_rows

        return find_rows(self.paths, good, split, **asdict(self.reading))

    def all_of(self, rows: list[ImageRow]) -> ImageSet:
        """The images of rows, all of which can be read."""
        from ..datasets.sources import load_rows

        return load_rows(rows, self.paths, max_pixels=self.reading.max_pixels)

    def named(self, good: str | None = "good", split: str = "train") -> ImageList | ImageSet:
        """Images, as an ImageSet where their folders, tables or data sets know labels."""
        from ..datasets.image_set import as_image_set
        from ..images import as_images

        max_pixels = self.reading.max_pixels
        rows = self.rows(good, split)
        labelled = sum(bool(row.label) for row in rows)
        if labelled == len(rows) or (labelled and good is not None):
            return as_image_set(rows, max_pixels)
        if labelled:
            say(f"{len(rows) - labelled} of {len(rows)} images have no label: labels are left out.")
        return as_images([row.file for row in rows], max_pixels=max_pixels)

    def labelled(self, good: str, split: str = "test") -> ImageSet:
        """Images, of each of which it is known whether it is good."""
        from ..images.files import split_page

        rows = self.rows(good, split)
        for row in rows:
            if not row.label:
                if not os.path.lexists(split_page(row.file)[0]):
                    raise Refused(f"There is no {row.file!r}.")
                raise Refused(
                    f"Nothing says whether {row.file!r} is good. Name a folder that holds a folder "
                    "of good images beside those of defects, or a table with columns file and "
                    "label."
                )
        return self.all_of(rows)


def parts_of(paths: Sequence[str | Path], how: str) -> list[str]:
    """The part that each image is a view of, by its folder, file or a pattern of its path."""
    from ..images.files import split_page

    if how in ("folder", "file"):
        files = [split_page(str(path))[0] for path in paths]
        return files if how == "file" else [str(Path(file).parent) for file in files]
    try:
        pattern = re.compile(how)
    except re.error as error:
        raise click.BadParameter(f"--parts {how!r} is no regular expression: {error}") from None
    parts = []
    for path in paths:
        match = pattern.search(Path(path).as_posix())
        if match is None:
            raise click.BadParameter(f"--parts {how!r} does not match {str(path)!r}")
        parts.append(" ".join(filter(None, match.groups())) or match.group())
    return parts


@dataclass(frozen=True)
class ModelFile:
    """A saved model, where the weights of its network are now, and whether it may hold code."""

    path: Path
    weights: tuple[str, ...] = ()
    trust: bool = False

    def load(self, false_alarm_rate: float | None = None) -> Pipeline:
        """Read it; move its threshold if asked."""
        say(f"Loading {self.path} …")
        from ..model_files import ModelFileError, load

        try:
            pipe = load(self.path, weights=self.weights or None)
        except ModelFileError as error:
            if not self.trust:
                raise Refused(
                    f"{error}\nIf it is a joblib file: loading one can run code, and needs --trust."
                ) from None
            pipe = self._load_joblib()
        if false_alarm_rate is None:
            return pipe
        from ..lifecycle import recalibrate

        return recalibrate(pipe, false_alarm_rate=false_alarm_rate)

    def _load_joblib(self):
        import joblib

        from ..model_files.persistence import with_weights

        try:
            pipe = joblib.load(self.path)
        except Exception as broken:  # a pickle that does not fit raises anything
            raise Refused(f"{str(self.path)!r} cannot be loaded: {broken}") from broken
        if self.weights:
            with_weights(pipe, self.weights)
        return pipe


@dataclass(frozen=True)
class NewPipeline:
    """A pipeline that is to be fitted, as options describe it."""

    features: str = "efficientnet_lite0"
    preset: str = "default"
    settings: dict[str, Any] = field(default_factory=dict)

    def make(
        self, false_alarm_rate: float | None, *, verbose: bool = True, **defaults: Any
    ) -> Pipeline:
        """Build it; `defaults` are parameters that `settings` may change."""
        say("Loading torch, scikit-learn and the network …")
        from ..pipeline import make_structcore

        given = {"features__verbose": int(verbose), **defaults}
        if false_alarm_rate is not None:
            given["structcore__false_alarm_rate"] = false_alarm_rate
        pipe = make_structcore(self.features, preset=self.preset, **{**given, **self.settings})
        for _, step in pipe.steps:
            step._validate_params()  # before the work: else each step is checked when it is fitted
        return pipe
