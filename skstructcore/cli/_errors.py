"""What the exit status of a command means, and errors in words."""

from __future__ import annotations

import linecache
from concurrent.futures import BrokenExecutor
from traceback import format_exception, walk_tb
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from typing import Any

REJECTED, USAGE, UNREADABLE = 1, 2, 3


def exit_codes(when: str = "an image is rejected") -> str:
    """What the exit status of a command means: ends its help."""
    return (
        f"Exit status: 0 done; 1 {when}, with --exit-code only; 2 wrong usage or input, or a "
        "result cannot be written; 3 images cannot be read, whatever was decided about the others."
    )


class Refused(click.ClickException):
    """Wrong input, as a message instead of a traceback."""

    exit_code = USAGE


#: A fault of this package: unlike a traceback's status of 1, it is not taken for "rejected".
FAULT = 70


class Fault(click.ClickException):
    """An error that nobody wrote a message for: shown with its traceback."""

    exit_code = FAULT

    def show(self, file: Any = None) -> None:
        click.echo("".join(format_exception(self.__cause__)), err=True, nl=False)
        click.echo(
            "Error: this is a fault of skstructcore, not of your input. Please report it with the "
            "lines above.",
            err=True,
        )


def explained(error: Exception) -> click.ClickException:
    """Bad input as a message, a fault of this package with its traceback."""
    if isinstance(error, OSError) and any(
        frame.f_code is click.echo.__code__ for frame, _ in walk_tb(error.__traceback__)
    ):
        return Refused(f"standard output cannot be written: {error.strerror}")
    if isinstance(error, BrokenExecutor):
        return Refused(
            "a process of --n-jobs was killed, by the system perhaps because memory ran out. "
            "Take fewer processes; what is done is kept, and the same command goes on after it."
        )
    if isinstance(error, OSError | ImportError) or _has_message(error):
        return Refused(str(error))
    return Fault(str(error))


def _has_message(error):
    """Whether an error is raised on purpose, with a message for whoever gave the input.

    A ``raise`` in this package, or in scikit-learn and joblib, which check parameters. All else, an
    operation that fails on arrays for instance, is a fault of this package.
    """
    if not isinstance(error, ValueError | TypeError):
        return False
    if type(error.__cause__).__name__ == "_RemoteTraceback":
        return True  # of another process, whose traceback is text
    frame, line = list(walk_tb(error.__traceback__))[-1]
    package = frame.f_globals.get("__name__", "").partition(".")[0]
    statement = linecache.getline(frame.f_code.co_filename, line)
    return package in ("skstructcore", "sklearn", "joblib") and statement.lstrip().startswith(
        "raise"
    )
