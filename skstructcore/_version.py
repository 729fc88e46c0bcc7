"""The release, for `pyproject.toml`, the model files and the pages."""

__version__ = "0.2.0"
