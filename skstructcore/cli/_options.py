"""Arguments and options, declared once: ``from . import _options as option``."""

import ast
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .._utils.versions import import_extra
from ._inputs import ModelFile, Sources, make_pipeline
from ._output import Refused, check_output, claim

FOLDER = click.Path(file_okay=False, path_type=Path)
FOLDER_THAT_IS_THERE = click.Path(exists=True, file_okay=False, path_type=Path)
# click does not check images, because one that cannot be read must not stop the others.
IMAGES = click.Path(path_type=Path, readable=False)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
BOX = "LEFT,TOP,RIGHT,BOTTOM"  # in pixels, or as shares from 0 to 1


class Output(click.Path):
    """A file that a command writes, and that can be written; see `check_output`."""

    def __init__(self, kind: str = "a text file") -> None:
        super().__init__(dir_okay=False, path_type=Path)
        self.kind = kind

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        path = super().convert(value, param, ctx)
        check_output(path, param.opts[0], self.kind)
        return path


def _claim(context, parameter, path):
    if path is not None:
        claim(path, parameter.opts[0])
    return path


# An option for a folder of files, one an image.
folder_of_files = functools.partial(click.option, type=FOLDER, callback=_claim)


def _literal(text):
    """A Python literal, or the text itself."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return text


def numbers(text: str) -> Any:
    """Type of an option that takes numbers with commas between them; a word stays one."""
    value = _literal(text)
    if isinstance(value, str) and ("," in value or not value.strip()):
        raise click.BadParameter(f"{text!r} is not a list of numbers, such as 0,0,640,480")
    return value


#: Ends the help of commands that take images.
WHAT_IMAGES_ARE = (
    "IMAGES are files, folders however deep, patterns, tables (CSV with a column file; a report "
    "exports one of verdicts) and lists (@files.txt)."
)


def _all(*parameters: Callable) -> Callable:
    """One decorator that adds several arguments and options."""
    return lambda command: functools.reduce(lambda c, add: add(c), reversed(parameters), command)


def _keep(context, parameter, value):
    context.meta[parameter.name] = value


# An option that the command does not receive: it is read before all others, and the callback of
# another option, or of an argument, takes it from the context.
_kept = functools.partial(click.option, is_eager=True, expose_value=False, callback=_keep)


def to_sources(context: click.Context, parameter: Any, paths: tuple[Path, ...]) -> Sources:
    """Callback of what names images; `reading` goes with it."""
    names = ("pages", "views", "max_pixels")
    reading = {name: context.meta[name] or None for name in names}
    if not paths and any(reading.values()):
        raise click.UsageError("--pages, --view and --max-pixels are about IMAGES: name them")
    return Sources(paths, reading)


reading = _all(
    _kept(
        "--pages",
        type=click.Choice(["all", "parts", "first"]),
        help="What is taken of files of several images (pages): a row each, a.tif[0] …, the same "
        "as views of one part (--parts file), or the first.  [default: such a file is an error]",
    ),
    _kept(
        "--max-pixels",
        type=click.IntRange(1),
        help="Refuse images of more pixels. [default: 179 million]",
    ),
    _kept(
        "--view",
        "views",
        multiple=True,
        metavar=BOX,
        type=numbers,
        help="Take this place of each file, in pixels or shares of it, as a view of one part. "
        "Repeatable; see --parts file.",
    ),
)


def _images(**attributes):
    argument = click.argument("images", nargs=-1, type=IMAGES, callback=to_sources, **attributes)
    return _all(argument, reading)


images = _images(required=True)
optional_images = _images()
model_and_images = _images(required=True, metavar="[MODEL] IMAGES...")

weights = _kept(
    "--weights",
    multiple=True,
    type=click.Path(exists=True),
    help="Where weights are that have moved since the fit; once for each network with a file.",
)
trust = _kept(
    "--trust", is_flag=True, help="Load a joblib file too: whoever wrote it can run code here."
)


def _to_model(context, parameter, path):
    return ModelFile(path, context.meta["weights"], context.meta.get("trust", False))


_saved_model = click.argument("model", type=FILE, callback=_to_model)
model = _all(_saved_model, weights, trust)
structcore_model = _all(_saved_model, weights)  # not one of joblib


def new_model(text: str, *, aliases: tuple[str, ...] = (), kind: str = "a model") -> Callable:
    """Option ``--output`` for the file of a model that a command writes."""
    names = "--output", "-o", *aliases
    return click.option("output", *names, required=True, type=Output(kind), help=text)


def is_given(*names: str) -> bool:
    """Whether any of these options of the command at work was given."""
    source_of = click.get_current_context().get_parameter_source
    return any(source_of(name) is not click.core.ParameterSource.DEFAULT for name in names)


def _to_pipeline(context, parameter, pairs):
    """What makes a pipeline of the other options and of ``step__parameter=value`` pairs."""
    for pair in pairs:
        if "=" not in pair or not all(pair.partition("=")[0].partition("__")):
            raise click.BadParameter(f"{pair!r} is not of the form step__parameter=value")
    settings = {key: _literal(value) for key, _, value in (pair.partition("=") for pair in pairs)}
    return functools.partial(
        make_pipeline, context.meta["features"], context.meta["preset"], settings
    )


pipeline = _all(
    _kept("--features", default="efficientnet_lite0", help="Backbone, dinov2_vitb14 for instance."),
    _kept("--preset", default="default", help='Settings: "default" or "paper".'),
    click.option(
        "--set",
        "make_pipe",
        multiple=True,
        callback=_to_pipeline,
        metavar="STEP__PARAMETER=VALUE",
        help="Change a parameter of a step, bank__ratio=0.02 for instance. Repeatable.",
    ),
)
false_alarm_rate = click.option(
    "--false-alarm-rate",
    "--false-alarms",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="RATE",
    help="Share of good images that may be rejected, 0.02 for 2 %.  "
    "[default: 0.01 of a fit, else that of MODEL]",
)
parts = click.option(
    "--parts",
    callback=lambda context, _, how: how or ("file" if context.meta["pages"] == "parts" else None),
    metavar="folder|file|PATTERN",
    help="Several images show one part, which is decided as a whole: those of one folder, or those "
    "in whose paths the groups of a regular expression match alike, '(.*)_cam' for instance; "
    '"file": the pages of each file. A model that was fitted with --parts needs it in update, '
    "recalibrate and add-category too.",
)
good = click.option(
    "--good", default="good", help='Folders of good images, beside "good", "OK", "normal" and such.'
)
groups = click.option(
    "--groups",
    default="folder",
    type=click.Choice(["folder", "none"]),
    callback=lambda context, parameter, how: None if how == "none" else how,
    help="Whether the images of one folder, where there are several, are held out together. Fewer "
    "than five folders, of five images or more, are lots: reported, not held out.",
)
learning = _all(parts, good, groups)  # from which good images a fitted model learns
force = click.option(
    "--force", is_flag=True, help="Take what looks like defects or another product."
)


def _processes(context, parameter, value):
    if value == 0:
        raise click.BadParameter("0 processes do no work; -1 takes one a core")
    return value


n_jobs = click.option(
    "--n-jobs",
    type=int,
    callback=_processes,
    help="Number of processes, -1: one a core.  [default: 1]",
)
json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
maps = folder_of_files("--maps", help="Folder for a map an image, as 16-bit PNG.")
overlays = folder_of_files("--overlays", help="Folder for images with maps over them.")


def exit_code(when: str) -> Callable:
    """Option ``--exit-code``, see `EXIT_CODES`."""
    return click.option("--exit-code", is_flag=True, help=f"Exit with status 1 if {when}.")


def _join_cluster(context, parameter, address):
    """Let joblib's work be done by the workers of a dask scheduler."""
    context.meta["cluster"] = address
    if address is None:
        return
    import joblib

    distributed = import_extra("distributed", "distributed", "--cluster")
    try:
        client = distributed.Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise Refused(f"No dask scheduler answers at {address}: {error}") from error
    context.with_resource(client)
    context.with_resource(joblib.parallel_config(backend="dask"))


cluster = click.option(
    "--cluster",
    metavar="ADDRESS",
    expose_value=False,
    callback=_join_cluster,
    help="Let workers of this dask scheduler (tcp://host:8786) do it; they read images by path.",
)
