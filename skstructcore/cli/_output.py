"""What commands print and write, and what their exit status means."""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from .._utils.files import atomic_file, check_writable, escape_name

# Heavy imports are inside functions, so that --help answers at once.

REJECTED, USAGE, UNREADABLE = 1, 2, 3
#: What the exit status of a command means: ends its help.
EXIT_CODES = (
    "Exit status: 0 done; 1 only with --exit-code, see there; 2 wrong usage or input, or a result "
    "cannot be written; 3 images cannot be read, whatever was decided about the others."
)


class Refused(click.ClickException):
    """Wrong input, as a message instead of a traceback."""

    exit_code = USAGE


def _is_of_regions(start):
    from ..inference.region_files import INFO

    return start.startswith(json.dumps({"info": INFO})[:-1].encode())


#: How files begin that a command may replace, by what it writes.
_BEGINS = {
    "a text file": lambda start: b"\0" not in start,
    "a model": lambda start: start[8:].startswith(b'{"__metadata__": {'),
    "an ONNX file": lambda start: start.startswith(b"\x08"),
    "a file of regions": _is_of_regions,
}


def check_output(path: Path, option: str, kind: str = "a text file") -> None:
    """Refuse, before the work, a file that cannot be written, is of another kind, or is claimed."""
    claim(check_writable(path), option)
    if not path.exists():
        return
    from ..images.files import is_named_as_image

    with open(path, "rb") as file:
        start = file.read(4096)
    if start and (is_named_as_image(path) or not _BEGINS[kind](start)):
        raise Refused(
            f"{str(path)!r} is there and is not {kind}: it is not replaced. Choose another name, "
            "or delete it."
        )


def claim(path: Path, option: str) -> None:
    """Refuse a place where another option of the command at work writes."""
    outputs = click.get_current_context().meta.setdefault("outputs", {})
    first = outputs.setdefault(os.path.realpath(path), option)
    if first != option:
        raise click.UsageError(f"{first} writes {str(path)!r} too: name two files for {option}")


def check_apart(sources: Iterable[Path], files: Iterable[str]) -> None:
    """Refuse an output that is one of the `files` that are read, or an image in a source."""
    outputs = click.get_current_context().meta.get("outputs", {})
    there = set(filter(os.path.exists, outputs))
    for place in there and there.intersection(map(os.path.realpath, files)):
        raise click.UsageError(f"{outputs[place]} {place!r} is read: choose another name")
    from ..images.files import is_named_as_image

    for place in filter(is_named_as_image, map(Path, outputs)):
        if any(place.is_relative_to(os.path.realpath(s)) for s in sources if s.is_dir()):
            raise click.UsageError(f"{outputs[str(place)]} {str(place)!r} lies among the images")


def say(text: str) -> None:
    """Tell people what is going on; results are printed to standard output instead."""
    click.echo(text, err=True)


def answer(as_json: bool, document: Any, *lines: str) -> None:
    """Print the result of a command: as one JSON document, or for people."""
    if as_json:
        click.echo(json.dumps(as_plain(document), indent=1, allow_nan=False))
    else:
        click.echo("\n".join(lines))


_SHARES = {
    *("rate", "rate_low", "rate_high", "false_alarm_rate", "old_rate", "new_rate"),
    *("false_alarms_share", "found_share", "smallest_found"),
}


def table_text(table: Any, *, header: bool = True) -> str:
    """A table for people, with shares in percent."""
    import pandas as pd

    shown = table.map(lambda value: escape_name(value) if isinstance(value, str) else value)
    for name in (name for name in shown if name in _SHARES or name.startswith("painted_")):
        shown[name] = [("" if pd.isna(v) else f"{100 * v:.2f} %") for v in shown[name]]
    return shown.to_string(index=False, header=header, float_format="{:.4g}".format, na_rep="")


def as_plain(value: Any) -> Any:
    """The same in types that JSON has; what is not there is None."""
    import numpy as np
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        value = value.to_dict("records")
    if isinstance(value, dict):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray | pd.Series):
        return [as_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is pd.NA or value is pd.NaT or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


def picture_sentence(picture: dict[str, Any]) -> str:
    """At which size, and how scaled, a model sees images: `info` in words."""
    height, width = picture["input_size"]
    seen = f"seen at {height} x {width} pixels"
    if picture["scale"] is None:
        return f"{seen}, cut out of the middle"
    rows, columns = picture["scale"]
    return f"{seen}, heights times {rows:.3g}, widths times {columns:.3g}"


def save_picture(figure: Any, path: Path) -> None:
    """Write a figure of matplotlib, whole or not at all; the suffix says in which format."""
    with atomic_file(path) as file:
        figure.savefig(file, format=path.suffix[1:].lower() or None, dpi=110)


def save_model(pipe: Any, path: Path) -> None:
    """Write a model; the progress bars are for the fit, not for whatever loads it."""
    from ..model_files import save

    quiet = {name: 0 for name in pipe.get_params() if name.endswith("__verbose")}
    save(pipe.set_params(**quiet), path)
