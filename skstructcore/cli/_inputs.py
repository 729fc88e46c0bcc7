"""What commands take: images and models, as the command line names them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from ._output import Refused, say

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal

    from sklearn.pipeline import Pipeline

    from ..datasets import ImageSet
    from ..datasets.image_set import ImageRow
    from ..images import ImageList


class Sources(NamedTuple):
    """Images as people name them, and how their files are read: keywords of `load_images`."""

    paths: tuple[Path, ...]
    reading: dict[str, Any]

    def rows(self, good: str | None, split: str) -> list[ImageRow]:
        """A row an image, page or view."""
        from ..datasets.sources import Reading, find_rows

        return find_rows(self.paths, Reading(good, split, **self.reading))

    def all_of(self, rows: list[ImageRow]) -> ImageSet:
        """The images of rows, all of which can be read."""
        from ..datasets.sources import load_rows

        return load_rows(rows, self.paths, max_pixels=self.reading["max_pixels"])

    def good_ones(self, groups: Literal["folder"] | None) -> ImageSet:
        """Images to learn from: without a label they are good. `groups` as of `load_images`."""
        from ..datasets.sources import load_rows

        rows = self.rows("good", "train")
        return load_rows(rows, self.paths, groups, self.reading["max_pixels"], None)

    def as_they_are(self, split: str = "train") -> ImageList | ImageSet:
        """Images to look at, with labels if a table or data set has one for each of them."""
        from ..images import as_images

        rows = self.rows(None, split)
        labelled = sum(bool(row.label) for row in rows)
        if labelled == len(rows):
            return self._unread(rows)
        if labelled:
            say(f"{len(rows) - labelled} of {len(rows)} images have no label: labels are left out.")
        return as_images([row.file for row in rows], max_pixels=self.reading["max_pixels"])

    def _unread(self, rows):
        from ..datasets.image_set import Problems, as_image_set

        return as_image_set(rows, Problems(*self.paths), None, self.reading["max_pixels"])

    def labelled(self, good: str) -> ImageSet:
        """Images to test, of each of which it is known whether it is good."""
        from ..images.files import split_name

        rows = self.rows(good, "test")
        unsaid = [row.file for row in rows if not row.label]
        unsaid = [file for file in unsaid if os.path.lexists(split_name(file).path)]
        if unsaid:
            raise Refused(
                f"Nothing says whether {unsaid[0]!r} is good. Name a folder that holds a folder of "
                "good images beside those of defects, or a table with columns file and label."
            )
        return self.all_of(rows)


def parts_of(paths: Sequence[str | Path], how: str) -> list[str]:
    """The part that each image is a view of, by its folder, file or a pattern of its path."""
    from ..images.files import split_name

    if how in ("folder", "file"):
        files = [split_name(str(path)).path for path in paths]
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


class ModelFile(NamedTuple):
    """A saved model, where the weights of its network are now, and whether it may be joblib's."""

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


def make_pipeline(
    features: str,
    preset: str,
    settings: dict[str, Any],
    false_alarm_rate: float | None,
    *,
    verbose: bool = True,
    **defaults: Any,
) -> Pipeline:
    """A pipeline that is to be fitted; `defaults` are parameters that `settings` may change."""
    say("Loading torch, scikit-learn and the network …")
    from ..pipeline import make_structcore

    given = {"features__verbose": int(verbose), **defaults}
    if false_alarm_rate is not None:
        given["structcore__false_alarm_rate"] = false_alarm_rate
    pipe = make_structcore(features, preset=preset, **{**given, **settings})
    for _, step in pipe.steps:
        step._validate_params()  # before the work: else each step is checked when it is fitted
    return pipe
