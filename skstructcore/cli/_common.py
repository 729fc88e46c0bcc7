"""What the commands share: options, models in and out, JSON."""

from __future__ import annotations

import ast
import contextlib
import functools
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from sklearn.pipeline import Pipeline

    from ..datasets import ImageSet
    from ..datasets.tables import ImageRow
    from ..images import ImageList

# Heavy imports are inside functions, so that --help answers at once.


def say(text: str) -> None:
    """Tell people what is going on; results are printed to standard output instead."""
    click.echo(text, err=True)


def _literal(text):
    """A Python literal, or the text itself."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text


def _settings(context, parameter, pairs):
    """Read ``step__parameter=value`` pairs; values are Python literals or plain strings."""
    wrong = [pair for pair in pairs if not all(pair.partition("=")[0].partition("__"))]
    wrong += [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise click.BadParameter(f"{wrong[0]!r} is not of the form step__parameter=value")
    return {name: _literal(text) for name, _, text in (pair.partition("=") for pair in pairs)}


def _rate(context, parameter, value):
    if value is not None and not 0 < value < 1:
        raise click.BadParameter(f"{value:g} is no share between 0 and 1; 0.02 means 2 %")
    return value


class Output(click.Path):
    """A file that a command writes, and that can be written; see `check_output`."""

    def __init__(self, *, text: bool = True) -> None:
        super().__init__(dir_okay=False, path_type=Path)
        self.text = text

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        path = super().convert(value, param, ctx)
        check_output(path, text=self.text)
        return path


FOLDER = click.Path(file_okay=False, path_type=Path)
FOLDER_THAT_IS_THERE = click.Path(exists=True, file_okay=False, path_type=Path)

features_option = click.option(
    "--features",
    default="efficientnet_lite0",
    help="Backbone: efficientnet_lite0 or a DINOv2 model such as dinov2_vitb14.",
)
preset_option = click.option("--preset", default="default", help='Settings: "default" or "paper".')
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    callback=_settings,
    metavar="STEP__PARAMETER=VALUE",
    help="Change a parameter of a step, bank__ratio=0.02 for instance. Repeatable.",
)
false_alarms_option = click.option(
    "--false-alarm-rate",
    "--false-alarms",
    type=float,
    callback=_rate,
    metavar="RATE",
    help="Share of good images that may be rejected, 0.02 for 2 %.  "
    "[default: 0.01 of a fit, else that of MODEL]",
)
parts_option = click.option(
    "--parts",
    metavar="folder|file|PATTERN",
    help="Several images show one part, which is decided as a whole: those of one folder, or those "
    "in whose paths the groups of a regular expression match alike, '(.*)_cam' for instance; "
    '"file": the pages of each file.',
)
n_jobs_option = click.option(
    "--n-jobs", type=int, help="Number of processes, -1: one a core.  [default: 1]"
)


def _join_cluster(context, parameter, address):
    if address is not None:
        context.with_resource(_cluster(address))
    return address


@contextlib.contextmanager
def _cluster(address):
    """Let joblib's work be done by the workers of a dask scheduler."""
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(
            '--cluster needs dask: pip install "skstructcore[distributed]"'
        ) from error
    import joblib

    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise Refused(f"No dask scheduler answers at {address}: {error}") from error
    with client, joblib.parallel_config(backend="dask"):
        yield


cluster_option = click.option(
    "--cluster",
    metavar="ADDRESS",
    callback=_join_cluster,
    help="Let the workers of this dask scheduler (tcp://host:8786) do the work. They read images "
    "by their path.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as one JSON document."
)


def exit_code_option(when: str = "an image is rejected") -> Callable:
    """Option ``--exit-code``: what it says must be what the command's exit status means."""
    return click.option("--exit-code", is_flag=True, help=f"Exit with status 1 if {when}.")


trust_option = click.option(
    "--trust",
    is_flag=True,
    help="Load a joblib file as well: whoever wrote it can run code on this machine.",
)


def _together(*decorators):
    return lambda command: functools.reduce(lambda c, d: d(c), reversed(decorators), command)


def _kept(context, parameter, value):
    """Keep an option of how models or images are read, for `load_model` and `reading`."""
    context.meta[parameter.name] = value


model_file_argument = click.argument(
    "model", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
weights_option = click.option(
    "--weights",
    multiple=True,
    type=click.Path(exists=True),
    callback=_kept,
    expose_value=False,
    help="Where the weights of the network are now, if they have moved since the fit; once for "
    "each network that has a file.",
)
model_argument = _together(model_file_argument, weights_option)


def check_output(path: Path, *, text: bool = True) -> None:
    """Refuse, before the work, a file that cannot be written or would replace one of another kind.

    A table, a page or a state is text; a model is not. So a slip of the hand costs no model and
    no image.
    """
    from .._utils.files import check_writable

    check_writable(path)
    if not path.exists():
        return
    from ..images.files import IMAGE_SUFFIXES

    with open(path, "rb") as file:
        start = file.read(4096)
    is_text = b"\0" not in start
    if start and (is_text != text or path.suffix.lower() in IMAGE_SUFFIXES):
        wanted = "a text file" if text else "a model"
        raise Refused(
            f"{str(path)!r} is there and is not {wanted}: it is not replaced. Choose another name, "
            "or delete it."
        )


def new_model_option(text: str, *, aliases: tuple[str, ...] = ()):
    """Option ``--output`` for the file of a model that a command writes."""
    kind = Output(text=False)
    return click.option("output", "--output", "-o", *aliases, required=True, type=kind, help=text)


def make_pipeline(
    features: str,
    preset: str,
    settings: dict[str, Any],
    false_alarm_rate: float | None,
    verbose: bool,
) -> Pipeline:
    """Build the pipeline that the options ask for."""
    say("Loading torch, scikit-learn and the network …")
    from ..pipeline import make_structcore

    given = {"features__verbose": int(verbose)}
    if false_alarm_rate is not None:
        given["structcore__false_alarm_rate"] = false_alarm_rate
    pipe = make_structcore(features, preset=preset, **{**given, **settings})
    for _, step in pipe.steps:
        step._validate_params()  # before the work: else each step is checked when it is fitted
    return pipe


def moved_weights() -> tuple[str, ...] | None:
    """What --weights says, for `load`."""
    return click.get_current_context().meta.get("weights") or None


def load_model(
    path: Path, *, trust: bool = False, false_alarm_rate: float | None = None
) -> Pipeline:
    """Read a saved model, by default one that cannot hold code; move its threshold if asked."""
    say(f"Loading {path} …")
    import joblib

    from ..model_files import ModelFileError, load
    from ..model_files.persistence import with_weights

    weights = moved_weights()
    try:
        pipe = load(path, weights=weights)
    except ModelFileError as error:
        if not trust:
            raise Refused(
                f"{error}\nIf it is a joblib file: loading one can run code, and needs --trust."
            ) from None
        try:
            pipe = joblib.load(path)
        except Exception as broken:  # a pickle that does not fit raises anything
            raise Refused(f"{str(path)!r} cannot be loaded: {broken}") from broken
        if weights:
            with_weights(pipe, weights)
    if false_alarm_rate is None:
        return pipe
    from ..lifecycle import recalibrate

    return recalibrate(pipe, false_alarm_rate=false_alarm_rate)


def save_picture(figure: Any, path: Path) -> None:
    """Write a figure of matplotlib, whole or not at all; the suffix says in which format."""
    from .._utils.files import atomic_file

    with atomic_file(path) as file:
        figure.savefig(file, format=path.suffix[1:].lower() or None, dpi=110)


def save_model(pipe: Pipeline, path: Path) -> None:
    """Write a model; the progress bars are for the fit, not for whatever loads it."""
    from ..model_files import save

    quiet = {name: 0 for name in pipe.get_params() if name.endswith("__verbose")}
    save(pipe.set_params(**quiet), path)


# click does not check the files, because one that cannot be read must not stop the others.
IMAGES = click.Path(path_type=Path, readable=False)


def numbers(context, parameter, text):
    """Numbers with commas between them; a word stays one."""
    value = text and _literal(text)
    if isinstance(value, str) and "," in value:
        raise click.BadParameter(f"{text!r} are no numbers with commas between them")
    return value


def _views(context, parameter, values):
    _kept(context, parameter, [numbers(context, parameter, value) for value in values] or None)


def _pages(context, parameter, value):
    if value == "parts":  # options that are not given are processed after those that are
        context.default_map = {**(context.default_map or {}), "parts": "file"}
    _kept(context, parameter, value)


reading_options = _together(
    click.option(
        "--pages",
        type=click.Choice(["all", "parts", "first"]),
        callback=_pages,
        expose_value=False,
        help="What is taken of files of several images (pages): a row each, a.tif[0] …, "
        "the same as views of one part (--parts file), or the first.  "
        "[default: such a file is an error]",
    ),
    click.option(
        "--max-pixels",
        type=click.IntRange(1),
        callback=_kept,
        expose_value=False,
        help="Read files of up to so many pixels.  [default: 179 million]",
    ),
    click.option(
        "--view",
        "views",
        multiple=True,
        metavar="LEFT,TOP,RIGHT,BOTTOM",
        callback=_views,
        expose_value=False,
        help="Look at this place of each file, in pixels or as shares from 0 to 1, as a view of "
        "the part that the file shows. Repeatable; see --parts file.",
    ),
)
images_argument = _together(
    click.argument("images", nargs=-1, required=True, type=IMAGES), reading_options
)


def reading() -> dict[str, Any]:
    """What --pages, --view and --max-pixels say, as keywords of `load_images`."""
    meta = click.get_current_context().meta
    return {name: meta.get(name) for name in ("pages", "views", "max_pixels")}


good_option = click.option(
    "--good",
    default="good",
    help='Name of the folders of good images, beside "good", "OK", "normal" and the like.',
)


def named_images(
    images: tuple[Path, ...], *, good: str | None = "good", split: str = "train"
) -> ImageList | ImageSet:
    """Images, as an ImageSet where their folders, tables or data sets know labels."""
    from ..datasets.sources import as_image_set
    from ..images import as_images

    max_pixels = reading()["max_pixels"]
    rows = find_rows(images, good, split)
    labelled = sum(bool(row.label) for row in rows)
    if labelled == len(rows) or (labelled and good is not None):
        return as_image_set(rows, max_pixels)
    if labelled:
        say(f"{len(rows) - labelled} of {len(rows)} images have no label: labels are left out.")
    return as_images([row.file for row in rows], max_pixels=max_pixels)


def find_rows(images: tuple[Path, ...], good: str | None, split: str) -> list[ImageRow]:
    """A row an image, page or view, as the options of reading say."""
    from ..datasets import rows

    return rows.find_rows(images, good, split, **reading())


def load_rows(rows: list[ImageRow], images: tuple[Path, ...]) -> ImageSet:
    """The images of rows that were found in `images`, all of which can be read."""
    from ..datasets import sources

    return sources.load_rows(rows, images, max_pixels=reading()["max_pixels"])


def labelled_images(images: tuple[Path, ...], good: str, split: str = "test") -> ImageSet:
    """Images, of each of which it is known whether it is good."""
    rows = find_rows(images, good, split)
    for row in rows:
        if not row.label:
            raise Refused(
                f"Nothing says whether {row.file!r} is good. Name a folder that holds a folder of "
                "good images beside those of defects, or a table with columns file and label."
            )
    return load_rows(rows, images)


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


def picture_sentence(picture: dict[str, Any]) -> str:
    """At which size, and how scaled, a model sees images: `info` in words."""
    height, width = picture["input_size"]
    seen = f"seen at {height} x {width} pixels"
    if picture["scale"] is None:
        return f"{seen}, cut out of the middle"
    rows, columns = picture["scale"]
    return f"{seen}, heights times {rows:.3g}, widths times {columns:.3g}"


def print_json(value: Any) -> None:
    """Write one JSON document to standard output; what is not there is null."""
    click.echo(json.dumps(as_plain(value), indent=1, allow_nan=False))


def print_table(table: Any, percent: tuple[str, ...] = ()) -> None:
    """Write a table for people; the columns named are shares."""
    import pandas as pd

    from .._utils.files import escape_name

    shown = table.map(lambda value: escape_name(value) if isinstance(value, str) else value)
    for name in set(percent) & set(shown):
        shown[name] = [("" if pd.isna(v) else f"{100 * v:.2f} %") for v in shown[name]]
    click.echo(shown.to_string(index=False, float_format=lambda v: f"{v:.4g}", na_rep=""))


def as_plain(value):
    """The same in types that JSON has."""
    import numpy as np
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        return [as_plain(row) for row in value.to_dict("records")]
    if isinstance(value, dict):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [as_plain(item) for item in value]
    if isinstance(value, (np.generic,)):
        value = value.item()
    if value is pd.NA or value is pd.NaT or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
