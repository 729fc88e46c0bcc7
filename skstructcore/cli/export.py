"""``skstructcore export`` and ``skstructcore verify``"""

from __future__ import annotations

from pathlib import Path

import click

from . import _options as option
from ._output import answer, say


@click.command()
@option.model
@option.new_model("Write the ONNX file there.")
@option.sources(
    "check",
    click.option(
        "--check",
        multiple=True,
        required=True,
        type=option.IMAGES,
        metavar="IMAGES",
        help="What both must judge alike. Repeatable.",
    ),
)
@click.option(
    "--resize-from",
    nargs=2,
    type=int,
    metavar="HEIGHT WIDTH",
    help="Scale images of this size inside the graph.",
)
@click.option("--opset", default=18, help="Version of ONNX's operators, 18 to 20.")
@option.json
def export(model, output, check, resize_from, opset, as_json):
    """Write MODEL as an ONNX file for other programs. It holds all from pixels to decision.

    The file is written only if it judges the images of --check as the model does: the same
    decisions, and scores within 1e-4.

    \b
    skstructcore export line3.structcore -o line3.onnx --check line3/good --check line3/bad
    skstructcore export line3.structcore -o line3.onnx --check line3 --resize-from 1024 1280
    """
    from ..serving.export import export_onnx

    pipe = model.load()
    say("Writing and comparing …")
    compared = check.named(good=None, split="test")
    found = export_onnx(pipe, output, compared, resize_from=resize_from, opset=opset)
    answer(as_json, vars(found), f"{found}: {output}")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--runtime",
    default="onnxruntime",
    type=click.Choice(["onnxruntime", "openvino"]),
    help="What runs the file.",
)
@option.json
def verify(file, runtime, as_json):
    """Check an exported FILE on this machine. It judges the images that are sealed in it.

    \b
    skstructcore verify line3.onnx
    skstructcore verify line3.onnx --runtime openvino --json
    """
    from ..serving.exported import verify_export

    found = verify_export(file, runtime=runtime)
    answer(as_json, vars(found), f"agrees, {found}: {file}")
