"""The group of all commands, and their errors in words."""

from __future__ import annotations

import linecache
import logging
import warnings
from concurrent.futures import BrokenExecutor
from traceback import format_exception, walk_tb
from typing import Any

import click

from ._output import Refused
from .demo import demo
from .evaluate import evaluate, evaluate_categories
from .files import cache, info
from .fit import fit
from .maintain import add_category, audit, forget, monitor, recalibrate, remove_category, update
from .score import report, score
from .serving import export, latency, serve, verify, watch


def _show_warning(message, *_):
    """Write a warning for people: without the line of the library that gave it."""
    click.echo(f"Warning: {message}", err=True)


class _Fault(click.ClickException):
    """An error that nobody wrote a message for: shown with its traceback."""

    exit_code = 70  # unlike a traceback's status of 1, it is not taken for "rejected"

    def show(self, file: Any = None) -> None:
        click.echo("".join(format_exception(self.__cause__)), err=True, nl=False)
        click.echo(
            "Error: this is a fault of skstructcore, not of your input. Please report it with the "
            "lines above.",
            err=True,
        )


def _explained(error: Exception) -> click.ClickException:
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
    return _Fault(str(error))


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


class _Commands(click.Group):
    """Commands whose errors are messages, also those of reading options and printing results."""

    def invoke(self, context):
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            context.exit(130)  # as shells say of a command that Ctrl-C has ended
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click knows these: of a broken pipe, whoever reads has had enough
        except Exception as error:
            raise _explained(error) from error


_SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True}


@click.group(cls=_Commands, context_settings=_SETTINGS)
@click.version_option(package_name="skstructcore")
@click.option("-v", "--verbose", is_flag=True, help="Show what the library logs.")
@click.pass_context
def main(context: click.Context, verbose: bool) -> None:
    """Image anomaly detection without training.

    \b
    skstructcore fit line3/good -o line3.structcore --false-alarms 0.02
    skstructcore score line3.structcore line3/new --csv scores.csv
    """
    context.with_resource(warnings.catch_warnings())
    warnings.showwarning = _show_warning
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s: %(message)s")


for command in (
    add_category, audit, cache, demo, evaluate, evaluate_categories, export, fit, forget, info,
    latency, monitor, recalibrate, remove_category, report, score, serve, update, verify, watch,
):  # fmt: skip
    main.add_command(command)
