"""Pages of HTML that ask nothing of any network, filled from the templates of a package."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files
from typing import Any

from .versions import import_extra


def fill_page(package: str, **content: Any) -> str:
    """Fill the ``page.html`` of a package, with its ``page.css`` and, if there is one, its script.

    Only these may run: a script in a file name could not, even if it got into the page.
    """
    template, parts = _read(package)
    return template.render(**parts, **content)


def base64_of(save: Callable[..., object], form: str, **options: Any) -> str:
    """What `save`, a method of a picture of Pillow or matplotlib, writes, as text for a page."""
    file = io.BytesIO()
    save(file, format=form, **options)
    return base64.b64encode(file.getvalue()).decode()


@lru_cache
def _read(package):
    jinja2 = import_extra("jinja2", "report", "A page")
    parts = {}
    for name, suffix in (("style", "css"), ("script", "js")):
        file = files(package) / f"page.{suffix}"
        if file.is_file():
            parts[name] = file.read_text(encoding="utf-8")
            digest = hashlib.sha256(parts[name].encode()).digest()
            parts[f"{name}_hash"] = f"sha256-{base64.b64encode(digest).decode()}"
    options = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, **options)
    text = (files(package) / "page.html").read_text(encoding="utf-8")
    return environment.from_string(text), parts
