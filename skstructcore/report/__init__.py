"""One self-contained HTML file that people look at to decide about a model and its images."""

from .build import report

__all__ = ["report"]
