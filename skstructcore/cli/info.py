"""``skstructcore info``"""

from __future__ import annotations

from pathlib import Path

import click

from ._common import json_option, model_file_argument, picture_sentence, print_json


@click.command()
@model_file_argument
@json_option
def info(model: Path, as_json: bool) -> None:
    """Say what is inside a saved MODEL, without loading it.

    \b
    skstructcore info line3.structcore
    skstructcore info line3.structcore --json
    """
    from ..model_files import info as read_info

    header = read_info(model)
    if as_json:
        print_json(header)
        return
    for line in _lines(header):
        click.echo(line)


def _lines(header):
    training = header["training"]
    size = f"{header['bytes'] / 1e6:.1f} MB"
    yield f"model file ({header['format']}), {size}, written {header['created']}"
    yield "steps         " + " > ".join(header["steps"])
    checksum = header["backbone"]["checksum"] or ""
    yield f"backbone      {header['backbone']['source']}  (checksum {checksum[:12]})"
    counted = f"{training['n_images']} good images, {training['n_bank_entries']} bank entries"
    if training["n_routes"] and training["n_routes"] > 1:
        counted += f", {training['n_routes']} routes"
    yield f"training      {counted}  (digest {training['digest'][:12]})"
    if header.get("picture"):
        yield f"pictures      {picture_sentence(header['picture'])}"
    for sentence in header["summary"]:
        yield f"to expect     {sentence}"
    yield "versions      " + ", ".join(f"{k} {v}" for k, v in header["versions"].items())
