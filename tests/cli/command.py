"""Running a command as it is typed."""

from click.testing import CliRunner

from skstructcore.cli import main

#: Options of a small, fast pipeline.
SMALL = ["--set", "features__image_size=32", "--set", "bank__ratio=0.3"]


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])
