"""The group of all commands, and their errors in words."""

import linecache
import logging
import warnings
from concurrent.futures import BrokenExecutor
from traceback import format_exception, walk_tb

import click

from . import demo, evaluate, fit, maintain, score, serving
from ._output import Refused, say


def _show_warning(message, *_):
    """Write a warning for people: without the line of the library that gave it."""
    click.echo(f"Warning: {message}", err=True)


def _explained(error: Exception) -> str | None:
    """The message of bad input; None for a fault of this package."""
    if isinstance(error, OSError) and any(
        frame.f_code is click.echo.__code__ for frame, _ in walk_tb(error.__traceback__)
    ):
        return f"standard output cannot be written: {error.strerror}"
    if isinstance(error, BrokenExecutor):
        return (
            "a process of --n-jobs was killed, by the system perhaps because memory ran out. "
            "Take fewer processes; what is done is kept, and the same command goes on after it."
        )
    return str(error) if isinstance(error, OSError | ImportError) or _is_meant(error) else None


def _is_meant(error):
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
    statement = linecache.getline(frame.f_code.co_filename, line).lstrip()
    return package in ("skstructcore", "sklearn", "joblib") and statement.startswith("raise")


class _Commands(click.Group):
    """Commands whose errors are messages, also those of reading options and printing results."""

    def invoke(self, context):
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            say("Interrupted.")
            context.exit(130)  # as shells say of a command that Ctrl-C has ended
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click knows these: of a broken pipe, whoever reads has had enough
        except Exception as error:
            if message := _explained(error):
                raise Refused(message) from error
            click.echo("".join(format_exception(error)), err=True, nl=False)
            say(
                "Error: this is a fault of skstructcore, not of your input. Please report it with "
                "the lines above."
            )
            context.exit(70)  # unlike a traceback's status of 1, it is not taken for "rejected"


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
    logging.basicConfig(level="INFO" if verbose else "WARNING", format="%(levelname)s: %(message)s")


for module in (demo, evaluate, fit, maintain, score, serving):
    for command in vars(module).values():
        if isinstance(command, click.Command):
            main.add_command(command)
