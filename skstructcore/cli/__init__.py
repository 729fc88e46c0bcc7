"""The command line: ``skstructcore --help``."""

from ._main import main

__all__ = ["main"]
