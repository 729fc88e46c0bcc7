"""``skstructcore info``"""

from __future__ import annotations

import click

from . import _options as option
from ._output import answer, picture_sentence


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
