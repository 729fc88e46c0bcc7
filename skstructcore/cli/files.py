"""Commands that tell what is in files: ``info`` of a model, ``cache`` of features."""

from __future__ import annotations

import re

import click

from . import _options as option
from ._output import answer, picture_sentence

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


@click.command()
@option.model_file
@option.json
def info(model, as_json):
    """Say what is inside a saved MODEL, without loading it.

    \b
    skstructcore info line3.structcore
    skstructcore info line3.structcore --json
    """
    from ..model_files import info as read_info

    header = read_info(model)
    answer(as_json, header, *_lines(header))


def _lines(header):
    training = header["training"]
    size = f"{header['bytes'] / 1e6:.1f} MB"
    yield f"model file ({header['format']}), {size}, written {header['created']}"
    yield f"digest        {header['digest'][:12]}"
    yield "steps         " + " > ".join(header["steps"])
    checksum = header["backbone"]["checksum"] or ""
    yield f"backbone      {header['backbone']['source']}  (checksum {checksum[:12]})"
    counted = f"{training['n_images']} good images, {training['n_bank_entries']} bank entries"
    if training["n_routes"] and training["n_routes"] > 1:
        counted += f", {training['n_routes']} routes"
    yield f"training      {counted}"
    if header.get("picture"):
        yield f"pictures      {picture_sentence(header['picture'])}"
    for sentence in header["summary"]:
        yield f"to expect     {sentence}"
    yield "versions      " + ", ".join(f"{k} {v}" for k, v in header["versions"].items())


def _bytes(context, parameter, text):
    """Read a size such as 2GB or 500M."""
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?) *([kmgt]?)b?", text.strip().lower())
    if not found:
        raise click.BadParameter(f"{text!r} is no size; 2GB and 500MB are")
    return int(float(found[1]) * _UNITS[found[2]])


@click.command()
@click.argument("folder", type=option.FOLDER_THAT_IS_THERE)
@click.option("--max-size", callback=_bytes, help="Delete the least used until so much is left.")
@click.option("--max-age", type=float, help="Delete what was not used for so many days.")
@option.json
def cache(folder, max_size, max_age, as_json):
    """Measure the feature cache in FOLDER, and prune it.

    Nothing is deleted without --max-size or --max-age. What is deleted is computed again when it is
    needed.

    \b
    skstructcore cache features-cache
    skstructcore cache features-cache --max-size 2GB --max-age 30
    """
    from ..features import cache_size, prune_cache

    n_deleted = bytes_deleted = 0
    if max_size is not None or max_age is not None:
        n_deleted, bytes_deleted = prune_cache(folder, max_bytes=max_size, max_age=max_age)
    n_images, n_bytes = cache_size(folder)
    lines = [f"{n_images} images, {n_bytes / 1e6:.1f} MB: {folder}"]
    if n_deleted:
        lines.insert(0, f"Deleted {n_deleted} files, {bytes_deleted / 1e6:.1f} MB.")
    left = {"images": n_images, "bytes": n_bytes}
    answer(as_json, {**left, "files_deleted": n_deleted, "bytes_deleted": bytes_deleted}, *lines)
