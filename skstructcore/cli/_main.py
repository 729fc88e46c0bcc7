"""The group of all commands."""

from __future__ import annotations

import logging
import warnings

import click

from ._errors import explained
from .cache import cache
from .demo import demo
from .evaluate import evaluate, evaluate_categories
from .export import export, verify
from .fit import fit
from .info import info
from .latency import latency
from .maintain import add_category, audit, forget, monitor, recalibrate, remove_category, update
from .report import report
from .score import score
from .serve import serve
from .watch import watch


def _show_warning(message, *_):
    """Write a warning for people: without the line of the library that gave it."""
    click.echo(f"Warning: {message}", err=True)


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
            raise explained(error) from error


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
