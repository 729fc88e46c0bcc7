"""What commands take: images and models, as the command line names them."""

import os
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import click

from ._output import Refused, check_apart, say


class Sources(NamedTuple):
    """Images as people name them, and how their files are read: keywords of `load_images`."""

    paths: tuple[Path, ...]
    reading: dict[str, Any]

    def rows(self, good, split, categories=None):
        """A row an image, page or view; no image is decoded, and none of them may be an output."""
        from ..datasets.sources import SourceOptions, find_rows, texts_of
        from ..images.files import split_name

        rows = find_rows(self.paths, SourceOptions(good, split, categories, **self.reading))
        names = [str(name) for row in rows for name in (row.file, row.mask) if name]
        texts = [text for source in self.paths for text in texts_of(str(source))]
        check_apart(self.paths, [*(split_name(name).path for name in names), *texts])
        return rows

    def all_of(self, rows, **options):
        """The images of rows; without other options each is decoded, and can be read."""
        from ..datasets.sources import load_rows

        return load_rows(rows, self.paths, max_pixels=self.reading["max_pixels"], **options)

    def load(self, good, groups, categories=None, check=None):
        """Images to learn from, good without a label; None leaves it to the model to read them."""
        from ..images.labels import GOOD

        images = self.all_of(self.rows(good, "train", categories), groups=groups, check=check)
        defects = images.y[images.y != GOOD]
        if len(defects):
            say(f"{len(defects)} images are of defects ({few(defects)}): left out.")
        return images

    def as_they_are(self, split="train"):
        """Images to look at, with labels if a table or data set has one for each of them."""
        from ..images import as_images

        rows = self.rows(None, split)
        n_unsaid = sum(not row.label for row in rows)
        if not n_unsaid:
            return self.all_of(rows, groups=None, check=None)
        if n_unsaid < len(rows):
            say(f"{n_unsaid} of {len(rows)} images have no label: labels are left out.")
        return as_images([row.file for row in rows], max_pixels=self.reading["max_pixels"])

    def labelled(self, good):
        """Rows of images to test, of each of which it is known whether it is good."""
        from ..images.files import split_name

        rows = self.rows(good, "test")
        unsaid = [row.file for row in rows if not row.label]
        unsaid = [file for file in unsaid if os.path.lexists(split_name(file).path)]
        if unsaid:
            raise Refused(
                f"Nothing says whether {unsaid[0]!r} is good. Name a folder that holds a folder of "
                "good images beside those of defects, or a table with columns file and label."
            )
        return rows


def few(values):
    """The most frequent values, each with its number."""
    counts = Counter(map(str, values)).most_common()
    more = f", and {len(counts) - 6} more" if len(counts) > 6 else ""
    return ", ".join(f"{name} ({n})" for name, n in counts[:6]) + more


def parts_of(paths, rule):
    """The part that each image is a view of, by its folder, file or a pattern of its path."""
    from ..images.files import split_name

    if rule in ("folder", "file"):
        files = [split_name(str(path)).path for path in paths]
        return files if rule == "file" else [str(Path(file).parent) for file in files]
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise click.BadParameter(f"--parts {rule!r} is no regular expression: {error}") from None
    keys = []
    for path in paths:
        match = pattern.search(Path(path).as_posix())
        if match is None:
            raise click.BadParameter(f"--parts {rule!r} does not match {str(path)!r}")
        groups = match.groups(default="")
        keys.append(groups if any(groups) else (match.group(),))
    # Quoted where joining would make ("a b", "c") and ("a", "b c") one.
    names = {groups: (" ".join(filter(None, groups)), shlex.join(groups)) for groups in keys}
    times = Counter(name for both in names.values() for name in set(both))
    return [plain if times[plain] == 1 else quoted for plain, quoted in map(names.get, keys)]


class ModelFile(NamedTuple):
    """A saved model, where the weights of its network are now, and whether it may be joblib's."""

    path: Path
    weights: tuple[str, ...] = ()
    trust: bool = False

    def load(self, false_alarm_rate=None, *, parts=None):
        """Read it; move its threshold if asked. With `parts` it must decide about parts."""
        say(f"Loading {self.path} …")
        from ..model_files import ModelFileError, load
        from ..scoring.parts import check_fitted_with_parts

        try:
            pipe = load(self.path, weights=self.weights or None)
        except ModelFileError as error:
            if not self.trust:
                raise Refused(
                    f"{error}\nIf it is a joblib file: loading one can run code, and needs --trust."
                ) from None
            pipe = self._load_joblib()
        if parts is not None:
            check_fitted_with_parts(pipe[-1])
        if false_alarm_rate is None:
            return pipe
        from ..lifecycle import recalibrate

        return recalibrate(pipe, false_alarm_rate=false_alarm_rate)

    def _load_joblib(self):
        import joblib

        from ..model_files.persistence import with_weights
        from ..pipeline.steps import fitted_steps

        try:
            pipe = joblib.load(self.path)
        except Exception as broken:  # a pickle that does not fit raises anything
            raise Refused(f"{str(self.path)!r} cannot be loaded: {broken}") from broken
        fitted_steps(pipe)
        if self.weights:
            with_weights(pipe, self.weights)
        return pipe


def make_pipeline(features, preset, settings, false_alarm_rate, **defaults):
    """A pipeline to fit. `settings` win over `defaults`; None leaves a default to the step."""
    say("Loading torch, scikit-learn and the network …")
    from ..pipeline import make_structcore

    pipe = make_structcore(features, preset=preset)
    known = pipe.get_params()
    for name in settings.keys() - known.keys():
        step, _, _ = name.partition("__")
        names = [n for n in known if n.startswith(f"{step}__")] or pipe.named_steps
        raise click.BadParameter(f"--set {name}: no such parameter, choose of {', '.join(names)}")
    given = {"features__verbose": 1, "structcore__false_alarm_rate": false_alarm_rate, **defaults}
    given = {name: value for name, value in given.items() if value is not None}
    pipe = make_structcore(features, preset=preset, **{**given, **settings})
    for _, step in pipe.steps:
        step._validate_params()  # before the work: else each step is checked when it is fitted
    return pipe
